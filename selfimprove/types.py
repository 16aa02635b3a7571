"""The nouns of the loop: frozen dataclasses and enums.

Prompts, responses and examples first; votes, selection and guard results, which engines do not use, below.

Suffixes for ragged lists, used everywhere: `_P` prompts, `_G` responses of a group, `_T` tokens.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import takewhile
from typing import Literal, Self

BASE = "base"
"""Name of the reference policy: the model as it was before any round."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


class Split(StrEnum):
    """Which half a prompt belongs to; decided by its hash alone."""

    TRAIN = "train"
    HELDOUT = "heldout"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question to the model. `id` is a hash of the messages, so equal prompts are one prompt."""

    id: str
    messages: tuple[Message, ...]
    split: Split

    @property
    def text(self) -> str:
        """The last user turn: what is asked, and what lists show."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), self.messages[-1].content)

    @property
    def system(self) -> tuple[Message, ...]:
        """The leading system messages."""
        return tuple(takewhile(lambda message: message.role == "system", self.messages))

    @property
    def turns(self) -> tuple[Message, ...]:
        """What follows the leading system messages."""
        return self.messages[len(self.system) :]

    @property
    def conversation(self) -> str:
        """All turns, a line each: what is embedded and compared. The system message is compared by itself."""
        return "\n".join(message.content for message in self.turns) or self.text


class Stage(StrEnum):
    """The stages of a round, in the order in which they run. Each sees only what earlier stages committed."""

    SAMPLE = "sample"
    RECALL = "exemplar"
    """Stored under the operator's first name, as in `propose.exemplar`, so that older memories stay readable."""
    CRITIQUE = "critique"
    REVISE = "revise"
    STITCH = "stitch"
    VOTE = "vote"
    SELECT = "select"
    TRAIN = "train"
    PROBE = "probe"
    """Sampled answers to the held-out prompts."""
    GREEDY = "greedy"
    """The greedy answer to each held-out prompt."""
    HEALTH = "health"
    """What the held-out answers say, without labels."""
    GUARD = "guard"
    IMPORT = "import"
    """No stage of a round: responses that the user brought from a file."""


class Poll(IntEnum):
    """The votes of a round, by what takes part besides earlier rounds' responses; the number is the unit's index."""

    SAMPLED = 0
    """The round's samples."""
    RECALLED = 1
    """Samples and answers given with demonstrations."""
    FINAL = 2
    """All candidates, revisions and stitches included: what `select` reads."""


class Origin(StrEnum):
    """How a response came to be."""

    SAMPLE = "sample"
    """Answered directly."""
    RECALL = "exemplar"
    """Answered with recalled answers to other prompts as demonstrations."""
    CRITIQUE = "critique"
    """Says what is wrong in rival answers; never votes and is never trained on as an answer."""
    REVISE = "revise"
    """Written after a critique, with the rival answers in view."""
    STITCH = "stitch"
    """Continues the best-voted path of steps through past responses."""
    PROBE = "probe"
    """A sampled answer to a held-out prompt: never recalled, never trained on."""
    GREEDY = "greedy"
    """The greedy answer to a held-out prompt: never recalled, never trained on."""
    IMPORTED = "imported"
    """Came from a file: in quarantine, to be looked at only."""

    @property
    def derived(self) -> bool:
        """Made out of other answers to the same prompt, so its vote is not independent."""
        return self in (Origin.REVISE, Origin.STITCH)


VOTERS = (Origin.SAMPLE, Origin.RECALL, Origin.REVISE, Origin.STITCH)
"""Origins that are answers to train prompts: they vote and can survive."""


class Finish(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    """The model ended its turn."""
    LENGTH = "length"
    """It was cut at `max_new_tokens`."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn: softmax(logits / temperature) cut to the `top_k` largest, then to the nucleus `top_p`.

    `temperature` 0 means greedy; `top_k` 0 and `top_p` 1 mean no cut.
    """

    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int

    @classmethod
    def greedy(cls, max_new_tokens: int) -> Self:
        """Return greedy decoding of up to `max_new_tokens`."""
        return cls(0.0, 0, 1.0, max_new_tokens)


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to generate.

    `messages` is what the model sees, `prefix` the beginning of its own turn that it continues from, `parents` the
    ids of the responses that it was shown or continues.
    """

    prompt_id: str
    origin: Origin
    messages: tuple[Message, ...]
    seed: int
    prefix: str = ""
    parents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """What came back for a request: the whole turn, prefix included, with the end-of-turn token removed."""

    text: str
    finish: Finish
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of work: a fixed batch of requests, generated together and committed in one transaction."""

    round: int
    stage: Stage
    index: int
    requests: tuple[Request, ...]
    sampling: Sampling
    policy: str

    @property
    def id(self) -> str:
        """Sortable name, e.g. `r0001/sample/0003`."""
        return unit_id(self.round, self.stage, self.index)


def unit_id(round_: int, stage: Stage, index: int = 0) -> str:
    """Return the name of a unit of work, e.g. `r0001/train/0000`."""
    return f"r{round_:04d}/{stage}/{index:04d}"


@dataclass(frozen=True, slots=True)
class Response:
    """A response in the memory. Append-only: what is later thought of it lives in judgements and verdicts."""

    id: int
    prompt_id: str
    round: int
    origin: Origin
    unit: str
    slot: int
    text: str
    finish: Finish
    seed: int
    policy: str
    prompt_tokens: int
    new_tokens: int
    parents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: the prompt as it is asked (no exemplars, no critique) and the survivor's text."""

    prompt_id: str
    messages: tuple[Message, ...]
    completion: str
    weight: float
    response_id: int
    rejected: str | None = None
    """The least agreed answer to the same prompt, for preference training."""


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
