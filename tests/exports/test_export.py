"""An export is what the adapter was, in a folder that loads anywhere, or it is not there at all."""

import importlib
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from export_story import CONVERSATIONS, adapted_logits, logits, make_adapter, nothing_left
from peft import PeftModel
from tasks.tiny import exactly, sum_question
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfimprove.config_file import parse_config, to_yaml
from selfimprove.errors import ModelError, UserError
from selfimprove.exports.export import export
from selfimprove.exports.from_run import export_run
from selfimprove.exports.model_card import KNOWN_BASES, Learnt, model_card
from selfimprove.fsio import MANIFEST, manifest
from selfimprove.memory import ResponseMemory
from selfimprove.models.policy import PLAIN_TEMPLATE
from selfimprove.outcomes import Decision, GuardVerdict
from selfimprove.prompts import make_prompt
from selfimprove.types import Message

exports = importlib.import_module("selfimprove.exports.export")


@pytest.fixture(scope="module")
def adapter(model_folder, tmp_path_factory):
    return make_adapter(model_folder, tmp_path_factory.mktemp("adapter") / "r0001")


def write(model_folder, adapter, out, form="merged"):
    model = exactly(model_folder)
    return export(model, adapter, out, form=form, card="# a card\n", conversations=CONVERSATIONS)


