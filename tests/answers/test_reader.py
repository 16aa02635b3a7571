"""A run's reader: kinds and marks from the configuration, the user's own function, and `selfimprove read`."""

import json

import pytest
from click.testing import CliRunner

from selfimprove.answers import Kind, Reader, load_reader, own_reader
from selfimprove.cli import main
from selfimprove.config import RunConfig
from selfimprove.errors import ConfigError, UserError

OWN = """
def last_word(text, prompt):
    return text.split()[-1].strip(".") if text.split() else None

def broken(text, prompt):
    return text.nothing

def number(text, prompt):
    return 7

not_callable = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN, encoding="utf-8")
    return path


def config(**sections):
    return RunConfig.model_validate({"prompts": {"path": "-"}} | sections)


def test_a_configured_kind_is_taken_and_auto_looks():
    assert Reader.of(config(vote={"kind": "free"})).kind("What is 2 + 2?", ["4"]) is Kind.FREE
    assert Reader.of(config()).kind("What is 2 + 2?", ["4"]) is Kind.NUMBER


def test_marks_come_from_the_configuration():
    reader = Reader.of(config(model={"template": {"thinking": [["(", ")"]]}}))
    assert reader.final_text("(Lyon?) Paris") == "Paris"
    assert reader.shown("(Lyon?") == ""


def test_the_users_own_reader_reads(file):
    reader = Reader.of(config(vote={"reader": f"{file}:last_word"}))
    assert reader.classes("Where?", ["<think>no</think>It is Paris.", "in Paris", "<think>Paris"], Kind.SHORT) == [
        "Paris",
        "Paris",
        None,
    ]
    before = reader.fingerprint
    file.write_text(OWN + "# changed\n", encoding="utf-8")
    assert load_reader(f"{file}:last_word").fingerprint != before


def test_a_readers_file_may_have_dataclasses_and_late_annotations(tmp_path):
    (tmp_path / "own.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n"
        "@dataclass\nclass Seen:\n    text: str\n\n\ndef read(text, prompt):\n    return Seen(text).text.lower()\n",
        encoding="utf-8",
    )
    assert load_reader(f"{tmp_path / 'own.py'}:read").read("Paris", "Where?") == "paris"


def test_a_function_can_be_passed_in():
    def shout(text, prompt):
        return text.upper()

    reader = Reader.of(config(), own=own_reader(shout))
    assert reader.classes("", ["a"], Kind.SHORT) == ["A"]
    assert "shout" in reader.own.name and len(reader.fingerprint) == 64


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("mine.py", "write path/to/file.py:function"),
        ("nowhere.py:f", "there is no file"),
        ("{file}:missing", "has no function missing"),
        ("{file}:not_callable", "has no function not_callable"),
    ],
)
def test_a_reader_that_cannot_be_loaded_is_told(file, spec, says):
    with pytest.raises(ConfigError, match=says):
        load_reader(spec.replace("{file}", str(file)))


def test_a_reader_that_fails_or_returns_something_else_is_told(file):
    for name, says in (("broken", "AttributeError"), ("number", "returned int")):
        with pytest.raises(UserError, match=says):
            Reader.of(config(vote={"reader": f"{file}:{name}"})).classes("", ["a"], Kind.SHORT)


def test_a_file_of_answers_is_read_by_a_command(tmp_path, file):
    data = tmp_path / "answers.jsonl"
    rows = [
        {"prompt": "What is 7 times 8?", "responses": ["7 x 8 = 56.", "fifty-six", "I like it."]},
        {"prompt": "Where is the Louvre?", "response": "In Paris."},
    ]
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    shown = CliRunner().invoke(main, ["read", str(data)])
    assert shown.exit_code == 0
    assert [line.split()[:2] for line in shown.output.splitlines()] == [
        ["number", "56"],
        ["number", "56"],
        ["number", "(none"],
        ["short", "paris"],
    ]
    as_json = CliRunner().invoke(main, ["read", str(data), "--json", "--reader", f"{file}:last_word"])
    assert [json.loads(line)["class"] for line in as_json.output.splitlines()] == ["56", "fifty-six", "it", "Paris"]


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    data = tmp_path / "answers.jsonl"
    data.write_text('{"question": "Who?"}\n', encoding="utf-8")
    for arguments, says in (
        ([str(data)], "line 1: a row is"),
        ([str(tmp_path / "none.jsonl")], "cannot read"),
        ([str(data), "--kind", "poem"], "no kind 'poem'"),
    ):
        shown = CliRunner().invoke(main, ["read", *arguments])
        assert shown.exit_code == 2 and says in shown.output
