"""Packed weights of a policy: the same bits, plain layers outside generation, never the weights of before."""

import pytest
import torch
from tasks.tiny import tiny_llama

from selfimprove.models import packed_linear
from selfimprove.models.packed_linear import free_packed, packed_products
from selfimprove.rollout import generate
from selfimprove.types import Sampling

IDS = torch.tensor([[5, 9, 40, 41, 7, 80]])
ROWS = [[5, 9, 40, 41, 7, n] for n in (80, 81, 81, 82) for _ in range(5)]
needs_onednn = pytest.mark.skipif(
    not (packed_linear._available() and packed_linear.native_bfloat16()), reason="needs oneDNN and native bfloat16"
)


@pytest.fixture
def model():
    model = tiny_llama(vocab_size=97, seed=3).bfloat16().eval()
    yield model
    free_packed(model)


def logits(model):
    with torch.inference_mode():
        return model(IDS).logits


def swapped(model):
    """Number of layers whose forward pass is replaced now."""
    return sum("forward" in vars(module) for module in model.modules())


@needs_onednn
def test_logits_have_the_same_bits_and_the_plain_layers_are_back(model):
    plain = logits(model)
    with packed_products(model):
        assert swapped(model) == sum(type(m) is torch.nn.Linear for m in model.modules())
        assert torch.equal(logits(model), plain)
        with packed_products(model):  # a second user of the same model
            pass
        assert swapped(model)
    assert not swapped(model)


@needs_onednn
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rollouts_draw_the_same_tokens_packed_or_plain_and_from_run_to_run(model, monkeypatch, temperature):
    sampling = Sampling(temperature, 0, 1.0, 24)

    def drawn():
        return generate(model, ROWS, range(len(ROWS)), sampling, eos_ids=(1,))

    packed = drawn()
    assert len(packed_linear._policies[model]) > 0
    assert drawn() == packed
    free_packed(model)
    monkeypatch.setattr(packed_linear, "MEMORY_SHARE", 0)
    assert drawn() == packed
    assert packed_linear._policies[model] == []


@needs_onednn
@pytest.mark.parametrize("replace", [True, False], ids=["replaced", "in place"])
def test_changed_weights_are_packed_again(model, replace):
    with packed_products(model):
        before = logits(model)
    layer = model.model.layers[0].mlp.down_proj
    with torch.no_grad():
        if replace:  # as merging an adapter does
            layer.weight.data = layer.weight.data * 3
        else:
            layer.weight.mul_(3)
    plain = logits(model)
    assert not torch.equal(plain, before)
    with packed_products(model):
        assert torch.equal(logits(model), plain)


@needs_onednn
def test_training_after_rollouts_sees_the_plain_weights(model):
    with packed_products(model):
        logits(model)
    model.requires_grad_(True)
    model(IDS, labels=IDS).loss.backward()
    assert model.model.layers[0].mlp.down_proj.weight.grad.abs().sum() > 0


@needs_onednn
def test_a_layer_that_something_else_has_replaced_stays_so(model):
    layer = model.model.layers[0].mlp.down_proj
    layer.forward = lambda x: torch.nn.functional.linear(x, layer.weight) * 2
    hooked = layer.forward
    plain = logits(model)
    with packed_products(model):
        assert layer.forward is hooked
        assert torch.equal(logits(model), plain)
    assert layer.forward is hooked


@pytest.mark.parametrize("why", ["float32", "no native bfloat16", "no operators"])
def test_elsewhere_the_plain_layers_are_used(model, monkeypatch, why):
    if why == "float32":
        model = model.float()
    elif why == "no native bfloat16":
        monkeypatch.setattr(packed_linear, "native_bfloat16", lambda: False)
    else:
        monkeypatch.setattr(packed_linear, "_available", lambda: False)
    with packed_products(model):
        assert not swapped(model)
