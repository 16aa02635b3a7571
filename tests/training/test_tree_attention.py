"""Attention over short paths by batched products is torch's own, gradients included."""

import pytest
import torch

from selfimprove.training import tree_attention
from selfimprove.training.tree_attention import lay_out

PATHS = [[*range(9)], [*range(5), *range(9, 16)], [*range(5), 16], [*range(12), *range(17, 19)]]
TOKENS = 19


def attend(short, dtype, monkeypatch):
    """Output and gradients by query, key and value: 6 query heads, 2 key/value heads."""
    monkeypatch.setattr(tree_attention, "SHORT", short)
    monkeypatch.setattr(tree_attention, "BLOCK", 4)
    generator = torch.Generator().manual_seed(0)
    q, k, v, d_out = (
        torch.randn(1, heads, TOKENS, 8, generator=generator, dtype=torch.float64).to(dtype) for heads in (6, 2, 2, 6)
    )
    states = [x.requires_grad_() for x in (q, k, v)]
    out = lay_out(PATHS).attend(0, *states, scaling=0.3)
    return [out, *torch.autograd.grad(out, states, d_out.transpose(1, 2))]


def test_output_and_gradients_are_those_of_torch(monkeypatch):
    found, expected = (attend(short, torch.float64, monkeypatch) for short in (256, 0))
    for one, other in zip(found, expected, strict=True):
        assert one.abs().max() > 0.1
        torch.testing.assert_close(one, other)


def test_in_bfloat16_it_rounds_as_much_as_torch(monkeypatch):
    exact = attend(0, torch.float64, monkeypatch)
    found, torchs = (attend(short, torch.bfloat16, monkeypatch) for short in (256, 0))
    for one, other, truth in zip(found, torchs, exact, strict=True):
        assert one.dtype == torch.bfloat16
        assert (one - truth).norm() < 1.5 * (other - truth).norm() < 0.02 * truth.norm()


@pytest.mark.parametrize("short", [256, 0])
def test_a_token_sees_its_path_alone(short, monkeypatch):
    monkeypatch.setattr(tree_attention, "SHORT", short)
    monkeypatch.setattr(tree_attention, "BLOCK", 4)
    q, k, v = (torch.ones(1, 2, TOKENS, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out = lay_out(PATHS).attend(0, q, k, v, scaling=0.3)
    for path in PATHS:
        (seen,) = torch.autograd.grad(out[0, path[-1]].sum(), v, retain_graph=True)
        assert seen[0, 0, :, 0].nonzero().flatten().tolist() == path
