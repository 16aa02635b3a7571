"""Data types of the loop: frozen dataclasses and enums.

Prompts, requests, responses and training examples, which engines use; votes, selection and guard results, which they do
not, are in `outcomes.py`. Suffixes of ragged lists in the whole package: `_P` prompts, `_G` responses of a group, `_T`
tokens.
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
