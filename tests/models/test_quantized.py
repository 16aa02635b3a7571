"""Base weights in 4 and 8 bits: the adapter is trained through them, sampled with beside them, and merged nowhere."""

import importlib.util

import pytest
import torch
from tasks.tiny import exactly

from selfimprove.config import TrainConfig
from selfimprove.errors import ModelError
from selfimprove.models.policy import Policy
from selfimprove.rollout import generate
from selfimprove.run.rehearsal import rehearse
from selfimprove.training import Encoded, train_adapter
from selfimprove.types import Message, Sampling

ASKED = (Message("user", "What is 2 plus 3?"),)
here = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


def settings(folder, quantize):
    return exactly(folder).model_copy(update={"quantize": quantize})


def test_what_has_to_be_installed_is_named(taught_folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(ModelError, match=r"^model.quantize=4bit needs: pip install bitsandbytes; or set it to none$"):
        Policy.load(settings(taught_folder, "4bit"))


@here
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_an_adapter_learns_beside_quantized_weights(taught_folder, bits, tmp_path):
    policy = Policy.load(settings(taught_folder, bits))
    plain = Policy.load(exactly(taught_folder))
    assert policy.model.get_memory_footprint() < 0.6 * plain.model.get_memory_footprint()
    assert rehearse(policy, TrainConfig(rank=4), [ASKED]).kept == pytest.approx(1)

    ids = policy.encode(ASKED)
    example = Encoded(tuple(ids), tuple(policy.encode_completion("An apple.")), 1.0)
    spec = TrainConfig(rank=4, alpha=8, lr=1e-2, epochs=40, batch_tokens=64, checkpointing=True)
    train_adapter(policy.model, [example] * 2, spec, seed=0, out=tmp_path / "a", pad_id=policy.pad_id)
    policy.use(tmp_path / "a")
    [said] = generate(policy.model, [ids], [0], Sampling.greedy(16), eos_ids=policy.eos_ids, pad_id=policy.pad_id)
    assert policy.decode(said.token_ids) == "An apple."


@here
def test_gradients_pass_through_weights_of_four_bits_after_sampling(taught_folder):
    """bitsandbytes 0.50 repacks them at the first forward pass on some CPUs, and its product then has no gradient."""
    policy = Policy.load(settings(taught_folder, "4bit"))
    with torch.inference_mode():
        policy.model(torch.tensor([[5, 6, 7]]))
    embedded = policy.model.get_input_embeddings()(torch.tensor([[5, 6, 7]])).requires_grad_()
    layer = policy.model.model.layers[0].mlp
    out = layer(embedded)
    (found,) = torch.autograd.grad(out.sum(), embedded)
    whole = policy.model.dequantize().model.layers[0].mlp
    (expected,) = torch.autograd.grad(whole(embedded).sum(), embedded)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
