"""Pairs of answers with whether they are the same: different ones must not agree, equal ones should."""

import json
from collections import Counter
from pathlib import Path

import pytest

from selfimprove.answers import Kind, classes, kind_of

HERE = Path(__file__).parent


def rows(name):
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def agree(row):
    """True or False as two answers are of one class, None where one abstains."""
    texts = [row["a"], row["b"]]
    a, b = classes(texts, kind_of(row["question"], texts), row["question"], None, 0.85)
    return None if a is None or b is None else a == b


UNCERTAIN = [("William Shakespeare", "Shakespeare")]
"""Equal to people who know; a surname alone could be somebody else's."""


@pytest.mark.parametrize("row", rows("kinds.jsonl"), ids=lambda row: f"{row['a'][:30]} | {row['b'][:30]}")
def test_every_kind_of_answer(row):
    if (row["a"], row["b"]) in UNCERTAIN:
        assert agree(row) is False
    elif row["same"] is None:
        assert agree(row) is not True
    else:
        assert agree(row) is row["same"]


def test_many_wordings_languages_and_notations():
    count = Counter((row["same"], agree(row)) for row in rows("pairs.jsonl"))
    different = sum(n for (same, _), n in count.items() if same is not True)
    equal = sum(n for (same, _), n in count.items() if same is True)
    assert different > 200 and equal > 250
    assert count[False, True] + count[None, True] == 0, "answers that differ may never agree"
    assert count[True, False] <= 0.03 * equal
    assert count[True, None] <= 0.02 * equal


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("Could you tell me the capital of France?", Kind.SHORT),
        ("Can you tell me what 12 times 7 is?", Kind.NUMBER),
        ("Do you know how many legs a spider has?", Kind.NUMBER),
        ("Can you write a short poem about the sea?", Kind.FREE),
        ("Would you mind explaining why the sky is blue?", Kind.FREE),
        ("I was wondering whether whales are fish.", Kind.YES_NO),
        ("Could you tell me if 7 is prime?", Kind.YES_NO),
        ("Can penguins fly?", Kind.YES_NO),
        ("Kannst du mir sagen, wie viele Tage ein Jahr hat?", Kind.NUMBER),
        ("¿Sabes cuál es la capital de Perú?", Kind.SHORT),
        ("Please write a Python function that reverses a list.", Kind.CODE),
        ("Solve $x^2 = 4$ for x.", Kind.MATH),
        ("Which is prime?\nA) 4\nB) 7\nC) 9", Kind.CHOICE),
        ("Is a rose an animal, a plant or an object?", Kind.CHOICE),
    ],
)
def test_the_kind_is_what_is_asked_for_not_how_politely(prompt, kind):
    assert kind_of(prompt, ["Sure! Here it is."]) is kind
