"""Gradient checkpointing: the same gradients, each layer computed twice."""

import pytest
import torch
from families import build
from tasks.tiny import exactly

from selfimprove.config import TrainConfig
from selfimprove.errors import TrainingError
from selfimprove.models.policy import Policy
from selfimprove.training import Encoded, train_adapter
from selfimprove.training.checkpointing import checkpointed, decoder_layers

SPEC = TrainConfig(rank=4, alpha=8, lr=1e-2, epochs=2, batch_tokens=1000)
EXAMPLES = [Encoded((5, 6, 7, 8 + i), (20 + i, 30, 40), 1.0) for i in range(4)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_moe", "mamba"])
@pytest.mark.parametrize("method", ["sft", "preference"])
def test_the_adapter_is_the_same(family, method, tmp_path):
    policy = Policy.load(exactly(build(family, tmp_path / "base")))
    for on in (False, True):
        spec = SPEC.model_copy(update={"checkpointing": on, "method": method})
        train_adapter(policy.model, EXAMPLES, spec, seed=0, out=tmp_path / str(on), pad_id=policy.pad_id)
    one, other = ((tmp_path / str(on) / "adapter_model.safetensors").read_bytes() for on in (False, True))
    assert one == other


def test_each_layer_is_computed_again_and_nothing_stays_behind(model_folder):
    model = Policy.load(exactly(model_folder)).model
    calls = []
    handles = [m.mlp.register_forward_pre_hook(lambda *_: calls.append(1)) for m in decoder_layers(model)]
    embedded = model.get_input_embeddings()(torch.tensor([[5, 6, 7]])).requires_grad_()
    with checkpointed(model):
        model(inputs_embeds=embedded).logits.sum().backward()
    assert len(calls) == 2 * len(handles)
    assert not any("forward" in vars(layer) for layer in decoder_layers(model))


def test_a_model_without_a_list_of_layers_is_named(model_folder):
    model = Policy.load(exactly(model_folder)).model
    model.config.num_hidden_layers = 5
    with pytest.raises(TrainingError, match="LlamaForCausalLM has no list of 5 layers; set train"):
        decoder_layers(model)
