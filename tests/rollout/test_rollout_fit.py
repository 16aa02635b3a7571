"""A model that the packed path does not fit runs all the same, and it is said aloud."""

import logging

import pytest
import torch
from families import build
from tasks.tiny import exactly
from tiny_models import prompts_that_share, reference, tiny
from transformers import GPT2Config, GPT2LMHeadModel

from selfimprove.models.policy import Policy
from selfimprove.rollout import generate, prefill
from selfimprove.rollout import generation as entry
from selfimprove.rollout.compatibility import misfit
from selfimprove.types import Finish, Sampling

GREEDY = Sampling(0.0, 0, 1.0, 12)
SAMPLED = Sampling(1.0, 20, 1.0, 12)
EOS = (1, 5, 23)


def gpt2(**extra):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3, **extra
        )
        return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma", "gemma3"])
def test_common_families_fit(family):
    assert misfit(tiny(family), 100) == ""


def test_softcapped_attention_is_recognised():
    assert "softcap" in misfit(tiny("gemma2"), 100)


def test_a_window_shorter_than_the_rows_is_recognised():
    mistral = tiny("mistral")
    assert misfit(mistral, 16) == ""
    assert misfit(mistral, 17) == "its window of 16 tokens is shorter than rows of 17"


def test_wrong_logits_are_recognised(monkeypatch):
    """Whatever an architecture does differently, its own logits tell."""
    model = tiny("llama")
    forward = prefill.forward
    monkeypatch.setattr(prefill, "forward", lambda model, ids, at, *rest: forward(model, ids, at * 0, *rest))
    assert "its logits differ by" in misfit(model, 9)


@pytest.mark.parametrize("family", ["gemma2", "mistral"])
def test_the_fallback_says_so_and_gives_the_same_text_as_transformers(family, caplog):
    model, rows = tiny(family), prompts_that_share(1)[:12]
    with caplog.at_level(logging.WARNING, logger="selfimprove"):
        rollouts = generate(model, rows, list(range(12)), GREEDY, eos_ids=EOS, pad_id=2, batch_size=5)
        assert generate(model, rows, list(range(12)), GREEDY, eos_ids=EOS, pad_id=2) == rollouts
    assert [r.token_ids for r in rollouts] == [reference(model, ids, 12, EOS) for ids in rows]
    assert [r.finish is Finish.LENGTH for r in rollouts] == [len(r.token_ids) == 12 for r in rollouts]
    assert caplog.text.count("runs on transformers' generate, which is slower") == 1


def test_the_fallback_draws_with_the_same_keys(monkeypatch):
    model, rows, counted = tiny("llama"), prompts_that_share(2), []
    seeds = list(range(len(rows)))
    packed = generate(model, rows, seeds, SAMPLED, eos_ids=EOS, pad_id=2)
    settings = model.generation_config
    monkeypatch.setattr(entry, "misfit", lambda *_: "a reason")
    assert generate(model, rows, seeds, SAMPLED, eos_ids=EOS, pad_id=2, on_tokens=counted.append) == packed
    assert sum(counted) == sum(len(r.token_ids) for r in packed)
    assert model.generation_config is settings


def test_an_architecture_without_rotary_positions_is_served():
    model, rows = gpt2(), prompts_that_share(3)
    rollouts = generate(model, rows, list(range(len(rows))), GREEDY, eos_ids=EOS, pad_id=2)
    assert [r.token_ids for r in rollouts] == [reference(model, ids, 12, EOS) for ids in rows]


@pytest.mark.parametrize("family", ["mamba", "mamba2", "falcon_h1"])
def test_recurrent_architectures_are_served(family, tmp_path):
    """Prompts of different lengths together: their states pass over the padding."""
    policy = Policy.load(exactly(build(family, tmp_path / "base")))
    rows = [[token % 300 for token in ids] for ids in prompts_that_share(4)[:10]]
    rollouts = generate(policy.model, rows, list(range(10)), GREEDY, eos_ids=EOS, pad_id=2)
    assert [r.token_ids for r in rollouts] == [reference(policy.model, ids, 12, EOS) for ids in rows]
