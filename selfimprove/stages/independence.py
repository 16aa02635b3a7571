"""Independence of recalled answers from each other, without labels.

Votes count as evidence as far as they are independent. Answers to a prompt that were given with near demonstrations
agree for two reasons: the policy knows the answer, or the demonstrations share a bias. Compared are pairs of answers to
the same prompt: two recalled ones, two plain samples, and one of each.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SURE = 0.6
"""Fraction of a prompt's samples that give one answer, from which on it counts as the policy's own."""

Answers = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Independence:
    """Agreement of pairs of answers to the same prompt, fractions in [0, 1], means over `prompts` prompts.

    `recalled`: two recalled answers; `sampled`: two plain samples; `between`: a recalled answer and a sample. `kept`:
    fraction of the recalled answers that repeat the answer of at least `SURE` of the prompt's samples, over the
    `sure` prompts that have one; None without any. `size`: mean number of recalled answers a prompt; with one, no two
    can be compared, and `recalled` is `between`.
    """

    prompts: int
    recalled: float
    sampled: float
    between: float
    size: float
    sure: int
    kept: float | None

    @property
    def ratio(self) -> float | None:
        """Agreement of recalled answers with samples over that of samples with each other; None if the latter is 0."""
        return self.between / self.sampled if self.sampled else None

    def harms(self, least: float) -> bool:
        """Return whether recalled answers agree with samples less than `least` times as often as samples do.

        Demonstrations that tell the policy something make its answers agree with what samples mostly say; ones that
        confuse it make them agree with nothing.
        """
        return self.between < least * self.sampled

    @property
    def design_effect(self) -> float:
        """Recalled votes that carry as much evidence as one plain vote: 1 + (n - 1) rho (Kish 1965, section 5.4).

        rho is the agreement of recalled answers beyond that with samples, as a fraction of what is possible.
        """
        rho = (self.recalled - self.between) / (1 - self.between) if self.between < 1 else 0.0
        return 1 + (self.size - 1) * max(0.0, rho)

    def __str__(self) -> str:
        """One line for the terminal."""
        kept = "" if self.kept is None else f"; {self.kept:.0%} keep the answer of a sure prompt ({self.sure} prompts)"
        return (
            f"recalled answers agree {self.recalled:.2f}, samples {self.sampled:.2f}, across {self.between:.2f}, "
            f"design effect {self.design_effect:.1f}{kept}"
        )


def independence(answers: Iterable[tuple[Answers, Answers]]) -> Independence | None:
    """Return the agreement of the (samples, recalled answers) of each prompt; abstentions (None) agree with nothing.

    Prompts with fewer than two samples, or without a recalled answer, do not count; None if there are no others.
    """
    rows: list[tuple[float, float, float, int]] = []
    kept: list[float] = []
    for sampled, recalled in answers:
        if len(sampled) < 2 or not recalled:
            continue
        ours, theirs = _counts(sampled), _counts(recalled)
        across = sum(ours[answer] * theirs[answer] for answer in ours) / (len(sampled) * len(recalled))
        together = _pairs(theirs, len(recalled)) if len(recalled) > 1 else across
        rows.append((together, _pairs(ours, len(sampled)), across, len(recalled)))
        answer, votes = max(ours.items(), key=lambda item: item[1], default=("", 0))
        if votes >= SURE * len(sampled):
            kept.append(theirs[answer] / len(recalled))
    if not rows:
        return None
    recalled_, sampled_, between, size = np.mean(rows, axis=0).tolist()
    return Independence(
        len(rows), recalled_, sampled_, between, size, len(kept), float(np.mean(kept)) if kept else None
    )


def ratio_interval(
    answers: Sequence[tuple[Answers, Answers]], *, seed: int, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of `Independence.ratio` over prompts; None if no ratio can be computed.

    Prompts are resampled, not answers (Efron & Tibshirani 1993, ch. 13).
    """
    n = len(answers)
    rng = np.random.default_rng(abs(seed))  # it takes none below 0
    rows = rng.integers(max(n, 1), size=(resamples if n else 0, n))
    drawn = [independence([answers[row] for row in some]) for some in rows]
    ratios = [found.ratio for found in drawn if found is not None and found.ratio is not None]
    tail = (1 - level) / 2
    return (float(np.quantile(ratios, tail)), float(np.quantile(ratios, 1 - tail))) if ratios else None


def _counts(answers: Answers) -> Counter[str]:
    return Counter(answer for answer in answers if answer is not None)


def _pairs(counts: Counter[str], n: int) -> float:
    """Fraction of the ordered pairs of n answers that agree."""
    return sum(count * (count - 1) for count in counts.values()) / (n * (n - 1))
