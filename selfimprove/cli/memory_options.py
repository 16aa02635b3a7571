"""Shared parts of the memory commands: filter options, opening the memory, lists of responses."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError
from .parameters import Round
from .terminal import cell, printable

if TYPE_CHECKING:
    import numpy as np

    from ..memory import ResponseMemory
    from ..memory.inspect.entries import Entry
    from ..memory.near_duplicates import Encode
    from ..memory.store.reads import Filter
    from ..types import Prompt

Command = Callable[..., None]

OTHER_COLUMNS = 55
"""Columns of a list of responses beside prompt and response: ids, round, origin, verdict, share, gaps."""


def filters(command: Command) -> Command:
    """Add the filter options that `found_entries` and `allowed_ids` read."""
    for option in (
        click.option("--prompt", "prompt_id", help="Only this prompt: the beginning of its id, or of its text."),
        click.option("--reason", multiple=True, help="Only verdicts with this reason; may be repeated."),
        click.option("--curated", type=click.Choice(["excluded", "pinned"]), help="Only what people decided so on."),
        click.option("--source", help="Only what was brought in from this run or file."),
        click.option("--kept/--dropped", default=None, help="Only what was trained on, or only what select dropped."),
        click.option(
            "--origin",
            help="Only this origin: sample, exemplar, critique, revise, stitch, probe, greedy, imported, past.",
        ),
        click.option(
            "--round",
            "round_",
            type=Round(),
            help="Only responses written in this round; with --kept, --dropped or --reason: decided on in it.",
        ),
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@contextmanager
def opened_memory(run_name: str, *, write: bool = False) -> Iterator[ResponseMemory]:
    """Open the memory of a run, for reading unless told otherwise, while the block lasts."""
    from ..run.folder import run_folder

    file = run_folder(run_name) / "memory.db"
    from ..memory import ResponseMemory

    with ResponseMemory.open(file, write=write) as opened:
        yield opened


def encoder(opened: ResponseMemory, run_name: str) -> Encode:
    """Return a run's embedder, loaded when it is first used; MemoryError_ if the memory was made with another one."""
    from ..memory import Embedder
    from ..run.folder import run_folder, saved_config

    config = saved_config(run_folder(run_name))

    @cache
    def load() -> Embedder:
        embedder = Embedder.load(config.embedder, config.model.device)
        opened.refuse_other("embedder", embedder.fingerprint)
        return embedder

    return lambda texts: load().encode(texts)


def cut_reasoning(run_name: str) -> Callable[[str], str]:
    """Return the function that cuts a response of the run to what follows its reasoning."""
    from ..answers import shown, thinking_of
    from ..run.folder import run_folder, saved_config

    return partial(shown, thinking=thinking_of(saved_config(run_folder(run_name))))


def vector_of(opened: ResponseMemory, run_name: str, response_id: int) -> np.ndarray:
    """Return the vector of a response, (1, d), made now where there is none; UserError where there is no response."""
    from ..memory.embedding import text_of, vectors_of

    entry_of(opened, response_id)
    (response,) = opened.responses(ids=[response_id])
    (prompt,) = (p for p in opened.prompts() if p.id == response.prompt_id)
    text = text_of(prompt, cut_reasoning(run_name)(response.text))
    return vectors_of(opened, {response_id: text}, encoder(opened, run_name))[1]


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
    from ..memory.store.rows import SINCE
    from ..outcomes import Reason
    from ..types import Origin

    origin, reasons, prompt_id = wanted["origin"], wanted["reason"], wanted["prompt_id"]
    decided = wanted["kept"] is not None or bool(reasons)
    if (wanted["curated"] or wanted["source"]) and opened.db.version < SINCE["overlays"]:
        raise UserError(
            "a memory of this version is not curated, and nothing was brought in; resume its run to upgrade"
        )
    return Filter(
        round=None if decided else wanted["round_"],
        decided=wanted["round_"] if decided else None,
        trained=wanted["kept"] or None,
        origin=None if origin is None else member(Origin, origin),
        prompt_id=None if prompt_id is None else prompt_of(opened, prompt_id).id,
        kept=wanted["kept"],
        reasons=tuple(member(Reason, reason) for reason in reasons) or None,
        curated=wanted["curated"],
        source=wanted["source"],
    )


def member(kind: Any, name: str) -> Any:
    """Return the member of an enum with this name; UserError lists those there are."""
    try:
        return kind(name)
    except ValueError:
        raise UserError(f"no {kind.__name__.lower()} {name!r}; there is {', '.join(kind)}") from None


def prompt_of(opened: ResponseMemory, beginning: str) -> Prompt:
    """Return the one prompt whose id, or else whose text, begins so; UserError when there is none, or more than one."""
    prompts = opened.prompts()
    found = [p for p in prompts if p.id.startswith(beginning)]
    if not found:
        wanted = " ".join(beginning.casefold().split())
        found = [p for p in prompts if " ".join(p.text.casefold().split()).startswith(wanted)]
    if len(found) != 1:
        raise UserError(
            f"{len(found)} prompts have an id or a text that begins with {beginning!r}; `memory RUN list` shows both"
        )
    return found[0]


def entry_of(opened: ResponseMemory, response_id: int) -> Entry:
    """Return one response; UserError when there is none of this id."""
    from ..memory.inspect.entries import in_order

    try:
        return in_order(opened, [response_id])[0]
    except KeyError:
        raise UserError(f"no response {response_id}; ids go up to {opened.count()}") from None


def show_entries(
    entries: Iterable[Entry],
    as_json: bool,
    scores: Sequence[float] | None = None,
    trained_in: Mapping[int, Sequence[int]] | None = None,
) -> None:
    """Print a list of responses, with a score each, or with the rounds that trained on them (`kept_in`)."""
    wide, rest = _widths()
    if not as_json:
        click.echo(f"{'id':>7} {'rd':>2} {'origin':8} {'verdict':14} {'share':>5}  {'prompt':{10 + wide}}  response")
    for position, entry in enumerate(entries):
        kept_in = list(trained_in.get(entry.id, ())) if trained_in is not None else []
        if as_json:
            extra: dict[str, Any] = {} if scores is None else {"score": scores[position]}
            extra |= {} if trained_in is None else {"kept_in": kept_in}
            click.echo(json.dumps(asdict(entry) | extra))
            continue
        verdict = f"kept {' '.join(f'r{round_}' for round_ in kept_in)}" if kept_in else entry.reason or ""
        share = "" if entry.share is None else f"{entry.share:.2f}"
        score = "" if scores is None else f"{scores[position]:.3f}  "
        click.echo(
            f"{entry.id:7} {entry.round:2} {entry.origin:8} {_coloured(verdict)} {share:>5}  "
            f"{entry.prompt_id[:8]}  {cell(entry.prompt, wide)}  {score}{printable(_marked(entry), rest - len(score))}"
        )


def _marked(entry: Entry) -> str:
    """Return the response, behind what people decided on it."""
    return f"[{entry.curation}] {entry.response}" if entry.curation else entry.response


def _coloured(verdict: str) -> str:
    """Return a verdict as a table cell, in green where it is kept; click removes colours in a pipe."""
    return click.style(f"{verdict:14}", fg="green" if verdict.startswith("kept") else None)


def _widths() -> tuple[int, int]:
    """Return the columns for prompts and for responses: what a terminal has left, divided 1 : 2; fixed in a pipe."""
    if not sys.stdout.isatty():
        return 32, 60
    left = max(24, shutil.get_terminal_size().columns - OTHER_COLUMNS)
    return left // 3, left - left // 3
