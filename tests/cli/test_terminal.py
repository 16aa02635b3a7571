"""What a terminal or a pipe is given: escaped, counted in columns, and never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from selfimprove.cli.main import main
from selfimprove.cli.terminal import cell, columns, printable, say_left_out, wrapped
from selfimprove.run.progress import Progress

ROOT = Path(__file__).parents[2]
COMMANDS = [""] + sorted(main.commands) + [f"memory x {name}" for name in sorted(main.commands["memory"].commands)]


def selfimprove(*words, stdout=subprocess.PIPE, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "selfimprove", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("words", COMMANDS)
def test_the_help_of_every_command_is_readable(words):
    result = CliRunner().invoke(main, [*words.split(), "--help"], prog_name="selfimprove")
    assert result.exit_code == 0
    assert "\\" not in result.output
    assert "..." not in result.output.partition("\n")[2], "descriptions are whole"
    assert all(len(line) <= 80 for line in result.output.splitlines())
    _, _, examples = result.output.partition("\nExamples:\n")
    for line in examples.splitlines():
        assert line.startswith("  selfimprove "), "one example a line"


def test_the_examples_are_there():
    shown = [words for words in COMMANDS if "\nExamples:\n" in CliRunner().invoke(main, [*words.split(), "-h"]).output]
    assert {"", "run", "export", "report", "memory"} <= set(shown)


@pytest.mark.parametrize("words", [("memory", "RUN", "list", "-n", 0), ("memory", "RUN", "stats"), ("--help",)])
def test_a_reader_that_closes_the_pipe_is_no_error(undisturbed, words):
    reading, writing = os.pipe()
    os.close(reading)
    process = selfimprove(*(undisturbed[0] if word == "RUN" else word for word in words), stdout=writing)
    os.close(writing)
    assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 0)


def test_a_narrow_code_page_loses_no_output(undisturbed):
    process = selfimprove("memory", undisturbed[0], "trace", 300, PYTHONUTF8="0", PYTHONIOENCODING="cp1252")
    said, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, b"")
    drawn = said.decode("cp1252")
    assert "#300 r" in drawn
    process = selfimprove("memory", undisturbed[0], "trace", 300, PYTHONIOENCODING="utf-8")
    assert drawn == process.communicate(timeout=60)[0].decode().encode("cp1252", "backslashreplace").decode("cp1252")


def test_wide_characters_take_two_columns_and_marks_none():
    assert [columns(text) for text in ("abc", "日本", "e\u0301", "a\u200db", "ｱ")] == [3, 4, 1, 2, 1]
    for text in ("short", "日本語の長い答え", "日本語の長い答えa", "x" * 40, "e\u0301" * 20):
        assert columns(cell(text, 9)) == 9
    assert printable("日本語の長い答え", 8) == "日本語…"
    assert printable("\x1b[31m日本\u202e", 40) == "\\x1b[31m日本\\u202e"


def test_lists_respect_the_width_of_a_terminal_and_colour_what_is_kept(undisturbed):
    """In a pseudo-terminal of 90 columns; in a pipe there are no colours."""
    program = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    command = [sys.executable, "-m", "selfimprove", "memory", str(undisturbed[0]), "list", "--kept", "-n", "5"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "90"}
    environment.pop("NO_COLOR", None)

    def lines(words, **more):
        done = subprocess.run(words, env=environment | more, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        return done.stdout.decode().splitlines()

    told = lines([sys.executable, "-c", program, *command])
    assert len(told) == 6
    assert all("\x1b[32mkept r" in line for line in told[1:])
    plain = [line.replace("\x1b[32m", "").replace("\x1b[0m", "") for line in told]
    assert all(columns(line) <= 90 for line in plain)
    assert not any("\x1b" in line for line in lines(command))
    assert not any("\x1b" in line for line in lines([sys.executable, "-c", program, *command], NO_COLOR="1"))


def test_no_escape_sequence_of_a_file_reaches_the_terminal(undisturbed, tmp_path):
    """A column name could set the title of the window, and an error about the file could clear the screen."""
    config, file = undisturbed[0] / "config.yaml", tmp_path / "p.jsonl"
    rows = [{"prompt": f"What is {n} plus {n}?", "id\x1b]0;title\x07": n, "answer": 1} for n in range(30)]
    bad = {"messages": [{"role": "\x1b[2Jking", "content": "Hi"}]}
    file.write_text("\n".join(map(json.dumps, [*rows, bad])))
    checked = CliRunner().invoke(main, ["check", str(config), f"prompts.path={file}"])
    assert checked.exit_code == 0, checked.stderr
    assert "\\x1b]0;title\\x07" in checked.stdout and "it is \\x1b[2Jking" in checked.stdout
    file.write_text(json.dumps(bad))
    refused = CliRunner().invoke(main, ["check", str(config), f"prompts.path={file}"])
    assert refused.exit_code == 2 and "it is \\x1b[2Jking" in refused.stderr
    assert "\x1b" not in checked.stdout + refused.stderr


def test_what_was_left_out_is_named_without_its_escape_sequences(capsys):
    say_left_out(["line 1: \x1b[2J"], "more")
    assert capsys.readouterr().out == "left out: line 1: \\x1b[2J\n"


def test_a_file_where_the_folder_of_a_run_should_be_costs_a_line(undisturbed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "foo").write_text("a file")
    result = CliRunner().invoke(main, ["run", str(undisturbed[0] / "config.yaml"), "name=foo"])
    assert (result.exit_code, result.stderr) == (2, "Error: runs/foo: File exists; name another place\n")


def test_lines_wrap_at_columns():
    assert wrapped("one two three four", 9) == ["one two", "three", "four"]
    assert wrapped("日本語の長い答え", 6) == ["日本語", "の長い", "答え"]
    assert wrapped("", 6) == [""]
    assert all(columns(line) <= 7 for line in wrapped("a 日本語 bcdefghijk l", 7))


def test_a_run_goes_on_when_nobody_reads_its_progress(monkeypatch):
    def gone(*_):
        raise BrokenPipeError

    monkeypatch.setattr("click.echo", gone)
    progress = Progress()
    progress.say("round 1")
    progress.line("sample", "3 prompts", seconds=0.1)
    assert progress.quiet
