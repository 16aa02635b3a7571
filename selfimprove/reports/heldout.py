"""A run's held-out prompts one by one: what each measured policy answers, and what changed between two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..evaluation.families import REST
from ..evaluation.metrics import Health
from ..evaluation.scores import Accuracy
from ..run.folder import prompt_families
from ..types import Split
from .answers import HeldoutAnswers, heldout_responses, read_without_run
from .changes import FamilyChange, PromptChange, Side, family_changes, family_names, prompt_changes, sides

FEW = 2
"""Measured prompts up to which a family is shown with others as one: a line for each would say next to nothing."""

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..memory import ResponseMemory


@dataclass(frozen=True)
class HeldoutPrompts:
    """The held-out prompts of a run whose memory is open; rounds are measured ones, 0 is the base."""

    config: RunConfig
    memory: ResponseMemory
    health: Mapping[int, Health]
    """Label-free metrics by round."""
    per_prompt: Mapping[int, Accuracy]
    stored: HeldoutAnswers
    """The last answers.json."""

    @cached_property
    def answers(self) -> HeldoutAnswers:
        """Classes of the responses of all measured rounds."""
        return read_without_run(self.memory, self.config, self.stored)

    @cached_property
    def families(self) -> Mapping[str, str]:
        """Family of each prompt, by its id; those of which only `FEW` prompts were measured are pooled."""
        known = self.stored.families or family_names(prompt_families(self.memory, self.memory.own_prompts()))
        measured = Counter(known.get(id_, REST) for id_ in self.sides.get(0, {}))
        return {id_: REST if 0 < measured[name] <= FEW else name for id_, name in known.items()}

    @cached_property
    def sides(self) -> dict[int, dict[str, Side]]:
        """By round and prompt id, what the round's policy answers."""
        return {
            round_: sides(heldout_responses(self.memory, round_), read, self.per_prompt.get(round_))
            for round_, read in sorted(self.answers.rounds.items())
        }

    @cached_property
    def right(self) -> dict[int, bool]:
        """Whether each audited response is right, by its id."""
        return {
            id_: id_ in audited.right
            for round_, by_prompt in self.sides.items()
            if (audited := self.per_prompt.get(round_)) is not None and audited.right is not None
            for side in by_prompt.values()
            if side.mean is not None
            for group in (*side.groups, side.greedy)
            if group is not None
            for id_ in group.responses
        }

    def changes(self, round_: int, before: int = 0) -> list[PromptChange]:
        """Return how the answer to each prompt changed between two rounds, the worst first."""
        heldout, by_round = self.memory.own_prompts(Split.HELDOUT), self.sides
        return prompt_changes(heldout, self.families, by_round.get(before, {}), by_round.get(round_, {}))

    def family_changes(self, round_: int, before: int = 0) -> list[FamilyChange]:
        """Return how each family changed between two rounds, the worst first."""
        old, new = (self.health[r].families or () if r in self.health else () for r in (before, round_))
        return family_changes(self.changes(round_, before), old, new)
