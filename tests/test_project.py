"""What the project says of itself is so: commands, layout, configurations, rules."""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

from selfimprove.config_file import load_config

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "selfimprove"
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MODULES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SHELL_SCRIPTS = [p for p in (ROOT / "scripts").iterdir() if p.is_file() and not p.suffix] + [ROOT / ".ci/run"]


def relative(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_every_configuration_loads_and_starts_with_its_command(path):
    config = load_config(path)
    command = path.read_text(encoding="utf-8").splitlines()[0]
    assert command.startswith(f"# selfimprove run {relative(path)}")
    for name in (config.prompts.path, config.prompts.audit):
        if name and not name.startswith("hf:"):
            assert Path(name).is_file(), name


def test_the_commands_of_the_readme_exist():
    from selfimprove.cli.main import main

    commands = set(re.findall(r"^selfimprove (\w+)", README, re.MULTILINE))
    assert {"run", "memory", "export"} <= commands <= main.commands.keys()
    for script in re.findall(r"^(scripts/\S+)", README, re.MULTILINE):
        assert os.access(ROOT / script, os.X_OK), script


def test_the_layout_in_contributing_names_every_package_and_nothing_that_is_not_there():
    tree = CONTRIBUTING.split("## Layout")[1].split("```")[1]
    listed = set(re.findall(r"^  (\S+)", tree, re.MULTILINE))
    assert {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")} <= listed
    for name in (*(f"selfimprove/{name}" for name in listed), *re.findall(r"^(\S+/) ", tree, re.MULTILINE)):
        assert (ROOT / name).exists(), name


def modules_imported(path):
    """The last names of the modules that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.rpartition(".")[2] for name in names)


def test_only_accuracy_can_see_answers():
    """Rule 1: label-free by construction."""
    assert [relative(path) for path in MODULES if "answer_key" in modules_imported(path)] == [
        "selfimprove/evaluation/accuracy.py"
    ]
    opened = [path for path in MODULES if re.search(r"answers=True|import Reference", path.read_text(encoding="utf-8"))]
    assert [relative(path) for path in opened] == [
        "selfimprove/evaluation/answer_key.py",
        "selfimprove/memory/importing.py",  # history that the user brings in on purpose
    ]


def tracked_files():
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_tracked_file_names_a_registry_or_a_path_of_one_machine():
    foreign = re.compile(r"(?<![\w./])/(?:work|tmp|root|home/\w+|opt)/|\bindex-url\b|pythonhosted|\bpypi\.")
    for path in tracked_files():
        if path.suffix not in (".png", ".gz") and path.name not in ("LICENSE", Path(__file__).name):
            assert not foreign.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=relative)
def test_a_shell_script_is_executable_parses_and_stops_at_the_first_error(path):
    text = path.read_text(encoding="utf-8")
    assert os.access(path, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    subprocess.run(["bash", "-n", path], check=True)


def test_constraints_allow_what_the_project_asks_for():
    import tomllib

    from packaging.requirements import Requirement

    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    for requirement in asked:
        if requirement.name != "torch":  # scripts/setup_env decides by the machine
            assert requirement.specifier.contains(pinned[requirement.name.lower()]), requirement
