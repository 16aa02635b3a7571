"""Generation by transformers' own `generate`, for models without packed attention; draws use the same keys."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from ..types import Finish, Sampling
from .decode import Rollout
from .sampling import draw
from .shared_prefix import Group
from .static_decode import Stop


class _Keyed(LogitsProcessor):  # type: ignore[misc]  # transformers is not followed: pyproject.toml
    """Replaces the logits by ones whose argmax is the token drawn with the row's key."""

    def __init__(self, seeds: Tensor, prompt_tokens: int, sampling: Sampling) -> None:
        self._seeds, self._prompt_tokens, self._sampling = seeds, prompt_tokens, sampling

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        drawn = draw(scores, self._seeds, input_ids.shape[1] - self._prompt_tokens, self._sampling)
        return torch.full_like(scores, -torch.inf).scatter_(-1, drawn[:, None], 0.0)


class _Stops(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped here
    """Ends rows that hold a stop string."""

    def __init__(self, stop: Stop, prompt_tokens: int) -> None:
        self._stop, self._prompt_tokens = stop, prompt_tokens

    def __call__(self, input_ids: Tensor, _scores: Any, **_: Any) -> Tensor:
        new = input_ids[:, self._prompt_tokens :].tolist()
        return torch.tensor([self._stop(ids) for ids in new], dtype=torch.bool, device=input_ids.device)


def generate_batch(
    model: PreTrainedModel,
    groups: Sequence[Group],
    seeds: Sequence[int],
    sampling: Sampling,
    eos_ids: Sequence[int],
    pad_id: int = 0,
    on_tokens: Callable[[int], None] | None = None,
    stop: Stop | None = None,
) -> dict[int, Rollout]:
    """Return a rollout for every row of the groups, without shared prefixes; finished rows stay in the batch."""
    prompts = [(row, prompt.token_ids) for group in groups for prompt in group.prompts for row in prompt.rows]
    longest = max(len(ids) for _, ids in prompts)
    padded = torch.tensor([[pad_id] * (longest - len(ids)) + list(ids) for _, ids in prompts], device=model.device)
    real = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for _, ids in prompts], device=model.device)
    keys = torch.tensor([seeds[row] for row, _ in prompts], device=model.device)
    before = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=sampling.max_new_tokens, eos_token_id=list(eos_ids) or None, pad_token_id=pad_id
    )
    try:
        keyed = LogitsProcessorList([_Keyed(keys, longest, sampling)])
        stops = StoppingCriteriaList([] if stop is None else [_Stops(stop, longest)])
        out = model.generate(padded, attention_mask=real, logits_processor=keyed, stopping_criteria=stops)
        out = out[:, longest:].tolist()
    finally:
        model.generation_config = before
    rollouts = {row: _cut(ids, eos_ids, stop) for (row, _), ids in zip(prompts, out, strict=True)}
    if on_tokens:
        on_tokens(sum(len(rollout.token_ids) for rollout in rollouts.values()))
    return rollouts


def _cut(ids: Sequence[int], eos_ids: Sequence[int], stop: Stop | None) -> Rollout:
    """Return a row without its end of turn and the padding behind that or behind a stop string."""
    end = next((i for i, token in enumerate(ids) if token in eos_ids), None)
    if stop is not None:
        ends = (i for i in range(1, len(ids[:end]) + 1) if stop(ids[:i]))
        end = next(ends, end)
    return Rollout(tuple(ids[:end]), Finish.LENGTH if end is None else Finish.STOP)
