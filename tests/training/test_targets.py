"""Where an adapter goes: all linear layers but the head, a mixture's experts, and what is left alone is named."""

import json

import pytest
import torch
from families import build
from safetensors import safe_open
from tasks.tiny import exactly

from selfimprove.config import TrainConfig
from selfimprove.models.policy import Policy
from selfimprove.training import Encoded, train_adapter
from selfimprove.training.adapter import attached
from selfimprove.training.targets import find_targets

SPEC = TrainConfig(rank=4, alpha=8, lr=1e-2, epochs=3, batch_tokens=40)
EXAMPLES = [Encoded((5, 6, 7, 8 + i), (20 + i, 30, 40), 1.0) for i in range(6)]


@pytest.fixture(scope="module")
def policy_of(tmp_path_factory):
    """Load a tiny random model of a family."""
    return lambda family: Policy.load(exactly(build(family, tmp_path_factory.mktemp(family) / "base")))


def trained(policy, out):
    train_adapter(policy.model, EXAMPLES, SPEC, seed=0, out=out, pad_id=policy.pad_id)
    with safe_open(out / "adapter_model.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_a_plain_model_is_adapted_everywhere_but_at_its_head(policy_of):
    targets = find_targets(policy_of("llama").model)
    assert len(targets.layers) == 2 * 7
    assert not any("lm_head" in name or "embed" in name for name in targets.layers)
    assert targets.weights == targets.untouched == ()
    assert targets.describe() == "on 14 matrices: 100% of the parameters in matrices"


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral", "gpt_oss", "llama4_text", "granitemoe"])
def test_every_expert_gets_an_adapter_and_the_router_none(policy_of, family, tmp_path):
    policy = policy_of(family)
    targets = find_targets(policy.model)
    tensors = trained(policy, tmp_path / "a")
    assert "experts" in targets.describe()
    assert [name.rpartition(".")[0].rpartition(".")[2] for name in targets.untouched] in (["gate"], ["router"])
    assert sum(t.nbytes for t in tensors.values()) == targets.adapter_bytes(SPEC.rank)
    stacks = [name for name in targets.weights if "experts" in name]
    assert len(stacks) == 4, "gate_up_proj and down_proj of two layers"

    base = {name: dict(policy.model.named_parameters())[name].clone() for name in stacks}
    ids = torch.tensor([[5, 6, 7, 8, 20, 30]])
    beside = Policy.attach(policy.model, tmp_path / "a")
    with torch.inference_mode():
        expected = beside(ids).logits
    policy.release()
    policy.use(tmp_path / "a")
    with torch.inference_mode():
        torch.testing.assert_close(policy.model(ids).logits, expected)
    merged = dict(policy.model.named_parameters())
    for name in stacks:
        assert (merged[name] - base[name]).abs().amax((1, 2)).gt(1e-4).any(), f"no expert of {name} was trained"


@pytest.mark.parametrize("family", ["qwen2_moe", "deepseek_v3"])
def test_dense_layers_beside_experts_are_not_taken_for_experts(policy_of, family, tmp_path):
    """PEFT takes their names for the experts' and leaves the layers themselves out, on loading too."""
    policy = policy_of(family)
    dense = [n for n in find_targets(policy.model).weights if n.endswith("gate_proj.weight")]
    names = trained(policy, tmp_path / "a").keys()
    assert dense
    for name in dense:
        assert f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight" in names
    Policy.attach(policy.model, tmp_path / "a")  # refuses an adapter of which a tensor is missing


def test_a_mamba_is_told_what_is_left_alone(policy_of):
    untouched = find_targets(policy_of("mamba").model).untouched
    assert untouched == ("mixer.A_log", "mixer.conv1d.weight", "mixer.out_proj.weight")


def test_the_adapter_of_a_mixture_is_the_same_in_every_process(policy_of, tmp_path):
    policy = policy_of("qwen3_moe")
    trained(policy, tmp_path / "a")
    settings = json.loads((tmp_path / "a/adapter_config.json").read_text(encoding="utf-8"))
    assert settings["target_parameters"] == sorted(settings["target_parameters"])
    with attached(policy.model, SPEC, seed=1, start=tmp_path / "a") as going_on:
        assert all(p.requires_grad for name, p in going_on.named_parameters() if "lora_" in name)
