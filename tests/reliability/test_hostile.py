"""Every row of the tables in hostile.py: turned down with a clear reason, or taken in without harm."""

import json
import re
import shutil
import time
from dataclasses import replace

import hostile
import numpy as np
import pytest
from click.testing import CliRunner
from tasks.tiny import byte_tokenizer, exactly, tiny_llama
from tasks.tiny_runs import tiny_config

from selfimprove.answers import Kind, classes, extract, kind_of
from selfimprove.cli.main import main
from selfimprove.cli.terminal import printable
from selfimprove.config import PromptsConfig, ReviseConfig
from selfimprove.config_file import load_config, to_yaml
from selfimprove.errors import ConfigError, ModelError, PromptError, UserError
from selfimprove.evaluation.answer_key import load_audit
from selfimprove.memory import Embedder, ResponseMemory
from selfimprove.memory.importing import import_file
from selfimprove.memory.retrieval import Recalled
from selfimprove.models.policy import Policy
from selfimprove.prompts import load_prompts
from selfimprove.reports.html import write_report
from selfimprove.run.folder import RUNS
from selfimprove.stages.recall import plan_recall
from selfimprove.stages.revise import plan_revisions
from selfimprove.stages.revision import rivals_of
from selfimprove.stages.vote import Ballot, count_votes
from selfimprove.types import (
    BASE,
    Finish,
    Generation,
    Message,
    Origin,
    Prompt,
    Request,
    Response,
    Sampling,
    Split,
    Stage,
    Unit,
)

EMBEDDER = Embedder.load("hash:16")


def rows(table):
    return pytest.mark.parametrize(("text", "says"), [row[1:] for row in table], ids=[row[0] for row in table])


def texts(table):
    return pytest.mark.parametrize("text", [row[1] for row in table], ids=[row[0] for row in table])


def one_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 2000, "nobody reads more"
    return str(error)


def response(id_, text, prompt_id="p", origin=Origin.SAMPLE):
    return Response(id_, prompt_id, 1, origin, "u", id_, text, Finish.STOP, 0, BASE, 1, 1, ())


@pytest.fixture(scope="module")
def policy(model_folder):
    return Policy.load(exactly(model_folder))


def test_the_tables_only_grow():
    tables = [MODELS, ADAPTERS, *(value for value in vars(hostile).values() if isinstance(value, list))]
    assert sum(map(len, tables)) >= 247
    for table in tables:
        assert len({name for name, *_ in table}) == len(table), "a name says which row it is"


# --- prompt files ------------------------------------------------------------------------------------------------


@rows(hostile.LINES)
def test_a_line_of_a_prompt_file(tmp_path, policy, text, says):
    file = tmp_path / "p.jsonl"
    file.write_bytes(text + b'\n{"prompt": "innocent"}\n')
    found = load_prompts(PromptsConfig(path=str(file), heldout=0))
    if says is not None:
        assert [(s.line, says in s.why) for s in found.skipped] == [(1, True)], found.skipped
        assert len(found.skipped[0].why) < 1000
        with pytest.raises(PromptError, match=r"p\.jsonl, line 1: "):
            load_prompts(PromptsConfig(path=str(file), heldout=0, strict=True))
        return
    odd, innocent = found.prompts
    assert (found.skipped, innocent.text) == ((), "innocent")
    with ResponseMemory.create(tmp_path / "memory.db") as memory:
        memory.add_prompts(found.prompts, EMBEDDER.encode([p.text for p in found.prompts]))
        assert memory.prompts() == [odd, innocent]
        assert memory.verify() == []
    assert odd.text in policy.tokenizer.decode(policy.encode(odd.messages))


