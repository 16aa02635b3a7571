"""`selfimprove memory RUN ...`: the commands by which people curate a memory. Nothing is deleted or changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError
from .group import Group
from .memory_options import allowed_ids, entry_of, opened_memory
from .parameters import ResponseId, Round, id_argument

if TYPE_CHECKING:
    from ..memory import ResponseMemory
    from ..types import Action

curation = Group()
"""The commands that add overlays; the group `memory` includes them."""

KEYS = ("prompt", "origin", "round", "verdict", "kept", "source", "words")
"""What `--filter` takes."""

Command = Callable[..., None]

ids_argument = click.argument("response_ids", metavar="[ID]...", nargs=-1, type=ResponseId())
filter_option = click.option(
    "--filter",
    "wanted",
    metavar="KEY=VALUE",
    multiple=True,
    help=f"Responses that match, instead of ids: {', '.join(KEYS)}. Several must all hold.",
)


def reason_option(*, required: bool) -> Callable[[Command], Command]:
    """Return the option for why something is done."""
    return click.option(
        "--reason", required=required, default=None if required else "", help="Why; kept with the time."
    )


@curation.command(
    epilog="selfimprove memory mine exclude 1329 1402 --reason 'made up'\n"
    "selfimprove memory mine exclude --filter words=refund --reason outdated\n"
)
@ids_argument
@filter_option
@reason_option(required=True)
@click.option("--descendants", is_flag=True, help="Exclude what descends from them too: they were in its context.")
@click.pass_obj
def exclude(run_name: str, response_ids: Sequence[int], wanted: Sequence[str], reason: str, descendants: bool) -> None:
    """Exclude responses: they are no longer recalled, do not vote and are not selected, from the next vote on.

    Votes already held stand. What was trained on an excluded response stays so until the next round trains anew.
    """
    from ..memory.inspect.lineage import trained_in
    from ..types import Action

    with opened_memory(run_name, write=True) as opened:
        ids = _chosen(opened, response_ids, wanted)
        family = {id_ for chosen in ids for id_ in opened.descendants(chosen)} - set(ids) - opened.excluded()
        if descendants:
            ids = sorted({*ids, *family})
        _commit(opened, ids, Action.EXCLUDE, reason)
        rounds = trained_in(opened)
    learnt = sorted({round_ for id_ in ids for round_ in rounds.get(id_, ())})
    with_them = f", {len(family)} of them as descendants" if descendants else ""
    click.echo(f"{_count(ids)} excluded{with_them}: not recalled, voting or selected from the next vote on")
    if family and not descendants:
        verb = "descends and stays" if len(family) == 1 else "descend and stay"
        click.echo(
            f"{_count(sorted(family))} {verb}; `trace ID --children` lists them, --descendants excludes them too"
        )
    if learnt:
        told = ", ".join(f"r{round_}" for round_ in learnt)
        click.echo(f"some were trained on in {told}: that policy stays as it is, the next round trains without them")


@curation.command()
@ids_argument
@filter_option
@reason_option(required=False)
@click.pass_obj
def unexclude(run_name: str, response_ids: Sequence[int], wanted: Sequence[str], reason: str) -> None:
    """Undo `exclude`: the responses take part again, from the next vote on."""
    from ..types import Action

    with opened_memory(run_name, write=True) as opened:
        excluded = opened.excluded()
        ids = _chosen(opened, response_ids, wanted)
        if response_ids and (others := [id_ for id_ in ids if id_ not in excluded]):
            raise UserError(f"response {others[0]} is not excluded; `memory RUN list --curated excluded` lists those")
        ids = [id_ for id_ in ids if id_ in excluded]
        _commit(opened, ids, Action.UNEXCLUDE, reason)
    click.echo(f"{_count(ids)} take part again, from the next vote on")


@curation.command()
@click.argument("response_ids", metavar="ID...", nargs=-1, required=True, type=ResponseId())
@reason_option(required=False)
@click.pass_obj
def pin(run_name: str, response_ids: Sequence[int], reason: str) -> None:
    """Make each response the demonstration of its prompt, whatever the vote says; the last one pinned holds.

    It is shown to near prompts as trusted responses are. Neither its votes nor its training change.
    """
    from ..types import Action

    with opened_memory(run_name, write=True) as opened:
        for id_ in response_ids:
            _refuse_pin(opened, id_)
        _commit(opened, response_ids, Action.PIN, reason)
    click.echo(f"{_count(response_ids)} pinned: the demonstration of its prompt, from the next recall on")


@curation.command()
@click.argument("response_ids", metavar="ID...", nargs=-1, required=True, type=ResponseId())
@reason_option(required=False)
@click.pass_obj
def unpin(run_name: str, response_ids: Sequence[int], reason: str) -> None:
    """Undo `pin`."""
    from ..types import Action

    with opened_memory(run_name, write=True) as opened:
        if others := [id_ for id_ in response_ids if id_ not in opened.pinned()]:
            raise UserError(f"response {others[0]} is not pinned; `memory RUN list --curated pinned` lists those")
        _commit(opened, response_ids, Action.UNPIN, reason)
    click.echo(f"{_count(response_ids)} no longer pinned")


@curation.command()
@id_argument
@click.argument("text")
@click.pass_obj
def note(run_name: str, response_id: int, text: str) -> None:
    """Write a note on a response; `show` prints it. It has no effect."""
    from ..types import Action

    with opened_memory(run_name, write=True) as opened:
        entry_of(opened, response_id)
        _commit(opened, [response_id], Action.NOTE, text)
    click.echo(f"noted on #{response_id}")


def _chosen(opened: ResponseMemory, ids: Sequence[int], wanted: Sequence[str]) -> list[int]:
    """Return the ids that are meant; UserError where one does not exist, or nothing matches."""
    if bool(ids) == bool(wanted):
        raise UserError("give ids, or --filter KEY=VALUE, and not both")
    if ids:
        for id_ in ids:
            entry_of(opened, id_)
        return sorted(set(ids))
    given = _conditions(wanted)
    words = given.pop("words", None)
    options: dict[str, Any] = dict.fromkeys(("prompt_id", "origin", "round_", "kept", "curated", "source"))
    options["reason"] = given.pop("verdict", ())
    for key, (value,) in given.items():
        if key == "kept" and value not in ("true", "false"):
            raise UserError(f"--filter 'kept={value}': kept is true or false")
        if key == "kept":
            options["kept"] = value == "true"
        elif key == "round":
            options["round_"] = Round().convert(value, None, None)
        else:
            options[{"prompt": "prompt_id"}.get(key, key)] = value
    allowed = allowed_ids(opened, options)
    found = allowed if words is None else opened.search_text(" ".join(words), opened.count(), allowed)
    chosen = sorted(int(id_) for id_ in (found if found is not None else ()))
    if not chosen:
        raise UserError(f"no response matches {' '.join(wanted)}")
    return chosen


def _conditions(wanted: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each key; UserError for an unknown one, and for any but `words` given twice."""
    found: dict[str, list[str]] = {}
    for text in wanted:
        key, equals, value = text.partition("=")
        if not equals or key not in KEYS:
            raise UserError(f"--filter {text!r}: write KEY=VALUE, with KEY one of {', '.join(KEYS)}")
        if key in found and key != "words":
            raise UserError(f"--filter {text!r}: {key} is given twice, and all must hold; give one, or the ids")
        found.setdefault(key, []).append(value)
    return found


def _commit(opened: ResponseMemory, ids: Sequence[int], action: Action, reason: str) -> None:
    from ..types import Overlay

    opened.commit_overlays([Overlay(id_, action, reason) for id_ in ids])


def _refuse_pin(opened: ResponseMemory, id_: int) -> None:
    """Raise UserError for a response that can be no demonstration."""
    entry = entry_of(opened, id_)
    if id_ in opened.excluded():
        raise UserError(f"response {id_} is excluded; unexclude it first")
    if entry.split == "heldout":
        raise UserError(f"response {id_} answers a held-out prompt, whose answers are never shown")
    if entry.origin == "imported":
        raise UserError(f"response {id_} is in quarantine; import its file with --trust, and pin it then")
    if not opened.candidates(ids=[id_]):
        raise UserError(f"response {id_} ({entry.origin}) is no answer to its prompt")


def _count(ids: Sequence[int]) -> str:
    return f"{len(ids)} response" + ("" if len(ids) == 1 else "s")
