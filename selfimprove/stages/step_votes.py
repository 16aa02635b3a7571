"""Votes on steps, pooled over the whole memory: how often equal left sides of an equation lead to equal right sides.

A step is an equation that a response writes, such as `12 + 7 = 19`. Whichever prompt it was written for, it is a vote
on what `12 + 7` is: a prompt's own samples repeat an error together, while the same step in other prompts' answers
outvotes it. Nothing is calculated; what the policy says most often counts, as in self-consistency (Wang et al. 2023).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

_NUMBER = r"\d+(?:[.,]\d+)*"
_EQUATION = re.compile(rf"({_NUMBER}(?:\s*[-+*/\u00d7\u00f7]\s*{_NUMBER})+)\s*=\s*(-?{_NUMBER})")
SEVERAL = 2
"""Equations of an answer of several steps."""


def equations(text: str) -> list[tuple[str, str]]:
    """Return the equations that a text states, as (left side without spaces, right side)."""
    return [("".join(match[1].split()), match[2]) for match in _EQUATION.finditer(text)]


@dataclass
class StepVotes:
    """Right sides by left side, over all responses."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str]) -> "StepVotes":
        """Count the steps of all texts, once a text."""
        votes = cls()
        for text in texts:
            for left, right in dict.fromkeys(equations(text)):  # a text that repeats a step has one vote
                votes.counts.setdefault(left, Counter())[right] += 1
        return votes

    def share(self, left: str, right: str) -> float:
        """Return (c + 1) / (n + 2): c of the n *other* votes on a left side are for this right side.

        One half where no other response has the left side.
        """
        counts = self.counts.get(left, Counter())
        return counts[right] / (counts.total() + 1) if counts else 0.5

    def beliefs(self, texts: Sequence[str]) -> list[float]:
        """Return the belief in each answer to one prompt, in (0, 1].

        Answers without several equations are believed as the least believed one; all are where most have none.
        """
        steps = [equations(text) for text in texts]
        if not texts or median(len(own) for own in steps) < SEVERAL:
            return [1.0] * len(texts)
        known = [self.belief(own) if len(own) >= SEVERAL else None for own in steps]
        least = min(belief for belief in known if belief is not None)
        return [least if belief is None else belief for belief in known]

    def belief(self, steps: Sequence[tuple[str, str]]) -> float:
        """Return the product of the shares of steps: as far as they are independent, that all of them are right."""
        belief = 1.0
        for left, right in steps:
            belief *= self.share(left, right)
        return belief