def test_ten_thousand_duplicates_are_one_prompt(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_bytes(b'{"prompt": "again"}\n' * 10_000 + b'{"prompt": "once"}\n')
    found = load_prompts(PromptsConfig(path=str(file), heldout=0))
    assert ([p.text for p in found.prompts], found.duplicates) == (["again", "once"], 9_999)


@pytest.mark.slow
def test_a_prompt_of_a_million_characters_is_told_before_anything_is_spent(tmp_path, model_folder, monkeypatch):
    file, config = tmp_path / "p.jsonl", tmp_path / "c.yaml"
    file.write_text("\n".join(json.dumps({"prompt": text}) for text in (hostile.MILLION, *"abcdefgh")))
    config.write_text(
        f"prompts: {{path: {file}, heldout: 0.4}}\nmodel: {{path: {model_folder}, device: cpu}}\nembedder: hash:16\n"
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["run", str(config)])
    assert result.exit_code == 2, result.output
    assert not RUNS.exists()
    assert re.fullmatch(r"Error: prompt \w+ \('a+' \.\.\.\) has 1000\d\d\d tokens.*shorten.*\n", result.stderr), (
        result.stderr
    )


@rows(hostile.AUDITS)
def test_an_audit_file_with_a_fault_is_refused(tmp_path, text, says):
    file = tmp_path / "a.jsonl"
    file.write_bytes(text)
    with pytest.raises(PromptError) as refusal:
        load_audit(file)
    assert says in one_line(refusal.value)


# --- control tokens and planted orders ---------------------------------------------------------------------------


@texts(hostile.CONTROL)
def test_control_tokens_in_data_are_plain_text_wherever_data_goes(policy, text):
    """In a prompt, in recalled answers, in rivals, in a prefix, in what is trained on."""

    def ids_with(text):
        prompt = Prompt("p", (Message("system", text), Message("user", text)), Split.TRAIN)
        past = [response(1, text), response(2, f"{text} too")]
        rivals = rivals_of([prompt], {"p": past}, {1: "a", 2: "b"}, {"p": "a"})
        recalled = [Recalled(1, replace(prompt, id="q"), text, text, 1.0, 1.0)]
        requests = [
            *plan_recall([[prompt]], [recalled], slots=[0], shots=1, seed_key=(0,)),
            *plan_revisions([prompt], rivals, {}, ReviseConfig(), k=1, seed_key=(0,)),
        ]
        assert len(requests) == 2
        encoded = [policy.encode(request.messages, prefix=text) for request in requests]
        return [*encoded, policy.encode(prompt.messages), policy.encode_completion(text)]

    control = set(policy.tokenizer.all_special_ids)
    for hostile_ids, innocent_ids in zip(ids_with(text), ids_with("x"), strict=True):
        assert [i for i in hostile_ids if i in control] == [i for i in innocent_ids if i in control]
    assert policy.decode(policy.plain(text)) == text


@texts(hostile.PLANTED)
@pytest.mark.parametrize("derived", [False, True], ids=["as an answer", "as a revision"])
def test_a_planted_response_has_at_most_one_vote(text, derived):
    honest = ["The answer is 4.", "2 plus 2 is 4", "4"]
    read = classes([*honest, text], Kind.NUMBER, "What is 2 plus 2?", EMBEDDER.encode, 0.85)
    ballots = [Ballot(id_, answer, derived and id_ == 3) for id_, answer in enumerate(read)]
    tally, judgements = count_votes("p", ballots, derived_cap=0.5)
    assert tally.answer == "4"
    assert tally.agreement >= 3 / 4
    assert judgements[3].weight <= 1
    assert judgements[3].answer != "4", "or the row would prove nothing"


@pytest.mark.slow
@texts(hostile.UNREADABLE)
def test_reading_an_answer_never_raises_and_is_never_slow(text):
    prompt = "Which is it, (A) red or (B) blue?"
    begun = time.process_time()
    for kind in Kind:
        answer = extract(text, kind, prompt)
        assert answer is None or answer
    kind_of(prompt, [text])
    kind_of("Go on.", [text])
    assert time.process_time() - begun < 10


# --- configuration, names and folders -----------------------------------------------------------------------------


@rows(hostile.CONFIGS)
def test_a_configuration_with_a_fault_is_refused_in_one_line(tmp_path, text, says):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    begun = time.process_time()
    with pytest.raises(ConfigError) as refusal:
        load_config(file)
    assert says in one_line(refusal.value)
    assert time.process_time() - begun < 5


def spoil_config(**fields):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return spoil


def swap_weights_for_pickle(folder):
    import torch

    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


MODELS = [
    ("code beside the weights", lambda f: (f / "modeling_x.py").write_text("raise SystemExit"), "holds code"),
    ("a package of code", lambda f: (f / "__init__.py").touch(), "holds code"),
    ("auto_map", spoil_config(auto_map={"AutoModelForCausalLM": "x.Y"}), "auto_map"),
    ("no JSON", lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
    ("a list", lambda f: (f / "config.json").write_text("[]"), "config.json"),
    ("no UTF-8", lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "config.json"),
    ("nested deep", lambda f: (f / "config.json").write_text("[" * 100_000), "config.json"),
    ("no configuration", lambda f: (f / "config.json").unlink(), "config.json is missing"),
    ("an unknown architecture", spoil_config(model_type="skynet", architectures=["Skynet"]), "cannot load"),
    ("a size that lies", spoil_config(hidden_size=64), "cannot load"),
    ("pickled weights alone", swap_weights_for_pickle, "no *.safetensors"),
    ("empty weights", lambda f: (f / "model.safetensors").write_bytes(b""), "cannot load"),
    ("noise for weights", lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 4096), "cannot load"),
    ("a header too long", lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 7 + b"\0" * 9), "cannot load"),
    ("half the weights", lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:9999]),
     "cannot load"),
    ("no tokenizer", lambda f: [(f / n).unlink() for n in ("tokenizer.json", "tokenizer_config.json")], "tokenizer"),
    ("a torn tokenizer", lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer"),
    ("a tokenizer of its own code", lambda f: (f / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["x.Y", None]}, "tokenizer_class": "Y"})), "code"),
    ("another model's tokenizer", lambda f: tiny_llama(50).save_pretrained(f), "do not belong together"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "says"), [row[1:] for row in MODELS], ids=[row[0] for row in MODELS])
