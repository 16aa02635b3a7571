"""The interface between the stages and the engines."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..config import TrainConfig
from ..models.policy import Policy
from ..training import TrainReport
from ..types import Example, Generation, Unit

OnTokens = Callable[[int], None]
"""Callback with the number of tokens generated since the last call."""

OnStep = Callable[[int, int, dict[str, float]], None]
"""Callback with the optimizer step, the number of steps and the metrics of the step by name."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A training job: everything that determines the adapter. Equal jobs give equal adapters on one machine.

    `start` is the policy whose adapter is trained further; None trains a new adapter of the base.
    """

    examples: tuple[Example, ...]
    spec: TrainConfig
    seed: int
    start: str | None = None


class Engine(Protocol):
    """Generation and training as functions of their arguments, and the local model for scoring."""

    def generate(
        self, units: Iterable[Unit], on_tokens: OnTokens | None = None
    ) -> Iterator[tuple[Unit, list[Generation]]]:
        """Yield each unit with one generation per request, in the order of `units`.

        `units` is consumed lazily, so that units can be planned while others are generated. The order of the results
        does not depend on which unit is finished first, so neither do the ids in the memory.

        Raises:
            EngineError: the server or cluster failed.
        """
        ...

    def train(self, job: TrainingJob, out: Path, on_step: OnStep | None = None) -> TrainReport:
        """Train a LoRA adapter of the base, write it to the folder `out` and return the report of the training.

        Raises:
            TrainingError: the loss or a gradient is not finite.
            EngineError: the cluster failed.
        """
        ...

    def model_here(self) -> Policy:
        """Return the model in this process, for scoring; processes of the engine on its device are ended first."""
        ...

    def close(self) -> None:
        """End the processes and connections of the engine."""
        ...
