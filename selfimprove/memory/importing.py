"""Import of responses from a file: in quarantine, or trusted.

In quarantine they are listed and searched only. Trusted ones are demonstrations, and vote with a weight of their own:
all together at most `vote.derived_cap` times as much as the run's own, and an answer that they alone give cannot win.
So the file is no teacher: it can break a tie, not make a label. Answers to held-out prompts are never trusted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..fsio import sha256
from ..prompts import Unusable, make_prompt, messages_of, read_rows, unit_of
from ..types import CANDIDATES, Finish, Origin, Prompt, Source, Split, Stage
from .conversations import exchanges
from .near_duplicates import Encode
from .store.memory import Arrival, ResponseMemory

SOURCE = ("id", "round", "origin", "policy", "unit")
"""Columns of an export that are recorded as the source of a response, in the numbering of the exporting memory."""

NEEDED = {"prompt_id": str, "response": str, "finish": str, "prompt_tokens": int, "new_tokens": int}
NEEDED |= {"id": int, "round": int, "origin": str, "policy": str, "unit": str}
"""Columns by which a row is recognised as one of an export, and their types."""


@dataclass(frozen=True, slots=True)
class Imported:
    """`unit` is the id of the import; the other counts are of responses that were left out."""

    unit: str
    responses: int
    unknown: int
    """To prompts of another run that cannot be told from the file."""
    unfit: int
    """Not trusted: to held-out prompts, excluded where they are from, or no answers to a prompt alone."""
    other_system: int
    """Imported, but under a system message that no prompt of the run has: shown to none."""
    faults: tuple[str, ...]
    """Each row that could not be read, and why."""
    begins: int
    """Round from which trusted responses take part."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A response to import. `prompt` is None where it is not known, `exported` the columns of an export."""

    prompt: Prompt | None
    text: str
    finish: Finish
    prompt_tokens: int
    new_tokens: int
    ref: str
    model: str | None = None
    exported: Mapping[str, Any] | None = None

    @property
    def usable(self) -> bool:
        """Whether it may be shown and vote."""
        if self.prompt is None or self.prompt.split is Split.HELDOUT:
            return False
        row = self.exported or {}
        wanted = row.get("origin", Origin.SAMPLE) in CANDIDATES
        return wanted and row.get("curation") != "excluded" and row.get("split") != Split.HELDOUT


@dataclass(slots=True)
class _Reading:
    """The items of a file so far, and the rows that could not be read."""

    known: Mapping[str, Prompt]
    items: list[_Item] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, row: Any, ref: str) -> None:
        if isinstance(row, Unusable):
            raise row
        if row.keys() >= NEEDED.keys():
            _check(row)
            prompt = self.known.get(row["prompt_id"]) or _told(row)
            self.items.append(
                _Item(
                    *(prompt, row["response"], Finish(row["finish"]), row["prompt_tokens"], row["new_tokens"]),
                    *(f"#{row['id']}", row["policy"] or None, row),
                )
            )
            return
        for found in exchanges(row):
            prompt = make_prompt(found.messages, heldout=0)  # unknown prompts are not the run's: never measured
            prompt = self.known.get(prompt.id, prompt)
            self.items.append(
                _Item(prompt, found.text, found.finish, found.prompt_tokens, found.new_tokens, ref, found.model)
            )