def test_a_hostile_or_broken_model_folder_is_refused(model_folder, tmp_path, spoil, says):
    folder = shutil.copytree(model_folder, tmp_path / "m")
    spoil(folder)
    with pytest.raises(ModelError) as refusal:
        Policy.load(exactly(folder))
    assert says in one_line(refusal.value)


@pytest.fixture(scope="module")
def adapter(model_folder, tmp_path_factory):
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(AutoModelForCausalLM.from_pretrained(model_folder), folder)
    return folder


def save_adapter(base, folder, **lora):
    from peft import LoraConfig, get_peft_model

    get_peft_model(base, LoraConfig(**{"r": 2, "target_modules": "all-linear"} | lora)).save_pretrained(folder)


def made_for(**shape):
    """Put the adapter of another Llama there: one like the tiny one but for its shape."""

    def spoil(folder):
        from transformers import LlamaForCausalLM

        config = tiny_llama(len(byte_tokenizer())).config
        for name, value in shape.items():
            setattr(config, name, value)
        save_adapter(LlamaForCausalLM(config), folder)

    return spoil


def made_for_gpt2(folder):
    from transformers import GPT2Config, GPT2LMHeadModel

    base = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0))
    save_adapter(base, folder, target_modules=["c_fc"], fan_in_fan_out=True)


def rename_the_tensors(folder):
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    save_file({name.replace("layers", "blocks"): tensor for name, tensor in load_file(file).items()}, file)


def change_the_rank(folder):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 4}))


