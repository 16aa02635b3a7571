"""The fused RMSNorm is the module's own, gradient included; other norms keep theirs."""

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from selfimprove.training.fused_norm import fused_norms


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(kind, dtype=torch.float64):
    norm = kind(16)
    norm.weight.data = draw(16, seed=1)
    return nn.Sequential(norm).to(dtype).requires_grad_(False)


def run(model, x, d_y):
    y = model(x)
    return y, *torch.autograd.grad(y, x, d_y)


def test_output_and_gradient_are_those_of_the_formula():
    model, x, d_y = build(LlamaRMSNorm, torch.float32), draw(2, 5, 16).requires_grad_(), draw(2, 5, 16, seed=2)
    y = x * torch.rsqrt((x**2).mean(-1, keepdim=True) + model[0].variance_epsilon) * draw(16, seed=1)
    expected = y, *torch.autograd.grad(y, x, d_y)
    with fused_norms(model):
        assert "forward" in vars(model[0])
        found = run(model, x.detach().float().requires_grad_(), d_y.float())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-6)
    assert "forward" not in vars(model[0])


def test_in_bfloat16_it_rounds_as_the_module_does():
    model = build(LlamaRMSNorm, torch.bfloat16)
    x, d_y = draw(3, 7, 16).bfloat16().requires_grad_(), draw(3, 7, 16, seed=2).bfloat16()
    y, d_x = run(model, x, d_y)
    with fused_norms(model):
        fused_y, fused_d_x = run(model, x, d_y)
    assert torch.equal(fused_y, y)
    assert fused_d_x.dtype == torch.bfloat16
    torch.testing.assert_close(fused_d_x, d_x)


@pytest.mark.parametrize("kind", [GemmaRMSNorm, nn.LayerNorm, nn.RMSNorm])
def test_other_norms_keep_their_forward_pass(kind):
    model = build(kind, torch.float32)
    with fused_norms(model):
        assert "forward" not in vars(model[0])


def test_a_forward_pass_that_somebody_replaced_stays():
    model = build(LlamaRMSNorm)
    model[0].forward = lambda x: x
    with fused_norms(model):
        assert model(1) == 1
    assert model(1) == 1