def import_file(
    memory: ResponseMemory, path: Path, encode: Encode, *, trust: bool = False, weight: float = 0.5
) -> Imported:
    """Add the responses in a file as one unit, atomically; a row that cannot be read is counted and left out.

    Args:
        memory: open for writing.
        path: conversations, as in `conversations`, or an export of a memory, in any format of a prompt file.
        encode: the embedder of the memory.
        trust: whether they may be shown and vote.
        weight: the weight of a trusted response's vote, relative to a sample of the round.

    Raises:
        UserError: the file cannot be read, was imported before, or nothing in it can be used.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    sha = sha256(path)
    for unit in memory.units(stage=Stage.IMPORT):
        before = unit.payload or {}
        if before.get("sha256") == sha and (before.get("trust", False) or not trust):
            raise UserError(f"{path} is in this memory already: {unit.id}")
    found = _read(path, {prompt.id: prompt for prompt in memory.prompts()})
    items = [item for item in found.items if (item.usable if trust else item.prompt is not None)]
    if not items:
        why = f"; {found.faults[0]}" if found.faults else ""
        raise UserError(
            f"none of the {len(found.items)} responses in {path} answers a prompt of this run{why}"
            if found.items
            else f"no response in {path} can be read{why}"
        )
    prompts = list({item.prompt.id: item.prompt for item in items if item.prompt is not None}.values())
    begins = memory.begun + 1
    unit_id = memory.commit_import(_arrival(memory, items, prompts, path.name, sha, encode, weight if trust else None))
    own = {prompt.system for prompt in memory.own_prompts(Split.TRAIN)}
    unknown = sum(item.prompt is None for item in found.items)
    return Imported(
        unit_id,
        len(items),
        unknown,
        len(found.items) - len(items) - unknown,
        sum(item.prompt is not None and item.prompt.system not in own for item in items) if trust else 0,
        tuple(found.faults),
        begins,
    )


def _read(path: Path, known: Mapping[str, Prompt]) -> _Reading:
    found, unit = _Reading(known), unit_of(str(path))
    for number, row in read_rows(str(path), answers=True):
        try:
            found.add(row, f"{unit} {number}")
        except Unusable as fault:
            found.faults.append(f"{unit} {number}: {fault}")
    return found


def _arrival(
    memory: ResponseMemory,
    items: Sequence[_Item],
    prompts: Sequence[Prompt],
    name: str,
    sha: str,
    encode: Encode,
    weight: float | None,
) -> Arrival:
    """Return what is committed; trusted where `weight` is given."""
    known = {prompt.id for prompt in memory.prompts()}
    fresh = [prompt for prompt in prompts if prompt.id not in known]
    origin = Origin.IMPORTED if weight is None else Origin.PAST
    placed = [(item, item.prompt.id) for item in items if item.prompt is not None]
    exported = [[item.exported[c] for c in SOURCE] for item, _ in placed if item.exported is not None]
    payload: dict[str, Any] = {"file": name, "sha256": sha}
    payload |= {"columns": SOURCE, "rows": exported} if exported else {}
    payload |= {} if weight is None else {"trust": True, "weight": weight}
    first = memory.next_id
    return Arrival(
        rows=[
            (id_, origin.value, item.finish.value, 0, item.prompt_tokens, item.new_tokens, item.text)
            for item, id_ in placed
        ],
        sources=[
            Source(
                first + n, name, item.ref, None if item.exported is None else item.exported["round"], item.model,
                weight=weight,
            )
            for n, (item, _) in enumerate(placed)
        ],
        payload=payload,
        trusted=weight is not None,
        prompts=fresh,
        prompt_vectors=encode([prompt.conversation for prompt in fresh]) if fresh else np.zeros((0, 0), np.float32),
    )  # fmt: skip


def _told(row: Mapping[str, Any]) -> Prompt | None:
    """Return the prompt of an export's row; None where its text alone is not the whole prompt."""
    text = row.get("prompt")
    if not isinstance(text, str) or not text.strip():
        return None
    prompt = make_prompt(messages_of([{"role": "user", "content": text}]), heldout=0)
    return prompt if prompt.id == row["prompt_id"] else None


def _check(row: Mapping[str, Any]) -> None:
    """Raise Unusable unless the columns of an export have the values that `export` writes."""
    for name, kind in NEEDED.items():
        if type(row[name]) is not kind:
            raise Unusable(f"{name} should be {kind.__name__}, it is {row[name]!r}")
        if kind is int and not 0 <= row[name] < 2**31:
            raise Unusable(f"{name} should be a count below 2**31, it is {row[name]}")
    if row["finish"] not in set(Finish):
        raise Unusable(f"finish should be {' or '.join(Finish)}, it is {row['finish']!r}")
