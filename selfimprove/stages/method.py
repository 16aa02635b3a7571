"""The replaceable decisions of the loop: what a bench compares, in one place."""

from collections.abc import Callable
from dataclasses import dataclass

from ..engines.engine import TrainingJob
from ..evaluation.limits import judge
from ..outcomes import Selection
from ..run.session import Run
from .guard import Judge, with_care
from .train import imitate
from .vote import Labels, majority


@dataclass(frozen=True)
class Method:
    """Four functions that decide what a run learns; the defaults are the package's own.

    `settings` gives the run as it is in a round, `labels` the votes from the ballots, `examples` the training job from
    the selection, `judge` the guard's verdict from label-free metrics.
    """

    settings: Callable[[Run, int], Run] = with_care
    labels: Labels = majority
    examples: Callable[[Run, int, Selection], TrainingJob] = imitate
    judge: Judge = judge


OURS = Method()
"""The package's own method."""
