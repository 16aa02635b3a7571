"""Conversations come as people have them; what cannot be read is said, never guessed."""

import pytest

from selfimprove.memory.conversations import exchanges
from selfimprove.prompts import Unusable
from selfimprove.types import Finish

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "2+2?"},
]
ANSWER = {"role": "assistant", "content": "4"}
CHOICE = {"message": ANSWER, "finish_reason": "stop"}
REPLY = {"model": "m", "choices": [CHOICE], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}

FORMS = {
    "messages": {"messages": [*ASKED, ANSWER, {"role": "user", "content": "thanks"}]},
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"},
            {"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"},
        ]
    },
    "prompt of turns": {"prompt": ASKED, "completion": [ANSWER]},
    "messages and a response": {"messages": ASKED, "response": "4", "model": "m"},
    "request and response": {"request": {"messages": ASKED}, "response": REPLY},
    "bodies": {"request": {"body": {"messages": ASKED}}, "response": {"status_code": 200, "body": REPLY}},
    "messages and choices": {"messages": ASKED, **REPLY},
    "content parts": {"messages": [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": "4"}]}]},
    "responses api": {
        "request": {"input": ASKED},
        "response": {"output": [{"type": "message", "content": [{"type": "output_text", "text": "4"}]}]},
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_last_assistant_turn_answers_the_turns_before_it(form):
    (found,) = exchanges(FORMS[form])
    assert [(m.role, m.content) for m in found.messages] == [(t["role"], t["content"]) for t in ASKED]
    assert (found.text, found.finish) == ("4", Finish.STOP)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "response": "4"},
        {"question": "2+2?", "answer": "4", "id": 7, "model": "gpt"},
        {"instruction": "2+2?", "input": "", "output": "4"},
        {"prompt": "2+2?", "responses": ["4"]},
        {"request": {"prompt": "2+2?"}, "response": {"choices": [{"text": " 4"}]}},
    ],
)
def test_a_prompt_and_a_response_have_columns_of_many_names(row):
    (found,) = exchanges(row)
    assert [m.content for m in found.messages] == ["2+2?"]
    assert found.text == "4"


def test_options_of_a_question_are_not_replies():
    """They were imported as answers of the model, one each, although the row says which of them it gave."""
    row = {"prompt": "Which is a metal?", "choices": ["wood", "iron"], "response": "iron"}
    (found,) = exchanges(row)
    assert (found.text, found.messages[0].content) == ("iron", "Which is a metal?\nA) wood\nB) iron")
    labelled = [{"label": "A", "text": "wood"}, {"label": "B", "text": "iron"}]
    for answer, why in (({"answer": "iron"}, "options"), ({}, "no response|options")):
        with pytest.raises(Unusable, match=why):
            exchanges({"prompt": "Which is a metal?", "choices": labelled} | answer)
    (logged,) = exchanges({"prompt": "2+2?", "choices": [{"text": "4", "index": 0}]})
    assert logged.text == "4"
    (listed,) = exchanges({"prompt": "2+2?", "output": ["4"]})
    assert listed.text == "4"


def test_a_log_says_how_long_the_answer_was_and_whether_it_was_cut():
    cut = {
        "request": {"messages": [SYSTEM, *ASKED]},
        "response": REPLY | {"choices": [CHOICE | {"finish_reason": "length"}]},
    }
    (found,) = exchanges(cut)
    assert (found.finish, found.prompt_tokens, found.new_tokens, found.model) == (Finish.LENGTH, 9, 1, "m")
    assert found.messages[0].role == "system"
    assert len(exchanges({"request": {"messages": ASKED}, "response": {"choices": [CHOICE, CHOICE]}})) == 2


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": [ANSWER]}, "no user turn comes right before"),
        ({"messages": [{"role": "user", "content": "?"}]}, "no assistant turn"),
        ({"messages": [*ASKED, {"role": "assistant", "content": None}]}, "expected text"),
        ({"messages": [*ASKED, {"role": "tool", "content": "4"}, ANSWER]}, "needs a role"),
        ({"prompt": "2+2?"}, "but no response"),
        ({"prompt": "2+2?", "response": "  "}, "is empty"),
        ({"prompt": "2+2?", "response": {"error": 1}}, "expected text"),
        ({"prompt": "2+2?", "response": 4}, "expected text"),
        ({"response": "4"}, "neither messages nor a prompt"),
        ({"request": {"messages": ASKED}, "response": {"choices": []}}, "no choices"),
        ({"request": {"messages": ASKED}, "response": {"output": None}}, "no choices"),
        ({"request": {"messages": ASKED}, "response": {"output": 5}}, "no choices"),
        ({"request": {}, "response": REPLY}, "neither messages nor a prompt"),
        ({"request": {"messages": ASKED}, "response": {"choices": ["4"]}}, "expected an object"),
        ({"messages": "hello"}, "no response"),
    ],
)
def test_a_row_without_an_exchange_says_what_is_missing(row, why):
    with pytest.raises(Unusable, match=why):
        exchanges(row)
