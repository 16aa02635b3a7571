"""A stop string ends an answer at its byte, however tokens cut the text."""

import pytest

from selfimprove.models.stop_strings import StopStrings

PIECES = ["4", ".", "\n", "\n\n", "Quest", "ion", ":", "ion: 7", "?"]


def decode(ids):
    return "".join(PIECES[i] for i in ids)


def ids_of(*pieces):
    return [PIECES.index(piece) for piece in pieces]


@pytest.mark.parametrize(
    ("ids", "ends"),
    [
        (ids_of("4", "\n", "Quest", "ion", ":"), True),
        (ids_of("4", "\n\n", "Quest", "ion: 7"), True),
        (ids_of("4", "\n", "Quest", "ion"), False),
        (ids_of("Quest", "ion", ":"), False),
        (ids_of("4", ":"), False),
    ],
)
def test_only_the_whole_string_ends_an_answer(ids, ends):
    assert StopStrings(["\nQuestion:"], decode)(ids) is ends


def test_most_tokens_cost_a_look_up():
    decoded = []
    stop = StopStrings(["\nQuestion:"], lambda ids: decoded.append(tuple(ids)) or decode(ids))
    for end in range(1, 4):
        assert not stop(ids_of("4", "4", "4")[:end])
    assert decoded == [tuple(ids_of("4"))]


def test_the_first_of_several_strings_counts():
    stop = StopStrings(["b", "ab"], str)
    assert stop.find("xxab") == 2
    assert stop.find("xx") is None


def test_part_of_a_character_may_complete_a_string():
    """A byte-level tokenizer cuts characters; the last byte alone decodes to the replacement character."""
    stop = StopStrings(["。"], lambda ids: bytes(ids).decode("utf-8", "replace"))
    ids = list("yes。".encode())
    assert [stop(ids[:end]) for end in range(1, len(ids) + 1)] == [False] * (len(ids) - 1) + [True]
