"""`selfimprove memory RUN ...`: the read-only commands; they also work while the run is writing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .group import Group
from .memory_options import (
    allowed_ids,
    cut_reasoning,
    encoder,
    entry_of,
    filters,
    found_entries,
    json_option,
    opened_memory,
    prompt_of,
    show_entries,
    vector_of,
)
from .parameters import Limit, Round, id_argument
from .terminal import cell, printable

if TYPE_CHECKING:
    from ..memory.inspect.entries import Entry
    from ..memory.inspect.lineage import Echo

SHOWN_IDS = 12

inspection = Group()
"""The commands that only read; the group `memory` includes them."""


@inspection.command("list")
@filters
@click.option("-n", "limit", type=Limit(0), default=20, show_default=True, help="At most this many; 0: all.")
@json_option
@click.pass_obj
def list_(run_name: str, limit: int, as_json: bool, **wanted: Any) -> None:
    """List responses in the order in which they were written."""
    from ..memory.inspect.lineage import trained_in

    with opened_memory(run_name) as opened:
        rounds = trained_in(opened) if wanted["kept"] else None
        show_entries(found_entries(opened, wanted, limit or -1), as_json, trained_in=rounds)


@inspection.command()
@click.argument("words", nargs=-1, required=True)
@filters
@click.option("-n", "limit", type=Limit(1), default=20, show_default=True)
@json_option
@click.pass_obj
def search(run_name: str, words: tuple[str, ...], limit: int, as_json: bool, **wanted: Any) -> None:
    """Find responses that contain all WORDS, prompt included; best match first."""
    from ..memory.inspect.entries import in_order

    with opened_memory(run_name) as opened:
        ids = opened.search_text(" ".join(words), limit, allowed_ids(opened, wanted))
        show_entries(in_order(opened, ids), as_json)


@inspection.command()
@id_argument
@json_option
@click.pass_obj
def show(run_name: str, response_id: int, as_json: bool) -> None:
    """Show one response in full: prompt, vote, verdict, parents, descendants, survivors it was a demonstration for."""
    from ..memory.inspect.lineage import recalled_for, shown, taught_revisions

    with opened_memory(run_name) as opened:
        entry = entry_of(opened, response_id)
        parents = opened.responses(ids=[response_id])[0].parents
        facts = asdict(entry) | {
            "parents": list(parents),
            "made": opened.descendants(response_id),
            "recalled_for": recalled_for(opened, response_id),
        }
        taught = taught_revisions(opened, response_id)
        demonstrations = shown(opened, response_id)
        said = opened.words_on(response_id)
    if as_json:
        overlays = [dict(zip(("at", "action", "reason"), words, strict=True)) for words in said]
        more = {"shown": [asdict(one) for one in demonstrations], "taught_to_revise": taught, "overlays": overlays}
        click.echo(json.dumps(facts | more))
        return
    for name, value in facts.items():
        if name == "answer":
            click.echo(f"{'class':14}{'(none read)' if value is None else printable(value)}")
        elif value not in (None, []):
            click.echo(f"{name:14}{printable(_told(value))}")
    for at, action, reason in said:
        click.echo(f"{action:14}{at}  {printable(reason)}".rstrip())
    for one in demonstrations:
        cosine = "" if one.cosine is None else f" {one.cosine:.3f}"
        click.echo(f"{'shown':14}#{one.id} r{one.round}{cosine}  {printable(f'{one.prompt} -> {one.response}', 100)}")
    for round_, rivals in taught:
        click.echo(f"{'taught in':14}r{round_} as the revision of {', '.join(f'#{id_}' for id_ in rivals)}")


def _told(value: Any) -> str:
    """Format a value for people: of many ids the first few."""
    if isinstance(value, list):
        more = f", and {len(value) - SHOWN_IDS} more (--json)" if len(value) > SHOWN_IDS else ""
        return ", ".join(map(str, value[:SHOWN_IDS])) + more
    return f"{value:.2f}" if isinstance(value, float) else str(value)


@inspection.command()
@id_argument
@click.option("--children", is_flag=True, help="Draw its descendants instead of its ancestors.")
@json_option
@click.pass_obj
def trace(run_name: str, response_id: int, children: bool, as_json: bool) -> None:
    """Draw the tree of a response's ancestors (or descendants), with votes and verdicts."""
    from ..memory.inspect.lineage import lines, offspring
    from ..memory.inspect.lineage import trace as parents_of

    with opened_memory(run_name) as opened:
        entry = entry_of(opened, response_id)
        tree = (offspring if children else parents_of)(opened, response_id)
    if as_json:
        click.echo(json.dumps(asdict(tree)))
        return
    click.echo(printable(f"{entry.prompt_id}  {entry.prompt}"))
    for line in lines(tree):
        click.echo(printable(line))


