"""Statistics of answers, and bootstrap intervals: pure functions, with their sources."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 1 << 21
"""Indices drawn at a time; bounds the memory of the bootstrap."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference (after minus before) and its confidence interval."""

    diff: float
    low: float
    high: float


def paired_bootstrap(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    *,
    seed: int,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of `after - before`, both (n,), with a percentile bootstrap interval over pairs.

    Resampling pairs removes the variance that both sides share (Efron & Tibshirani 1993, ch. 13; Koehn 2004).

    Raises:
        ValueError: the lengths differ or are zero.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"expected two equally long, non-empty vectors, got {first.shape} and {second.shape}")
    difference = second - first  # (n,)
    n = difference.size
    rng = np.random.default_rng(abs(seed))  # it takes none below 0
    means = np.empty(resamples)
    step = max(1, _CHUNK // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        means[start : start + count] = difference[rng.integers(n, size=(count, n))].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(float(difference.mean()), float(low), float(high))


def mean_at_k(right_G: Sequence[bool]) -> float:
    """Return the fraction of a group's samples that are right, in [0, 1].

    Raises:
        ValueError: the group is empty.
    """
    if not right_G:
        raise ValueError("mean_at_k of an empty group")
    return sum(right_G) / len(right_G)


def maj_at_k(answers_G: Sequence[str | None], right_G: Sequence[bool]) -> float:
    """Return the fraction of responses with the majority answer that are right, in [0, 1]; 0 if no answer is readable.

    Abstentions (None) do not vote. Ties give the mean over the tied answers, the expectation of a random tie-break.
    """
    counts = Counter(answer for answer in answers_G if answer is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    rights = [
        mean_at_k([right for other, right in zip(answers_G, right_G, strict=True) if other == answer])
        for answer, count in counts.items()
        if count == most
    ]
    return math.fsum(rights) / len(rights)


def concentration(winners: Sequence[str | None]) -> float:
    """Return the fraction of the prompts that have the most frequent majority answer; None entries are ignored.

    1 is the collapse of Shafayat et al. 2025. Without an answer the result is 0.
    """
    counts = Counter(winner for winner in winners if winner is not None)
    return max(counts.values()) / counts.total() if counts else 0.0
