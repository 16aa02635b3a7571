"""Exports of bases from elsewhere: swapped, foreign settings, other dtypes, dates, and a disk that is full."""

import json
import resource
import shutil

import pytest
import torch
from export_story import CONVERSATIONS, adapted_logits, logits, make_adapter, nothing_left
from models.test_loading import add_token, as_fp8, change
from models.test_policy import DATED
from safetensors.torch import load_file, save_file
from tasks.tiny import CHAT_TEMPLATE, exactly
from transformers import AutoModelForCausalLM

from selfimprove.errors import ModelError, UserError
from selfimprove.exports.export import export
from selfimprove.fsio import folder_digest


@pytest.fixture(scope="module")
def adapter(model_folder, tmp_path_factory):
    return make_adapter(model_folder, tmp_path_factory.mktemp("adapter") / "r0001")


@pytest.fixture
def base(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "base")


def write(base, adapter, out, form="merged", **settings):
    model = exactly(base)
    return export(model, adapter, out, form=form, card="# a card\n", conversations=CONVERSATIONS, **settings)


def test_an_adapter_is_merged_into_no_other_base(base, adapter, tmp_path):
    trained_on = folder_digest(base)
    write(base, adapter, tmp_path / "first", fingerprint=trained_on)
    weights = load_file(base / "model.safetensors")
    save_file({k: 1.01 * v for k, v in weights.items()}, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"is not the one .* recorded is {trained_on[:12]}; put the original"):
        write(base, adapter, tmp_path / "out", fingerprint=trained_on)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("form", ["merged", "adapter"])
@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("generation_config.json", {"return_dict_in_generate": True}),
        ("generation_config.json", {"num_return_sequences": 2}),
        ("config.json", {"output_attentions": True}),
        ("config.json", {"return_dict": False}),
    ],
)
def test_settings_of_the_base_travel_and_disturb_nothing(base, adapter, tmp_path, form, file, settings):
    change(base / file, **settings)
    done = write(base, adapter, tmp_path / "out", form)
    assert done.equal == done.texts
    if form == "merged":
        assert (tmp_path / "out" / file).read_bytes() == (base / file).read_bytes()


def test_the_dtype_is_that_of_the_weights_not_of_the_first_tensor(base, adapter, tmp_path):
    """GPT-Neo's attention masks are stored as uint8, and come first in the file."""
    weights = load_file(base / "model.safetensors") | {"a.attn.bias": torch.ones(512, 512, dtype=torch.uint8)}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert write(base, adapter, tmp_path / "out").dtype == "float32"


def test_fp8_weights_are_exported_in_bfloat16(base, adapter, tmp_path):
    as_fp8(base)
    done = write(base, adapter, tmp_path / "out")
    settings = json.loads((tmp_path / "out/config.json").read_text())
    assert (done.dtype, settings["dtype"], "quantization_config" in settings) == ("bfloat16", "bfloat16", False)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_merged_folder_is_stored_as_asked(model_folder, base, adapter, tmp_path, dtype):
    done = write(base, adapter, tmp_path / "out", dtype=dtype)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in stored.values()} == {f"torch.{dtype}"}
    assert done.dtype == dtype
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").eval()
    assert model.dtype == getattr(torch, dtype)
    assert (logits(model) - adapted_logits(model_folder, adapter)).abs().max() <= done.gap + 0.5


def test_a_dtype_is_for_merged_folders(base, adapter, tmp_path):
    for form, says in (("gguf", "gguf takes --weights"), ("adapter", "adapter is stored in float32")):
        with pytest.raises(UserError, match=says):
            write(base, adapter, tmp_path / "out", form, dtype="float16")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("form", "room"), [("merged", 0), ("merged", 4_000), ("merged", 20_000), ("adapter", 0), ("adapter", 4_000)]
)
def test_a_full_disk_is_one_line_and_leaves_nothing(base, adapter, tmp_path, form, room):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(ModelError, match=r"could not be written: .*; make room or choose") as told:
            write(base, adapter, tmp_path / "out", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(told.value)
    assert nothing_left(tmp_path)
    assert not list(tmp_path.glob(".tmp-*"))


def test_no_export_carries_the_date_of_its_run(base, adapter, tmp_path):
    (base / "chat_template.jinja").write_text(DATED + CHAT_TEMPLATE)
    for form in ("merged", "adapter"):
        write(base, adapter, tmp_path / form, form)
        assert (tmp_path / form / "chat_template.jinja").read_text() == DATED + CHAT_TEMPLATE


def test_an_id_without_embedding_is_left_out(base, adapter, tmp_path):
    add_token(base, "<image_soft_token>")
    assert write(base, adapter, tmp_path / "out").equal == 3
