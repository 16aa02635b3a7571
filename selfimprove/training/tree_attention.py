"""Attention over a trie of tokens.

All tokens of a row stand in one sequence, so the other layers compute each of them once. Only here the queries are laid
out in short blocks, each beside the path from the root that it may see: the work grows with the lengths of
the examples, not with the square of the row, and no (T, T) mask exists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .transfer import to_device

BLOCK = 64
"""Queries in a block."""

SHORT = 256
"""Longest path for which `_Attention` is used: on a CPU its backward pass takes a sixth of the time of torch's
(paths of 110 tokens), and the weights that it keeps are small beside the other activations."""


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
        if not query.is_cuda and k.shape[2] <= SHORT:
            out = _Attention.apply(q, k, v, self.visible, scaling)  # type: ignore[no-untyped-call]  # torch: not annotated
            return self._in_order(out)
        grouped = q.shape[1] != k.shape[1]
        if grouped and query.is_cuda:  # no fused kernel there takes both a mask and grouped queries
            k, v = (repeat_heads(x, q.shape[1]) for x in (k, v))
            grouped = False
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.visible, scale=scaling, enable_gqa=grouped)
        return self._in_order(out)

    def _in_order(self, out: Tensor) -> Tensor:
        """(S, H, Q, D) -> (1, T, H, D)."""
        return F.embedding(self.place, out.transpose(1, 2).flatten(0, 1).flatten(1)).unflatten(-1, out.shape[1::2])[
            None
        ]


class _Attention(torch.autograd.Function):
    """softmax(scaling q k^T) v as batched products, all query heads of a key/value head in one.

    Scores and softmax are float32 or wider, the other products in the model's dtype. With p the weights, o the output
    and s the scores: d s = p (d p - sum_k p d p), d p = d o v^T.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scaling: float) -> Tensor:
        """(S, H, Q, D), (S, Hkv, K, D) for k and v, (S, 1, Q, K) -> (S, H, Q, D)."""
        shape, wide = q.shape, torch.promote_types(q.dtype, torch.float32)
        k, v = k.flatten(0, 1), v.flatten(0, 1)  # (B, K, D) with B = S * Hkv
        q = q.reshape(len(k), -1, shape[-1])  # (B, H / Hkv * Q, D)
        scores = torch.bmm(q.to(wide) * scaling, k.to(wide).transpose(1, 2))
        scores.view(*shape[:3], -1).masked_fill_(~visible, -torch.inf)
        p = torch.softmax(scores, -1).to(q.dtype)
        ctx.save_for_backward(q, k, v, p)
        ctx.scaling = scaling
        return torch.bmm(p, v).view(shape)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, p = ctx.saved_tensors
        d_o = d_out.reshape(q.shape)
        d_v = torch.bmm(p.transpose(1, 2), d_o)
        d_p = torch.bmm(d_o, v.transpose(1, 2))
        d_s = torch._softmax_backward_data(d_p, p, -1, p.dtype).mul_(ctx.scaling)
        d_q, d_k = torch.bmm(d_s, k), torch.bmm(d_s.transpose(1, 2), q)
        heads = len(k) // len(d_out)
        d_k, d_v = (d.unflatten(0, (-1, heads)) for d in (d_k, d_v))
        return d_q.view(d_out.shape), d_k, d_v, None, None


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