def test_a_merged_folder_is_the_adapter_for_plain_transformers(model_folder, adapter, tmp_path):
    done = write(model_folder, adapter, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    assert (logits(model) - logits(base)).abs().max() > 0.1  # or the test would prove nothing
    assert (logits(model) - adapted_logits(model_folder, adapter)).abs().max() < 1e-3
    assert (done.dtype, done.texts, done.equal) == ("float32", 3, 3)
    assert done.gap < 1e-3


def test_all_but_the_weights_travels_byte_for_byte(model_folder, adapter, tmp_path):
    write(model_folder, adapter, tmp_path / "out")
    names = {p.name for p in model_folder.iterdir()}
    assert {"config.json", "chat_template.jinja", "generation_config.json", "tokenizer.json"} <= names
    for name in names - {"model.safetensors"}:
        assert (tmp_path / "out" / name).read_bytes() == (model_folder / name).read_bytes(), name
    assert (tmp_path / "out" / "README.md").read_text() == "# a card\n"
    assert json.loads((tmp_path / "out" / MANIFEST).read_text()) == manifest(tmp_path / "out")


def ends_documents(folder, base):
    """Copy a base; its generation config knows the end of a document alone, its chat template another token."""
    shutil.copytree(folder, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    end, document = tokenizer.eos_token_id, tokenizer.pad_token_id
    tokenizer.eos_token = tokenizer.pad_token
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>", "<|end|>"]})
    tokenizer.save_pretrained(base)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps(settings | {"eos_token_id": document}))
    return end, document


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_an_answer_that_ends_is_compared_as_it_ends(form, taught_folder, undisturbed, tmp_path):
    ends_documents(taught_folder, tmp_path / "base")
    asked = [(Message("user", sum_question(a, 3)),) for a in (1, 2, 4)]
    adapter = undisturbed[0] / "adapters" / "r0002"
    model = exactly(tmp_path / "base")
    done = export(model, adapter, tmp_path / "out", form=form, card="# a card\n", conversations=asked)
    assert (done.texts, done.equal) == (3, 3)


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_generate_stops_where_the_policy_stopped(form, model_folder, adapter, tmp_path):
    """A base model's generation config knows the end of a document, its chat template another token, as Qwen2.5's."""
    base = tmp_path / "base"
    end, document = ends_documents(model_folder, base)
    write(base, adapter, tmp_path / "out", form)
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert sorted(settings["eos_token_id"]) == sorted([end, document])
    if form == "merged":
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        assert model.generation_config.eos_token_id == settings["eos_token_id"]


def test_the_base_keeps_its_dtype_and_rounding_comes_after_merging(model_folder, adapter, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(model_folder, half)
    AutoModelForCausalLM.from_pretrained(model_folder).to(torch.bfloat16).save_pretrained(half)
    done = write(half, adapter, tmp_path / "out")
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").state_dict()
    base = AutoModelForCausalLM.from_pretrained(half, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload().state_dict()
    assert done.dtype == "bfloat16"
    assert done.gap > 1e-3  # rounding is told, not hidden
    for name, tensor in merged.items():
        assert torch.equal(stored[name], tensor.to(torch.bfloat16)), name


def test_an_adapter_of_a_bundled_base_names_it_as_the_hub_does(model_folder, adapter, tmp_path, monkeypatch):
    monkeypatch.setitem(KNOWN_BASES, str(model_folder), ("owner/base", "apache-2.0"))
    write(model_folder, adapter, tmp_path / "out", form="adapter")
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "owner/base"


def test_an_adapter_folder_loads_in_peft(model_folder, adapter, tmp_path):
    done = write(model_folder, adapter, tmp_path / "out", form="adapter")
    assert torch.equal(adapted_logits(model_folder, tmp_path / "out"), adapted_logits(model_folder, adapter))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert done.equal == done.texts


def test_a_base_without_chat_template_gets_the_one_it_was_trained_behind(model_folder, adapter, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(model_folder, bare)
    (bare / "chat_template.jinja").unlink()
    write(bare, adapter, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == PLAIN_TEMPLATE


def test_what_is_there_is_never_overwritten(model_folder, adapter, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("ten years")
    with pytest.raises(ModelError, match="exists already"):
        write(model_folder, adapter, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "ten years"


def test_an_adapter_for_another_base_or_a_torn_one_is_refused(model_folder, adapter, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    settings = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(settings | {"r": 8}))
    with pytest.raises(ModelError, match="does not fit"):
        write(model_folder, other, tmp_path / "out")
    (other / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="does not fit"):
        write(model_folder, other, tmp_path / "out")
    with pytest.raises(ModelError, match="holds no adapter_model"):
        write(model_folder, tmp_path, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_weights_that_the_folder_cannot_hold_are_noticed(model_folder, tmp_path, recwarn):
    """The config says that input and output embeddings are one tensor; an adapter on the output alone breaks that."""
    adapter = make_adapter(model_folder, tmp_path / "adapter", targets=["lm_head"])
    with pytest.raises(ModelError):
        write(model_folder, adapter, tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("form", ["merged", "adapter"])
@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("chat_template.jinja", lambda text: text.replace("assistant", "Assistant"), "renders a prompt otherwise"),
        ("tokenizer.json", lambda text: text.replace('"a": ', '"zz": '), "renders a prompt otherwise"),
    ],
)
def test_a_tokenizer_that_changed_on_the_way_is_refused(
    model_folder, adapter, tmp_path, monkeypatch, name, damage, message, form
):
    copy = exports._copy_side_files

    def copy_badly(policy, folder, **options):
        copy(policy, folder, **options)
        (folder / name).write_text(damage((folder / name).read_text()))

    monkeypatch.setattr(exports, "_copy_side_files", copy_badly)
    with pytest.raises(ModelError, match=message):
        write(model_folder, adapter, tmp_path / "out", form)
    assert nothing_left(tmp_path)


SUMMARY = {
    "current": "r0002",
    "rounds_kept": 2,
    "agreement": {"before": 0.4, "after": 0.6},
    "rounds": [
        {"round": 1, "decision": "keep", "agreement": 0.55, "accuracy": {"mean_at_k": 0.41, "greedy": 0.42}},
        {"round": 2, "decision": "keep", "agreement": 0.6},
        {"round": 3, "decision": "reject", "agreement": None},
    ],
    "families": [
        {
            **{"name": "a secret word", "prompts": 14, "mean": [0.25, 0.125], "greedy": [5, 3]},
            "before": {"agreement": 0.1, "top_answer": "animal", "top_fraction": 0.5},
            "after": {"agreement": 0.9, "top_answer": "animal", "top_fraction": 1.0},
        }
    ],
    "fallen": {
        "against": 1,
        "accuracy": [{"name": "greedy right of 'a secret word'", "before": 5, "after": 3, "of": 14}],
        "metrics": [{"name": "parse rate", "before": 0.9, "after": 0.8, "of": None}],
    },
    "heldout": {
        "prompts": 200,
        **dict.fromkeys(("before", "greedy_before", "maj_before"), 0.3),
        **dict.fromkeys(("after", "greedy_after", "maj_after"), 0.5),
        **{"diff": 0.2, "diff_low": 0.15, "diff_high": 0.25},
    },
}


LEARNT = Learnt(prompts=128, responses=4096, survivors=321)


@pytest.fixture
def run(model_folder, adapter, tmp_path):
    """A finished run: six prompts, one round that is not decided yet, and its adapter."""
    raw = {"model": {"path": str(model_folder)}, "prompts": {"path": "p.jsonl"}}
    prompts = [make_prompt([Message("user", f"What is {n} plus {n}?")], 0.5) for n in range(6)]
    folder = tmp_path / "run"
    shutil.copytree(adapter, folder / "adapters/r0001")
    (folder / "config.yaml").write_text(to_yaml(parse_config(raw)))
    (folder / "summary.json").write_text(json.dumps(SUMMARY | {"current": "r0001"}))
    with ResponseMemory.create(folder / "memory.db") as memory:
        memory.add_prompts(prompts, np.eye(6, dtype=np.float32))
    return folder


def keep_round_1(run):
    with ResponseMemory.open(run / "memory.db", write=True) as memory:
        memory.commit_round(1, GuardVerdict(Decision.KEEP, ()), "all checks passed", "r0001")


def test_the_policy_that_a_run_kept_is_exported(run, model_folder, adapter, tmp_path):
    keep_round_1(run)
    told = export_run(run, tmp_path / "out", form="merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert (logits(model) - adapted_logits(model_folder, adapter)).abs().max() < 1e-3
    assert "merged, float32" in told
    assert "greedy texts equal" in told
    assert "+0.200" in (tmp_path / "out/README.md").read_text()
    page = (tmp_path / "out/report.html").read_text()
    assert "What is 2 plus 2?" not in page
    assert "This page was made to be sent" in page


def test_a_run_with_nothing_to_export_says_why(run, tmp_path):
    for settings, why in (
        ({}, "current policy of .* is the base model itself, nothing to export"),
        ({"round_": 2}, "there is no adapter .*r0002; selfimprove status"),
        ({"round_": 1, "form": "onnx"}, "no export as 'onnx'"),
        ({"round_": 1, "form": "gguf", "weights": "q2"}, "no GGUF weights 'q2'"),
    ):
        with pytest.raises(UserError, match=why):
            export_run(run, tmp_path / "out", **{"form": "merged", **settings})
    (run / "summary.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        export_run(run, tmp_path / "out", round_=1, form="merged")
    assert nothing_left(tmp_path)


def test_the_card_gives_figures_with_their_interval_and_no_path_of_this_machine(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a secret"}\n')
    files = {"path": str(prompts), "audit": str(tmp_path / "moved" / "audit.jsonl")}
    server = {"url": "http://me:pass@inside.example", "command": "serve --key k"}
    config = parse_config({"model": {"path": str(tmp_path)}, "prompts": files, "server": server})
    card = model_card(config, SUMMARY, "r0002", "merged", LEARNT)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["base_model"] == tmp_path.name
    assert front["base_model_relation"] == "finetune"
    assert "+0.200, paired bootstrap 95 % interval +0.150 to +0.250" in card
    assert "2 round(s) kept, 1 rejected" in card
    assert "`r0002`, trained on 321 survivors of 4,096 responses to 128 prompts." in card
    assert "| base |  | 0.400 | 0.300 | 0.300 |  |" in card
    assert "| 1 | keep | 0.550 | 0.410 | 0.420 |  |" in card
    assert "| 1 | 14 | 0.250 -> 0.125 | 5 -> 3 | 0.10 -> 0.90 | 0.50 -> 1.00 |" in card
    assert "Worse than round 1 in: parse rate 0.9 -> 0.8." in card
    assert "(report.html)" in card
    assert str(tmp_path) not in card
    assert not any(text in card for text in ("a secret", "animal", "inside.example", "--key"))
    shown = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert shown["prompts"]["audit"] == "audit.jsonl"
    assert shown["train"] == config.model_dump(mode="json")["train"]


def test_the_card_claims_nothing_that_was_not_measured(tmp_path):
    config = parse_config({"prompts": {"path": "p.jsonl"}})
    assert "no accuracy was measured" in model_card(config, SUMMARY | {"heldout": None}, "r0002", "merged", LEARNT)
    assert "0.500" not in model_card(config, SUMMARY, "r0001", "merged", LEARNT)
    assert "license: apache-2.0" in model_card(config, SUMMARY, "r0002", "adapter", LEARNT)
    assert "library_name: gguf" in model_card(config, SUMMARY, "r0002", "ollama", LEARNT)


@pytest.mark.parametrize(
    ("propose", "did"),
    [
        ({"exemplar": {"k": 0}, "revise": {"k": 0}, "stitch": {"k": 0}}, "sampled answers, voted"),
        (
            {"exemplar": {"k": 2}, "revise": {"k": 1}, "stitch": {"k": 0}},
            "sampled answers, answered again with recalled answers in view, criticized and revised, voted",
        ),
    ],
)
def test_the_card_names_the_operators_that_were_on(propose, did):
    config = parse_config({"prompts": {"path": "p.jsonl"}, "propose": propose})
    assert f"the model {did}, and learned" in model_card(config, SUMMARY, "r0002", "merged", LEARNT)
