"""What the documentation has people type: commands parse, scripts have the options shown, links lead somewhere."""

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tasks.tiny_runs import tiny_config

from selfimprove.cli.main import main
from selfimprove.config_file import config_keys, to_yaml

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"^(?:\$ | +)?(?:\w+=\S+ )?(?:\.venv/bin/)?selfimprove (.+)$")
SCRIPT = re.compile(r"\bscripts/([\w/]*\w(?:\.py)?)\b([^\n`|;]*)")
STAND_INS = {"ROUND": "1", "ID": "1"}
"""For words in capitals that a command wants as a number."""


def relative(path):
    return path.relative_to(ROOT).as_posix()


def read(path):
    return path.read_text(encoding="utf-8")


def typed_commands(page):
    """The `selfimprove` command lines in the page's blocks, as words; a line may hold several, joined by `&&`."""
    for _, block in FENCE.findall(read(page)):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                if match := TYPED.match(part):
                    yield shlex.split(match[1], comments=True)


def mentioned_commands(page):
    """The `selfimprove ...` in running text: they may leave out arguments."""
    for words in re.findall(r"`selfimprove ([^`]+)`", FENCE.sub("", read(page))):
        yield [STAND_INS.get(word, word) for word in shlex.split(words)]


def commands_of(group):
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from commands_of(command)


@pytest.fixture
def fault_of(monkeypatch):
    """Parse words as the command line does, with commands that do nothing; return what click finds wrong with them."""
    for command in commands_of(main):
        if not isinstance(command, click.Group):
            monkeypatch.setattr(command, "callback", lambda **_: None)

    def fault_of(words):
        result = CliRunner().invoke(main, words)
        if result.exit_code == 0:
            return None
        assert result.exit_code == 2, result.exception
        return result.stderr.strip().splitlines()[-1]

    return fault_of


def test_the_fixture_hears_what_is_wrong(fault_of):
    assert "No such command" in fault_of(["improve", "configs/quickstart.yaml"])
    assert "No such option" in fault_of(["memory", "q1", "list", "--best"])
    assert "Missing argument" in fault_of(["export", "q1"])
    assert fault_of(["memory", "q1", "list", "--kept"]) is None


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_command_in_a_block_parses_and_sets_what_there_is(page, fault_of):
    for words in typed_commands(page):
        assert fault_of(words) is None, words
        if words[0] in ("run", "check"):
            _, config, *rest = words
            assert not config.startswith("configs/") or (ROOT / config).is_file(), words
            keys = {word.partition("=")[0] for word in rest if not word.startswith("-")}
            assert keys <= config_keys().keys(), words


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_command_in_running_text_exists_with_its_options(page, fault_of):
    for words in mentioned_commands(page):
        fault = fault_of(words)
        assert fault is None or "Missing argument" in fault or "Missing command" in fault, (words, fault)


def test_commands_are_found_at_all():
    typed = [words for page in PAGES for words in typed_commands(page)]
    assert {"run", "memory", "export", "chat", "report"} <= {words[0] for words in typed}
    assert ["run", "configs/one_gpu.yaml", "prompts.path=mine.jsonl"] in typed, "also behind a variable that is set"
    assert ["export", "quickstart", "out"] in [*typed_commands(ROOT / "README.md")], "also with its path"
    assert ["rollback", "RUN", "1"] in mentioned_commands(ROOT / "docs/guard.md")


def options_of(script):
    """The option names that a script gives to argparse."""
    calls = [node for node in ast.walk(ast.parse(read(script))) if isinstance(node, ast.Call)]
    words = [arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant)]
    return {word for word in words if isinstance(word, str) and word.startswith("-")}


def usages():
    """(where, name of a script, what is typed behind it): from the pages and from the scripts' own docstrings."""
    for page in PAGES:
        for name, rest in SCRIPT.findall(read(page)):
            yield relative(page), name, rest
    for script in sorted((ROOT / "scripts").rglob("*.py")):
        for name, rest in SCRIPT.findall(ast.get_docstring(ast.parse(read(script))) or ""):
            yield relative(script), name, rest


def test_every_script_that_is_named_is_there_and_takes_the_options_shown():
    seen = 0
    for where, name, rest in usages():
        script = ROOT / "scripts" / name
        assert script.exists(), (where, name)
        if script.suffix == ".py":
            given = set(re.findall(r"(?<!\S)--?[a-z][\w-]*", re.split(r" #|&&|   ", rest)[0]))
            assert given <= options_of(script), (where, name)
            seen += len(given)
    assert seen > 10


def anchors_of(page):
    """The names that headings get: lower case, punctuation gone, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=relative)
def test_every_link_and_picture_leads_somewhere(page):
    for target in re.findall(r"\]\(([^()\s]+)\)", FENCE.sub("", read(page))):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = page.parent / file if file else page
        assert found.is_file(), target
        if anchor:
            assert anchor in anchors_of(found), target


def test_every_page_can_be_reached_from_the_readme():
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", read(ROOT / "README.md")))
    assert linked == {page.name for page in PAGES if page.parent.name == "docs"}


@pytest.mark.slow
def test_the_python_of_the_readme_runs(taught_folder, prompts, tmp_path, monkeypatch, capsys):
    [code] = [block for language, block in FENCE.findall(read(ROOT / "README.md")) if language == "python"]
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/quickstart.yaml").write_text(to_yaml(tiny_config(taught_folder, prompts)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "current policy r0002" in out
    assert len(re.findall(r"^\d plus \d is \d+\.$", out, re.MULTILINE)) > 5, "survivors"
    assert "wrote again-out" in out
    assert (tmp_path / "again-out/model.safetensors").is_file()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_what_the_python_of_a_page_imports_exists(page):
    for block in (block for language, block in FENCE.findall(read(page)) if language == "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("selfimprove"):
                module = import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_module_named_in_running_text_exists(page):
    for name in re.findall(r"`(selfimprove/[\w/]+\.py)`", read(page)):
        assert (ROOT / name).is_file(), name
