"""The nouns of judging: what a vote says of a response, what became of it, what the guard says of a round."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the vote of a round says of one response.

    `answer` is the name of its equivalence class, None when no answer could be extracted (it abstains); `weight` is
    its vote; `share` its class's share of all votes cast for the prompt, in [0, 1].
    """

    response_id: int
    answer: str | None
    weight: float
    share: float | None


@dataclass(frozen=True, slots=True)
class Tally:
    """The vote on one prompt: `agreement` is the share of the top answer, `margin` top minus runner-up."""

    prompt_id: str
    answer: str | None
    agreement: float
    margin: float
    votes: float
    voters: int
    abstained: int

    @property
    def support(self) -> float:
        """The winner's share of *all* responses, abstentions included, in [0, 1]: what trust is measured by.

        Where few responses hold an answer at all, those that do are guesses, however well they agree.
        """
        return self.agreement * self.voters / (self.voters + self.abstained) if self.voters else 0.0


class Reason(StrEnum):
    """Why a candidate was kept or dropped by select."""

    KEPT = "kept"
    NO_ANSWER = "no_answer"
    MINORITY = "minority"
    """Its answer is not the one the prompt's vote chose."""
    LOW_AGREEMENT = "low_agreement"
    TOO_EASY = "too_easy"
    """Nearly all votes agree already: little to learn."""
    TRUNCATED = "truncated"
    LENGTH = "length"
    DUPLICATE = "duplicate"
    """The same text was kept for this prompt."""
    NEAR_DUPLICATE = "near_duplicate"
    PROMPT_CAP = "prompt_cap"
    ANSWER_CAP = "answer_cap"
    """This answer already won for too many different prompts: a sign of collapse."""
    ANCESTOR_CAP = "ancestor_cap"
    """Too many survivors descend from one response."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Select's decision on one candidate, with the number that decided and the limit that it met."""

    response_id: int
    reason: Reason
    value: float | None = None
    limit: float | None = None
    weight: float = 0.0
    """Training weight; 0 when dropped."""

    @property
    def kept(self) -> bool:
        """Whether the candidate is trained on."""
        return self.reason is Reason.KEPT


@dataclass(frozen=True, slots=True)
class Selection:
    """All candidates of a round, split: len(kept) + len(dropped) = candidates in, always."""

    kept: tuple[Verdict, ...]
    dropped: tuple[Verdict, ...]


class Decision(StrEnum):
    """The guard's word on a round."""

    KEEP = "keep"
    REJECT = "reject"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Check:
    """One health check: the value seen, the limit, and whether it passed."""

    name: str
    value: float | None
    limit: float
    passed: bool


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """What the guard decided, with every check that it made."""

    decision: Decision
    checks: tuple[Check, ...]

    @property
    def because(self) -> str:
        """One line that names the checks that failed, with value and limit."""
        failed = [f"{c.name} {_number(c.value)} (limit {_number(c.limit)})" for c in self.checks if not c.passed]
        return ", ".join(failed) or "all checks passed"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