@inspection.command()
@id_argument
@filters
@click.option("-n", "limit", type=Limit(1), default=10, show_default=True)
@json_option
@click.pass_obj
def similar(run_name: str, response_id: int, limit: int, as_json: bool, **wanted: Any) -> None:
    """List the responses nearest to a response by embedding, with their cosine.

    Compared with those that are embedded: demonstrations and candidates of the agreed answer; all after `embed`.
    """
    from ..memory import VectorIndex
    from ..memory.embedding import embeddable
    from ..memory.inspect.entries import in_order

    with opened_memory(run_name) as opened:
        query, allowed = vector_of(opened, run_name, response_id), allowed_ids(opened, wanted)
        index = VectorIndex(opened)
        ids, scores = index.search(query, min(limit, opened.count()) + 1, allowed)
        if (there := len(index)) < (total := embeddable(opened)):
            more = f"`selfimprove memory {run_name} embed` embeds the others"
            click.echo(f"compared with {there} of {total} responses; {more}", err=True)
        near = [(int(i), float(s)) for i, s in zip(ids[0], scores[0], strict=True) if i not in (-1, response_id)]
        entries = in_order(opened, [id_ for id_, _ in near[:limit]])
        show_entries(entries, as_json, [score for _, score in near[:limit]])


@inspection.command()
@click.argument("prompt_id", metavar="PROMPT")
@click.option("-n", "limit", type=Limit(1), default=16, show_default=True)
@json_option
@click.pass_obj
def neighbours(run_name: str, prompt_id: str, limit: int, as_json: bool) -> None:
    """List the trusted answers nearest to PROMPT (its id, or the beginning of it): what recall shows it, with cosines.

    Trusted by the latest vote that trusts any. None is to a held-out prompt or a near-duplicate of one, nor under
    another system message.
    """
    from ..memory.inspect.entries import in_order
    from ..memory.retrieval import latest_pool, pool_index
    from ..memory.retrieval import neighbours as nearest
    from ..run.folder import run_folder, saved_config

    config = saved_config(run_folder(run_name))
    with opened_memory(run_name) as opened:
        embed = encoder(opened, run_name)
        prompt = prompt_of(opened, prompt_id)
        pool = latest_pool(opened, embed, config.propose.exemplar.trust, cut_reasoning(run_name))
        (near,) = nearest(opened, pool_index(opened, pool, embed), pool, [prompt], min(limit, opened.count()))
        if not as_json:
            click.echo(f"{prompt.id}  {printable(prompt.text, 100)}")
        show_entries(in_order(opened, [r.response_id for r in near]), as_json, [r.score for r in near])


@inspection.command()
@click.argument("prompt_id", metavar="PROMPT")
@click.argument("before", metavar="ROUND", type=Round())
@click.argument("after", metavar="ROUND", type=Round())
@json_option
@click.pass_obj
def diff(run_name: str, prompt_id: str, before: int, after: int, as_json: bool) -> None:
    """Show how the answers to PROMPT changed between two ROUNDs, e.g. `diff 83ab r1 r2`."""
    from ..memory.inspect.lineage import diff as changes_of

    with opened_memory(run_name) as opened:
        prompt = prompt_of(opened, prompt_id)
        changes = changes_of(opened, prompt.id, before, after)
    if as_json:
        for change in changes:
            click.echo(json.dumps(asdict(change)))
        return
    click.echo(f"{prompt.id}  {printable(prompt.text, 100)}")
    click.echo(f"{f'r{before}':>5} {f'r{after}':>5}  answer")
    for change in changes:
        text = change.text_after or change.text_before or ""
        answer = "(none read)" if change.answer is None else change.answer
        click.echo(f"{change.before:5} {change.after:5}  {cell(answer, 30)}  {printable(text, 60)}")