def pickle_the_adapter(folder):
    import torch

    torch.save({}, folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


ADAPTERS = [
    ("pickled", pickle_the_adapter, "no adapter_model.safetensors"),
    ("no configuration", lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json"),
    ("a torn configuration", lambda f: (f / "adapter_config.json").write_text("{"), "adapter"),
    ("an unknown kind", lambda f: (f / "adapter_config.json").write_text('{"peft_type": "EVIL"}'), "adapter"),
    ("empty weights", lambda f: (f / "adapter_model.safetensors").write_bytes(b""), "adapter"),
    ("noise for weights", lambda f: (f / "adapter_model.safetensors").write_bytes(b"\xff" * 999), "adapter"),
    ("of a wider model", made_for(hidden_size=64, head_dim=16), "does not fit this base model"),
    ("of a deeper model", made_for(num_hidden_layers=3), "does not fit this base model: 14 tensors, such as"),
    ("of other inner sizes", made_for(intermediate_size=48), "does not fit this base model"),
    ("of another architecture", made_for_gpt2, "does not fit this base model"),
    ("with other names", rename_the_tensors, "does not fit this base model: 56 tensors, such as"),
    ("of another rank than it says", change_the_rank, "does not fit this base model"),
]


@pytest.mark.parametrize(("spoil", "says"), [row[1:] for row in ADAPTERS], ids=[row[0] for row in ADAPTERS])
def test_a_hostile_or_broken_adapter_is_refused_and_the_base_stays(policy, adapter, tmp_path, spoil, says):
    folder = shutil.copytree(adapter, tmp_path / "a")
    spoil(folder)
    with pytest.raises(ModelError) as refusal:
        policy.use(folder)
    assert says in one_line(refusal.value)
    policy.use(None)
    assert policy.model is not None


def tree(folder):
    """Everything below a folder: links by where they lead, files by what they hold."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@rows(hostile.EXPORTS)
def test_an_export_goes_to_a_new_folder_or_nowhere(undisturbed, tmp_path, monkeypatch, text, says):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "page.txt").write_text("ten years")
    for name, to in hostile.LINKS.items():
        (tmp_path / name).symlink_to(to)
    before = tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["export", str(undisturbed[0]), "--", text])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert says in one_line(result.stderr.rstrip("\n"))
    assert tree(tmp_path) == before


# --- what comes into a memory, and what is shown of it --------------------------------------------------------------


@pytest.fixture
def memory(tmp_path):
    with ResponseMemory.create(tmp_path / "memory.db") as made:
        made.add_prompts([Prompt("known", (Message("user", "2 + 2?"),), Split.TRAIN)], EMBEDDER.encode(["2 + 2?"]))
        yield made


@rows(hostile.IMPORTS)
def test_an_import_is_refused_whole_or_comes_in_quarantined(memory, tmp_path, text, says):
    file = tmp_path / "in.jsonl"
    file.write_bytes(text)
    before = memory.digest()
    if says is None:
        assert import_file(memory, file, EMBEDDER.encode).responses == 1
        assert [r.origin for r in memory.responses()] == [Origin.IMPORTED]
    else:
        with pytest.raises(UserError) as refusal:
            import_file(memory, file, EMBEDDER.encode)
        assert says in one_line(refusal.value)
        assert memory.digest() == before
    assert memory.verify() == []


@pytest.fixture(scope="module")
def shown(undisturbed, tmp_path_factory):
    """A run in which every hostile text is a prompt and the answer to it: its folder and its report."""
    folder = shutil.copytree(undisturbed[0], tmp_path_factory.mktemp("shown") / "run")
    prompts = [Prompt(f"{n:016x}", (Message("user", text),), Split.TRAIN) for n, (_, text) in enumerate(hostile.OUTPUT)]
    requests = tuple(Request(p.id, Origin.SAMPLE, p.messages, seed=0) for p in prompts)
    vectors = np.eye(1, 32, dtype=np.float32).repeat(len(prompts), 0)
    with ResponseMemory.open(folder / "memory.db", write=True) as memory:
        memory.add_prompts(prompts, vectors)
        unit = Unit(3, Stage.SAMPLE, 0, requests, Sampling(0.7, 50, 1.0, 8), BASE)
        written = [Generation(p.text, Finish.STOP, 9, 9) for p in prompts]
        ids = [r.id for r in memory.commit_unit(unit, written, vectors, wall_s=1.0)]
    write_report(folder, folder / "report.html")
    lists = [["list", "-n", "0"], ["search", "owned"], ["stats"], ["list", "-n", "0", "--json"]]
    commands = [*lists, *(["show", str(id_)] for id_ in ids[:2]), ["trace", str(ids[0])]]
    said = ""
    for command in commands:
        result = CliRunner().invoke(main, ["memory", str(folder), *command])
        assert result.exit_code == 0, (command, result.output)
        said += result.output
    return (folder / "report.html").read_text(encoding="utf-8"), said


@texts(hostile.OUTPUT)
def test_what_a_model_wrote_is_shown_and_not_obeyed(shown, text):
    page, said = shown
    visible = printable(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", visible)
    if "<" in text:
        assert json.dumps(text)[1:-1] not in page, "markup of a model's is nowhere as it is"
        assert text not in page
    assert visible.splitlines()[0][:20] in said


def test_nothing_that_a_terminal_obeys_is_ever_printed(shown):
    _, said = shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said)


@pytest.mark.slow
def test_no_secret_of_the_environment_is_written_or_said_anywhere(
    taught_folder, prompts, tmp_path, monkeypatch, capfdbinary
):
    """Not in the run's folder, the report or the export, and by no command, to the end of its standard error."""
    canaries = {
        "HF_TOKEN": "hf_canaryCANARYcanaryCANARY1234",
        "OPENAI_API_KEY": "sk-canaryCANARYcanaryCANARY1234",
        "AWS_SECRET_ACCESS_KEY": "canary/CANARY/canary/1234",
        "SELFIMPROVE_SERVER_KEY": "server-canary-CANARY-1234",
    }
    for name, value in canaries.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "c.yaml").write_text(to_yaml(tiny_config(taught_folder, prompts, rounds=1)))
    monkeypatch.chdir(tmp_path)
    words = ["run c.yaml", "run c.yaml", "status run --json", "report run", "memory run stats", "export run out"]
    words += ["check c.yaml", "run c.yaml name=far engine=server server.url=http://127.0.0.1:9 server.patience=0"]
    codes = []
    for command in words:
        with pytest.raises(SystemExit) as end:
            main(command.split())
        codes.append(end.value.code)
    assert codes == [0, 2, 0, 0, 0, 0, 0, 2]
    said = capfdbinary.readouterr()
    assert b"current policy" in said.out
    assert b"127.0.0.1:9" in said.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"report.html", "memory.db", "env.json", "model.safetensors"} <= {path.name for path in files}
    for where, content in {"output": said.out, "errors": said.err, **{p: p.read_bytes() for p in files}}.items():
        assert not [name for name, value in canaries.items() if value.encode() in content], where


def test_the_tiny_tokenizer_has_the_tokens_that_the_table_names():
    special = set(byte_tokenizer().all_special_tokens)
    assert all(any(token in text for token in special) for _, text in hostile.CONTROL)
