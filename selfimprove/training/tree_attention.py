"""Attention over a trie of tokens.

All tokens of a row stand in one sequence, so the other layers compute each of them once. Only here the queries are laid
out in short blocks, each beside the path from the root that it may see: the work grows with the lengths of
the examples, not with the square of the row, and no (T, T) mask exists.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .transfer import to_device

SHORT = 1024
"""Longest path for which `_Attention` is used: on a CPU its backward pass takes a sixth (paths of 110 tokens) to 0.4
(700 tokens) of the time of torch's, and the weights that it keeps are small beside the other activations."""


@dataclass(frozen=True, slots=True)
class Group:
    """S blocks of up to Q queries, each with the K tokens of its path; unused places repeat some token."""

    queries: Tensor  # (S, Q) the token of each query
    keys: Tensor  # (S, K) the token at each position of the path
    visible: Tensor  # (S, 1, Q, K) keys no further along the path than the query

    def to(self, device: torch.device) -> "Group":
        """The same on another device."""
        return Group(*(to_device(t, device) for t in (self.queries, self.keys, self.visible)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """(S, H, Q, D), and (S, Hkv, K, D) for k and v -> (S, H, Q, D)."""
        if not q.is_cuda and k.shape[2] <= SHORT:
            return _Attention.apply(q, k, v, self.visible, scaling)  # type: ignore[no-untyped-call]
        grouped = q.shape[1] != k.shape[1]
        if grouped and q.is_cuda:  # no fused kernel there takes both a mask and grouped queries
            k, v = (repeat_heads(x, q.shape[1]) for x in (k, v))
            grouped = False
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.visible, scale=scaling, enable_gqa=grouped)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of queries, those with paths of about equal length in one group."""

    groups: tuple[Group, ...]
    place: Tensor  # (T,) where in the groups' S * Q, one after the other, each token's query is

    def to(self, device: torch.device) -> "Blocks":
        """The same on another device."""
        return Blocks(tuple(group.to(device) for group in self.groups), to_device(self.place, device))

    def attend(
        self,
        layer: int,  # noqa: ARG002 - of use where keys are kept by layer
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
    ) -> Tensor:
        """(1, H, T, D), and (1, Hkv, T, D) for key and value -> (1, T, H, D)."""
        queries = _pick(query, [group.queries for group in self.groups])
        keys, values = (_pick(states, [group.keys for group in self.groups]) for states in (key, value))
        parts = zip(self.groups, queries, keys, values, strict=True)
        outs = [group.attend(q, k, v, scaling) for group, q, k, v in parts]
        rows = [out.transpose(1, 2).flatten(0, 1).flatten(1) for out in outs]  # (S * Q, H * D)
        out = rows[0] if len(rows) == 1 else torch.cat(rows)
        return F.embedding(self.place, out).unflatten(-1, query.shape[1::2])[None]


class _Attention(torch.autograd.Function):
    """softmax(scaling q k^T) v as batched products, all query heads of a key/value head in one.

    Scores and softmax are float32 or wider, the other products in the model's dtype. With p the weights, o the output
    and s the scores: d s = p (d p - sum_k p d p), d p = d o v^T.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scaling: float) -> Tensor:
        """(S, H, Q, D), (S, Hkv, K, D) for k and v, (S, 1, Q, K) -> (S, H, Q, D)."""
        shape = q.shape
        k, v = k.flatten(0, 1), v.flatten(0, 1)  # (B, K, D) with B = S * Hkv
        q = q.reshape(len(k), -1, shape[-1])  # (B, H / Hkv * Q, D)
        scores = _scores(q, k).view(*shape[:3], -1)
        bias = torch.where(visible, 0.0, -torch.inf)  # adding it takes a tenth of the time of masked_fill_
        torch.add(bias, scores, alpha=scaling, out=scores)
        p = torch.softmax(scores, -1).to(q.dtype).view(len(k), q.shape[1], -1)
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


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """Return q k^T in float32 or wider."""
    if q.dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        wide = torch.promote_types(q.dtype, torch.float32)
        return torch.bmm(q.to(wide), k.to(wide).transpose(1, 2))
    with _exact_in_bfloat16():
        return torch.bmm(q.float(), k.float().transpose(1, 2))


