"""What a folder from elsewhere may hold: its settings reach no call of ours, and what cannot be loaded is one line."""

import importlib.util
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tasks.tiny import exactly

from selfimprove.errors import ModelError
from selfimprove.models.policy import Policy
from selfimprove.rollout import generate
from selfimprove.types import Message, Sampling

QUESTION = [Message("user", "What is 2 plus 3?")]


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "m")


def change(file, **settings):
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def load(folder) -> Policy:
    return Policy.load(exactly(folder))


def answer(policy):
    ids = policy.encode(QUESTION)
    return generate(policy.model, [ids], [0], Sampling(0.0, 0, 1.0, 12), eos_ids=policy.eos_ids, pad_id=policy.pad_id)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"output_attentions": True}),
        ("config.json", {"output_hidden_states": True}),
        ("config.json", {"return_dict": False}),
        ("config.json", {"use_cache": False}),
        ("generation_config.json", {"return_dict_in_generate": True}),
        ("generation_config.json", {"num_return_sequences": 2}),
        ("generation_config.json", {"num_beams": 2, "temperature": "warm"}),
        ("generation_config.json", {"forced_bos_token_id": 7, "forced_eos_token_id": 9, "min_new_tokens": 12}),
        ("generation_config.json", {"suppress_tokens": list(range(200)), "do_sample": True, "temperature": 9.0}),
    ],
)
def test_settings_of_the_folder_reach_no_call(model_folder, folder, file, settings):
    change(folder / file, **settings)
    policy, untouched = load(folder), load(model_folder)
    assert answer(policy) == answer(untouched)
    prompt = torch.tensor([policy.encode(QUESTION)])
    texts = [p.model.generate(prompt, max_new_tokens=8, pad_token_id=p.pad_id) for p in (policy, untouched)]
    assert torch.equal(*texts)
    assert policy.eos_ids == untouched.eos_ids


def test_an_adapter_among_the_models_files_is_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    with pytest.raises(ModelError, match=r"holds an adapter .* would load it with the model; move adapter_"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"and no model: set model\.path to its base, owner/base, or"):
        load(folder)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"with bitsandbytes, .* pip install bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "with gptq, .* pip install gptqmodel optimum"),
        ({"quant_method": "awq", "bits": 4}, "with awq, .* pip install gptqmodel"),
        ({"quant_method": "compressed-tensors"}, "with compressed-tensors, .* pip install compressed-tensors"),
    ],
)
def test_a_quantized_base_without_its_package_says_what_to_install(folder, monkeypatch, settings, says):
    hide(monkeypatch, "bitsandbytes", "gptqmodel", "compressed_tensors")
    change(folder / "config.json", quantization_config=settings)
    with pytest.raises(ModelError, match=says):
        load(folder)


def test_a_tokenizer_model_without_sentencepiece_says_what_to_install(folder, monkeypatch):
    hide(monkeypatch, "sentencepiece")
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(ModelError, match=r"tokenizer\.model alone, which needs: pip install sentencepiece"):
        load(folder)


def hide(monkeypatch, *modules):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in modules else find(name, *a))


def add_token(folder, content, special=True, **changes):
    """Add a token behind the last, for which the model has no embedding; return its id."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    id_ = max(token["id"] for token in tokenizer["added_tokens"]) + 1
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"].append({"id": id_, "content": content, "special": special, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    change(folder / "tokenizer_config.json", **changes)
    return id_


def test_a_control_token_that_nothing_writes_needs_no_embedding(model_folder, folder):
    add_token(folder, "<image_soft_token>")
    policy = load(folder)
    assert len(policy.tokenizer) == policy.model.get_input_embeddings().num_embeddings + 1
    evil = [Message("user", "look: <image_soft_token>")]
    assert max(policy.encode(evil) + policy.encode_completion("<image_soft_token>")) < 259
    assert answer(policy) == answer(load(model_folder))


def test_padding_without_an_embedding_is_not_fed_to_the_model(folder):
    id_ = add_token(folder, "[PAD]", pad_token="[PAD]")
    policy = load(folder)
    assert policy.tokenizer.pad_token_id == id_
    assert policy.pad_id in policy.eos_ids


@pytest.mark.parametrize(
    ("token", "special", "changes", "template"),
    [
        ("<turn>", True, {}, "<turn>"),
        ("<word>", False, {}, ""),
        ("<bos>", True, {"bos_token": "<bos>"}, ""),
    ],
    ids=["in the template", "in texts", "put before prompts"],
)
def test_a_token_that_can_be_written_needs_an_embedding(folder, token, special, changes, template):
    add_token(folder, token, special, **changes)
    (folder / "chat_template.jinja").write_text((folder / "chat_template.jinja").read_text() + template)
    with pytest.raises(ModelError, match=f"such as '{token}'; they do not belong together"):
        load(folder)


def as_fp8(folder):
    """Store the projections in 8 bits with one scale each, as DeepSeek and Qwen publish them."""
    weights = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "proj" in name:
            scale = tensor.abs().max() / 448
            weights[name] = (tensor / scale).to(torch.float8_e4m3fn)
            weights[name.replace("weight", "weight_scale_inv")] = torch.full((1, 1), float(scale))
        else:
            weights[name] = tensor.bfloat16()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    quantization = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    change(folder / "config.json", dtype="bfloat16", quantization_config=quantization)
    return folder


def test_fp8_weights_are_computed_in_the_dtype_asked_for(folder):
    policy = load(as_fp8(folder))
    stored, loaded = load_file(folder / "model.safetensors"), policy.model.state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    for name in (name for name in stored if "proj.weight" in name and "scale" not in name):
        scale = stored[name.replace("weight", "weight_scale_inv")]
        torch.testing.assert_close(loaded[name], stored[name].float() * scale, rtol=0.01, atol=0, msg=name)
    assert answer(policy)[0].token_ids


def test_a_base_that_changes_while_it_is_in_use_is_noticed(folder, tmp_path):
    policy = load(folder)
    weights = load_file(folder / "model.safetensors")
    save_file({k: v + 1 for k, v in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    policy.release()
    with pytest.raises(ModelError, match="changed while it was in use"):
        policy.use(None)
