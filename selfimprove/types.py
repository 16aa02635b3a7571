"""Data types of the loop: frozen dataclasses and enums.

First prompts, requests, responses and training examples, which engines use; then votes, selection and guard results,
which they do not. Suffixes of ragged lists in the whole package: `_P` prompts, `_G` responses of a group, `_T` tokens.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import takewhile
from typing import Literal, Self

BASE = "base"
"""Name of the reference policy: the model before any round, without an adapter."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


class Split(StrEnum):
    """Train or held-out part of the prompts; a function of the prompt's hash."""

    TRAIN = "train"
    HELDOUT = "heldout"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt: one or more chat messages. `id` is a hash of them, so equal prompts have one id."""

    id: str
    messages: tuple[Message, ...]
    split: Split

    @property
    def text(self) -> str:
        """Content of the last user message (of the last message, if none is the user's); shown in lists."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), self.messages[-1].content)

    @property
    def system(self) -> tuple[Message, ...]:
        """The leading system messages."""
        return tuple(takewhile(lambda message: message.role == "system", self.messages))

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages after the leading system messages."""
        return self.messages[len(self.system) :]

    @property
    def conversation(self) -> str:
        """Contents of `turns`, one per line: embedded and compared; `system` is compared separately."""
        return "\n".join(message.content for message in self.turns) or self.text


class Stage(StrEnum):
    """The stages of a round, in order. A stage reads only what earlier stages have committed to the memory."""

    SAMPLE = "sample"
    RECALL = "exemplar"
    """Answers with demonstrations. Stored as "exemplar", the name in the configuration and in the database."""
    TRIAL = "trial"
    """Revisions of answers to held-out prompts, which decide whether revisions vote."""
    CRITIQUE = "critique"
    """Revisions as written: verdicts on own answers, then an answer."""
    REVISE = "revise"
    """The answers in them."""
    STITCH = "stitch"
    VOTE = "vote"
    SELECT = "select"
    TRAIN = "train"
    PROBE = "probe"
    """Sampled responses to the held-out prompts."""
    GREEDY = "greedy"
    """Greedy responses to the held-out prompts."""
    HEALTH = "health"
    """Label-free metrics of the held-out responses."""
    GUARD = "guard"
    IMPORT = "import"
    """Not part of a round: responses from a file or from another run's memory."""
    ADD = "add"
    """Not part of a round: prompts that the user added to the run."""
    CURATE = "curate"
    """Not part of a round: responses that the user excluded, pinned or annotated."""


class Poll(IntEnum):
    """The votes of a round, by the responses of the round that take part. The value is the index of the unit."""

    SAMPLED = 0
    """Samples."""
    RECALLED = 1
    """Samples and answers with demonstrations."""
    FINAL = 2
    """All of them, revisions and stitches included; `select` reads this vote."""
    PAST = 3
    """Held first, and apart: responses from before the run to prompts that are not its own. Nothing is learnt from it,
    but its trusted answers are demonstrations."""


class Origin(StrEnum):
    """Origin of a response: the operator that generated it."""

    SAMPLE = "sample"
    """Sampled from the prompt alone."""
    RECALL = "exemplar"
    """Sampled with retrieved responses to other prompts as demonstrations."""
    CRITIQUE = "critique"
    """Revision as written: verdicts on differing answers to one prompt, then an answer; takes no part in votes."""
    REVISE = "revise"
    """The answer in it, with the answers in the context and the critique as parents."""
    STITCH = "stitch"
    """Continuation of the best-voted path through the steps of past responses."""
    PROBE = "probe"
    """Sampled response to a held-out prompt; never a demonstration, never trained on."""
    GREEDY = "greedy"
    """Greedy response to a held-out prompt; never a demonstration, never trained on."""
    IMPORTED = "imported"
    """Imported from a file, in quarantine: listed and searched, but no voter, demonstration or training example."""
    PAST = "past"
    """Imported from a file that the user trusts: a demonstration, and a voter with a weight of its own."""

    @property
    def derived(self) -> bool:
        """Whether it was generated from other answers to the same prompt: its vote depends on theirs."""
        return self in (Origin.REVISE, Origin.STITCH)


VOTERS = (Origin.SAMPLE, Origin.RECALL, Origin.REVISE, Origin.STITCH)
"""Origins of the responses that a round generates, and that take part in votes and can be selected for training."""

CANDIDATES = (*VOTERS, Origin.PAST)
"""Origins of all responses that can vote, be demonstrations and be selected, those from before the run included."""


class Finish(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    """The model ended its turn."""
    LENGTH = "length"
    """Truncated at `max_new_tokens`."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters: softmax(logits / temperature) over the `top_k` largest logits, then the nucleus `top_p`.

    `temperature` 0 is greedy decoding; `top_k` 0 and `top_p` 1 do not truncate.
    """

    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int

    @classmethod
    def greedy(cls, max_new_tokens: int) -> Self:
        """Return the parameters of greedy decoding, up to `max_new_tokens` tokens."""
        return cls(0.0, 0, 1.0, max_new_tokens)


@dataclass(frozen=True, slots=True)
class Request:
    """One response to generate.

    `messages` is the context, demonstrations included; `prefix` the given beginning of the assistant turn; `parents`
    the ids of the responses that the context shows or the prefix comes from.
    """

    prompt_id: str
    origin: Origin
    messages: tuple[Message, ...]
    seed: int
    prefix: str = ""
    parents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """The result of a request. `text` is the whole assistant turn, prefix included, without the end-of-turn token."""

    text: str
    finish: Finish
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Unit of work: a fixed batch of requests, generated together and committed in one transaction."""

    round: int
    stage: Stage
    index: int
    requests: tuple[Request, ...]
    sampling: Sampling
    policy: str

    @property
    def id(self) -> str:
        """Name of the unit, e.g. `r0001/sample/0003`; names sort by round."""
        return unit_id(self.round, self.stage, self.index)


def unit_id(round_: int, stage: Stage, index: int = 0) -> str:
    """Return the name of a unit of work, e.g. `r0001/train/0000`: round, stage, index."""
    return f"r{round_:04d}/{stage}/{index:04d}"


@dataclass(frozen=True, slots=True)
class Response:
    """A response in the memory. Never updated: votes are `Judgement`s, selection results `Verdict`s."""

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

    @property
    def brought_in(self) -> bool:
        """Whether it came from a file or another run; its round is then the last one that had begun."""
        return f"/{Stage.IMPORT}/" in self.unit


@dataclass(frozen=True, slots=True)
class Source:
    """Where a response that was brought in is from.

    `place` is a run or a file, `ref` the id or line there, `round` and `policy` what wrote it (None: not known). A vote
    of it weighs `weight`, or decays with its age where that is None; `age` is the number of rounds that followed it.
    """

    response_id: int
    place: str
    ref: str
    round: int | None = None
    policy: str | None = None
    age: int = 0
    weight: float | None = None


class Action(StrEnum):
    """What a user says of a response. Each is a row of its own; the last one of its kind holds."""

    EXCLUDE = "exclude"
    """It is not recalled, has no vote and is not selected, from the next vote on."""
    UNEXCLUDE = "unexclude"
    PIN = "pin"
    """It is the demonstration of its prompt, whatever the vote says."""
    UNPIN = "unpin"
    NOTE = "note"
    """A remark, without effect."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What a user said of a response, and why."""

    response_id: int
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: the plain prompt (no demonstrations) and a selected response's text.

    In revise format (`stages/revision.py`) `messages` shows the answers with the ids `shown`, and verdicts on them come
    before the text.
    """

    prompt_id: str
    messages: tuple[Message, ...]
    completion: str
    weight: float
    response_id: int
    rejected: str | None = None
    """A response with the least voted answer to the same prompt, for preference losses; None for the NLL."""
    shown: tuple[int, ...] = ()


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
        """Whether the candidate is a survivor."""
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
