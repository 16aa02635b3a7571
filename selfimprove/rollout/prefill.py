"""Prefill: the keys and values of all prompts, every shared token computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .prefix_attention import Pass, Segment
from .shared_prefix import Group, group_cost, group_prompts

PREFILL_TOKENS = 2048
"""Most tokens of one row in a prefill pass, and on a CPU in a pass: enough to fill the matrix products, few enough to
bound the attention scores."""
_WIDER = 4
"""Factor of the tokens in a pass of several rows on an accelerator, where launches cost more than scores."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Suffixes in the cache, right-aligned: `own` (layers, 2, U, Hkv, L, D), `padding_U`, last `logits` (U, V)."""

    own: Tensor
    padding_U: Tensor
    logits: Tensor


def prefill_groups(model: PreTrainedModel, groups: Sequence[Group]) -> tuple[tuple[Segment, ...], Prefilled]:
    """Prefill each prompt once, in segments by shared prefix."""
    prompts = [prompt for group in groups for prompt in group.prompts]
    starts = [group.shared for group in groups for _ in group.prompts]
    suffixes = [prompt.token_ids[start:] for prompt, start in zip(prompts, starts, strict=True)]
    segments = make_segments([len(group.prompts) for group in groups], _prefixes(model, groups))
    return segments, prefill(model, suffixes, starts, segments)


def _prefixes(model: PreTrainedModel, groups: Sequence[Group]) -> list[Tensor | None]:
    """Return the prefix of each group, (layers, 2, Hkv, P, D). What prefixes share in turn is computed once, too."""
    prefixes: list[Tensor | None] = [None] * len(groups)
    shared = [i for i, group in enumerate(groups) if group.shared]
    if shared:
        prefix_ids = [groups[i].prompts[0].token_ids[: groups[i].shared] for i in shared]
        parents = group_prompts(prefix_ids, group_cost(model.device))
        segments, filled = prefill_groups(model, parents)
        for group, segment in zip(parents, segments, strict=True):
            for place, prompt in enumerate(group.prompts, start=segment.start):
                own = filled.own[:, :, place, :, group.shared - len(prompt.token_ids) :]
                whole = own.contiguous() if segment.prefix is None else torch.cat([segment.prefix, own], -2)
                for row in prompt.rows:
                    prefixes[shared[row]] = whole
    return prefixes


def prefill(
    model: PreTrainedModel, suffixes: Sequence[Sequence[int]], starts: Sequence[int], segments: tuple[Segment, ...]
) -> Prefilled:
    """Compute the keys and values of the suffixes, and the logits after each.

    Suffix u stands at positions starts[u], starts[u] + 1, ... and attends to its segment's prefix and to itself. A pass
    holds several whole suffixes; a suffix of more than PREFILL_TOKENS takes several passes.
    """
    device = model.device
    lengths = [len(suffix) for suffix in suffixes]
    longest = max(lengths)
    padding = torch.tensor([longest - n for n in lengths], device=device)
    offset = torch.tensor(starts, device=device) - padding  # position = column + offset
    token_ids = torch.tensor(
        [[0] * (longest - len(suffix)) + list(suffix) for suffix in suffixes], device=device
    )  # (U, L)
    own = new_cache(model, len(suffixes), longest)
    valid = torch.arange(longest, device=device) >= padding[:, None]  # (U, L)
    logits = []
    for start, stop in _passes(lengths, PREFILL_TOKENS * (1 if device.type == "cpu" else _WIDER)):
        part = slice(start, stop)
        inside = tuple(
            replace(s, start=max(s.start, start) - start, stop=min(s.stop, stop) - start)
            for s in segments
            if s.start < stop and s.stop > start
        )
        for first in range(longest - max(lengths[part]), longest, PREFILL_TOKENS):
            last = min(first + PREFILL_TOKENS, longest)
            row, column = valid[part, first:last].nonzero(as_tuple=True)
            column = column + first
            mask = _causal_mask(valid[part, :last], first, own.dtype)
            view = Pass(own[:, :, part], inside, first, last, mask, (row, column))
            ends = (column == last - 1).nonzero().squeeze(-1)
            out = forward(model, token_ids[part][row, column], column + offset[part][row], view, ends)
        logits.append(out)
    return Prefilled(own, padding, torch.cat(logits))


def new_cache(model: PreTrainedModel, rows: int, columns: int) -> Tensor:
    """Return zeroed keys and values, (layers, 2, rows, Hkv, columns, D)."""
    return torch.zeros(cache_shape(model, rows, columns), dtype=model.dtype, device=model.device)


def cache_shape(model: PreTrainedModel, rows: int, columns: int) -> tuple[int, ...]:
    """Return (layers, 2, rows, Hkv, columns, D) for the model's configuration."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers, 2, rows, heads, columns, size


def forward(
    model: PreTrainedModel, tokens_T: Tensor, positions_T: Tensor, view: Pass, keep: Tensor | None = None
) -> Tensor:
    """Return the logits (K, V) of the packed tokens at the indices `keep`, or of all."""
    out = model(
        input_ids=tokens_T[None],
        position_ids=positions_T[None],
        use_cache=False,
        logits_to_keep=0 if keep is None else keep,
        layout=view,
    )
    return out.logits[0]


def make_segments(sizes: Sequence[int], prefixes: Sequence[Tensor | None]) -> tuple[Segment, ...]:
    """Return segments of so many rows each, one after the other, with their prefixes."""
    segments, start = [], 0
    for size, prefix in zip(sizes, prefixes, strict=True):
        segments.append(Segment(start, start + size, prefix))
        start += size
    return tuple(segments)


def _passes(lengths: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Cut rows into runs of at most so many tokens once padded, as the attention pads them, or one row."""
    runs, start, longest = [], 0, 0
    for row, length in enumerate(lengths):
        if row > start and (row + 1 - start) * max(longest, length) > most:
            runs.append((start, row))
            start, longest = row, 0
        longest = max(longest, length)
    return [*runs, (start, len(lengths))]


def _causal_mask(valid: Tensor, first: int, dtype: torch.dtype) -> Tensor:
    """Additive mask (R, 1, last - first, 1, last) from valid (R, last): earlier, real columns of the same row."""
    columns = torch.arange(valid.shape[1], device=valid.device)
    seen = valid[:, None] & (columns <= columns[first:, None])  # (R, w, last)
    return additive(seen, dtype)[:, None, :, None]


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where seen, else the lowest finite number: an infinity would make NaN of a query that sees nothing."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)
