"""What a stage can ask of an engine, wherever it computes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..config import TrainConfig
from ..models.policy import Policy
from ..training import TrainReport
from ..types import Example, Generation, Unit

OnTokens = Callable[[int], None]
"""Callback with the number of new tokens since the last call."""

OnStep = Callable[[int, int, dict[str, float]], None]
"""Callback with the step, the number of steps and the step's record."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """All that decides an adapter: equal jobs give equal adapters on one machine.

    `start` names the policy whose adapter is trained further; None starts from the base.
    """

    examples: tuple[Example, ...]
    spec: TrainConfig
    seed: int
    start: str | None = None


class Engine(Protocol):
    """Two verbs, both functions of their arguments alone, and the model at hand for what must be computed here."""

    def generate(
        self, units: Iterable[Unit], on_tokens: OnTokens | None = None
    ) -> Iterator[tuple[Unit, list[Generation]]]:
        """Yield each unit with one generation for each of its requests, in the order of the units.

        Units are taken only as they are needed, so that a unit may be planned while others are generated. They are
        yielded in order, whichever is finished first: what the memory then holds does not depend on the engine's
        timing.
        """
        ...

    def train(self, job: TrainingJob, out: Path, on_step: OnStep | None = None) -> TrainReport:
        """Train an adapter of the base weights and write it to the folder `out`."""
        ...

    def model_here(self) -> Policy:
        """Return the model in this process, for scoring; no process of the engine's own holds its device then."""
        ...

    def close(self) -> None:
        """End what the engine started."""
        ...
