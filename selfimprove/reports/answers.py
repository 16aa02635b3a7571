"""Answers to the held-out prompts as they were read: the class of each response, and the families of the prompts.

Kept in answers.json by the process that runs the rounds: it alone has the embedder that compares free text, and the
user's own reader. Nothing here knows whether an answer is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..answers import Kind, Reader
from ..types import Response, Split, Stage

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..memory import ResponseMemory

ANSWERS = "answers.json"
"""Classes of the held-out responses, in the run's folder."""


@dataclass(frozen=True, slots=True)
class HeldoutAnswers:
    """Kind of answer and family by prompt id, and by round the class of each response by its id (None: not readable).

    `families` is empty where there is no file.
    """

    kinds: Mapping[str, Kind] = field(default_factory=dict)
    rounds: Mapping[int, Mapping[int, str | None]] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        rounds = {round_: dict(read) for round_, read in self.rounds.items()}
        return {"kinds": dict(self.kinds), "rounds": rounds, "families": dict(self.families)}


def from_json(stored: Mapping[str, Any]) -> HeldoutAnswers:
    """Return what `HeldoutAnswers.to_json` was called on, after a journey through JSON."""
    return HeldoutAnswers(
        {id_: Kind(kind) for id_, kind in stored["kinds"].items()},
        {int(r): {int(id_): answer for id_, answer in read.items()} for r, read in stored["rounds"].items()},
        stored.get("families", {}),
    )


def read_heldout(memory: ResponseMemory, reader: Reader, known: HeldoutAnswers) -> HeldoutAnswers:
    """Return `known` and the classes of the measured rounds that it lacks.

    A prompt's kind is decided on the base's answers and holds for all rounds. Free text joins the classes of the base.
    """
    measured = [unit.round for unit in memory.units(stage=Stage.HEALTH)]
    missing = [round_ for round_ in dict.fromkeys(measured) if round_ not in known.rounds]
    if memory.units(stage=Stage.ADD):  # held-out prompts that were added have answers of earlier rounds, too
        missing += [
            round_
            for round_ in dict.fromkeys(measured)
            if round_ in known.rounds
            and any(r.id not in known.rounds[round_] for g in heldout_responses(memory, round_).values() for r in g)
        ]
    if not missing:
        return known
    prompts = {prompt.id: prompt for prompt in memory.prompts(Split.HELDOUT)}
    base = heldout_responses(memory, 0)
    kinds = dict(known.kinds)
    for id_, group in base.items():
        if id_ not in kinds:
            kinds[id_] = reader.kind(prompts[id_].text, [r.text for r in group])
    found = dict(known.rounds)
    for round_ in missing:
        read: dict[int, str | None] = {}
        for id_, group in heldout_responses(memory, round_).items():
            if id_ in kinds:
                first = base[id_] if round_ and kinds[id_] is Kind.FREE else []
                texts = [r.text for r in (*first, *group)]
                classes = reader.classes(prompts[id_].text, texts, kinds[id_])[len(first) :]
                read |= dict(zip([r.id for r in group], classes, strict=True))
        found[round_] = read
    return replace(known, kinds=kinds, rounds=found)


def read_without_run(memory: ResponseMemory, config: RunConfig, known: HeldoutAnswers) -> HeldoutAnswers:
    """Return `known` and the rounds that it lacks, read without the embedder: free text is one answer if it is equal.

    Needed for runs of earlier versions and for a round that is just being decided. Where the user's own reader reads
    the answers, nothing is added: it is code, which looking at a run must not execute.
    """
    if config.vote.reader is not None or memory.meta("reader") is not None:
        return known
    return read_heldout(memory, Reader.of(config), known)


def heldout_responses(memory: ResponseMemory, round_: int) -> dict[str, list[Response]]:
    """Return the sampled and greedy responses of a round to the held-out prompts, by prompt id, ordered by id."""
    groups: dict[str, list[Response]] = {}
    for response in memory.responses(rounds=[round_], stages=[Stage.PROBE, Stage.GREEDY]):
        groups.setdefault(response.prompt_id, []).append(response)
    return groups
