"""Attention over a trie of tokens.

All tokens of a row stand in one sequence, so the other layers compute each of them once. Only here the queries are laid
out in short blocks, each beside the path from the root that it may see: the work grows with the lengths of
the examples, not with the square of the row, and no (T, T) mask exists.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .transfer import to_device

BLOCK = 64
"""Queries in a block."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """S blocks of up to Q queries, each with the K tokens of its path; unused places repeat some token."""

    queries: Tensor  # (S, Q) the token of each query
    keys: Tensor  # (S, K) the token at each position of the path
    visible: Tensor  # (S, 1, Q, K) keys no further along the path than the query
    place: Tensor  # (T,) where in S * Q each token's query is

    def to(self, device: torch.device) -> "Blocks":
        """The same on another device."""
        return Blocks(*(to_device(t, device) for t in (self.queries, self.keys, self.visible, self.place)))

    def attend(
        self,
        layer: int,  # noqa: ARG002 - of use where keys are kept by layer
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
    ) -> Tensor:
        """(1, H, T, D), and (1, Hkv, T, D) for key and value -> (1, T, H, D)."""
        q, k, v = _pick(query, self.queries), _pick(key, self.keys), _pick(value, self.keys)
        grouped = q.shape[1] != k.shape[1]
        if grouped and query.is_cuda:  # no fused kernel there takes both a mask and grouped queries
            k, v = (repeat_heads(x, q.shape[1]) for x in (k, v))
            grouped = False
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.visible, scale=scaling, enable_gqa=grouped)
        return F.embedding(self.place, out.transpose(1, 2).flatten(0, 1).flatten(1)).unflatten(-1, q.shape[1::2])[None]


def _pick(states: Tensor, tokens: Tensor) -> Tensor:
    """(1, H, T, D) -> (S, H, W, D) by (S, W) tokens, through the look-up that adds up gradients in a fixed order."""
    _, heads, _, size = states.shape
    rows = states[0].transpose(0, 1).flatten(1)  # (T, H * D)
    return F.embedding(tokens, rows).unflatten(-1, (heads, size)).transpose(1, 2)


def repeat_heads(states: Tensor, heads: int) -> Tensor:
    """(S, Hkv, K, D) -> (S, H, K, D), each key/value head once for each of its query heads."""
    return states.repeat_interleave(heads // states.shape[1], 1)


def lay_out(paths: Sequence[Sequence[int]]) -> Blocks:
    """Cut the tokens that each path adds to the ones before it into blocks.

    Args:
        paths: for each sequence the numbers of its tokens; tokens are numbered in the order in which they first occur.
    """
    seen = 0
    blocks = []  # (path, position of the first query, position after the last)
    for path in paths:
        new = len(path) - sum(token < seen for token in path)
        for first in range(len(path) - new, len(path), BLOCK):
            blocks.append((path, first, min(first + BLOCK, len(path))))
        seen += new
    width = max(stop - first for _, first, stop in blocks)
    depth = max(stop for _, _, stop in blocks)
    queries = torch.tensor([[*p[first:stop], *[p[stop - 1]] * (width - stop + first)] for p, first, stop in blocks])
    keys = torch.tensor([[*p[:stop], *[p[0]] * (depth - stop)] for p, _, stop in blocks])
    ends = torch.tensor([[first, stop - 1] for _, first, stop in blocks])
    position = (ends[:, :1] + torch.arange(width)).minimum(ends[:, 1:])  # (S, Q)
    place = torch.cat([s * width + torch.arange(stop - first) for s, (_, first, stop) in enumerate(blocks)])
    return Blocks(queries, keys, (torch.arange(depth) <= position[..., None])[:, None], place)
