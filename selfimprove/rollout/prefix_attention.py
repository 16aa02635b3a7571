"""Attention for packed rollouts.

Here, and only here, tokens are laid out by row: each row attends to the prefix of its group, stored once (Juravsky et
al. 2024, "Hydragen"), and to its own columns. A group's query heads share one product per key/value head (grouped
queries).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows start..stop and the prefix they share: keys and values (layers, 2, Hkv, P, D), or None."""

    start: int
    stop: int
    prefix: Tensor | None


@dataclass(frozen=True, slots=True)
class Pass:
    """Cache positions that one forward pass writes and reads.

    `own` holds the rows' keys and values, (layers, 2, R, Hkv, C, D), of which columns below `last` are read. Token t of
    the pack is in row `place_T[0][t]` and column `place_T[1][t]`, from `first` on, of w = `last` - `first` columns;
    without `place_T`, row t has one token, in column `first`, and w = 1; `first` may be (1,) on the device then.
    `mask` is additive, (R, 1, w, 1, last); None when every row sees all.
    """

    own: Tensor
    segments: tuple[Segment, ...]
    first: int | Tensor
    last: int
    mask: Tensor | None = None
    place_T: tuple[Tensor, Tensor] | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Store key and value, (1, Hkv, T, D), and return what query, (1, H, T, D), sees, as (1, T, H, D)."""
        keys, values = self.own[layer]  # (R, Hkv, C, D)
        rows, kv_heads = keys.shape[:2]
        query = query[0].transpose(0, 1) * scaling  # (T, H, D)
        key, value = key[0].transpose(0, 1), value[0].transpose(0, 1)  # (T, Hkv, D)
        if isinstance(self.first, Tensor):
            keys.index_copy_(2, self.first, key.unsqueeze(2))
            values.index_copy_(2, self.first, value.unsqueeze(2))
            grid = query.unsqueeze(1)
        elif self.place_T is None:
            keys[:, :, self.first], values[:, :, self.first] = key, value
            grid = query.unsqueeze(1)  # (R, 1, H, D)
        else:
            row, column = self.place_T
            keys[row, :, column], values[row, :, column] = key, value
            grid = query.new_zeros(rows, self.last - self.first, *query.shape[1:])
            grid[row, column - self.first] = query
        width = grid.shape[1]
        # (R, w, H, D) -> (R, Hkv, w * G, D): the G query heads of a key/value head stand together
        grouped = grid.unflatten(2, (kv_heads, -1)).transpose(1, 2).flatten(2, 3)
        keys, values = keys[:, :, : self.last], values[:, :, : self.last]
        scores = grouped @ keys.transpose(-1, -2)  # (R, Hkv, w * G, last)
        if self.mask is not None:
            scores.unflatten(2, (width, -1)).add_(self.mask)
        seen = []
        for segment in self.segments:
            part = slice(segment.start, segment.stop)
            prefix = None if segment.prefix is None else segment.prefix[layer]
            seen.append(_attend_prefix(grouped[part], scores[part], prefix))
        out = scores @ values
        for segment, on_prefix in zip(self.segments, seen, strict=True):
            if on_prefix is not None:
                out[segment.start : segment.stop] += on_prefix
        out = out.unflatten(2, (width, -1)).transpose(1, 2).flatten(2, 3)  # (R, w, H, D)
        packed = out[:, 0] if self.place_T is None else out[row, column - self.first]
        return packed.unsqueeze(0)


def _attend_prefix(query: Tensor, scores: Tensor, prefix: Tensor | None) -> Tensor | None:
    """Return what the queries of a segment see of its prefix; its scores become weights over [prefix | own columns].

    Args:
        query: (n, Hkv, Q, D), scaled; Q = w * G queries.
        scores: (n, Hkv, Q, C) of the own columns, masked; overwritten by their part of the softmax.
        prefix: (2, Hkv, P, D), seen by every query, or None.
    """
    if prefix is None:
        scores.copy_(_softmax(scores))
        return None
    n, heads, queries, size = query.shape
    keys, values = prefix
    shared = keys.shape[1]
    flat = query.transpose(0, 1).reshape(heads, n * queries, size)  # all rows in one product a head
    on_prefix = (flat @ keys.transpose(-1, -2)).view(heads, n, queries, shared).transpose(0, 1)
    weights = _softmax(torch.cat([on_prefix, scores], -1))  # (n, Hkv, Q, P + C)
    scores.copy_(weights[..., shared:])
    flat = weights[..., :shared].transpose(0, 1).reshape(heads, n * queries, shared)
    return (flat @ values).view(heads, n, queries, size).transpose(0, 1)


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
