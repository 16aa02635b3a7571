"""Exact temperature / top-k / top-p draws from keyed noise.

A token is drawn by the Gumbel-max trick: argmax(log p + g) with g = -log(-log u) follows p exactly (Gumbel 1954;
Maddison et al. 2014, "A* sampling"). u is a hash of (seed, position, token id), so a draw depends on nothing else: not
on the batch, not on the order of rows or of ties, not on the device.
"""

import torch
from torch import Tensor

from ..types import Sampling

_GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio, as a signed 64-bit number: the step of splitmix64
_MIX_1 = -0x40A7B892E31B1A47
_MIX_2 = -0x6B2FB644ECCEEE15
_UNCUT_ROWS = {"cpu": 32, "other": 256}
"""Rows drawn at once from the whole vocabulary: its float64 temporaries are what limits."""


def draw(
    logits: Tensor, seeds: Tensor, position: int | Tensor, sampling: Sampling, branch: Tensor | None = None
) -> Tensor:
    """Return one token id for each of R rows.

    Args:
        logits: (B, V), any float dtype.
        seeds: (R,) int64.
        position: index of the token in the continuation, of all rows, (1,) where it is on the device, or of each, (R,);
            part of the key of its noise.
        sampling: the distribution. Of logits that tie at the k-th place, exactly `top_k` entries are kept.
        branch: (R,) whose logits each row draws from; None: row r from logits r.
    """
    if logits.device.type == "mps":  # has no float64
        rows = None if branch is None else branch.cpu()
        places = position.cpu() if isinstance(position, Tensor) else position
        return draw(logits.cpu(), seeds.cpu(), places, sampling, rows).to(logits.device)
    branch = torch.arange(len(logits), device=logits.device) if branch is None else branch
    if sampling.temperature == 0:
        return logits.argmax(-1)[branch]
    if sampling.top_k == 0:
        at_once = _UNCUT_ROWS["cpu" if logits.device.type == "cpu" else "other"]
        places = torch.as_tensor(position, device=seeds.device).expand_as(seeds)
        parts = zip(*(whole.split(at_once) for whole in (seeds, branch, places)), strict=True)
        return torch.cat([_choose(*kept(logits[rows], sampling), key, place) for key, rows, place in parts])
    values, ids = kept(logits, sampling)
    return _choose(values[branch], ids[branch], seeds, position)


def _choose(values: Tensor, ids: Tensor, seeds: Tensor, position: int | Tensor) -> Tensor:
    return ids.gather(-1, (values + gumbel(seeds, position, ids)).argmax(-1, keepdim=True)).squeeze(-1)


def kept(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Return the entries that may be drawn: (values, token ids), both (B, K).

    Values are logits / temperature in float64, -inf outside the nucleus; their softmax is the distribution. The
    nucleus is the smallest set of most probable entries that reaches `top_p`, within the top k (Holtzman et al. 2020).
    """
    size = logits.shape[-1]
    if sampling.top_k or sampling.top_p < 1:  # both need an order; top-k costs 1/30 of a sort
        values, ids = logits.topk(min(sampling.top_k or size, size), sorted=sampling.top_p < 1)
    else:
        values, ids = logits, torch.arange(size, device=logits.device).expand_as(logits)
    values = values.double() / sampling.temperature
    if sampling.top_p < 1:
        p = values.softmax(-1)
        values = values.masked_fill(p.cumsum(-1) - p >= sampling.top_p, -torch.inf)
    return values, ids


def gumbel(seeds: Tensor, position: int | Tensor, ids: Tensor) -> Tensor:
    """Return standard Gumbel noise, (B, K) float64: a pure function of (seed, position, token id)."""
    rows = _mix(_mix(seeds + _GOLDEN) + position)  # (B,)
    u = (_shift(_mix(rows[:, None] + ids * _GOLDEN), 11).double() + 0.5) * 2.0**-53  # 0 < u < 1
    return -(-u.log()).log()


def _mix(x: Tensor) -> Tensor:
    """The finalizer of splitmix64 (Steele et al. 2014), wrapping in int64."""
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift right: int64's own is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
