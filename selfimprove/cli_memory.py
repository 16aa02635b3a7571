"""`selfimprove memory RUN ...`: look into a run's response memory, also while the run is writing it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import UserError
from .terminal import printable

if TYPE_CHECKING:
    from .memory import ResponseMemory
    from .memory.entries import Entry

Command = Callable[..., None]


@click.group()
@click.argument("run_name", metavar="RUN")
@click.pass_context
def memory(ctx: click.Context, run_name: str) -> None:
    r"""Look into the response memory of RUN: who wrote what, from what, and why it was kept or dropped.

    \b
      selfimprove memory quickstart list --kept -n 5
      selfimprove memory quickstart trace 4711
      datasette "$(selfimprove memory quickstart path)"
    """
    ctx.obj = run_name


def _filters(command: Command) -> Command:
    """Give a command the filters of `list` and `export`."""
    for option in (
        click.option("--prompt", "prompt_id", help="Only this prompt (its id, or the beginning of it)."),
        click.option("--reason", multiple=True, help="Only verdicts with this reason; may be repeated."),
        click.option("--kept/--dropped", default=None, help="Only survivors, or only what select dropped."),
        click.option("--origin", help="Only this origin: sample, exemplar, critique, revise, stitch, probe, greedy."),
        click.option("--round", "round_", type=int, help="Only responses written in this round."),
    ):
        command = option(command)
    return command


_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
_id_argument = click.argument("response_id", metavar="ID", type=int)


@memory.command("list")
@_filters
@click.option("-n", "limit", type=int, default=20, show_default=True, help="At most this many; 0: all.")
@_json_option
@click.pass_obj
def list_(run_name: str, limit: int, as_json: bool, **filters: Any) -> None:
    """List responses, the first ones first."""
    with _opened(run_name) as opened:
        _show(_find(opened, filters, limit or -1), as_json)


@memory.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-n", "limit", type=int, default=20, show_default=True)
@_json_option
@click.pass_obj
def search(run_name: str, words: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Find responses in which, prompt included, all WORDS occur; the best match first."""
    from .memory.entries import in_order

    with _opened(run_name) as opened:
        _show(in_order(opened, opened.search_text(" ".join(words), limit)), as_json)


@memory.command()
@_id_argument
@_json_option
@click.pass_obj
def show(run_name: str, response_id: int, as_json: bool) -> None:
    """Show one response whole, with its prompt, parents, vote and verdict."""
    with _opened(run_name) as opened:
        entry = _entry(opened, response_id)
        parents = opened.responses(ids=[response_id])[0].parents
        facts = asdict(entry) | {"parents": list(parents), "made": opened.descendants(response_id)}
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if value not in (None, []):
            text = f"{value:.2f}" if isinstance(value, float) else str(value)
            click.echo(f"{name:14}{printable(text)}")


@memory.command()
@_id_argument
@click.option("--children", is_flag=True, help="Draw what was made from it instead of what it was made from.")
@_json_option
@click.pass_obj
def trace(run_name: str, response_id: int, children: bool, as_json: bool) -> None:
    """Draw the tree of past responses that a response was made from, with votes and verdicts."""
    from .memory.lineage import lines, offspring
    from .memory.lineage import trace as parents_of

    with _opened(run_name) as opened:
        entry = _entry(opened, response_id)
        tree = (offspring if children else parents_of)(opened, response_id)
    if as_json:
        click.echo(json.dumps(asdict(tree)))
        return
    click.echo(printable(f"{entry.prompt_id}  {entry.prompt}"))
    for line in lines(tree):
        click.echo(printable(line))


