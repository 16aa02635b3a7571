"""The wire format: chat completions as OpenAI's clients send and read them. Unsupported parameters are refused."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from ..types import Message, Sampling

MAX_CHOICES = 16
"""Most choices (`n`) of one request."""
MAX_STOPS = 4
"""Most stop strings of one request, as OpenAI's."""

IGNORED = {
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    *("parallel_tool_calls", "prediction", "verbosity"),
}
"""Parameters that change no answer here."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "reasoning_effort": (),
    "web_search_options": (),
    "min_p": (0,),
    "repetition_penalty": (1,),
}
"""Parameters that are not supported, with the values that ask for nothing."""


class RequestError(Exception):
    """A request that is not answered: HTTP status, and OpenAI's error type, code and parameter."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def _joined(value: Any) -> Any:
    """Join content that is a list of text parts; anything else is left to the validation."""
    if not isinstance(value, list):
        return value
    parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in value]
    if not parts or not all(isinstance(part, str) for part in parts):
        raise ValueError("only text parts are supported")
    return "".join(str(part) for part in parts)


class Turn(BaseModel):
    """One message; a client that sends an answer back sends more fields than these, which are ignored."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined)]
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None

    @property
    def message(self) -> Message:
        """The message; a developer's is a system message."""
        return Message("system" if self.role == "developer" else self.role, self.content)


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool | None = None


class ChatRequest(BaseModel):
    """Body of POST /v1/chat/completions. What is not set is as the run samples."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = None
    messages: Annotated[list[Turn], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    """Not OpenAI's; as in vLLM, 0 is off."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The messages."""
        return tuple(turn.message for turn in self.messages)

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def new_tokens(self) -> int | None:
        """The limit of new tokens; None where the request sets none."""
        return self.max_completion_tokens or self.max_tokens

    def sampling(self, usual: Sampling) -> Sampling:
        """Return how tokens are drawn: as `usual`, but for what the request sets; `new_tokens` apart."""
        return Sampling(
            usual.temperature if self.temperature is None else self.temperature,
            usual.top_k if self.top_k is None else self.top_k,
            usual.top_p if self.top_p is None else self.top_p,
            usual.max_new_tokens,
        )


def parse(body: bytes, model: str) -> ChatRequest:
    """Read the body of a request to the model that is served under the name `model`.

    Raises:
        RequestError: it is malformed, asks for another model, or for what is not supported.
    """
    try:
        raw = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise RequestError(400, "the body is not a JSON object")
    for name, neutral in NEUTRAL.items():
        value = raw.pop(name, None)
        if value is not None and value not in neutral:
            raise RequestError(400, f"{name} is not supported; leave it out", param=name, code="unsupported_parameter")
    try:
        asked = ChatRequest.model_validate({name: raw[name] for name in raw if name not in IGNORED})
    except ValidationError as error:
        raise _invalid(error) from None
    if asked.model not in (None, model):
        raise RequestError(
            404, f"no model {asked.model!r}; {model!r} is served here", param="model", code="model_not_found"
        )
    if asked.messages[-1].role != "user":
        raise RequestError(400, "the last message must be the user's", param="messages")
    if len(asked.stops) > MAX_STOPS or not all(asked.stops):
        raise RequestError(400, f"stop takes up to {MAX_STOPS} strings, none of them empty", param="stop")
    if asked.stream_options is not None and not asked.stream:
        raise RequestError(400, "stream_options needs stream: true", param="stream_options")
    return asked


def _invalid(error: ValidationError) -> RequestError:
    """Return the first fault of a body, with the name of its parameter."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"] if part not in ("str", "list[str]"))
    if fault["type"] == "extra_forbidden":
        return RequestError(400, f"unknown parameter {name!r}", param=name, code="unknown_parameter")
    return RequestError(400, f"{name}: {fault['msg']}", param=name)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the answers of one request have in common."""

    id: str
    model: str
    fingerprint: str
    prompt_tokens: int
    recalled: Sequence[Sequence[int]] | None
    """Ids of the responses that each choice was shown, where the memory is used; not part of OpenAI's format."""

    def _envelope(self, kind: str) -> dict[str, Any]:
        common = {"id": self.id, "object": kind, "created": int(time.time()), "model": self.model}
        recalled = {} if self.recalled is None else {"recalled": self.recalled}
        return common | {"system_fingerprint": self.fingerprint} | recalled

    def usage(self, new_tokens: int) -> dict[str, int]:
        """Return the counts of tokens; the prompt with its demonstrations counts once, as in OpenAI's."""
        total = self.prompt_tokens + new_tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": new_tokens, "total_tokens": total}

    def completion(self, answers: Sequence[tuple[str, str]], new_tokens: int) -> dict[str, Any]:
        """Return a chat completion; `answers` are text and finish reason of each choice."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": finish,
            }
            for index, (text, finish) in enumerate(answers)
        ]
        return self._envelope("chat.completion") | {"choices": choices, "usage": self.usage(new_tokens)}

    def chunk(self, index: int, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        """Return one piece of a stream."""
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._envelope("chat.completion.chunk") | {"choices": [choice]}

    def last_chunk(self, new_tokens: int) -> dict[str, Any]:
        """Return the piece of a stream that tells its usage."""
        return self._envelope("chat.completion.chunk") | {"choices": [], "usage": self.usage(new_tokens)}
