"""Short answers that repeat a question, whose verb they inflect."""

import pytest

from selfimprove.answers import Kind, extract

LIVES = "Noah lives in Bern. Kate lives in Cairo. Where does Noah live?"
PET = "Olga has a goat and Greta has a rabbit. What pet does Greta have?"
BUY = "What did Tom buy?"
EAT = "What does the cow eat?"


@pytest.mark.parametrize(
    ("prompt", "answer", "texts"),
    [
        (
            LIVES,
            "bern",
            ["Bern", "Noah lives in Bern.", "He lives in Bern.", "Noah lives in Bern. Kate lives in Cairo."],
        ),
        (PET, "rabbit", ["A rabbit.", "Greta has a rabbit.", "Greta has a pet rabbit."]),
        (BUY, "milk", ["Milk", "Tom bought milk.", "It was milk."]),
        (EAT, "grass", ["grass", "The cow eats grass.", "It eats grass."]),
        ("Who did Ann Smith marry?", "bob jones", ["Bob Jones", "Ann Smith married Bob Jones."]),
    ],
)
def test_an_answer_that_repeats_the_question_is_the_bare_one(prompt, answer, texts):
    assert [extract(text, Kind.SHORT, prompt) for text in texts] == [answer] * len(texts)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (LIVES, "Kate lives in Cairo."),
        (LIVES, "Noah does not live in Bern."),
        (PET, "Olga has a rabbit."),
        (EAT, "The farmer eats grass."),
    ],
)
def test_what_is_said_of_somebody_else_or_denied_is_another_answer(prompt, text):
    bare = extract(text.rstrip(".").split()[-1], Kind.SHORT, prompt)
    assert extract(text, Kind.SHORT, prompt) != bare
