"""One batch: prefill the trunks, then the leaves on top of them, then draw tokens until every row has ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..types import Finish, Sampling
from .attention import Pass, Segment
from .prefill import additive, forward, make_segments, prefill, prefill_trunks
from .prefix import Group
from .sampling import draw


@dataclass(frozen=True, slots=True)
class Rollout:
    """One continuation: its new tokens, the one that ended it left out."""

    token_ids: tuple[int, ...]
    finish: Finish


def decode_batch(
    model: PreTrainedModel,
    groups: Sequence[Group],
    seeds: Sequence[int],
    sampling: Sampling,
    eos_ids: Sequence[int],
    on_tokens: Callable[[int], None] | None = None,
) -> dict[int, Rollout]:
    """Return a rollout for every row of the groups. `seeds` are those of all rows, by row.

    Raises:
        torch.OutOfMemoryError, RuntimeError: the device or the CPU's allocator has too little memory for the batch.
    """
    device = model.device
    trunks = prefill_trunks(model, groups)
    prompts = [prompt for group in groups for prompt in group.prompts]
    leaves = [p.token_ids[g.shared :] for g in groups for p in g.prompts]
    starts = [g.shared for g in groups for _ in g.prompts]
    filled = prefill(model, leaves, starts, make_segments([len(g.prompts) for g in groups], trunks))

    rows = [row for prompt in prompts for row in prompt.rows]
    copies = torch.tensor([len(p.rows) for p in prompts], device=device)
    unique = torch.arange(len(prompts), device=device).repeat_interleave(copies)  # (R,) the prompt of each row
    own = _grow(filled.own, unique, sampling.max_new_tokens - 1)
    logits = filled.logits[unique]
    mask = _padding_mask(filled.padding_U[unique], own.shape[-2], own.dtype)
    positions = torch.tensor([len(p.token_ids) for p in prompts], device=device)[unique]
    keys = torch.tensor([seeds[row] for row in rows], device=device)
    ends = torch.tensor(eos_ids, device=device)
    live = torch.arange(len(rows), device=device)
    segments = make_segments([g.rows for g in groups], trunks)
    drawn = torch.full((len(rows), sampling.max_new_tokens), -1, device=device)
    column = filled.own.shape[-2]
    for step in range(sampling.max_new_tokens):
        tokens = draw(logits, keys, step, sampling)
        going = ~torch.isin(tokens, ends)
        drawn[live[going], step] = tokens[going]
        alive = going.tolist()
        if on_tokens:
            on_tokens(sum(alive))
        if not any(alive) or step == sampling.max_new_tokens - 1:
            break
        if not all(alive):  # finished rows leave
            segments, order = _close_ranks(segments, alive)
            own = _move_rows(own, order, column + step)
            index = torch.tensor(order, device=device)
            tokens, keys, live, positions = tokens[index], keys[index], live[index], positions[index]
            mask = None if mask is None else mask[index]
        here = column + step
        view = Pass(own, segments, here, here + 1, None if mask is None else mask[..., : here + 1])
        logits = forward(model, tokens, positions + step, view)
    return _collect(rows, drawn)


def _padding_mask(padding: Tensor, columns: int, dtype: torch.dtype) -> Tensor | None:
    """Additive mask (R, 1, 1, 1, columns) that hides each row's padding; None when there is none."""
    if not padding.any():
        return None
    return additive(torch.arange(columns, device=padding.device) >= padding[:, None], dtype)[:, None, None, None]


def _grow(own: Tensor, index: Tensor, columns: int) -> Tensor:
    """Repeat the cache's rows by `index` and add room for `columns` more."""
    layers, two, _, heads, used, size = own.shape
    grown = own.new_empty(layers, two, len(index), heads, used + columns, size)
    for layer in range(layers):
        grown[layer, :, :, :, :used] = own[layer, :, index]
    return grown


def _close_ranks(segments: tuple[Segment, ...], alive: Sequence[bool]) -> tuple[tuple[Segment, ...], list[int]]:
    """Let finished rows leave: the new segments, and for each new place the row that takes it.

    Rows stay where they are when they can and each other place is filled from the end of its segment: the cache then
    copies about as many rows as leave.
    """
    closed: list[Segment] = []
    order: list[int] = []
    for segment in segments:
        rows = [row for row in range(segment.start, segment.stop) if alive[row]]
        if not rows:
            continue
        places = range(len(order), len(order) + len(rows))
        closed.append(Segment(places.start, places.stop, segment.trunk))
        stay = set(rows).intersection(places)
        movers = (row for row in reversed(rows) if row not in stay)
        order += [place if place in stay else next(movers) for place in places]
    return tuple(closed), order


def _move_rows(own: Tensor, order: Sequence[int], columns: int) -> Tensor:
    """Bring rows to their new places, in place, and drop the rest."""
    places = [place for place, row in enumerate(order) if place != row]
    if places:
        rows = [order[place] for place in places]
        own[:, :, places, :, :columns] = own[:, :, rows, :, :columns]
    return own[:, :, : len(order)]


def _collect(rows: Sequence[int], drawn: Tensor) -> dict[int, Rollout]:
    """Read the drawn tokens, (R, max_new_tokens), -1 from where a row ended."""
    rollouts = {}
    for row, ids in zip(rows, drawn.tolist(), strict=True):
        stopped = ids[-1] < 0
        token_ids = tuple(ids[: ids.index(-1)] if stopped else ids)
        rollouts[row] = Rollout(token_ids, Finish.STOP if stopped else Finish.LENGTH)
    return rollouts
