"""Requests and responses of the OpenAI completions API: one request for all samples of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..types import Finish, Sampling
from .server_client import Malformed, parse_object


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the server: the token ids of a prompt, and the indices in the unit (`slots`) that share it."""

    slots: tuple[int, ...]
    ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Ends:
    """End of a response: end-of-turn token ids and, for models without a chat template, stop strings."""

    token_ids: tuple[int, ...]
    strings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample. `ids` are the new tokens without the end-of-turn token; None if the server returns text only."""

    ids: tuple[int, ...] | None
    text: str
    finish: Finish


def group(prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[Call]:
    """Return one call per distinct prompt, in order of first appearance, with the seed of its first request."""
    slots: dict[tuple[int, ...], list[int]] = {}
    for slot, ids in enumerate(prompts):
        slots.setdefault(tuple(ids), []).append(slot)
    return [Call(tuple(rows), ids, seeds[rows[0]]) for ids, rows in slots.items()]


def request_body(call: Call, sampling: Sampling, ends: Ends) -> dict[str, Any]:
    """Return the body of a completion request, with all sampling parameters, so that no server default applies."""
    body = {
        "prompt": list(call.ids),
        "n": len(call.slots),
        "seed": call.seed,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or -1,  # 0 is refused by SGLang; vLLM and llama.cpp take both
        "top_p": sampling.top_p,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": sampling.max_new_tokens,
        "stop_token_ids": list(ends.token_ids),
        "return_token_ids": True,
    }
    return body | {"stop": list(ends.strings)} if ends.strings else body


def read_completions(answer: dict[str, Any], count: int, eos_ids: Sequence[int]) -> list[Completion]:
    """Return the `count` samples of a response in the order of their index.

    Raises:
        Malformed: samples are missing or repeated, or a finish reason is neither stop nor length.
    """
    try:
        choices = {choice["index"]: choice for choice in answer["choices"]}
        if len(answer["choices"]) != count or sorted(choices) != list(range(count)):
            raise Malformed(f"asked for {count} samples, got those numbered {[c['index'] for c in answer['choices']]}")
        return [_completion(choices[i], eos_ids) for i in range(count)]
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(f"unexpected form of the response: {type(error).__name__} {error}") from None


def _completion(choice: dict[str, Any], eos_ids: Sequence[int]) -> Completion:
    ids = choice.get("token_ids")
    if ids is not None:
        end = next((i for i, token in enumerate(ids) if token in eos_ids), len(ids))
        ids = tuple(int(token) for token in ids[:end])
    return Completion(ids, str(choice["text"]), Finish(choice["finish_reason"]))


def read_models(raw: bytes) -> list[str]:
    """Return the names of the models that the server lists, at least one.

    Raises:
        Malformed: the list is empty or of an unexpected form.
    """
    try:
        names = [str(model["id"]) for model in parse_object(raw)["data"]]
    except (KeyError, TypeError) as error:
        raise Malformed(f"unexpected form of the model list: {type(error).__name__} {error}") from None
    if not names:
        raise Malformed("the server lists no model")
    return names
