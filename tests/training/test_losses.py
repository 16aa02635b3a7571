"""Each loss against the brute force that its docstring promises, in float64."""

import pytest
import torch

from selfimprove.training import losses
from selfimprove.training.losses import Head, dpo_loss, token_losses

N, D, V = 13, 8, 31


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute_force(hidden, head, targets, a, reference, b):
    def logits(states):
        if head.weight is None:
            return states
        z = head.scale * (states @ head.weight.T + (0 if head.bias is None else head.bias))
        return z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)

    p = torch.softmax(logits(hidden), -1)
    nll = -p[torch.arange(len(targets)), targets].log()
    kl = torch.zeros_like(nll)
    if reference is not None:
        q = torch.softmax(logits(reference), -1)
        kl = (p * (p / q).log()).sum(-1)
    return a * nll + b * kl, nll, kl


HEADS = {
    "plain": Head(draw(V, D, seed=1)),
    "bias": Head(draw(V, D, seed=1), draw(V, seed=2)),
    "scaled": Head(draw(V, D, seed=1), scale=0.25),
    "softcap": Head(draw(V, D, seed=1), softcap=3.0),
    "logits": Head(),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("with_kl", [False, True])
@pytest.mark.parametrize("block", [1, 5, N, 100])
def test_token_losses_and_their_gradient_are_those_of_the_formula(name, with_kl, block, monkeypatch):
    head = HEADS[name]
    width = V if head.weight is None else D
    monkeypatch.setitem(losses.LOGIT_BYTES, "cpu", 4 * V * block)
    hidden = draw(N, width).requires_grad_()
    targets = torch.arange(N) % V
    a, b = draw(N, seed=3).abs(), draw(N, seed=4).abs()
    reference = draw(N, width, seed=5) if with_kl else None

    found = token_losses(hidden, head, targets, a, reference, b if with_kl else None)
    upstream = draw(N, seed=6)
    (gradient,) = torch.autograd.grad(found[0] @ upstream, hidden)

    expected = brute_force(hidden, head, targets, a, reference, b)
    (expected_gradient,) = torch.autograd.grad(expected[0] @ upstream, hidden)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(gradient, expected_gradient)


def test_kl_of_equal_states_is_zero_and_pulls_nowhere():
    hidden = draw(N, D).requires_grad_()
    none, all_ = torch.zeros(N, dtype=torch.float64), torch.ones(N, dtype=torch.float64)
    loss, _, kl = token_losses(hidden, HEADS["plain"], torch.arange(N), none, hidden.detach(), all_)
    loss.sum().backward()
    assert torch.equal(kl, none)
    assert hidden.grad.abs().max() == 0


def test_kl_is_from_the_policy_to_the_reference():
    """The two directions differ; mixing them up would not show in the tests of size and sign."""
    policy = torch.tensor([[0.8, 0.1, 0.1]], dtype=torch.float64).log()
    reference = torch.tensor([[0.2, 0.4, 0.4]], dtype=torch.float64).log()
    one = torch.ones(1, dtype=torch.float64)
    _, _, kl = token_losses(policy, Head(), torch.tensor([0]), one, reference, one)
    assert float(kl) == pytest.approx(0.8 * torch.tensor(4.0).log().item() + 0.2 * torch.tensor(0.25).log().item())


def test_dpo_is_its_formula_and_wants_a_margin():
    chosen, rejected, ref_c, ref_r = (draw(4, seed=s) for s in range(4))
    expected = -torch.log(1 / (1 + torch.exp(-0.3 * (chosen - ref_c - rejected + ref_r))))
    torch.testing.assert_close(dpo_loss(chosen, rejected, ref_c, ref_r, 0.3), expected)
    at_start = dpo_loss(chosen, rejected, chosen, rejected, 0.3)
    torch.testing.assert_close(at_start, torch.full((4,), 2.0, dtype=torch.float64).log())
