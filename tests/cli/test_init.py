"""The first hour: a configuration that fits, a run that stops where it cannot work, advice where it did not."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tasks.tiny_runs import tiny_config

from selfimprove.answers import Kind
from selfimprove.cli.estimate import Probe, ReadAnswer
from selfimprove.cli.init import Finding, _tokens_per_survivor, commented, fitting_length, heldout_share
from selfimprove.cli.main import main
from selfimprove.config_file import apply_override, config_keys, load_config, parse_config, to_yaml
from selfimprove.evaluation.metrics import METRICS
from selfimprove.memory import ResponseMemory
from selfimprove.reports.advice import NOTHING_SURVIVED
from selfimprove.run.folder import saved_config


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run commands in an empty folder; return what is printed."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words, code=0):
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exit_code == code, f"{result.output}\n{result.stderr}"
        return result.output if code == 0 else result.stderr

    return invoke


@pytest.fixture
def asked(prompts, tmp_path):
    """The prompts of the tiny model, in a folder beside the configuration."""
    (tmp_path / "data").mkdir()
    return shutil.copy(prompts, tmp_path / "data" / "p.jsonl")


def exact(model):
    return (f"model.path={model}", "model.device=cpu", "model.dtype=float32", "model.threads=1", "embedder=hash:32")


def test_init_writes_a_configuration_that_fits_and_runs(cli, asked, taught_folder, tmp_path):
    (tmp_path / "configs").mkdir()
    said = cli("init", "configs/mine.yaml", "--prompts", "data/p.jsonl", *exact(taught_folder), "rounds=1")
    assert "up to 128 tokens: 0% cut off" in said
    assert said.endswith("Next:\n  selfimprove run configs/mine.yaml\n")
    text = Path("configs/mine.yaml").read_text()
    config = load_config("configs/mine.yaml")
    assert text.startswith("# selfimprove run configs/mine.yaml\n")
    assert "path: ../data/p.jsonl" in text
    assert (config.name, config.rounds, config.vote.kind) == ("mine", 1, "number")
    assert 16 <= config.sample.max_new_tokens <= 40, "the answers have 16 to 20 tokens"
    assert config.model.dtype == "float32"
    lines = {line.split(":")[0].strip(): line for line in text.splitlines()}
    for key in ("heldout", "max_new_tokens", "k", "kind", "threshold", "batch_tokens"):
        assert " # " in lines[key], key
    assert "about 1 min" in text, "time"
    assert " GB" in text, "memory"
    said = cli("run", "configs/mine.yaml", "sample.k=2", "evaluate.k=2", "evaluate.limit=4", "prompts.limit=12")
    assert "cut off" not in said
    with ResponseMemory.open("runs/mine/memory.db") as memory:
        assert memory.result(0, "health")["truncation"] <= 0.3


def test_init_refuses_before_a_model_is_loaded(cli, asked, monkeypatch):
    monkeypatch.setattr("selfimprove.models.policy.Policy.load", lambda *_: pytest.fail("a model is loaded"))
    Path("there.yaml").touch()
    assert "there.yaml exists already" in cli("init", "there", "--prompts", asked, code=2)
    assert "no folder nowhere" in cli("init", "nowhere/c.yaml", "--prompts", asked, code=2)
    assert "none.jsonl" in cli("init", "c", "--prompts", "none.jsonl", code=2)
    assert "no audit file none.jsonl" in cli("init", "c", "--prompts", asked, "--audit", "none.jsonl", code=2)
    assert "save them in a file" in cli("init", "c", "--prompts", "-", code=2)
    assert "unknown key lr, did you mean train.lr?" in cli("init", "c", "--prompts", asked, "lr=1", code=2)
    assert sorted(p.name for p in Path().iterdir()) == ["data", "there.yaml"]


def test_a_model_that_never_ends_is_told(cli, asked, model_folder):
    said = cli("init", "c", "--prompts", asked, *exact(model_folder), "sample.max_new_tokens=16")
    assert "of the answers do not end within 16 tokens, so the run would stop before its first round" in said
    assert "# Warning: " in Path("c.yaml").read_text()
    assert "max_new_tokens: 16" in Path("c.yaml").read_text()


def probe_of(*lengths, cut=0):
    read = [ReadAnswer("q", Kind.NUMBER, "a", "1", n, i < cut) for i, n in enumerate(lengths)]
    return Probe(1, len(read), 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, cut / len(read), 0.0, 1.0, 1.0, read=tuple(read))


def test_the_length_has_room_for_nearly_all_answers_and_not_for_those_that_never_end():
    assert fitting_length(probe_of(*range(1, 101)), 128) == 120, "95 % of them, and a quarter more"
    assert fitting_length(probe_of(*[128] * 5, *range(1, 96), cut=5), 128) == 120
    assert fitting_length(probe_of(*[128] * 20, *range(1, 81), cut=20), 128) == 128, "not known: as far as was tried"
    assert fitting_length(probe_of(2, 3), 128) == 16
    assert fitting_length(probe_of(120, 120), 128) == 128


def test_more_prompts_need_a_smaller_share_to_measure():
    assert [heldout_share(n) for n in (4, 60, 1000, 7473, 10**6)] == [0.3, 0.3, 0.2, 0.03, 0.02]


def test_comments_stand_behind_their_settings_and_the_text_is_yaml():
    settings = {
        "name": "x",
        "prompts": {"path": "a: #b.jsonl", "template": "{q}\nNow?"},
        "propose": {"exemplar": {"k": 4}},
    }
    text = commented(settings, {"name": "the folder", "prompts.path": "yours"})
    assert "name: x # the folder\n" in text
    assert "# yours\n" in text
    assert yaml.safe_load(text) == settings
    assert parse_config(yaml.safe_load(text)).prompts.template == "{q}\nNow?"


@pytest.fixture
def verbose(taught_folder, prompts, tmp_path):
    """A configuration in which every answer of the base is cut off."""
    file = tmp_path / "c.yaml"
    settings = tiny_config(taught_folder, prompts, name="cut", rounds=1, sample={"max_new_tokens": 4})
    limits = settings.guard.model_copy(update={"base_truncation": 0.3})
    file.write_text(to_yaml(settings.model_copy(update={"guard": limits})))
    return file


def test_a_run_whose_base_is_cut_off_stops_before_its_first_round(cli, verbose):
    said = cli("run", verbose, code=2)
    assert "100% of the base's answers are cut off at sample.max_new_tokens=4 (limit 30%): raise it" in said
    with ResponseMemory.open("runs/cut/memory.db") as memory:
        assert {unit.round for unit in memory.units()} == {0}
        assert memory.rounds() == []
    assert "cut off at" in cli("run", verbose, "--resume", code=2), "still"
    done = cli("run", verbose, "--resume", "guard.base_truncation=1")
    assert "guard " in done
    assert saved_config(Path("runs/cut")).guard.base_truncation == 1
    cli("run", verbose, "--resume")  # a decided run is not stopped any more


def test_the_quickstart_says_that_it_is_cut_off_on_purpose():
    assert load_config("configs/quickstart.yaml").guard.base_truncation == 1


@pytest.mark.slow
def test_what_comes_next_depends_on_the_outcome(cli, taught_folder, prompts, monkeypatch):
    def run(name, **changes):
        file = Path(f"{name}.yaml")
        file.write_text(
            to_yaml(tiny_config(taught_folder, prompts, name=name, rounds=1, prompts={"limit": 16}, **changes))
        )
        return cli("run", file).partition("by round")[2]

    kept = run("kept")
    assert "selfimprove export runs/kept out" in kept
    rejected = run("rejected", guard={"kl": 1e-9})
    assert "export" not in rejected
    assert "No round was kept: the model is as it was." in rejected
    assert "more weight on the base: train.beta=0.1" in rejected
    assert "selfimprove report runs/rejected" in rejected
    monkeypatch.setattr("selfimprove.stages.guard.best", lambda kept, limits: 0)  # no score above the base's
    went_back = run("went-back")
    assert "The run ended with the base" in went_back and "export" not in went_back
    assert "selfimprove rollback runs/went-back ROUND" in went_back
    none = run("none", vote={"kind": "choice"}, select={"threshold": 1.0, "ceiling": 1.0})
    assert "no candidate survived" in none
    assert "more agreement: more samples (sample.k=16)" in none
    assert "export" not in none


def test_every_metric_has_advice_whose_settings_exist():
    texts = [*(metric.advice for metric in METRICS), *NOTHING_SURVIVED.values()]
    assert all(texts)
    assert {key for text in texts for key in re.findall(r"\b[a-z]+(?:\.[a-z_]+)+\b", text)} <= config_keys().keys()
    settings = {found for text in texts for found in re.findall(r"\b[a-z]+(?:\.[a-z_]+)+=[\w.-]*\w", text)}
    assert {"train.lr=1e-4", "vote.calibration=1"} <= settings
    for setting in settings:
        raw = {"prompts": {"path": "p"}}
        apply_override(raw, setting)
        parse_config(raw)


def test_examples_in_revise_format_are_counted_as_training():
    probe = Probe(8, 8, 1.0, 0.6, 0.5, 0.4, 0.4, 0.9, 0.0, 0.1, mean_tokens=10.0, tokens_per_s=100.0)
    found = Finding(probe, 128, 16, 100, 70, 30, 0, example_tokens=50.0, step_s=0.1, peak_gb=1.0)
    raw = {"prompts": {"path": "p.jsonl"}, "propose": {"revise": {"rivals": 4}}}
    assert _tokens_per_survivor(parse_config(raw), found) == 50
    half = parse_config(raw | {"train": {"revise": {"share": 0.5}}})
    assert _tokens_per_survivor(half, found) == 50 + (50 + 4 * 10), "half of the completions have four rivals in view"
