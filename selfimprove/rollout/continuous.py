"""Continuous batching: rows join and leave a decode batch between two steps (Yu et al. 2022, "Orca").

For requests that come one by one. `decode_batch` is for rows that start together: it also shares their prefixes.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..models.packed_attention import packed_attention
from ..models.packed_linear import packed_products
from .branches import GROWTH
from .prefill import additive, forward, new_cache, prefill
from .prefix_attention import Pass, Segment

WORTH_SHARING = 16
"""Fewest tokens of a prefix that is copied instead of computed."""


class OpenBatch(Protocol):
    """Rows that are decoded together; used under `torch.inference_mode`."""

    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Append a row for each prompt, and return the logits after it, (U, V)."""
        ...

    def step(self, tokens_R: Sequence[int]) -> Tensor:
        """Append a token to each row, and return the next logits, (R, V)."""
        ...

    def keep(self, order: Sequence[int]) -> None:
        """Keep these rows and remove the others: row r becomes what row `order[r]` was."""
        ...


class PackedBatch:
    """Rows in one cache, by packed attention; models that it does not suit: see `compatibility.misfit`.

    All rows write their next token to the same column, so they are right-aligned; `starts` is where each begins.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._starts: list[int] = []
        self._last: tuple[int, ...] = ()
        self._prefix = new_cache(model, 1, 0)[:, :, 0]  # of the prompt admitted last, (layers, 2, Hkv, P, D)
        self._clear()

    def _clear(self) -> None:
        self._cache = new_cache(self._model, 0, 0)  # (layers, 2, rows, Hkv, C, D), with free rows and columns
        self._column = 0  # of the next token, for all rows

    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Prefill the prompts together, equal ones once; see `OpenBatch.admit`.

        What they all share with the prompt admitted last (a system message, a conversation so far) is not computed
        again.
        """
        unique = list(dict.fromkeys(map(tuple, prompts)))
        shared = min(_common(self._last, ids) for ids in unique)
        prefix = self._prefix[..., :shared, :].contiguous() if shared >= WORTH_SHARING else None
        shared = 0 if prefix is None else shared
        segments = (Segment(0, len(unique), prefix),)
        with packed_attention(self._model), packed_products(self._model):
            filled = prefill(self._model, [ids[shared:] for ids in unique], [shared] * len(unique), segments)
        chosen = [unique.index(tuple(ids)) for ids in prompts]
        first, last = len(self._starts), len(self._starts) + len(prompts)
        longest, width = max(map(len, prompts)), filled.own.shape[-2]
        if last > self._cache.shape[2] or longest > self._column:
            self._lay_out(last, longest)
        self._cache[:, :, first:last, :, self._column - width : self._column] = filled.own[:, :, chosen]
        starts = [self._column - len(ids) for ids in prompts]
        if prefix is not None:
            for row, start in enumerate(starts, start=first):
                self._cache[:, :, row, :, start : start + shared] = prefix
        self._starts += starts
        self._last = unique[chosen[-1]]
        self._prefix = self._cache[:, :, last - 1, :, starts[-1] : self._column].clone()
        return filled.logits[chosen]

    def step(self, tokens_R: Sequence[int]) -> Tensor:
        """Run one pass over all rows; see `OpenBatch.step`."""
        rows, device = len(self._starts), self._model.device
        if self._column == self._cache.shape[-2]:
            self._lay_out(rows, 0)
        starts = torch.tensor(self._starts, device=device)
        columns = torch.arange(self._cache.shape[-2], device=device)
        seen = (columns >= starts[:, None]) & (columns <= self._column)
        mask = additive(seen, self._cache.dtype)[:, None, None, None]  # (R, 1, 1, 1, C)
        own = self._cache[:, :, :rows]
        view = Pass(own, (Segment(0, rows, None),), self._column, own.shape[-2], mask)
        with packed_attention(self._model), packed_products(self._model):
            logits = forward(self._model, torch.tensor(tokens_R, device=device), self._column - starts, view)
        self._column += 1
        return logits

    def keep(self, order: Sequence[int]) -> None:
        """Move rows to their new places; an empty batch gives its memory back. See `OpenBatch.keep`."""
        moved = [place for place, row in enumerate(order) if place != row]
        if moved:
            used = self._cache[..., min(self._starts) : self._column, :]
            used[:, :, moved] = used[:, :, [order[place] for place in moved]]
        self._starts = [self._starts[row] for row in order]
        if not order:
            self._clear()

    def _lay_out(self, rows: int, width: int) -> None:
        """Copy to a cache of so many rows, the longest of them ending at column `width` or later, and room behind."""
        used = self._column - min(self._starts, default=self._column)
        width = max(width, used)
        larger = new_cache(self._model, rows, width + GROWTH)
        live = len(self._starts)
        larger[:, :, :live, :, width - used : width] = self._cache[:, :, :live, :, self._column - used : self._column]
        self._starts = [start + width - self._column for start in self._starts]
        self._cache, self._column = larger, width


class SeparateBatch:
    """Rows with a cache of transformers' own each: for models that packed attention does not suit. A pass a row."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._caches: list[Any] = []

    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Prefill the prompts, one after the other; see `OpenBatch.admit`."""
        new = [DynamicCache(config=self._model.config) for _ in prompts]
        self._caches += new
        return torch.cat([self._pass(cache, ids) for cache, ids in zip(new, prompts, strict=True)])

    def step(self, tokens_R: Sequence[int]) -> Tensor:
        """Run a pass for each row; see `OpenBatch.step`."""
        return torch.cat([self._pass(cache, [token]) for cache, token in zip(self._caches, tokens_R, strict=True)])

    def keep(self, order: Sequence[int]) -> None:
        """See `OpenBatch.keep`."""
        self._caches = [self._caches[row] for row in order]

    def _pass(self, cache: Any, ids: Sequence[int]) -> Tensor:
        tokens = torch.tensor([list(ids)], device=self._model.device)
        with packed_products(self._model):
            return self._model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common prefix, of at most all but the last token of `other`: its logits are needed."""
    pairs = enumerate(zip(one, other[:-1], strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other) - 1))


def closed_up(rows: int, gone: set[int]) -> list[int]:
    """Return an order for `OpenBatch.keep` without the rows that are gone; rows at the end fill the gaps."""
    movers = (row for row in reversed(range(rows)) if row not in gone)
    return [next(movers) if row in gone else row for row in range(rows - len(gone))]
