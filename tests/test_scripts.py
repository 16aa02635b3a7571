"""Every script can be imported and says how it is used; the three that are examples run."""

import ast
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tasks.tiny_runs import tiny_config

from selfimprove.config_file import to_yaml

ROOT = Path(__file__).resolve().parent.parent / "scripts"
SCRIPTS = sorted(ROOT.rglob("*.py"))
FOR_PEOPLE = ("improve", "inspect_memory", "export_model")
"""Examples of the Python API: they take what they need as words, and no options."""


def relative(script):
    return script.relative_to(ROOT).as_posix()


def is_program(script):
    return "\nimport argparse\n" in script.read_text()


def test_users_scripts_lie_above_those_that_make_the_figures():
    assert {relative(s) for s in SCRIPTS if s.parent == ROOT} == {f"{name}.py" for name in (*FOR_PEOPLE, "warm_start")}
    programs = {relative(script) for script in SCRIPTS if is_program(script)}
    assert {"bench/compare.py", "bench/tasks/puzzles.py", "bench/reliability/soak.py", "warm_start.py"} <= programs
    assert not {f"{name}.py" for name in FOR_PEOPLE} & programs


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
def test_a_script_can_be_imported_and_says_how_it_is_used(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", sys.path[:])
    module = runpy.run_path(str(script), run_name="imported")
    assert module["__doc__"]
    if is_program(script):
        monkeypatch.setattr(sys, "argv", [script.name, "--help"])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(script), run_name="__main__")
        assert end.value.code == 0
        assert module["__doc__"].splitlines()[0] in capsys.readouterr().out


BENCH_ON_PATH = "\nsys.path.insert(0, str(Path(__file__).resolve().parents[1]))"


def test_programs_of_a_package_put_the_folder_of_the_benches_on_the_path():
    """Python puts a script's own folder there, and that is not the one that `tasks` and `reliability` lie in."""
    nested = [s for s in SCRIPTS if s.parent.parent == ROOT / "bench" and is_program(s)]
    assert len(nested) == 8
    for script in nested:
        assert BENCH_ON_PATH in script.read_text(), script


@pytest.mark.parametrize(
    "script", [pytest.param("bench/results.py", marks=pytest.mark.slow), "bench/tasks/everyday.py"]
)
def test_a_script_is_run_by_its_path_from_anywhere(script, tmp_path):
    found = subprocess.run([sys.executable, ROOT / script, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("usage:")


def test_no_script_imports_from_the_tests():
    tests = {path.stem for path in (ROOT.parent / "tests").rglob("*.py")} | {"tests"}
    for script in SCRIPTS:
        assert not set(imported(script)) & tests, script


def imported(script):
    """The first names of the modules that a script imports, anywhere in it."""
    for node in ast.walk(ast.parse(script.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) else getattr(node, "names", [])
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (getattr(name, "name", name).partition(".")[0] for name in names)


@pytest.fixture
def run_script(monkeypatch, capsys):
    def run_script(name, *words):
        (script,) = (script for script in SCRIPTS if relative(script) == f"{name}.py")
        monkeypatch.setattr(sys, "argv", [script.name, *map(str, words)])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run_script


@pytest.mark.slow
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

    from reliability.json_line import JSON, tell

    monkeypatch.chdir(tmp_path)
    parser = ArgumentParser()
    parser.add_argument("--json", **JSON)
    tell({"points": 3, "survived": 3}, parser.parse_args(words).json)
    said = capsys.readouterr().out
    assert said == ('{"points": 3, "survived": 3}\n' if words else "")
    assert [path.name for path in tmp_path.iterdir()] == ([into] if into else [])
    if into:
        assert json.loads((tmp_path / into).read_text())["points"] == 3