@contextmanager
def _exact_in_bfloat16() -> Iterator[None]:
    """Products of float32 numbers that bfloat16 holds exactly: oneDNN's in bfloat16, sums in float32.

    The result is as exact and takes 0.4 of the time of MKL's (Zen 5). No torch product of bfloat16 tensors on the CPU
    gives out its float32 sums.
    """
    settings: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch: not annotated
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def _pick(states: Tensor, tokens: Sequence[Tensor]) -> list[Tensor]:
    """(1, H, T, D) -> (S, H, W, D) for each (S, W) tokens, by the look-up that adds up gradients in a fixed order."""
    _, heads, _, size = states.shape
    rows = states[0].transpose(0, 1).flatten(1)  # (T, H * D)
    found = F.embedding(torch.cat([t.flatten() for t in tokens]), rows).split([t.numel() for t in tokens])
    return [
        x.unflatten(-1, (heads, size)).unflatten(0, t.shape).transpose(1, 2) for x, t in zip(found, tokens, strict=True)
    ]


def repeat_heads(states: Tensor, heads: int) -> Tensor:
    """(S, Hkv, K, D) -> (S, H, K, D), each key/value head once for each of its query heads."""
    return states.repeat_interleave(heads // states.shape[1], 1)


def block_sizes(device: torch.device, longest: int) -> tuple[int, int]:
    """Return the queries of a block, and by how much the paths of a group may differ in length.

    On a CPU (Zen 5, forward and backward pass, paths of 50 to 700 tokens) blocks of 16 or 64 queries and groups of 32
    were not faster. A GPU gets one group: there a launch costs more than the padding.

    Args:
        device: of the model.
        longest: length of the longest path.
    """
    return (32, 64) if device.type == "cpu" else (64, longest)


def lay_out(paths: Sequence[Sequence[int]], device: torch.device) -> Blocks:
    """Cut the tokens that each path adds to the ones before it into blocks.

    Args:
        paths: for each sequence the numbers of its tokens; tokens are numbered in the order in which they first occur.
        device: where attention will run.
    """
    size, step = block_sizes(device, max(map(len, paths)))
    seen = 0
    groups = dict[int, list[tuple[Sequence[int], int, int]]]()  # path, position of the first query, and after the last
    for path in paths:
        new = len(path) - sum(token < seen for token in path)
        for first in range(len(path) - new, len(path), size):
            stop = min(first + size, len(path))
            groups.setdefault((stop - 1) // step, []).append((path, first, stop))
        seen += new
    place = torch.zeros(seen, dtype=torch.long)
    start = 0
    for blocks in groups.values():
        width = max(stop - first for _, first, stop in blocks)
        for path, first, stop in blocks:
            place[torch.tensor(path[first:stop])] = start + torch.arange(stop - first)
            start += width
    return Blocks(tuple(_group(blocks) for blocks in groups.values()), place)


def _group(blocks: Sequence[tuple[Sequence[int], int, int]]) -> Group:
    """Pad blocks, each a path with the position of its first query and that after its last, to one size."""
    width = max(stop - first for _, first, stop in blocks)
    depth = max(stop for _, _, stop in blocks)
    queries = torch.tensor([[*p[first:stop], *[p[stop - 1]] * (width - stop + first)] for p, first, stop in blocks])
    keys = torch.tensor([[*p[:stop], *[p[0]] * (depth - stop)] for p, _, stop in blocks])
    ends = torch.tensor([[first, stop - 1] for _, first, stop in blocks])
    position = (ends[:, :1] + torch.arange(width)).minimum(ends[:, 1:])  # (S, Q)
    return Group(queries, keys, (torch.arange(depth) <= position[..., None])[:, None])
