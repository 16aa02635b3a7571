"""Deduplicated decoding: rows of a batch whose tokens are all equal so far are one branch, computed once.

Samples of one prompt often begin alike, the more so after training. A branch is a prompt and what has been drawn after
it; when its rows draw different tokens, it forks. Draws stay each row's own, so this changes the cost and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .prefill import forward
from .prefix_attention import Pass, Segment

GROWTH = 32
"""Columns by which a full cache grows: a product over part of a tensor's columns would copy that part in each step."""


@dataclass(slots=True)
class Branches:
    """The cache of B branches, and which branch each of R rows is on.

    `cache` has room for R branches; places B.. are free. Columns without a token hold zeros, and `mask_B` hides them.
    """

    cache: Tensor  # (layers, 2, R, Hkv, C, D)
    segments: tuple[Segment, ...]  # of the branches
    mask_B: Tensor  # additive, (B, 1, 1, 1, C)
    positions_B: Tensor  # of its next token
    column: int  # of the next token, for all
    branch_R: Tensor  # where each row is

    def advance(self, model: PreTrainedModel, tokens_R: Tensor, going_R: Tensor) -> Tensor:
        """Append a token to each unfinished row and remove the others; return the next logits, (B, V)."""
        tokens_B = self._fork(tokens_R[going_R], self.branch_R[going_R])
        if self.column == self.cache.shape[-2]:
            self._grow(rows=int(going_R.sum()))
        self.mask_B[..., self.column] = 0
        view = Pass(self.cache[:, :, : len(tokens_B)], self.segments, self.column, self.cache.shape[-2], self.mask_B)
        logits = forward(model, tokens_B, self.positions_B, view)
        self.column, self.positions_B = self.column + 1, self.positions_B + 1
        return logits

    def _grow(self, rows: int) -> None:
        """Make room for GROWTH more columns of as many branches as rows are left."""
        self.cache = grown(self.cache[:, :, :rows], rows, GROWTH)
        hidden = torch.finfo(self.mask_B.dtype).min
        self.mask_B = torch.nn.functional.pad(self.mask_B, (0, GROWTH), value=hidden)

    def _fork(self, tokens_R: Tensor, branch_R: Tensor) -> Tensor:
        """Make one branch of each different (branch, token) of the rows; return the branches' tokens."""
        rows = list(zip(branch_R.tolist(), tokens_R.tolist(), strict=True))
        children = sorted(set(rows))
        self.segments, order = arrange(self.segments, [branch for branch, _ in children])
        source = [children[child][0] for child in order]  # the branch that each new place continues
        moved = [place for place, branch in enumerate(source) if place != branch]
        if moved:
            used = self.cache[..., : self.column, :]
            used[:, :, moved] = used[:, :, [source[place] for place in moved]]
        device = self.positions_B.device
        place_of = {children[child]: place for place, child in enumerate(order)}
        self.branch_R = torch.tensor([place_of[row] for row in rows], device=device)
        kept = torch.tensor(source, device=device)
        self.positions_B = self.positions_B[kept]
        self.mask_B = self.mask_B[kept]
        return torch.tensor([children[child][1] for child in order], device=device)


def grown(cache: Tensor, rows: int, columns: int) -> Tensor:
    """Return a copy of keys and values, (layers, 2, R, Hkv, C, D), with room for `rows` rows and more columns."""
    layers, two, used, heads, length, size = cache.shape
    larger = cache.new_zeros(layers, two, rows, heads, length + columns, size)
    larger[:, :, :used, :, :length] = cache
    return larger


def arrange(segments: Sequence[Segment], sources: Sequence[int]) -> tuple[tuple[Segment, ...], list[int]]:
    """Assign cache places to the children of branches: the new segments, and the child at each place.

    `sources` names the branch that each child continues, ascending. The first child of a branch stays where the branch
    is if it can, so the cache copies about as many rows as are born or leave.
    """
    arranged: list[Segment] = []
    order: list[int] = []
    for segment in segments:
        children = [c for c, branch in enumerate(sources) if segment.start <= branch < segment.stop]
        if not children:
            continue
        places = range(len(order), len(order) + len(children))
        arranged.append(Segment(places.start, places.stop, segment.prefix))
        firsts = (next(same) for _, same in groupby(children, key=lambda c: sources[c]))
        stays = {sources[child]: child for child in firsts if sources[child] in places}
        staying = set(stays.values())
        movers = (child for child in children if child not in staying)
        order += [stays[place] if place in stays else next(movers) for place in places]
    return tuple(arranged), order
