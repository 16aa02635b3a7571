"""Two policies answer the same question with the same seed, word by word; the memory can be shown to them first."""

import io
import itertools
import sys

import pytest
from click.testing import CliRunner
from tasks.tiny import sum_question

from selfimprove.cli import chat
from selfimprove.cli.main import main
from selfimprove.config import ModelConfig
from selfimprove.errors import UserError
from selfimprove.models.policy import Policy
from selfimprove.models.stop_strings import StopStrings
from selfimprove.rollout import generate
from selfimprove.types import Message, Sampling

HOW = Sampling(0.9, 50, 1.0, 24)


@pytest.fixture(scope="module")
def policy(taught_folder):
    return Policy.load(ModelConfig(path=str(taught_folder), device="cpu", dtype="float32", threads=1))


def test_a_stream_ends_as_the_rollout_with_its_seed(policy):
    ids = policy.encode([Message("user", sum_question(2, 3))])
    for seed in range(4):
        parts = list(chat.stream(policy, ids, seed, HOW))
        rollout = generate(policy.model, [ids], [seed], HOW, eos_ids=policy.eos_ids, pad_id=policy.pad_id)[0]
        assert parts[-1] == policy.decode(rollout.token_ids)
        assert len(parts) == len(rollout.token_ids) > 3
        assert all(whole.startswith(part.rstrip()) for part, whole in itertools.pairwise(parts))


def test_a_stream_ends_at_a_stop_string(policy, monkeypatch):
    ids = policy.encode([Message("user", sum_question(2, 3))])
    whole = list(chat.stream(policy, ids, 1, HOW))[-1]
    monkeypatch.setattr(policy, "stop", StopStrings(["plus"], policy._text))
    assert list(chat.stream(policy, ids, 1, HOW))[-1] == whole.partition("plus")[0].strip() != whole


def test_columns_wrap_and_stand_side_by_side():
    lines = chat.columns(["new", "base"], ["one two three four", "a\nb\x1b[31m"], 23)
    assert lines == ["new        | base", "one two    | a", "three four | b\\x1b[31m"]
    assert chat.columns(["new"], ["one two"], 40) == ["new", "one two"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_both_answers_grow(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    answers = chat.show(["new", "base"], [iter(["It", "It is", "It is 5"]), iter(["Hm"])])
    assert answers == ["It is 5", "Hm"]
    frames = screen.getvalue().split("\x1b[J")
    assert len(frames) == 3
    assert "It is 5" in frames[-1]
    assert all("Hm" in frame for frame in frames)


def test_what_a_conversation_has_no_room_for_is_told_and_it_goes_on(undisturbed, monkeypatch):
    monkeypatch.setattr(Policy, "positions", 90)  # about two turns of the byte tokenizer
    said = [sum_question(1, 2), "x" * 90, *[sum_question(3, 3)] * 3]
    told = CliRunner().invoke(main, ["chat", str(undisturbed[0])], input="\n".join(said) + "\n\n")
    assert told.exit_code == 0, told.output
    turns = ["not answered" in turn for turn in told.output.split("you > ")[1:-1]]
    assert turns[:2] == [False, True], "a question alone fits, a long line does not"
    assert turns[-1], "no room is left at the end"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_line_that_is_not_utf_8_is_refused(monkeypatch, errors):
    """The locale decides whether its bytes are errors, or surrogates that no tokenizer takes."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), "utf-8", errors))
    with pytest.raises(UserError, match=r"not UTF-8 \(character 3\); convert"):
        chat._ask()


def test_what_was_recalled_is_shown_and_changes_the_answer(undisturbed, monkeypatch):
    seen = []
    encode = Policy.encode
    monkeypatch.setattr(
        Policy, "encode", lambda self, messages, prefix="": seen.append(messages) or encode(self, messages, prefix)
    )
    folder = str(undisturbed[0])
    told = CliRunner().invoke(main, ["chat", folder, "--memory"], input="What is 1 plus 2?\nWhat is 3 plus 3?\n\n")
    assert told.exit_code == 0, told.output
    assert told.output.count("recalled #") >= 2
    first, second = seen[-2:]
    assert [m.role for m in first] == ["user", "assistant"] * ((len(first) - 1) // 2) + ["user"]
    assert len(first) > 1
    assert first[-1].content == "What is 1 plus 2?"
    assert second[-3].content == "What is 1 plus 2?"  # the conversation goes on
    assert all(m.content != "What is 1 plus 2?" for m in first[:-1])
