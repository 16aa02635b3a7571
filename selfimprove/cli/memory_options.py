"""What the memory commands share: filters, the run's memory while a command lasts, and tables of responses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError
from .terminal import printable

if TYPE_CHECKING:
    import numpy as np

    from ..memory import ResponseMemory
    from ..memory.inspect.entries import Entry
    from ..memory.store.reads import Filter
    from ..types import Prompt

Command = Callable[..., None]


def filters(command: Command) -> Command:
    """Give a command the filters that `found_entries` and `allowed_ids` read."""
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
id_argument = click.argument("response_id", metavar="ID", type=int)


@contextmanager
def opened_memory(run_name: str, *, write: bool = False) -> Iterator[ResponseMemory]:
    """Open the memory of a run, for reading unless told otherwise, while the block lasts."""
    from ..run.folder import run_folder

    file = run_folder(run_name) / "memory.db"
    from ..memory import ResponseMemory

    with ResponseMemory.open(file, write=write) as opened:
        yield opened


def vector_of(opened: ResponseMemory, response_id: int) -> np.ndarray:
    """Return the vector of a response, (1, d); UserError when there is none."""
    entry = entry_of(opened, response_id)
    try:
        return opened.vectors([response_id])
    except KeyError:
        raise UserError(f"response {response_id} ({entry.origin}) has no embedding: it is never recalled") from None


def found_entries(opened: ResponseMemory, wanted: dict[str, Any], limit: int) -> Iterator[Entry]:
    """Yield the entries that the options of `filters` ask for."""
    from ..memory.inspect.entries import find

    return find(opened, _filter(opened, wanted), limit=limit)


def allowed_ids(opened: ResponseMemory, wanted: dict[str, Any]) -> np.ndarray | None:
    """Return the ids that the options of `filters` ask for, for a search; None when no option is given."""
    from ..memory.inspect.entries import EVERY

    chosen = _filter(opened, wanted)
    return None if chosen == EVERY else opened.ids(chosen)


def _filter(opened: ResponseMemory, wanted: dict[str, Any]) -> Filter:
    from ..memory.store.reads import Filter
    from ..types import Origin, Reason

    origin, reasons, prompt_id = wanted["origin"], wanted["reason"], wanted["prompt_id"]
    return Filter(
        round=wanted["round_"],
        origin=None if origin is None else member(Origin, origin),
        prompt_id=None if prompt_id is None else prompt_of(opened, prompt_id).id,
        kept=wanted["kept"],
        reasons=tuple(member(Reason, reason) for reason in reasons) or None,
    )


def member(kind: Any, name: str) -> Any:
    """Return the member of an enum with this name; UserError lists those there are."""
    try:
        return kind(name)
    except ValueError:
        raise UserError(f"no {kind.__name__.lower()} {name!r}; there is {', '.join(kind)}") from None


def prompt_of(opened: ResponseMemory, beginning: str) -> Prompt:
    """Return the one prompt whose id begins so; UserError when there is none, or more than one."""
    found = [p for p in opened.prompts() if p.id.startswith(beginning)]
    if len(found) != 1:
        raise UserError(f"{len(found)} prompts have an id that begins with {beginning!r}; `memory RUN list` shows ids")
    return found[0]


def entry_of(opened: ResponseMemory, response_id: int) -> Entry:
    """Return one response; UserError when there is none of this id."""
    from ..memory.inspect.entries import in_order

    try:
        return in_order(opened, [response_id])[0]
    except KeyError:
        raise UserError(f"no response {response_id}; ids go up to {opened.count()}") from None


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