@inspection.command()
@click.argument("prompt_id", metavar="PROMPT")
@json_option
@click.pass_obj
def votes(run_name: str, prompt_id: str, as_json: bool) -> None:
    """List the votes on PROMPT, the oldest first: winner, agreement, margin, and changes of the winner."""
    from ..memory.inspect.lineage import turns

    with opened_memory(run_name) as opened:
        prompt = prompt_of(opened, prompt_id)
        found = turns(opened, prompt.id)
    if as_json:
        for turn in found:
            click.echo(json.dumps(asdict(turn)))
        return
    click.echo(f"{prompt.id}  {printable(prompt.text, 100)}")
    click.echo("round  vote  agreement  margin  answer")
    for turn in found:
        answer = "(none read)" if turn.answer is None else turn.answer
        line = f"{turn.round:5}  {turn.vote:4}  {turn.agreement:9.2f}  {turn.margin:6.2f}  {printable(answer, 40)}"
        click.echo(line + ("  flipped" if turn.flipped else ""))
    click.echo(f"{sum(turn.flipped for turn in found)} flips in {len(found)} votes")


@inspection.command()
@json_option
@click.pass_obj
def stats(run_name: str, as_json: bool) -> None:
    """Count responses, survivors and tokens by operator, verdicts by reason, and changes of a prompt's winner."""
    from ..memory.inspect.entries import in_order
    from ..memory.inspect.overview import overview

    with opened_memory(run_name) as opened:
        found = overview(opened)
        reaching = in_order(opened, [line.response_id for line in found.echo])
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    split = ", ".join(f"{count} {name}" for name, count in found.prompts.items())
    click.echo(f"{found.responses} responses to {split} prompts, {found.bytes / 1e6:.1f} MB")
    click.echo(f"\n{'origin':10}{'responses':>10}{'kept':>8}{'tokens':>10}")
    for line in found.operators:
        click.echo(f"{line.origin:10}{line.responses:>10}{line.kept:>8}{line.new_tokens:>10}")
    for place, count in found.sources.items():
        click.echo(f"{count} of the responses are from {printable(place)}")
    if found.curated:
        click.echo(", ".join(f"{count} {what}" for what, count in found.curated.items()))
    click.echo("\nverdicts over all rounds")
    for reason, count in found.reasons.items():
        click.echo(f"  {reason:18}{count:>8}")
    if found.flipped:
        click.echo("\nmost flipped prompts")
        for prompt in found.flipped:
            click.echo(f"  {prompt.flips:3}  {prompt.prompt_id}  {printable(prompt.prompt, 80)}")
    if found.echo:
        click.echo(f"\nancestor concentration: descendants among the survivors of round {found.echo_round}")
        _show_echo(found.echo, reaching)


@inspection.command("echo")
@click.option("--round", "round_", type=Round(), help="Survivors of this round; the last one if not given.")
@click.option("-n", "limit", type=Limit(1), default=20, show_default=True)
@json_option
@click.pass_obj
def echo_(run_name: str, round_: int | None, limit: int, as_json: bool) -> None:
    """List the responses with the most descendants among the survivors of a round (ancestor concentration)."""
    from ..memory.inspect.entries import in_order
    from ..memory.inspect.lineage import echo
    from ..memory.inspect.overview import last_selection

    with opened_memory(run_name) as opened:
        chosen = last_selection(opened) if round_ is None else round_
        found = [] if chosen is None else echo(opened, chosen, limit)
        reaching = in_order(opened, [line.response_id for line in found])
    if as_json:
        for line in found:
            click.echo(json.dumps(asdict(line)))
        return
    _show_echo(found, reaching)


def _show_echo(found: Sequence[Echo], entries: Sequence[Entry]) -> None:
    for line, entry in zip(found, entries, strict=True):
        text = printable(f"{entry.prompt} -> {entry.response}", 80)
        click.echo(f"{line.survivors:5} ({line.share:.0%})  #{entry.id} r{entry.round} {entry.origin}  {text}")
