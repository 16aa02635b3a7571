"""The fused LoRA product is peft's own, gradients included."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from selfimprove.training.fused_lora import fuse


class Net(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.first = nn.Linear(6, 10, bias=False)
        self.second = nn.Linear(10, 4)
        self.to(dtype).requires_grad_(False)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def build(dtype, fused):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = get_peft_model(Net(dtype), LoraConfig(r=3, lora_alpha=6, target_modules="all-linear"))
        for parameter in policy.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter)
    if fused:
        fuse(policy)
    return policy


def run(policy, x):
    y = policy(x)
    (y.float() ** 2).sum().backward()
    return y, [p.grad for p in policy.parameters() if p.requires_grad]


def draw(*shape, dtype):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("into_the_input", [False, True])
def test_output_and_gradients_are_those_of_peft(into_the_input):
    found, expected = (draw(2, 5, 6, dtype=torch.float64).requires_grad_(into_the_input) for _ in range(2))
    y, gradients = run(build(torch.float64, fused=True), found)
    y_peft, gradients_peft = run(build(torch.float64, fused=False), expected)
    torch.testing.assert_close(y, y_peft)
    assert len(gradients) == 4
    for one, other in zip(gradients, gradients_peft, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    if into_the_input:
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-5)


def test_a_bfloat16_model_computes_in_bfloat16_with_float32_adapters():
    policy = build(torch.bfloat16, fused=True)
    y, gradients = run(policy, draw(7, 6, dtype=torch.bfloat16))
    y_peft, gradients_peft = run(build(torch.bfloat16, fused=False), draw(7, 6, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, y_peft, rtol=0.05, atol=0.2)
    for one, other in zip(gradients, gradients_peft, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.05 * other.norm()


def test_the_adapter_can_be_switched_off():
    policy = build(torch.float64, fused=True)
    x = draw(3, 6, dtype=torch.float64)
    with policy.disable_adapter():
        torch.testing.assert_close(policy(x), policy.get_base_model()(x))
        off = policy(x)
    assert (policy(x) - off).abs().max() > 0.1
    plain = Net(torch.float64)
    plain.load_state_dict({name: tensor for name, tensor in policy.unload().state_dict().items()})
    torch.testing.assert_close(off, plain(x))


def test_layers_that_compute_more_are_left_to_peft():
    policy = get_peft_model(Net(torch.float64), LoraConfig(r=3, target_modules=["first"], use_dora=True))
    before = [module.forward for module in policy.modules()]
    fuse(policy)
    assert [module.forward for module in policy.modules()] == before
