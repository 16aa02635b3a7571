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


@dataclass(slots=True)
class _Live:
    """The rows that go on, side by side: a row is a place in each of these."""

    own: Tensor  # (layers, 2, R, Hkv, C, D)
    segments: tuple[Segment, ...]
    mask: Tensor | None  # (R, 1, 1, 1, C)
    rows: Tensor  # (R,) which of the batch's rows it is
    seeds: Tensor  # (R,)
    positions: Tensor  # (R,) of its next token
    column: int  # of the next token, for all

    def advance(self, model: PreTrainedModel, tokens: Tensor) -> Tensor:
        """Append one token to each row, (R,); return the logits after it, (R, V)."""
        end = self.column + 1
        view = Pass(self.own, self.segments, self.column, end, None if self.mask is None else self.mask[..., :end])
        logits = forward(model, tokens, self.positions, view)
        self.column, self.positions = end, self.positions + 1
        return logits

    def drop(self, alive: Sequence[bool]) -> Tensor:
        """Let the rows that are not alive leave; return the old place of each row that stays."""
        self.segments, order = close_ranks(self.segments, alive)
        moved = [place for place, row in enumerate(order) if place != row]
        if moved:
            self.own[:, :, moved, :, : self.column] = self.own[:, :, [order[p] for p in moved], :, : self.column]
        self.own = self.own[:, :, : len(order)]
        places = torch.tensor(order, device=self.rows.device)
        self.mask = None if self.mask is None else self.mask[places]
        self.rows, self.seeds, self.positions = self.rows[places], self.seeds[places], self.positions[places]
        return places


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
    rows = [row for group in groups for prompt in group.prompts for row in prompt.rows]
    live, logits = _prefill_rows(model, groups, [seeds[row] for row in rows], sampling.max_new_tokens)
    ends = torch.tensor(eos_ids, dtype=torch.int64, device=model.device)
    drawn = torch.full((len(rows), sampling.max_new_tokens), -1, device=model.device)
    for step in range(sampling.max_new_tokens):
        tokens = draw(logits, live.seeds, step, sampling)
        going = ~torch.isin(tokens, ends)
        drawn[live.rows[going], step] = tokens[going]
        alive = going.tolist()
        if on_tokens:
            on_tokens(sum(alive))
        if not any(alive) or step + 1 == sampling.max_new_tokens:
            break
        if not all(alive):
            tokens = tokens[live.drop(alive)]
        logits = live.advance(model, tokens)
    return _collect(rows, drawn)


def _prefill_rows(
    model: PreTrainedModel, groups: Sequence[Group], seeds: Sequence[int], new_tokens: int
) -> tuple[_Live, Tensor]:
    """Prefill each prompt once and repeat it for its rows; return them with the logits after the prompt, (R, V)."""
    prompts = [prompt for group in groups for prompt in group.prompts]
    starts = [group.shared for group in groups for _ in group.prompts]
    leaves = [prompt.token_ids[start:] for prompt, start in zip(prompts, starts, strict=True)]
    trunks = prefill_trunks(model, groups)
    filled = prefill(model, leaves, starts, make_segments([len(g.prompts) for g in groups], trunks))
    device = model.device
    copies = torch.tensor([len(p.rows) for p in prompts], device=device)
    prompt_R = torch.arange(len(prompts), device=device).repeat_interleave(copies)
    own = _grow(filled.own, prompt_R, new_tokens - 1)
    live = _Live(
        own=own,
        segments=make_segments([g.rows for g in groups], trunks),
        mask=_padding_mask(filled.padding_U[prompt_R], own.shape[-2], own.dtype),
        rows=torch.arange(len(prompt_R), device=device),
        seeds=torch.tensor(seeds, device=device),
        positions=torch.tensor([len(p.token_ids) for p in prompts], device=device)[prompt_R],
        column=filled.own.shape[-2],
    )
    return live, filled.logits[prompt_R]


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


def close_ranks(segments: tuple[Segment, ...], alive: Sequence[bool]) -> tuple[tuple[Segment, ...], list[int]]:
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


def _collect(rows: Sequence[int], drawn: Tensor) -> dict[int, Rollout]:
    """Read the drawn tokens, (R, max_new_tokens), -1 from where a row ended."""
    rollouts = {}
    for row, ids in zip(rows, drawn.tolist(), strict=True):
        stopped = ids[-1] < 0
        token_ids = tuple(ids[: ids.index(-1)] if stopped else ids)
        rollouts[row] = Rollout(token_ids, Finish.STOP if stopped else Finish.LENGTH)
    return rollouts
