"""Decoding without host synchronisation, for accelerators: a step is the same tensor operations whatever is drawn.

Every row has a place in the cache, which never grows, and a row that has ended is drawn for until the next check; only
there does the host look at what was drawn, and removes ended rows. The step reads its column, positions and masks from
tensors, and its shapes change at checks alone, so it can be captured as a graph.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..types import Sampling
from .prefill import forward, new_cache
from .prefix_attention import Pass, Segment
from .sampling import draw

CHECK = 16
"""Steps between two checks. A row that has ended takes part in half as many more on average."""
_WIDTH = 64
"""The columns that a step reads are rounded up to a multiple of this, so that its shapes seldom change."""
_LEFT = 0.75
"""Fraction of the rows from which on ended ones stay: removing them copies the cache."""

Stop = Callable[[Sequence[int]], bool]
"""Whether the tokens drawn for a row hold a stop string."""


@dataclass(slots=True)
class Rows:
    """R rows that are decoded together: their cache, their next token's place, and what was drawn.

    `drawn` has a line for each row of the batch, `row_R` says which are decoded still. Columns of the cache from
    `column` on hold zeros, and `mask_R` hides them.
    """

    cache: Tensor  # (layers, 2, R, Hkv, C, D)
    segments: tuple[Segment, ...]
    mask_R: Tensor  # additive, (R, 1, 1, 1, C)
    positions_R: Tensor
    seeds_R: Tensor
    row_R: Tensor
    ended_R: Tensor
    drawn: Tensor  # (all rows, max_new_tokens), -1 where nothing was drawn
    ends: Tensor  # end-of-turn tokens
    column: Tensor  # (1,) of the next token
    step: Tensor  # (1,) number of tokens drawn so far

    def keep_drawn(self, logits: Tensor, sampling: Sampling, branch: Tensor | None = None) -> Tensor:
        """Draw the next token of each row from its logits, store it unless the row has ended, and return it, (R,)."""
        tokens = draw(logits, self.seeds_R, self.step, sampling, branch)
        self.ended_R |= torch.isin(tokens, self.ends)
        kept = torch.where(self.ended_R, -1, tokens)
        self.drawn.index_put_((self.row_R, self.step.expand_as(self.row_R)), kept)
        self.step += 1
        return tokens

    def advance(self, model: PreTrainedModel, tokens: Tensor, width: int) -> Tensor:
        """Append a token to each row and return the next logits, (R, V). `width` columns are read."""
        self.mask_R.index_fill_(-1, self.column, 0)
        view = Pass(self.cache, self.segments, self.column, width, self.mask_R[..., :width])
        logits = forward(model, tokens, self.positions_R, view)
        self.column += 1
        self.positions_R += 1
        return logits

    def remove_ended(self, going: Sequence[bool]) -> None:
        """Keep the rows that are going on, in their order."""
        kept = [place for place, on in enumerate(going) if on]
        segments: list[Segment] = []
        for segment in self.segments:
            size = sum(going[segment.start : segment.stop])
            start = segments[-1].stop if segments else 0
            if size:
                segments.append(Segment(start, start + size, segment.prefix))
        self.segments = tuple(segments)
        places = torch.tensor(kept, device=self.row_R.device)
        for part in self.cache.flatten(0, 1):  # one layer's keys or values at a time: a whole copy takes much memory
            part[: len(kept)] = part[places]
        self.cache = self.cache[:, :, : len(kept)]
        for name in ("mask_R", "positions_R", "seeds_R", "row_R", "ended_R"):
            setattr(self, name, getattr(self, name)[places])


def decode_rows(
    model: PreTrainedModel,
    rows: Rows,
    logits: Tensor,
    branch: Tensor,
    sampling: Sampling,
    first: int,
    on_tokens: Callable[[int], None] | None = None,
    stop: Stop | None = None,
) -> Tensor:
    """Decode until every row has ended and return what was drawn, (rows, max_new_tokens), -1 from where a row ended.

    Args:
        model: the model, with packed attention.
        rows: as prefilled, nothing drawn yet.
        logits: (B, V) after each prompt.
        branch: (R,) the prompt of each row.
        sampling: the distribution and the most tokens.
        first: column of the first new token; all that follows is counted from there.
        on_tokens: told now and then how many tokens are new.
        stop: ends a row from the first token on with which it is true.
    """
    tokens = rows.keep_drawn(logits, sampling, branch)
    told = 0
    for step in range(1, sampling.max_new_tokens + 1):
        if step % CHECK == 0 or step == sampling.max_new_tokens:
            if stop is not None:
                _cut(rows, stop, told, step)
            if on_tokens:
                on_tokens(int((rows.drawn[:, told:step] >= 0).sum()))
            told = step
            going = (~rows.ended_R).tolist()
            if not any(going) or step == sampling.max_new_tokens:
                break
            if sum(going) <= _LEFT * len(going):
                kept = torch.tensor([i for i, on in enumerate(going) if on], device=tokens.device)
                rows.remove_ended(going)
                tokens = tokens[kept]
        width = min(-(-(first + step) // _WIDTH) * _WIDTH, rows.cache.shape[-2])
        tokens = rows.keep_drawn(rows.advance(model, tokens, width), sampling)
    return rows.drawn


def _cut(rows: Rows, stop: Stop, told: int, step: int) -> None:
    """End the rows that a stop string ended since the last check, and forget what was drawn after it."""
    lines = rows.row_R.tolist()
    for place, (line, ids) in enumerate(zip(lines, rows.drawn[rows.row_R, :step].tolist(), strict=True)):
        length = ids.index(-1) if -1 in ids else step
        end = next((n for n in range(told + 1, length + 1) if stop(ids[:n])), None)
        if end is not None:
            rows.drawn[line, end:] = -1
            rows.ended_R[place] = True


def roomy_cache(model: PreTrainedModel, own: Tensor, branch: Tensor, columns: int) -> Tensor:
    """Return a cache with the columns of each row's prompt, `own` (layers, 2, U, Hkv, L, D), and room for more."""
    cache = new_cache(model, len(branch), own.shape[-2] + columns)
    for part, prompts in zip(cache.flatten(0, 1), own.flatten(0, 1), strict=True):
        part[..., : own.shape[-2], :] = prompts[branch]
    return cache
