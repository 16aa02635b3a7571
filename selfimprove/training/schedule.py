"""The examples of each optimizer step, and its learning rate."""

import math
from collections.abc import Sequence
from itertools import accumulate

from ..seeds import seed_for
from .packing import Encoded


def plan_steps(examples: Sequence[Encoded], epochs: int, batch_tokens: int, seed: int) -> list[list[int]]:
    """Return, for every optimizer step of all epochs, the indices of its examples.

    Each epoch is a permutation keyed by (seed, epoch) that keeps the completions of a prompt together, since they
    share its encoding. It is cut into equal shares of about `batch_tokens` tokens, so no step is a small remainder.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(example.prompt, []).append(i)
    ordered = list(groups.values())
    count = max(1, round(sum(e.tokens for e in examples) / batch_tokens))
    steps = []
    for epoch in range(epochs):
        shuffled = sorted(range(len(ordered)), key=lambda g: seed_for(seed, "order", epoch, g))
        stream = [i for g in shuffled for i in ordered[g]]
        steps += _cut([examples[i].tokens for i in stream], stream, count)
    return steps


def _cut(sizes: Sequence[int], stream: Sequence[int], count: int) -> list[list[int]]:
    """Cut a stream into `count` runs (fewer when there is not enough) of about equal total size."""
    total = sum(sizes)
    runs: dict[int, list[int]] = {}
    for i, size, end in zip(stream, sizes, accumulate(sizes), strict=True):
        middle = end - size / 2
        runs.setdefault(int(middle * count / total), []).append(i)
    return list(runs.values())


def rate(step: int, steps: int, warmup: float) -> float:
    """Return the fraction of the peak learning rate at `step` (from 0): linear warm-up, then cosine decay."""
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
