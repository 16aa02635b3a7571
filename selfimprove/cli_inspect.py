"""`selfimprove memory RUN ...`, the commands that look: they work while the run is writing, too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .errors import UserError
from .terminal import printable

if TYPE_CHECKING:
    import numpy as np

    from .memory import ResponseMemory
    from .memory.entries import Entry
    from .memory.lineage import Echo

Command = Callable[..., None]


inspection = click.Group()
"""The commands that only look; `cli_memory` takes them in."""


def filters(command: Command) -> Command:
    """Give a command the filters of `list` and `export`."""
    for option in (
        click.option("--prompt", "prompt_id", help="Only this prompt (its id, or the beginning of it)."),
        click.option("--reason", multiple=True, help="Only verdicts with this reason; may be repeated."),
        click.option("--kept/--dropped", default=None, help="Only survivors, or only what select dropped."),
        click.option(
            "--origin", help="Only this origin: sample, exemplar, critique, revise, stitch, probe, greedy, imported."
        ),
        click.option("--round", "round_", type=int, help="Only responses written in this round."),
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
_id_argument = click.argument("response_id", metavar="ID", type=int)


@inspection.command("list")
@filters
@click.option("-n", "limit", type=click.IntRange(0), default=20, show_default=True, help="At most this many; 0: all.")
@json_option
@click.pass_obj
def list_(run_name: str, limit: int, as_json: bool, **wanted: Any) -> None:
    """List responses, the first ones first."""
    with opened_memory(run_name) as opened:
        show_entries(found_entries(opened, wanted, limit or -1), as_json)


@inspection.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-n", "limit", type=click.IntRange(1), default=20, show_default=True)
@json_option
@click.pass_obj
def search(run_name: str, words: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Find responses in which, prompt included, all WORDS occur; the best match first."""
    from .memory.entries import in_order

    with opened_memory(run_name) as opened:
        show_entries(in_order(opened, opened.search_text(" ".join(words), limit)), as_json)


@inspection.command()
@_id_argument
@json_option
@click.pass_obj
def show(run_name: str, response_id: int, as_json: bool) -> None:
    """Show one response whole: prompt, vote, verdict, parents, what was made from it, survivors it was recalled for."""
    from .memory.lineage import recalled_for

    with opened_memory(run_name) as opened:
        entry = _entry(opened, response_id)
        parents = opened.responses(ids=[response_id])[0].parents
        facts = asdict(entry) | {
            "parents": list(parents),
            "made": opened.descendants(response_id),
            "recalled_for": recalled_for(opened, response_id),
        }
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if value not in (None, []):
            text = f"{value:.2f}" if isinstance(value, float) else str(value)
            click.echo(f"{name:14}{printable(text)}")


@inspection.command()
@_id_argument
@click.option("--children", is_flag=True, help="Draw what was made from it instead of what it was made from.")
@json_option
@click.pass_obj
def trace(run_name: str, response_id: int, children: bool, as_json: bool) -> None:
    """Draw the tree of past responses that a response was made from, with votes and verdicts."""
    from .memory.lineage import lines, offspring
    from .memory.lineage import trace as parents_of

    with opened_memory(run_name) as opened:
        entry = _entry(opened, response_id)
        tree = (offspring if children else parents_of)(opened, response_id)
    if as_json:
        click.echo(json.dumps(asdict(tree)))
        return
    click.echo(printable(f"{entry.prompt_id}  {entry.prompt}"))
    for line in lines(tree):
        click.echo(printable(line))


@inspection.command()
@_id_argument
@click.option("-n", "limit", type=click.IntRange(1), default=10, show_default=True)
@json_option
@click.pass_obj
def similar(run_name: str, response_id: int, limit: int, as_json: bool) -> None:
    """List the responses nearest in meaning to a response, with their cosine."""
    from .memory import VectorIndex
    from .memory.entries import in_order

    with opened_memory(run_name) as opened:
        ids, scores = VectorIndex(opened).search(vector_of(opened, response_id), limit + 1)
        near = [(int(i), float(s)) for i, s in zip(ids[0], scores[0], strict=True) if i not in (-1, response_id)]
        entries = in_order(opened, [id_ for id_, _ in near[:limit]])
        show_entries(entries, as_json, [score for _, score in near[:limit]])


@inspection.command()
@click.argument("prompt_id", metavar="PROMPT")
@click.argument("before", metavar="ROUND")
@click.argument("after", metavar="ROUND")
@json_option
@click.pass_obj
def diff(run_name: str, prompt_id: str, before: str, after: str, as_json: bool) -> None:
    """Show how the answers to PROMPT (its id) changed between two ROUNDs, e.g. `diff 83ab r1 r2`."""
    from .memory.lineage import diff as changes_of

    with opened_memory(run_name) as opened:
        full_id = _prompt(opened, prompt_id)
        changes = changes_of(opened, full_id, _round(before), _round(after))
        question = next(p.text for p in opened.prompts() if p.id == full_id)
    if as_json:
        for change in changes:
            click.echo(json.dumps(asdict(change)))
        return
    click.echo(f"{full_id}  {printable(question, 100)}")
    click.echo(f"{before:>5} {after:>5}  answer")
    for change in changes:
        text = change.text_after or change.text_before or ""
        answer = "(none read)" if change.answer is None else change.answer
        click.echo(f"{change.before:5} {change.after:5}  {printable(answer, 30):30}  {printable(text, 60)}")


