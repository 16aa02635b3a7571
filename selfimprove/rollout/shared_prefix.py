"""Grouping of prompts by shared prefixes that are worth computing and caching once.

Rows that are equal become one prompt. Prompts are sorted by their tokens, so those with a long common prefix are
neighbours; an exact partition of that order into groups decides which neighbours share a *prefix*. What follows the
prefix is a prompt's *suffix*.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

_PREFILL = 16
"""Cost of computing one token, in units of reading a cached token at every step of a continuation."""
GROUP_COST = {"cpu": 1000, "other": 50_000}
"""Cost of one more group (its own matrix products in every layer and step) by kind of device, in the same units. On an
accelerator launches are what costs: at 1000, 1,536 recalled answers were in 135 groups, at 50,000 they are in one."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and the rows (indices into what the caller asked for) that continue it."""

    token_ids: tuple[int, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts whose first `shared` tokens are equal. Each prompt is longer than that."""

    shared: int
    prompts: tuple[Prompt, ...]

    @property
    def rows(self) -> int:
        """Rows that continue its prompts."""
        return sum(len(p.rows) for p in self.prompts)

    @property
    def longest_suffix(self) -> int:
        """Most tokens that a prompt has after the prefix."""
        return max(len(p.token_ids) for p in self.prompts) - self.shared


def group_prompts(token_ids: Sequence[Sequence[int]], cost: int) -> list[Group]:
    """Return the partition that saves most, groups with short suffixes first. Every row appears once; none is empty.

    A group of U prompts and R rows with P shared tokens saves the computing of (U - 1) P tokens, and (R - U) P columns
    that would be copied and read again and again, less the `cost` of a group.
    """
    prompts = _unique(token_ids)
    shared = _common(prompts)
    lengths = [len(p.token_ids) for p in prompts]
    rows = np.cumsum([0] + [len(p.rows) for p in prompts])
    saved = np.zeros(len(prompts) + 1)  # best total over the first `end` prompts
    cut = [0] * (len(prompts) + 1)  # where the last group of that optimum starts
    prefix = np.zeros(len(prompts), dtype=np.int64)  # prefix of start..end, for each start
    for end in range(1, len(prompts) + 1):
        prefix[end - 1] = lengths[end - 1] - 1  # the last token is left to the suffix: its logits are needed
        prefix[: end - 1] = np.minimum(prefix[: end - 1], min(shared[end - 1], lengths[end - 1] - 1))
        unique = end - np.arange(end)
        gain = prefix[:end] * (_PREFILL * (unique - 1) + (rows[end] - rows[:end]) - unique) - cost
        total = saved[:end] + np.maximum(gain, 0)
        cut[end] = int(total.argmax())
        saved[end] = total[cut[end]]
    groups, alone, end = [], [], len(prompts)
    while end:
        start = cut[end]
        if saved[end] > saved[start]:
            groups.append(Group(_prefix_length(shared, lengths, start, end), _by_length(prompts[start:end])))
        else:
            alone += prompts[start:end]
        end = start
    if alone:
        groups.append(Group(0, _by_length(alone)))
    return _in_order(groups)


def group_cost(device: torch.device) -> int:
    """Return the cost of one more group on a device."""
    return GROUP_COST["cpu" if device.type == "cpu" else "other"]


def split_long(groups: Sequence[Group], cost: int) -> list[Group]:
    """Move prompts with long suffixes to groups of their own where that saves; groups with short suffixes first.

    The cache has as many columns for every row as the longest suffix needs. A prompt that is alone in its group keeps
    the end of its tokens as the suffix, no longer than the longest suffix of the prompts that stay.
    """
    rows = sum(group.rows for group in groups)
    lengths = sorted((len(p.token_ids) - group.shared for group in groups for p in group.prompts), reverse=True)
    longest = lengths[min(range(len(lengths)), key=lambda moved: rows * lengths[moved] + cost * moved)]
    parts: list[Group] = []
    for group in groups:
        most = group.shared + longest
        stay = tuple(p for p in group.prompts if len(p.token_ids) <= most)
        parts += [Group(group.shared, stay)] if stay else []
        parts += [Group(len(p.token_ids) - longest, (p,)) for p in group.prompts if len(p.token_ids) > most]
    return _in_order(parts)


def cut_batches(groups: Sequence[Group], rows: int) -> Iterator[tuple[Group, ...]]:
    """Split into batches of at most `rows` rows, in order; a group that does not fit continues in the next batch."""
    batch: list[Group] = []
    free = rows
    for group in groups:
        prompts: list[Prompt] = []
        for prompt in group.prompts:
            left = prompt.rows
            while left:
                prompts.append(Prompt(prompt.token_ids, left[:free]))
                left, free = left[free:], free - len(left[:free])
                if not free:
                    yield (*batch, Group(group.shared, tuple(prompts)))
                    batch, prompts, free = [], [], rows
        if prompts:
            batch.append(Group(group.shared, tuple(prompts)))
    if batch:
        yield tuple(batch)


def _unique(token_ids: Sequence[Sequence[int]]) -> list[Prompt]:
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, ids in enumerate(token_ids):
        rows.setdefault(tuple(ids), []).append(row)
    return [Prompt(ids, tuple(rows[ids])) for ids in sorted(rows)]


def _common(prompts: Sequence[Prompt]) -> list[int]:
    """Length of the common prefix of each prompt with the one before it; 0 for the first."""
    common = [0]
    for before, prompt in pairwise(prompts):
        a, b = before.token_ids, prompt.token_ids
        common.append(next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))))
    return common


def _in_order(groups: Sequence[Group]) -> list[Group]:
    return sorted(groups, key=lambda g: (g.longest_suffix, g.prompts[0].token_ids))


def _by_length(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    return tuple(sorted(prompts, key=lambda p: (len(p.token_ids), p.token_ids)))


def _prefix_length(shared: Sequence[int], lengths: Sequence[int], start: int, end: int) -> int:
    return min([*shared[start + 1 : end], *(n - 1 for n in lengths[start:end])])
