"""Decoding of one batch: prefill of shared prefixes, then of suffixes, then a token per row and step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..types import Finish, Sampling
from .branches import GROWTH, Branches, grown
from .prefill import additive, make_segments, prefill, prefill_prefixes
from .sampling import draw
from .shared_prefix import Group

Stop = Callable[[Sequence[int]], bool]
"""Whether the tokens drawn for a row hold a stop string; asked after each token."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One continuation: its new tokens, without the end-of-turn token; a stop string's tokens are part of them."""

    token_ids: tuple[int, ...]
    finish: Finish


def decode_batch(
    model: PreTrainedModel,
    groups: Sequence[Group],
    seeds: Sequence[int],
    sampling: Sampling,
    eos_ids: Sequence[int],
    on_tokens: Callable[[int], None] | None = None,
    stop: Stop | None = None,
) -> dict[int, Rollout]:
    """Return a rollout for every row of the groups. `seeds` are those of all rows, by row.

    Raises:
        torch.OutOfMemoryError, RuntimeError: the device or the CPU's allocator has too little memory for the batch.
    """
    rows = [row for group in groups for prompt in group.prompts for row in prompt.rows]
    branches, logits = _prefill_rows(model, groups, sampling.max_new_tokens)
    device = model.device
    ends = torch.tensor(eos_ids, dtype=torch.int64, device=device)
    drawn = torch.full((len(rows), sampling.max_new_tokens), -1, device=device)
    live = torch.arange(len(rows), device=device)  # rows that have not ended
    seeds_R = torch.tensor([seeds[row] for row in rows], device=device)
    stops = None if stop is None else _Stops(stop, len(rows))
    for step in range(sampling.max_new_tokens):
        tokens = draw(logits, seeds_R[live], step, sampling, branches.branch_R)
        going = ~torch.isin(tokens, ends)
        live = live[going]
        drawn[live, step] = tokens[going]
        if on_tokens:
            on_tokens(len(live))
        if stops is not None:
            on = stops.going(live, drawn[live, step])
            going[going.clone()], live = on, live[on]
        if not len(live) or step + 1 == sampling.max_new_tokens:
            break
        logits = branches.advance(model, tokens, going)
    return _collect(rows, drawn, stop)


class _Stops:
    """The tokens of each row of a batch, tested for stop strings as they are drawn."""

    def __init__(self, stop: Stop, rows: int) -> None:
        self._stop = stop
        self._ids: list[list[int]] = [[] for _ in range(rows)]

    def going(self, live: Tensor, tokens: Tensor) -> Tensor:
        """Append a token to each of the live rows, (R,), and return which of them hold no stop string, (R,)."""
        rows = live.tolist()
        for row, token in zip(rows, tokens.tolist(), strict=True):
            self._ids[row].append(token)
        return torch.tensor([not self._stop(self._ids[row]) for row in rows], dtype=torch.bool, device=live.device)


def _prefill_rows(model: PreTrainedModel, groups: Sequence[Group], new_tokens: int) -> tuple[Branches, Tensor]:
    """Prefill each prompt once: a branch for each, and the logits after it, (B, V)."""
    prompts = [prompt for group in groups for prompt in group.prompts]
    starts = [group.shared for group in groups for _ in group.prompts]
    suffixes = [prompt.token_ids[start:] for prompt, start in zip(prompts, starts, strict=True)]
    prefixes = prefill_prefixes(model, groups)
    segments = make_segments([len(g.prompts) for g in groups], prefixes)
    filled = prefill(model, suffixes, starts, segments)
    device = model.device
    rows = torch.tensor([len(p.rows) for p in prompts], device=device)
    cache = grown(filled.own, int(rows.sum()), min(GROWTH, new_tokens - 1))
    column = filled.own.shape[-2]
    branches = Branches(
        cache=cache,
        segments=segments,
        mask_B=_mask(filled.padding_U, column, cache),
        positions_B=torch.tensor([len(p.token_ids) for p in prompts], device=device),
        column=column,
        branch_R=torch.arange(len(prompts), device=device).repeat_interleave(rows),
    )
    return branches, filled.logits


def _mask(padding: Tensor, column: int, cache: Tensor) -> Tensor:
    """Additive mask (U, 1, 1, 1, C) that hides each row's padding, and the columns from `column` on: they are empty."""
    columns = torch.arange(cache.shape[-2], device=padding.device)
    return additive((columns >= padding[:, None]) & (columns < column), cache.dtype)[:, None, None, None]


def _collect(rows: Sequence[int], drawn: Tensor, stop: Stop | None) -> dict[int, Rollout]:
    """Read the drawn tokens, (R, max_new_tokens), -1 from where a row ended."""
    rollouts = {}
    for row, ids in zip(rows, drawn.tolist(), strict=True):
        stopped = ids[-1] < 0 or (stop is not None and stop(ids))
        token_ids = tuple(ids[: ids.index(-1)] if ids[-1] < 0 else ids)
        rollouts[row] = Rollout(token_ids, Finish.STOP if stopped else Finish.LENGTH)
    return rollouts
