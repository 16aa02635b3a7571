"""Rows that join and leave a decode batch draw the tokens that they would draw in a batch of their own."""

import random

import pytest
import torch
from tiny_models import tiny, tokens

from selfimprove.rollout import continuous, generate
from selfimprove.rollout.continuous import PackedBatch, SeparateBatch, closed_up
from selfimprove.rollout.sampling import draw
from selfimprove.types import Sampling

NEW = 40
ENDS = range(6)
HOW = Sampling(0.9, 20, 1.0, NEW)


def at_random_times(batch, prompts, seeds, rng, sampling=HOW):
    """Decode the prompts; each joins at a random step. Return the tokens of each."""
    waiting, rows, drawn = list(range(len(prompts))), [], {i: [] for i in range(len(prompts))}
    logits = torch.empty(0)
    while waiting or rows:
        new = [waiting.pop(0) for _ in range(rng.randint(0 if rows else 1, 2)) if waiting]
        if new:
            more = batch.admit([prompts[i] for i in new])
            logits, rows = torch.cat([logits, more]) if rows else more, rows + new
        places = torch.tensor([len(drawn[i]) for i in rows])
        picked = draw(logits, torch.tensor([seeds[i] for i in rows]), places, sampling).tolist()
        for i, token in zip(rows, picked, strict=True):
            drawn[i].append(token)
        gone = {
            place for place, i in enumerate(rows) if drawn[i][-1] in ENDS or len(drawn[i]) == sampling.max_new_tokens
        }
        order = closed_up(len(rows), gone)
        batch.keep(order)
        rows, picked = [rows[place] for place in order], [picked[place] for place in order]
        if rows:
            logits = batch.step(picked)
    return [tuple(ids[:-1] if ids[-1] in ENDS else ids) for ids in drawn.values()]


@pytest.mark.parametrize("kind", [PackedBatch, SeparateBatch])
@pytest.mark.parametrize("top_k", [20, 0])
@pytest.mark.parametrize("shared", [0, 30])
def test_rows_that_come_and_go_draw_what_they_would_draw_together(kind, top_k, shared):
    model, rng = tiny("llama"), random.Random(3)
    prefix = tokens(rng, shared)
    prompts = [prefix + tokens(rng, rng.randint(1, 60)) for _ in range(12)]
    prompts[8] = prompts[7] + tokens(rng, 9)  # a conversation goes on
    prompts[5] = prompts[4]
    seeds = list(range(12))
    sampling = Sampling(0.9, top_k, 0.95, NEW)
    expected = [r.token_ids for r in generate(model, prompts, seeds, sampling, eos_ids=ENDS)]
    assert len({len(ids) for ids in expected}) > 3, "they end at different steps"
    with torch.inference_mode():
        assert at_random_times(kind(model), prompts, seeds, rng, sampling) == expected


def test_what_is_shared_with_the_prompt_before_is_not_computed_again(monkeypatch):
    model, rng, computed = tiny("llama"), random.Random(0), []
    batch, prefix = PackedBatch(model), tokens(rng, 30)
    real = continuous.prefill
    monkeypatch.setattr(continuous, "prefill", lambda *args: computed.append(sum(map(len, args[1]))) or real(*args))
    with torch.inference_mode():
        for new in ([[*prefix, 3, 4]], [[*prefix, 5, 6, 7], [*prefix, 8, 9]], [[*prefix, 8, 9]] * 2, [[5] * 9]):
            batch.admit(new)
    assert computed == [32, 5, 1, 9]


def test_an_empty_batch_gives_its_memory_back():
    model, rng = tiny("llama"), random.Random(0)
    with torch.inference_mode():
        batch = PackedBatch(model)
        at_random_times(batch, [tokens(rng, 9) for _ in range(6)], range(6), rng)
        assert batch._cache.numel() == 0


def test_the_cache_stays_as_wide_as_its_longest_row():
    model, rng = tiny("llama"), random.Random(0)
    batch, width, rows = PackedBatch(model), 0, 1
    with torch.inference_mode():
        batch.admit([tokens(rng, 8)])
        for _ in range(50):  # a row that is 4 tokens old leaves, another comes: never alone, so it is never emptied
            batch.admit([tokens(rng, 8)])
            for _ in range(4):
                batch.step([9] * 2)
            batch.keep([1])
            width, rows = max(width, batch._cache.shape[-2]), max(rows, batch._cache.shape[2])
    assert rows == 2
    assert width < 100


def test_gaps_are_filled_from_the_end():
    assert closed_up(6, {1, 2}) == [0, 5, 4, 3]
    assert closed_up(3, set()) == [0, 1, 2]
    assert closed_up(3, {0, 1, 2}) == []
    assert closed_up(4, {2, 3}) == [0, 1]