@memory.command()
@_id_argument
@click.option("-n", "limit", type=int, default=10, show_default=True)
@_json_option
@click.pass_obj
def similar(run_name: str, response_id: int, limit: int, as_json: bool) -> None:
    """List the responses nearest in meaning to a response, with their cosine."""
    from .memory import VectorIndex
    from .memory.entries import in_order

    with _opened(run_name) as opened:
        entry = _entry(opened, response_id)
        try:
            query = opened.vectors([response_id])
        except KeyError:
            raise UserError(f"response {response_id} ({entry.origin}) has no embedding: it is never recalled") from None
        ids, scores = VectorIndex(opened).search(query, limit + 1)
        near = [(int(i), float(s)) for i, s in zip(ids[0], scores[0], strict=True) if i not in (-1, response_id)]
        entries = in_order(opened, [id_ for id_, _ in near[:limit]])
        _show(entries, as_json, [score for _, score in near[:limit]])


@memory.command()
@click.argument("prompt_id", metavar="PROMPT")
@click.argument("before", metavar="ROUND")
@click.argument("after", metavar="ROUND")
@_json_option
@click.pass_obj
def diff(run_name: str, prompt_id: str, before: str, after: str, as_json: bool) -> None:
    """Show how the answers to PROMPT (its id) changed between two ROUNDs, e.g. `diff 83ab r1 r2`."""
    from .memory.lineage import diff as changes_of

    with _opened(run_name) as opened:
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


@memory.command()
@_json_option
@click.pass_obj
def stats(run_name: str, as_json: bool) -> None:
    """Count responses, survivors and tokens by operator, verdicts by reason, and the most flipped prompts."""
    from .memory.overview import overview

    with _opened(run_name) as opened:
        found = overview(opened)
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
        for question, flips in found.flipped.items():
            click.echo(f"  {flips:3}  {printable(question, 90)}")


@memory.command()
@click.argument("out", type=click.Path(path_type=Path))
@_filters
@click.pass_obj
def export(run_name: str, out: Path, **filters: Any) -> None:
    """Write responses to OUT, a .jsonl or .parquet file."""
    from .memory.entries import write_jsonl, write_parquet

    writers = {".jsonl": write_jsonl, ".parquet": write_parquet}
    if out.suffix not in writers:
        raise UserError(f"cannot tell the format of {out}; name it .jsonl or .parquet")
    if out.exists():
        raise UserError(f"{out} exists; choose another name or remove it")
    with _opened(run_name) as opened:
        writers[out.suffix](_find(opened, filters, -1), out)
    click.echo(f"wrote {out}")


@memory.command()
@click.pass_obj
def verify(run_name: str) -> None:
    """Recompute every hash and count of the memory; name what is wrong."""
    with _opened(run_name) as opened:
        faults = opened.verify()
        count = opened.count()
    if faults:
        raise UserError(f"{len(faults)} fault(s): " + "; ".join(faults[:5]))
    click.echo(f"{count} responses, every hash, link and count is right")


@memory.command()
@click.pass_obj
def path(run_name: str) -> None:
    """Print the path of the SQLite file, for other tools to open."""
    from .run import run_folder

    click.echo(run_folder(run_name) / "memory.db")


@contextmanager
def _opened(run_name: str) -> Iterator[ResponseMemory]:
    from .memory import ResponseMemory
    from .run import run_folder

    with ResponseMemory.open(run_folder(run_name) / "memory.db") as opened:
        yield opened


def _find(opened: ResponseMemory, filters: dict[str, Any], limit: int) -> Iterator[Entry]:
    from .memory.entries import find
    from .types import Origin, Reason

    origin, reasons, prompt_id = filters["origin"], filters["reason"], filters["prompt_id"]
    return find(
        opened,
        round=filters["round_"],
        origin=None if origin is None else _member(Origin, origin),
        prompt_id=None if prompt_id is None else _prompt(opened, prompt_id),
        kept=filters["kept"],
        reasons=[_member(Reason, reason) for reason in reasons] or None,
        limit=limit,
    )


def _member(kind: Any, name: str) -> Any:
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


def _show(entries: Iterable[Entry], as_json: bool, scores: list[float] | None = None) -> None:
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
