"""How near a round's metrics are to the guard's limits, and what fell from one kept round to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..evaluation.metrics import METRICS, Health, Metric

NOTEWORTHY = 0.1
"""Fraction of the way to its limit from which the fall of a metric is told; less is noise by the guard's own scale."""


@dataclass(frozen=True, slots=True)
class Fall:
    """A figure that got worse between two rounds. `fraction` is the part of the way to its limit, or of all prompts."""

    name: str
    before: float
    after: float
    fraction: float
    of: int | None = None
    """Number of prompts, where `before` and `after` count prompts."""

    @property
    def text(self) -> str:
        """Return it in words."""
        if self.of is None:
            return f"{self.name} {self.before:.3g} -> {self.after:.3g}"
        return f"{self.name} {self.before:g} -> {self.after:g} of {self.of}"


@dataclass(frozen=True, slots=True)
class Fallen:
    """What fell in a round against `against`, the best other kept round by the label-free score (0: the base).

    `accuracy` is empty without an audit file. Both lists begin with the largest fall.
    """

    round: int
    against: int
    accuracy: tuple[Fall, ...]
    metrics: tuple[Fall, ...]

    @property
    def text(self) -> str:
        """Return it in words, to be put after "worse"."""
        falls = "; ".join(fall.text for fall in (*self.accuracy, *self.metrics)) or "nothing"
        return f"than {f'round {self.against}' if self.against else 'the base'} in {falls}"


def way_used(metric: Metric, references: Sequence[Health], value: float | None, limit: float | None) -> float | None:
    """Return the fraction of the way from the better of `references` to the limit that `value` has used up.

    0: as good as the reference or better; 1: at the limit; more: rejected. None where there is no limit or no value, or
    no reference is on the right side of the limit.
    """
    if limit is None or value is None:
        return None
    # A metric that the base cannot have, such as its KL to itself, begins at 0.
    room = max((_margin(metric, metric.value(one) or 0.0, limit) for one in references), default=0.0)
    if room <= 0:
        return None
    return max(0.0, 1 - _margin(metric, value, limit) / room)


def _margin(metric: Metric, value: float, limit: float) -> float:
    return value - limit if metric.is_minimum else limit - value


def metric_falls(
    reference: Health, now: Health, limits: Mapping[str, float], least: float = NOTEWORTHY
) -> tuple[Fall, ...]:
    """Return the metrics that moved towards their limit from `reference` to `now`, the largest move first."""
    found = []
    for metric in METRICS:
        old, new = metric.value(reference), metric.value(now)
        limit = limits.get(metric.name)
        if old is None or new is None or limit is None:
            continue
        fraction = (_margin(metric, old, limit) - _margin(metric, new, limit)) / (abs(old - limit) or 1.0)
        if fraction >= least:
            found.append(Fall(metric.name, old, new, fraction))
    return tuple(sorted(found, key=lambda fall: -fall.fraction))
