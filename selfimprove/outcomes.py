"""Outcomes of votes, selection and the guard: frozen dataclasses, and enums of reasons."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Judgement:
    """Result of a vote for one response.

    `answer` is the name of its equivalence class of answers, None if no answer could be read (an abstention); `weight`
    the weight of its vote; `share` the fraction of the prompt's votes that its class has, in [0, 1].
    """

    response_id: int
    answer: str | None
    weight: float
    share: float | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Result of a vote for one prompt.

    `answer` is the winning class (None if nothing could win), `agreement` its fraction of the votes in [0, 1], `margin`
    agreement minus the runner-up's fraction, `votes` the sum of the weights, `voters` and `abstained` numbers of
    responses.
    """

    prompt_id: str
    answer: str | None
    agreement: float
    margin: float
    votes: float
    voters: int
    abstained: int

    @property
    def support(self) -> float:
        """Agreement with abstentions counted against it: agreement * voters / (voters + abstained), in [0, 1].

        Thresholds use it instead of agreement: where few responses have a readable answer, those few are guesses.
        """
        return self.agreement * self.voters / (self.voters + self.abstained) if self.voters else 0.0


class Reason(StrEnum):
    """Why `select` kept or dropped a candidate."""

    KEPT = "kept"
    NO_ANSWER = "no_answer"
    """No answer could be read, or the prompt has no majority answer."""
    MINORITY = "minority"
    """Its answer is not the majority answer."""
    LOW_AGREEMENT = "low_agreement"
    """The prompt has too few readable responses, or its support is below the threshold."""
    TOO_EASY = "too_easy"
    """The prompt's support is above the ceiling: little to learn."""
    TRUNCATED = "truncated"
    """Cut at `max_new_tokens`."""
    LENGTH = "length"
    """Longer than a multiple of the median response to the prompt."""
    DUPLICATE = "duplicate"
    """The same text is kept for this prompt."""
    NEAR_DUPLICATE = "near_duplicate"
    """Its embedding is too close to that of a kept response to this prompt."""
    PROMPT_CAP = "prompt_cap"
    """Enough responses to this prompt are kept."""
    ANSWER_CAP = "answer_cap"
    """Its answer wins for too many different prompts, as in a collapse."""
    FAMILY_CAP = "family_cap"
    """Its answer wins for more prompts of a family than the base's samples support: voting amplified a bias."""
    ANCESTOR_CAP = "ancestor_cap"
    """Too many survivors descend from the same response."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Decision of `select` on one candidate, with the value that decided and its limit (None: neither applies)."""

    response_id: int
    reason: Reason
    value: float | None = None
    limit: float | None = None
    weight: float = 0.0
    """Training weight; 0 when dropped."""

    @property
    def kept(self) -> bool:
        """True for a survivor, False for a drop."""
        return self.reason is Reason.KEPT


@dataclass(frozen=True, slots=True)
class Selection:
    """Verdicts on all candidates of a round: len(kept) + len(dropped) equals the number of candidates."""

    kept: tuple[Verdict, ...]
    dropped: tuple[Verdict, ...]


class Decision(StrEnum):
    """The guard's decision on a round."""

    KEEP = "keep"
    """The new policy becomes the current one."""
    REJECT = "reject"
    """The current policy stays; the run goes on."""
    STOP = "stop"
    """The current policy stays; the run ends."""


@dataclass(frozen=True, slots=True)
class Check:
    """A metric compared with its limit. `value` is None if it could not be computed, which fails the check."""

    name: str
    value: float | None
    limit: float
    passed: bool


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """The guard's decision with all its checks."""

    decision: Decision
    checks: tuple[Check, ...]

    @property
    def because(self) -> str:
        """The failed checks in one line, each with value and limit."""
        failed = [f"{c.name} {_number(c.value)} (limit {_number(c.limit)})" for c in self.checks if not c.passed]
        return ", ".join(failed) or "all checks passed"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
