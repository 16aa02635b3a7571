"""Decoding of one batch: prefill of shared prefixes, then of suffixes, then a token per row and step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..types import Finish, Sampling
from .branches import GROWTH, Branches, grown
from .prefill import Prefilled, additive, make_segments, prefill_groups
from .prefix_attention import Segment
from .sampling import draw
from .shared_prefix import Group
from .static_decode import Rows, Stop, decode_rows, roomy_cache

STATIC = ("cuda",)
"""Kinds of device that decode without host synchronisation."""


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

    On a CPU a step computes equal beginnings once and drops rows as they end, which takes a look at each token on the
    host; an accelerator would wait for that, and decodes all rows (see `static_decode`).

    Raises:
        torch.OutOfMemoryError, RuntimeError: the device or the CPU's allocator has too little memory for the batch.
    """
    rows = [row for group in groups for prompt in group.prompts for row in prompt.rows]
    segments, filled = prefill_groups(model, groups)
    if model.device.type in STATIC:
        keys = [seeds[row] for row in rows]
        drawn = _decode_static(model, groups, segments, filled, keys, sampling, eos_ids, on_tokens, stop)
        return _collect(rows, drawn, stop)
    branches, logits = _branches(groups, segments, filled, sampling.max_new_tokens), filled.logits
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


def _branches(groups: Sequence[Group], segments: tuple[Segment, ...], filled: Prefilled, new_tokens: int) -> Branches:
    """A branch for each prompt."""
    prompts = [prompt for group in groups for prompt in group.prompts]
    device = filled.own.device
    rows = torch.tensor([len(p.rows) for p in prompts], device=device)
    cache = grown(filled.own, int(rows.sum()), min(GROWTH, new_tokens - 1))
    column = filled.own.shape[-2]
    return Branches(
        cache=cache,
        segments=segments,
        mask_B=_mask(filled.padding_U, column, cache),
        positions_B=torch.tensor([len(p.token_ids) for p in prompts], device=device),
        column=column,
        branch_R=torch.arange(len(prompts), device=device).repeat_interleave(rows),
    )


def _decode_static(
    model: PreTrainedModel,
    groups: Sequence[Group],
    segments: tuple[Segment, ...],
    filled: Prefilled,
    seeds: Sequence[int],
    sampling: Sampling,
    eos_ids: Sequence[int],
    on_tokens: Callable[[int], None] | None,
    stop: Stop | None,
) -> Tensor:
    """Decode every row by itself and return what was drawn, (R, max_new_tokens); see `decode_rows`."""
    prompts = [prompt for group in groups for prompt in group.prompts]
    device = model.device
    branch = torch.tensor([i for i, prompt in enumerate(prompts) for _ in prompt.rows], device=device)
    column = filled.own.shape[-2]
    cache = roomy_cache(model, filled.own, branch, sampling.max_new_tokens - 1)
    count = len(branch)
    rows = Rows(
        cache=cache,
        segments=make_segments([group.rows for group in groups], [segment.prefix for segment in segments]),
        mask_R=_mask(filled.padding_U, column, cache)[branch],
        positions_R=torch.tensor([len(p.token_ids) for p in prompts], device=device)[branch],
        seeds_R=torch.tensor(seeds, device=device),
        row_R=torch.arange(count, device=device),
        ended_R=torch.zeros(count, dtype=torch.bool, device=device),
        drawn=torch.full((count, sampling.max_new_tokens), -1, device=device),
        ends=torch.tensor(eos_ids, dtype=torch.int64, device=device),
        column=torch.tensor([column], device=device),
        step=torch.zeros(1, dtype=torch.int64, device=device),
    )
    return decode_rows(model, rows, filled.logits, branch, sampling, column, on_tokens, stop)


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
