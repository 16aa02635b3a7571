"""The nouns that are asked, answered and learnt from: frozen dataclasses and enums that only read themselves.

What is thought of them is in `verdicts.py`, of which no engine knows.

Suffixes for ragged lists, used everywhere: `_P` prompts, `_G` responses of a group, `_T` tokens.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

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
        """The last user turn: what is embedded, searched and shown."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), self.messages[-1].content)


class Stage(StrEnum):
    """The stages of a round, in the order in which they run. Each sees only what earlier stages committed."""

    SAMPLE = "sample"
    EXEMPLAR = "exemplar"
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


class Origin(StrEnum):
    """How a response came to be."""

    SAMPLE = "sample"
    """Answered directly."""
    EXEMPLAR = "exemplar"
    """Answered after recalled answers to other prompts were shown."""
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


VOTERS = (Origin.SAMPLE, Origin.EXEMPLAR, Origin.REVISE, Origin.STITCH)
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
