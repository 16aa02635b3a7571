"""Decoding without host synchronisation, as on CUDA: the same rollouts as by branches, whatever the checks find."""

from itertools import pairwise

import pytest
import torch
from tiny_models import prompts_that_share, reference, tiny

from selfimprove.rollout import decode, generate, static_decode
from selfimprove.rollout.sampling import draw
from selfimprove.types import Sampling

GREEDY = Sampling(0.0, 0, 1.0, 16)
SAMPLED = Sampling(1.0, 20, 0.95, 16)
UNCUT = Sampling(1.0, 0, 1.0, 16)
EOS = (1, 5, 23, 40, 60, 71)


@pytest.fixture(scope="module")
def llama():
    return tiny("llama")


@pytest.fixture
def rows():
    return prompts_that_share()


def run(model, rows, sampling=SAMPLED, **kwargs):
    return generate(model, rows, [7919 * i for i in range(len(rows))], sampling, eos_ids=EOS, pad_id=2, **kwargs)


@pytest.fixture
def static(monkeypatch):
    """Lets the CPU decode as CUDA does, with checks that come often enough to matter."""

    def set_(every):
        monkeypatch.setattr(decode, "STATIC", ("cpu",))
        monkeypatch.setattr(static_decode, "CHECK", every)

    return set_


@pytest.mark.parametrize("every", [1, 3, 5, 100])
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, UNCUT], ids=["greedy", "sampled", "uncut"])
def test_rollouts_are_those_of_branches(llama, rows, static, sampling, every):
    by_branches = run(llama, rows, sampling)
    static(every)
    told = []
    assert run(llama, rows, sampling, on_tokens=told.append) == by_branches
    assert sum(told) == sum(len(r.token_ids) for r in by_branches)


@pytest.mark.parametrize("width", [1, 7])
def test_the_columns_that_a_step_reads_change_nothing(llama, rows, static, monkeypatch, width):
    by_branches = run(llama, rows)
    static(3)
    monkeypatch.setattr(static_decode, "_WIDTH", width)
    assert run(llama, rows) == by_branches


def test_greedy_text_is_what_transformers_generates(rows, static):
    model = tiny("gemma3")
    static(4)
    assert [r.token_ids for r in run(model, rows, GREEDY)] == [reference(model, ids, 16, EOS) for ids in rows]


@pytest.mark.parametrize("every", [1, 4, 100])
def test_a_stop_string_ends_a_row_where_it_is_first_complete(llama, rows, static, every):
    def stop(ids):
        return any(a % 7 == 3 and b % 2 for a, b in pairwise(ids))

    at_once = run(llama, rows, stop=stop)
    assert at_once != run(llama, rows)
    static(every)
    assert run(llama, rows, stop=stop) == at_once


def test_one_token_needs_no_room_in_the_cache(llama, rows, static):
    one = Sampling(1.0, 20, 0.95, 1)
    by_branches = run(llama, rows, one)
    static(16)
    assert run(llama, rows, one) == by_branches


def test_a_position_on_the_device_draws_what_its_number_draws():
    logits, seeds = torch.randn(4, 50), torch.arange(4)
    assert draw(logits, seeds, torch.tensor([3]), SAMPLED).equal(draw(logits, seeds, 3, SAMPLED))


def test_half_precision_stays_close_to_single(rows, static):
    """Of the tokens in bfloat16, none is far behind the most probable one of the sequence alone."""
    model = tiny("llama").to(torch.bfloat16)
    static(5)
    for ids, rollout in zip(rows, run(model, rows, GREEDY), strict=True):
        text = list(rollout.token_ids)
        if text:
            with torch.inference_mode():
                logits = model(torch.tensor([ids + text])).logits[0, len(ids) - 1 : -1].float()
            behind = logits.max(-1).values - logits[torch.arange(len(text)), text]
            assert (behind <= 0.1 * logits.abs().max()).all()