@inspection.command()
@json_option
@click.pass_obj
def stats(run_name: str, as_json: bool) -> None:
    """Count responses, survivors and tokens by operator, verdicts by reason, and the most flipped prompts."""
    from .memory.entries import in_order
    from .memory.overview import overview

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
    click.echo("\nverdicts over all rounds")
    for reason, count in found.reasons.items():
        click.echo(f"  {reason:18}{count:>8}")
    if found.flipped:
        click.echo("\nmost flipped prompts")
        for prompt in found.flipped:
            click.echo(f"  {prompt.flips:3}  {prompt.prompt_id}  {printable(prompt.prompt, 80)}")
    if found.echo:
        click.echo(f"\nfarthest-reaching responses: survivors of round {found.echo_round} that descend from them")
        _show_echo(found.echo, reaching)


@inspection.command("echo")
@click.option("--round", "round_", type=int, help="Survivors of this round; the last one if not given.")
@click.option("-n", "limit", type=click.IntRange(1), default=20, show_default=True)
@json_option
@click.pass_obj
def echo_(run_name: str, round_: int | None, limit: int, as_json: bool) -> None:
    """List the responses that most survivors of a round descend from: few of them reaching far is an echo."""
    from .memory.entries import in_order
    from .memory.lineage import echo
    from .memory.overview import last_selection

    with opened_memory(run_name) as opened:
        chosen = last_selection(opened) if round_ is None else round_
        found = [] if chosen is None else echo(opened, chosen, limit)
        reaching = in_order(opened, [line.response_id for line in found])
    if as_json:
        for line in found:
            click.echo(json.dumps(asdict(line)))
        return
    _show_echo(found, reaching)


@contextmanager
def opened_memory(run_name: str, *, write: bool = False) -> Iterator[ResponseMemory]:
    """Open the memory of a run, for reading unless told otherwise, while the block lasts."""
    from .memory import ResponseMemory
    from .run import run_folder

    with ResponseMemory.open(run_folder(run_name) / "memory.db", write=write) as opened:
        yield opened


def vector_of(opened: ResponseMemory, response_id: int) -> np.ndarray:
    """Return the vector of a response, (1, d); UserError when there is none."""
    entry = _entry(opened, response_id)
    try:
        return opened.vectors([response_id])
    except KeyError:
        raise UserError(f"response {response_id} ({entry.origin}) has no embedding: it is never recalled") from None


def found_entries(opened: ResponseMemory, wanted: dict[str, Any], limit: int) -> Iterator[Entry]:
    """Yield the entries that the options of `filters` ask for."""
    from .memory.entries import find
    from .types import Origin
    from .verdicts import Reason

    origin, reasons, prompt_id = wanted["origin"], wanted["reason"], wanted["prompt_id"]
    return find(
        opened,
        round=wanted["round_"],
        origin=None if origin is None else member(Origin, origin),
        prompt_id=None if prompt_id is None else _prompt(opened, prompt_id),
        kept=wanted["kept"],
        reasons=[member(Reason, reason) for reason in reasons] or None,
        limit=limit,
    )


def member(kind: Any, name: str) -> Any:
    """Return the member of an enum with this name; UserError lists those there are."""
    try:
        return kind(name)
    except ValueError:
        raise UserError(f"no {kind.__name__.lower()} {name!r}; there is {', '.join(kind)}") from None


def _prompt(opened: ResponseMemory, beginning: str) -> str:
    found = [p.id for p in opened.prompts() if p.id.startswith(beginning)]
    if len(found) != 1:
        raise UserError(f"{len(found)} prompts have an id that begins with {beginning!r}; `memory RUN list` shows ids")
    return found[0]


def _round(text: str) -> int:
    digits = text.removeprefix("r")
    if not digits.isdecimal():
        raise UserError(f"{text!r} is no round; write r0, r1, ...")
    return int(digits)


def _entry(opened: ResponseMemory, response_id: int) -> Entry:
    from .memory.entries import in_order

    try:
        return in_order(opened, [response_id])[0]
    except KeyError:
        raise UserError(f"no response {response_id}; ids go up to {opened.count()}") from None


def _show_echo(found: Sequence[Echo], entries: Sequence[Entry]) -> None:
    for line, entry in zip(found, entries, strict=True):
        text = printable(f"{entry.prompt} -> {entry.response}", 80)
        click.echo(f"{line.survivors:5} ({line.share:.0%})  #{entry.id} r{entry.round} {entry.origin}  {text}")


def show_entries(entries: Iterable[Entry], as_json: bool, scores: list[float] | None = None) -> None:
    """Print a list of responses."""
    if as_json:
        for position, entry in enumerate(entries):
            extra = {} if scores is None else {"score": scores[position]}
            click.echo(json.dumps(asdict(entry) | extra))
        return
    click.echo(f"{'id':>7} {'rd':>2} {'origin':8} {'verdict':14} {'share':>5}  {'prompt':32}  response")
    for position, entry in enumerate(entries):
        share = "" if entry.share is None else f"{entry.share:.2f}"
        score = "" if scores is None else f"{scores[position]:.3f}  "
        click.echo(
            f"{entry.id:7} {entry.round:2} {entry.origin:8} {entry.reason or '':14} {share:>5}  "
            f"{printable(entry.prompt, 32):32}  {score}{printable(entry.response, 60)}"
        )
