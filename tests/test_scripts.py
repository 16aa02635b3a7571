"""Every script can be imported and says how it is used; the three that are examples run."""

import importlib
import json
import runpy
import sys
from pathlib import Path

import pytest
from tiny_runs import tiny_config

from selfimprove.config_file import to_yaml

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))
FOR_PEOPLE = ("improve", "inspect_memory", "export_model")
"""Examples of the Python API: they take what they need as words, and no options."""


def is_program(script):
    return "\nimport argparse\n" in script.read_text()


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts import each other by name, as they do when one is run."""
    monkeypatch.syspath_prepend(SCRIPTS[0].parent)


def test_there_are_programs_examples_and_what_they_share():
    programs = {script.stem for script in SCRIPTS if is_program(script)}
    assert {"bench_guard", "bench_memory", "check_export", "crash_sweep", "puzzles", "soak"} <= programs
    assert set(FOR_PEOPLE) <= {script.stem for script in SCRIPTS} - programs


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_can_be_imported_and_says_how_it_is_used(script, monkeypatch, capsys):
    module = importlib.import_module(script.stem)
    assert module.__doc__
    if is_program(script):
        monkeypatch.setattr(sys, "argv", [script.name, "--help"])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(script), run_name="__main__")
        assert end.value.code == 0
        assert module.__doc__.splitlines()[0] in capsys.readouterr().out


@pytest.fixture
def run_script(monkeypatch, capsys):
    def run_script(name, *words):
        (script,) = (script for script in SCRIPTS if script.stem == name)
        monkeypatch.setattr(sys, "argv", [script.name, *map(str, words)])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def test_the_examples_improve_inspect_and_export(taught_folder, prompts, tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(to_yaml(tiny_config(taught_folder, prompts, rounds=1)))
    assert "current policy r0001" in run_script("improve", "c.yaml", "name=mine")
    assert "What is" in run_script("inspect_memory", "runs/mine")
    assert "wrote out" in run_script("export_model", "runs/mine", "out")
    assert Path("out/model.safetensors").is_file()


@pytest.mark.parametrize(("words", "into"), [(["--json"], None), (["--json", "f.json"], "f.json"), ([], None)])
def test_figures_are_one_json_line_which_a_file_may_get_too(words, into, tmp_path, monkeypatch, capsys):
    from argparse import ArgumentParser

    from json_line import JSON, tell

    monkeypatch.chdir(tmp_path)
    parser = ArgumentParser()
    parser.add_argument("--json", **JSON)
    tell({"points": 3, "survived": 3}, parser.parse_args(words).json)
    said = capsys.readouterr().out
    assert said == ('{"points": 3, "survived": 3}\n' if words else "")
    assert [path.name for path in tmp_path.iterdir()] == ([into] if into else [])
    if into:
        assert json.loads((tmp_path / into).read_text())["points"] == 3
