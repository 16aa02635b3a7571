"""What a run records of its base: an absolute path, a commit, a date; and whoever uses an adapter looks at it."""

import datetime as dt
import json
import os
import shutil

import pytest
import torch
from click.testing import CliRunner
from models.test_policy import DATED
from safetensors.torch import load_file, save_file
from tasks.tiny import CHAT_TEMPLATE
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.cli import main
from selfimprove.config import ModelConfig
from selfimprove.errors import ConfigError, UserError
from selfimprove.exports.from_run import export_run
from selfimprove.memory import ResponseMemory
from selfimprove.models import policy as policy_module
from selfimprove.models import sources
from selfimprove.run.folder import saved_config


def config_of(path, prompts, rounds=1, **model):
    config = tiny_config(path, prompts, rounds=rounds, evaluate={"k": 2, "limit": 2})
    return config.model_copy(update={"model": config.model.model_copy(update=model)})


@pytest.fixture(scope="module")
def place(taught_folder, prompts, tmp_path_factory):
    """A run that was started with a relative path of its base."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(taught_folder, place / "base")
    before = os.getcwd()
    os.chdir(place)
    try:
        run_it(config_of("base", prompts), place / "run")
    finally:
        os.chdir(before)
    return place


def test_the_path_of_a_base_is_recorded_whole(place, tmp_path, monkeypatch):
    assert saved_config(place / "run").model.path == str(place / "base")
    settings = json.loads((place / "run/adapters/r0001/adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == (str(place / "base"), None)
    monkeypatch.chdir(tmp_path)
    assert "greedy texts equal" in export_run(place / "run", tmp_path / "out", form="merged")


def test_a_run_goes_on_with_the_relative_path_it_was_started_with(place, prompts, monkeypatch):
    monkeypatch.chdir(place)
    run_it(config_of("base", prompts), place / "run", resume=True)
    monkeypatch.chdir("/")
    with pytest.raises(UserError, match="cannot find the model 'base'"):
        run_it(config_of("base", prompts), place / "run", resume=True)


def test_a_run_goes_on_in_a_project_that_was_moved(place, prompts, tmp_path, monkeypatch):
    moved = shutil.copytree(place, tmp_path / "moved")
    shutil.copy(prompts, moved / "p.jsonl")
    monkeypatch.chdir(moved)
    run_it(config_of("base", "p.jsonl"), moved / "run", resume=True)
    assert saved_config(moved / "run").model.path == str(moved / "base")
    run_it(config_of("base", moved / "p.jsonl"), moved / "run", resume=True)
    rows = (moved / "p.jsonl").read_text().splitlines(keepends=True)
    (moved / "p.jsonl").write_text("".join(rows[1:]))
    with pytest.raises(UserError, match="was made with prompts"):
        run_it(config_of("base", "p.jsonl"), moved / "run", resume=True)


def test_an_older_run_that_recorded_a_relative_path_goes_on(place, prompts, tmp_path, monkeypatch):
    folder = shutil.copytree(place / "run", tmp_path / "run")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace(str(place / "base"), "base"))
    monkeypatch.chdir(place)
    run_it(config_of("base", prompts), folder, resume=True)
    assert saved_config(folder).model.path == str(place / "base")


def test_an_adapter_is_used_with_no_other_base(place, prompts, tmp_path):
    folder, base = shutil.copytree(place / "run", tmp_path / "run"), shutil.copytree(place / "base", tmp_path / "base")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace(str(place / "base"), str(base)))
    weights = load_file(base / "model.safetensors")
    swapped = {name: tensor.flip(0).contiguous() for name, tensor in weights.items()}
    save_file(swapped, base / "model.safetensors", metadata={"format": "pt"})
    says = "is not the one that the adapter was trained on"
    with pytest.raises(UserError, match=says):
        export_run(folder, tmp_path / "out", form="merged", round_=1)
    for command in (["chat", str(folder)], ["export", str(folder), str(tmp_path / "out"), "--round", "1"]):
        told = CliRunner().invoke(main, command, input="hello\n\n")
        assert (told.exit_code, says in told.output, len(told.output.splitlines())) == (2, True, 1)
    with pytest.raises(UserError, match="was made with model"):
        run_it(config_of(base, prompts), folder, resume=True)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def hub(taught_folder, tmp_path, monkeypatch):
    """A hub with one model whose branch moves on when its list of commits is reversed; what it was asked for."""
    asked = []
    commits = ["a" * 40, "b" * 40]

    def fetch(name, revision):
        assert name == "owner/base"
        asked.append(revision)
        commit = revision if revision in commits else commits[0]
        folder = tmp_path / "hub" / "snapshots" / commit
        if not folder.exists():
            shutil.copytree(taught_folder, folder)
            if commit.startswith("b"):
                weights = load_file(folder / "model.safetensors")
                new = {name: tensor + torch.ones(()) for name, tensor in weights.items()}
                save_file(new, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    monkeypatch.setattr(sources, "_from_hub", fetch)
    return asked, commits


@pytest.mark.slow
@pytest.mark.parametrize("revision", [None, "main"])
def test_a_hub_model_is_pinned_by_its_commit(hub, prompts, tmp_path, revision):
    asked, commits = hub
    first = commits[0]
    config = config_of("owner/base", prompts, revision=revision)
    run_it(config, tmp_path / "run")
    saved = saved_config(tmp_path / "run").model
    assert (saved.path, saved.revision, saved.commit) == ("owner/base", revision, first)
    adapter = json.loads((tmp_path / "run/adapters/r0001/adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("owner/base", first)
    commits.reverse()
    asked.clear()
    export_run(tmp_path / "run", tmp_path / "out", form="merged", round_=1)
    run_it(config, tmp_path / "run", resume=True)
    assert set(asked) == {first}
    with pytest.raises(ConfigError, match=r"model\.(revision|commit) was"):
        run_it(config_of("owner/base", prompts, commit=commits[0]), tmp_path / "run", resume=True)


def day(*date):
    class Day(dt.date):
        @classmethod
        def today(cls):
            return dt.datetime(*date).date()

    return Day


@pytest.mark.slow
@pytest.mark.slow
def test_a_run_that_goes_on_another_day_asks_the_same_prompts(taught_folder, prompts, tmp_path, monkeypatch):
    base = shutil.copytree(taught_folder, tmp_path / "base")
    (base / "chat_template.jinja").write_text(DATED + CHAT_TEMPLATE)
    monkeypatch.setattr(policy_module.dt, "date", day(2026, 2, 3))
    run_it(config_of(base, prompts, rounds=2), tmp_path / "undisturbed")
    run_it(config_of(base, prompts, rounds=1), tmp_path / "run")
    monkeypatch.setattr(policy_module.dt, "date", day(2026, 2, 4))
    run_it(config_of(base, prompts, rounds=2), tmp_path / "run", resume=True)
    assert saved_config(tmp_path / "run").model.date == dt.datetime(2026, 2, 3).date()
    run_it(config_of(base, prompts, rounds=2), tmp_path / "other day")
    resumed, undisturbed, other = (texts(tmp_path / name) for name in ("run", "undisturbed", "other day"))
    assert resumed == undisturbed != other


def texts(folder):
    with ResponseMemory.open(folder / "memory.db") as memory:
        return [response.text for response in memory.responses()]


def test_a_model_that_needs_no_pins_has_none(place):
    saved = saved_config(place / "run").model
    assert (saved.commit, saved.date) == (None, None) == (ModelConfig().commit, ModelConfig().date)
