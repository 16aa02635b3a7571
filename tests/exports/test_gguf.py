"""A GGUF file is the model for a reader that shares no code with its writer; a Modelfile says the same turns."""

import re
import shutil
from pathlib import Path

import jinja2
import numpy as np
import pytest
import torch
from export_story import CONVERSATIONS, adapted_logits, logits, make_adapter, nothing_left
from tasks.tiny import CHAT_TEMPLATE, byte_tokenizer, exactly, tiny_llama
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerFast

from selfimprove.config_file import parse_config, to_yaml
from selfimprove.errors import ModelError
from selfimprove.exports import gguf as gguf_file
from selfimprove.exports.export import export
from selfimprove.exports.from_run import export_run
from selfimprove.exports.gguf import as_stored, template_in
from selfimprove.exports.ollama import modelfile, parse_template
from selfimprove.memory import ResponseMemory
from selfimprove.models.sources import resolve_model
from selfimprove.prompts import make_prompt
from selfimprove.types import Message

MERGES = [("p", "l"), ("u", "s"), ("pl", "us"), ("Ġ", "plus"), ("h", "e")]


def merging_tokenizer():
    """The byte tokenizer with a few merges, as every real byte-level tokenizer has some."""
    tokenizer = byte_tokenizer()
    vocab = {t: i for t, i in tokenizer.get_vocab().items() if i < 256}
    for pair in MERGES:
        vocab["".join(pair)] = len(vocab)
    core = Tokenizer(models.BPE(vocab=vocab, merges=MERGES))
    core.pre_tokenizer, core.decoder = tokenizer.backend_tokenizer.pre_tokenizer, tokenizer.backend_tokenizer.decoder
    merging = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>")
    merging.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    merging.chat_template = CHAT_TEMPLATE
    return merging


def save(folder, tokenizer=None, **config):
    """A base model with more rows than tokens, as embeddings are often padded."""
    tokenizer = tokenizer or merging_tokenizer()
    model = tiny_llama(272)
    model.generation_config.eos_token_id = model.config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    for key, value in config.items():
        setattr(model.config, key, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "r0001")


def write(base, adapter, out, form="gguf", weights="f16"):
    model = exactly(base)
    return export(model, adapter, out, form=form, card="# a card\n", conversations=CONVERSATIONS, weights=weights)


def read(folder, weights):
    name = f"model-{weights}.gguf"
    options = {"gguf_file": name, "quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval(), folder / name


@pytest.mark.parametrize(("weights", "near"), [("f16", 0.05), ("q8_0", 1.0)])
def test_a_gguf_file_is_the_adapter_for_another_reader(base, adapter, tmp_path, weights, near):
    done = write(base, adapter, tmp_path / "out", weights=weights)
    model, file = read(tmp_path / "out", weights)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    difference = (logits(model) - adapted_logits(base, adapter)).abs().max()
    assert difference < near
    assert difference < (logits(plain) - adapted_logits(base, adapter)).abs().max() / 10
    assert (done.dtype, done.texts) == (weights, len(CONVERSATIONS))
    assert 0 < done.gap < near  # rounding is told, not hidden
    assert template_in(file) == CHAT_TEMPLATE
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file=file.name)
    text = "2  plus\n\n10 <|end|> he's Ω"
    assert tokenizer(text)["input_ids"] == merging_tokenizer()(text)["input_ids"]
    assert tokenizer.eos_token == "<|end|>"


def test_eight_bits_take_half_of_sixteen(base, adapter, tmp_path):
    sizes = {}
    for weights in ("f16", "q8_0"):
        write(base, adapter, tmp_path / weights, weights=weights)
        sizes[weights] = (tmp_path / weights / f"model-{weights}.gguf").stat().st_size
    assert sizes["q8_0"] < sizes["f16"]


def test_what_is_stored_is_the_nearest_that_the_format_holds():
    values = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    blocks = values.reshape(4, 2, 32)
    step = np.abs(blocks).max(-1, keepdims=True) / 127
    error = np.abs(as_stored(values, "q8_0").reshape(blocks.shape) - blocks)
    assert (error <= step * 0.51).all()
    assert (as_stored(values, "f16") == values.astype(np.float16).astype(np.float32)).all()
    assert (as_stored(values[0], "q8_0") == values[0]).all()  # vectors stay as they are
    odd = values[:, :33]
    assert (as_stored(odd, "q8_0") == as_stored(odd, "f16")).all()  # no block of 32 fits


def test_heads_in_the_wrong_order_are_noticed(base, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_file, "_interleave", lambda values, heads: values)
    with pytest.raises(ModelError, match=r"q_proj.* was not read back as it was written"):
        write(base, adapter, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_a_weight_beyond_float16_is_refused(base, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_file, "LARGEST_F16", 1e-3)
    with pytest.raises(ModelError, match="beyond what f16 can store"):
        write(base, adapter, tmp_path / "out")
    assert nothing_left(tmp_path)


def no_merges():
    return byte_tokenizer()


def other_cut():
    tokenizer = merging_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.mark.parametrize("make", [no_merges, other_cut])
def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused(tmp_path, make):
    odd = save(tmp_path / "odd", make())
    adapter = make_adapter(odd, tmp_path / "adapter")
    with pytest.raises(ModelError, match="no GGUF for this tokenizer"):
        write(odd, adapter, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_another_architecture_is_refused_with_the_way_that_is_left():
    from transformers import LlamaConfig, Qwen2Config

    with pytest.raises(ModelError, match=r"no GGUF for the architecture qwen2.*convert_hf_to_gguf.py"):
        gguf_file._refuse(Qwen2Config())
    stretched = LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0})
    with pytest.raises(ModelError, match="rope of type linear"):
        gguf_file._refuse(stretched)
    gguf_file._refuse(LlamaConfig())


