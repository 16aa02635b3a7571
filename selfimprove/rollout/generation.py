"""`generate`: continuations of rows of token ids, in the order given, in batches that fit the memory."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from math import prod
from weakref import WeakSet

import torch
from transformers import PreTrainedModel

from ..errors import ModelError
from ..models.packed_attention import packed_attention
from ..models.packed_linear import packed_products
from ..types import Sampling
from .compatibility import misfit
from .decode import Rollout, decode_batch
from .fallback import generate_batch
from .prefill import cache_shape
from .shared_prefix import cut_batches, group_cost, group_prompts, split_long
from .static_decode import Stop

MAX_ROWS = {"cpu": 512, "other": 4096}
"""Beyond this many rows the matrix products gain nothing more; an accelerator waits for the launches until then."""
CACHE_SHARE = 0.25
"""Share of the device's memory that the cache of one batch may take."""

_ALLOCATION = re.compile(r"DefaultCPUAllocator|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)")
"""What errors say that are out-of-memory under another name."""

log = logging.getLogger(__name__)

_told: "WeakSet[PreTrainedModel]" = WeakSet()


def generate(
    model: PreTrainedModel,
    token_ids: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    eos_ids: Sequence[int],
    pad_id: int = 0,
    batch_size: int = 0,
    on_tokens: Callable[[int], None] | None = None,
    stop: Stop | None = None,
) -> list[Rollout]:
    """Return one continuation for each row of `token_ids`, in the order given.

    The same call gives the same tokens. A row's draws are keyed by its seed and the place in the continuation, so its
    tokens depend on the other rows only through the rounding of the logits.

    Args:
        model: a causal language model in eval mode, any device and dtype, adapters merged.
        token_ids: fully rendered prompts, the beginning of the assistant's turn included; rows may repeat.
        seeds: one for each row, in [0, 2^63).
        sampling: how tokens are drawn.
        eos_ids: tokens that end a row; they are not part of the result.
        pad_id: what fills gaps; it is never attended to.
        batch_size: rows decoded together; 0 chooses by the device's memory. Halved when memory runs out.
        on_tokens: called now and then with the number of tokens that are new.
        stop: ends a row as soon as it is true of the row's new tokens; these stay in the result.

    Raises:
        ModelError: a row is empty, or too long for the model's positions, or memory does not suffice for one row.
    """
    if len(seeds) != len(token_ids):
        raise ValueError(f"{len(token_ids)} rows but {len(seeds)} seeds")
    if not token_ids:
        return []
    longest = _longest(model, token_ids, sampling)
    reason = misfit(model, longest)
    if reason:
        _say_once(model, reason)
        run = partial(generate_batch, model, pad_id=pad_id)
    else:
        run = partial(decode_batch, model)
    rollouts: dict[int, Rollout] = {}
    cost = group_cost(model.device)
    groups = split_long(group_prompts(token_ids, cost), cost)
    own = longest if reason else max(g.longest_suffix for g in groups) + sampling.max_new_tokens
    waiting = list(cut_batches(groups, batch_size or choose_rows(model, own)))
    attention = nullcontext() if reason else packed_attention(model)
    with torch.inference_mode(), attention, packed_products(model):
        while waiting:
            batch = waiting[0]
            batch_run = partial(run, batch, seeds, sampling, eos_ids, on_tokens=on_tokens, stop=stop)
            done = _unless_memory_runs_out(batch_run)
            if done is not None:
                rollouts.update(done)
                waiting.pop(0)
                continue
            rows = sum(group.rows for group in batch)
            if rows == 1:
                raise ModelError(f"out of memory with one row of up to {longest} tokens; lower max_new_tokens")
            log.warning("out of memory with %d rows: going on with %d", rows, rows // 2)
            waiting = list(cut_batches([group for batch in waiting for group in batch], rows // 2))
    return [rollouts[row] for row in range(len(token_ids))]


def _say_once(model: PreTrainedModel, reason: str) -> None:
    """Log once per model that it is generated from by transformers' `generate`."""
    if model not in _told:
        _told.add(model)
        log.warning("%s runs on transformers' generate, which is slower: %s", type(model).__name__, reason)


def _longest(model: PreTrainedModel, token_ids: Sequence[Sequence[int]], sampling: Sampling) -> int:
    """Return the most tokens that a row may come to."""
    if not all(len(ids) for ids in token_ids):
        raise ModelError("a row has no tokens; every prompt needs at least one")
    prompt = max(len(ids) for ids in token_ids)
    longest = prompt + sampling.max_new_tokens
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise ModelError(
            f"a prompt of {prompt} tokens and {sampling.max_new_tokens} new ones make {longest}, but the model has "
            f"{limit} positions; shorten the prompt or lower max_new_tokens"
        )
    return longest


def choose_rows(model: PreTrainedModel, columns: int) -> int:
    """Return the batch size whose cache fits a fraction of the device's total memory, so that it is reproducible."""
    if model.device.type == "cuda":
        memory = torch.cuda.get_device_properties(model.device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = MAX_ROWS["cpu" if model.device.type == "cpu" else "other"]
    return max(1, min(most, int(memory * CACHE_SHARE) // (_row_elements(model, columns) * model.dtype.itemsize)))


def _row_elements(model: PreTrainedModel, columns: int) -> int:
    """Return the number of elements of a row's cache; an estimate for recurrent models, of a fixed size."""
    config = model.config.get_text_config()
    if hasattr(config, "num_attention_heads"):
        return prod(cache_shape(model, 1, columns))
    return 2 * config.num_hidden_layers * config.hidden_size * getattr(config, "state_size", 16)


def _unless_memory_runs_out(run: Callable[[], dict[int, Rollout]]) -> dict[int, Rollout] | None:
    """Return None on out-of-memory; the caller retries after this frame's tensors are freed."""
    try:
        return run()
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and not _ALLOCATION.search(str(error)):
            raise
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # not above: the error holds the frames, and these the tensors
    return None