def go_to_jinja(template):
    """The part of Go's template language that a Modelfile here uses, as Jinja."""
    for go, jinja in (
        (r'else if eq \.Role "(\w+)"', r"{% elif m.role == '\1' %}"),
        (r'if eq \.Role "(\w+)"', r"{% if m.role == '\1' %}"),
        (r"if \.System", "{% if system %}"),
        (r"range \.Messages", "{% for m in messages %}"),
        (r"else", "{% else %}"),
        (r"\.System", "{{ system }}"),
        (r"\.Content", "{{ m.content }}"),
    ):
        template = re.sub(r"\{\{ " + go + r" \}\}", jinja, template)
    parts = re.split(r"(\{\{ end \}\}|\{% (?:if|for) .*?%\})", template)
    opened, out = [], []
    for part in parts:
        if part.startswith("{% "):
            opened.append(part.split()[1])
        out.append("{% end" + opened.pop() + " %}" if part == "{{ end }}" else part)
    assert not opened
    return "".join(out)


DEFAULT_SYSTEM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def renderer(template):
    compiled = jinja2.Environment(keep_trailing_newline=True).from_string(template)
    return lambda messages, opened: compiled.render(
        messages=[{"role": m.role, "content": m.content} for m in messages], add_generation_prompt=opened
    )


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, DEFAULT_SYSTEM])
def test_ollama_gets_the_turns_that_the_chat_template_writes(template):
    render = renderer(template)
    text = modelfile("model-f16.gguf", parse_template(render), ["<|im_end|>"])
    go = re.search(r'TEMPLATE """(.*)"""', text, re.DOTALL).group(1)
    ours = jinja2.Environment(keep_trailing_newline=True).from_string(go_to_jinja(go))
    question, answer, system = Message("user", "2 + 2?"), Message("assistant", "4"), Message("system", "Be brief.")
    for messages in (
        [question],
        [system, question],
        [question, answer, question],
        [system, question, answer, question],
    ):
        told = next((m.content for m in messages if m.role == "system"), "")
        assert ours.render(system=told, messages=messages) == render(messages, True)
    assert text.startswith("FROM ./model-f16.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"\n' in text


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ loop.index }} {{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}",
        "{{ messages[-1]['content'] }}{% if add_generation_prompt %}>{% endif %}",
        CHAT_TEMPLATE.replace("<|start|>", '"""'),
    ],
)
def test_turns_that_depend_on_each_other_are_refused(template):
    with pytest.raises(ModelError, match="cannot be written as an Ollama template"):
        modelfile("m.gguf", parse_template(renderer(template)), [])


def changed(base, folder, template):
    """A copy of the base with another chat template; None: with none."""
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").unlink()
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


DATED = "{% set day = strftime_now('%d %b %Y') %}Today is {{ day }}.\n" + CHAT_TEMPLATE


def test_a_template_with_a_date_is_written_as_it_is_or_not_at_all(base, adapter, tmp_path):
    dated = changed(base, tmp_path / "base", DATED)
    write(dated, adapter, tmp_path / "gguf")
    assert template_in(tmp_path / "gguf/model-f16.gguf") == DATED
    with pytest.raises(ModelError, match="renders today's date, which no Modelfile can; export gguf"):
        write(dated, adapter, tmp_path / "out", form="ollama")
    assert nothing_left(tmp_path)


def test_a_modelfile_stops_a_base_model_where_the_run_did(base, adapter, tmp_path):
    write(changed(base, tmp_path / "base", None), adapter, tmp_path / "out", form="ollama")
    assert 'PARAMETER stop """\nQuestion:"""' in (tmp_path / "out/Modelfile").read_text()


def test_a_run_on_a_gguf_file_exports_what_it_computed_in(base, adapter, tmp_path, monkeypatch):
    """Four or eight bits are the file's own, and in float32 the folder would take twice what it holds."""
    monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / "cache"))
    write(base, adapter, tmp_path / "gguf")
    model = exactly(tmp_path / "gguf/model-f16.gguf")
    run = tmp_path / "run"
    make_adapter(resolve_model(model.path), run / "adapters/r0001")
    (run / "config.yaml").write_text(to_yaml(parse_config({"model": model.model_dump(), "prompts": {"path": "p"}})))
    (run / "env.json").write_text('{"dtype": "bfloat16"}')
    (run / "summary.json").write_text('{"current": "r0001", "rounds_kept": 1, "rounds": [{"round": 1}]}')
    with ResponseMemory.create(run / "memory.db") as memory:
        prompts = [make_prompt([Message("user", f"What is {n} plus {n}?")], 0.5) for n in range(4)]
        memory.add_prompts(prompts, np.eye(4, dtype=np.float32))
    assert "merged, bfloat16" in export_run(run, tmp_path / "out", form="merged", round_=1)
    assert "merged, float32" in export_run(run, tmp_path / "wide", form="merged", round_=1, dtype="float32")


def test_an_ollama_folder_holds_a_checked_gguf_and_its_modelfile(base, adapter, tmp_path):
    done = write(base, adapter, tmp_path / "out", form="ollama", weights="q8_0")
    assert done.dtype == "q8_0"
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "MANIFEST.json", "Modelfile", "README.md", "model-q8_0.gguf"
    }  # fmt: skip
    told = Path(tmp_path / "out/Modelfile").read_text()
    assert "FROM ./model-q8_0.gguf" in told
    assert 'PARAMETER stop "<|end|>"' in told
