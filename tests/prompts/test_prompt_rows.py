"""What a row of each known data set asks, what is never shown, and what is not decided for the user."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.config import PromptsConfig
from selfimprove.config_file import load_config, parse_config, to_yaml
from selfimprove.errors import ConfigError, PromptError
from selfimprove.prompts import Unusable, make_prompt, prompt_id, read_messages
from selfimprove.prompts.columns import COLUMNS, is_answer
from selfimprove.prompts.rows import Layout
from selfimprove.types import Message

POISON = "POISON"
METALS = "Which is a metal?\nA) glass\nB) iron"


def human(text, role="human"):
    return {"from": role, "value": text}


def turn(text, role="user"):
    return {"role": role, "content": text}


KNOWN = [
    (
        "Alpaca",
        {"instruction": "Translate.", "input": "Gut", "output": POISON, "text": f"Translate. Gut {POISON}"},
        "Translate.\n\nGut",
    ),
    ("Alpaca without input", {"instruction": "Name a metal.", "input": "", "output": POISON}, "Name a metal."),
    (
        "Dolly",
        {"instruction": "Who lived here?", "context": "Ann did.", "response": POISON, "category": "closed_qa"},
        "Who lived here?\n\nAnn did.",
    ),
    (
        "SQuAD",
        {
            "id": "57",
            "title": "Rome",
            "context": "Anna lives in Rome.",
            "question": "Where?",
            "answers": {"text": [POISON], "answer_start": [3]},
        },
        "Anna lives in Rome.\n\nWhere?",
    ),
    ("BoolQ", {"question": "is it wet", "passage": "Water is.", "answer": True}, "Water is.\n\nis it wet"),
    (
        "ARC",
        {
            "id": "Mercury_7",
            "question": "Which is a metal?",
            "choices": {"text": ["glass", "iron"], "label": ["A", "B"]},
            "answerKey": POISON,
        },
        METALS,
    ),
    (
        "ARC with numbers",
        {
            "question": "Which is a metal?",
            "choices": {"text": ["glass", "iron"], "label": ["1", "2"]},
            "answerKey": "2",
        },
        METALS,
    ),
    (
        "MMLU",
        {"question": "Which is a metal?", "subject": "chemistry", "choices": ["glass", "iron"], "answer": 1},
        METALS,
    ),
    ("MedQA", {"question": "Which is a metal?", "options": {"A": "glass", "B": "iron"}, "answer_idx": "B"}, METALS),
    ("columns A, B", {"question": "Which is a metal?", "A": "glass", "B": "iron", "C": None, "answer": "B"}, METALS),
    ("MedMCQA", {"id": "1", "question": "Which is a metal?", "opa": "glass", "opb": "iron", "exp_id": 0}, METALS),
    ("options as a text", {"question": "Which?", "options": "a) x, b) y", "correct": "a"}, "Which?\na) x, b) y"),
    ("numbers to choose from", {"question": "Prime?", "choices": [4, 7]}, "Prime?\nA) 4\nB) 7"),
    ("GSM8K", {"question": "2 + 2?", "answer": f"{POISON} #### 4"}, "2 + 2?"),
    ("a system column", {"system": "In French.", "prompt": "Hi"}, [("system", "In French."), ("user", "Hi")]),
    (
        "OpenOrca",
        {"id": "flan.1", "system_prompt": "", "question": "Why?", "response": POISON},
        "Why?",
    ),
    (
        "ShareGPT",
        {"id": "x", "conversations": [human("Hi"), human("Yes?", "gpt"), human("2 + 2?"), human(POISON, "gpt")]},
        [("user", "Hi"), ("assistant", "Yes?"), ("user", "2 + 2?")],
    ),
    (
        "ShareGPT with its system column",
        {"conversations": [human("Hi"), human(POISON, "gpt")], "system": "Be brief."},
        [("system", "Be brief."), ("user", "Hi")],
    ),
    (
        "OpenAI",
        {"messages": [turn("Be brief.", "developer"), turn("Hi"), turn(POISON, "assistant")]},
        [("system", "Be brief."), ("user", "Hi")],
    ),
    (
        "content parts",
        {"messages": [turn([{"type": "text", "text": "Look:"}, {"type": "text", "text": "2 + 2"}])]},
        "Look:\n2 + 2",
    ),
    (
        "preferences",
        {"prompt": "Hi", "chosen": [turn(POISON, "assistant")], "rejected": POISON, "score_chosen": 1.5},
        "Hi",
    ),
    (
        "UltraChat",
        {"prompt": "Hi", "prompt_id": "9f", "messages": [turn("Hi"), turn(POISON, "assistant")]},
        "Hi",
    ),
    (
        "verl",
        {
            "data_source": "math",
            "prompt": [turn("2 + 2?")],
            "ability": "math",
            "reward_model": {"ground_truth": POISON},
            "extra_info": {"index": 1},
        },
        "2 + 2?",
    ),
]


@pytest.mark.parametrize(("row", "expected"), [row[1:] for row in KNOWN], ids=[row[0] for row in KNOWN])
def test_a_row_asks_what_people_expect_and_never_its_answer(asked, row, expected):
    assert asked([row]) == [expected]
    assert POISON not in json.dumps(expected)


@given(
    st.dictionaries(
        st.sampled_from(["answer", "output", "Label", "answerKey", "correct_answer2", "chosen", "ground-truth"]),
        st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)),
    )
)
def test_no_value_of_an_answer_column_changes_a_prompt(answers):
    for row in ({"question": "Which?", "choices": ["x", "y"]}, {"instruction": "Do", "input": "it"}):
        assert read_messages(row | answers) == read_messages(row) == read_messages(answers | row)
        assert all(map(is_answer, answers))


def test_a_row_with_a_prompt_alone_has_the_id_it_always_had(load):
    """Runs made before must resume."""
    [prompt] = load([{"prompt": "What is the capital of Peru? ¿Sí?", "answer": "Lima", "id": 3}]).prompts
    assert prompt.id == "c8fd6bc0206b4214" == prompt_id([Message("user", "What is the capital of Peru? ¿Sí?")])
    [padded] = load([{"instruction": "  as it is \n", "input": " ", "context": None}]).prompts
    assert padded.text == "  as it is \n"


def test_what_is_joined_cut_off_and_not_used_is_named_once(load):
    found = load(
        [
            {"instruction": "Translate.", "input": "Gut", "output": "x", "id": 1, "votes": 7},
            {"instruction": "Name a metal.", "input": "", "output": "y", "id": 2, "votes": 8},
        ]
    )
    assert (found.used, found.unused) == (("instruction", "input"), ("output", "id", "votes"))
    assert found.columns() == "instruction + input; not used: output, id, votes"
    talks = [{"conversations": [human(text), human("x", "gpt")]} for text in ("a", "b", "b")]
    assert load(talks).columns() == "3 final answers cut off"
    assert load([{"prompt": "a"}]).columns() == ""


UNCLEAR = [
    ({"prompt": "Write a poem.", "topic": "spring"}, "is topic part of the question?"),
    ({"question": "Where?", "hints": ["north"]}, "is hints part of the question?"),
    ({"question": "Who?", "text": "Ann met Bo."}, "is text part of the question?"),
    ({"question": "Who?", "instruction": "Answer with a name."}, "is instruction part of the question?"),
    ({"prompt": "And then?", "history": [turn("Hi")]}, "is history part of the question?"),
    ({"prompt": "A story", "title": "The fox"}, "is title part of the question?"),
    ({"messages": [turn("Where?")], "context": "In Rome."}, "has turns in messages, and context beside it"),
    ({"question": "Which?", "choices": ["x", "y"], "A": "x", "B": "y"}, "has options in choices, A, B"),
    ({"prompt": "Hi", "system": "Be brief.", "system_prompt": "Be kind."}, "has system and system_prompt"),
]


@pytest.mark.parametrize(("row", "says"), UNCLEAR, ids=[says for _, says in UNCLEAR])
def test_a_further_text_is_the_users_to_decide_on(load, row, says):
    with pytest.raises(PromptError) as told:
        load([{"prompt": "fine"}, row])
    message = str(told.value)
    assert says in message
    assert "p.jsonl, line 2: " in message
    assert "prompts.columns" in message
    assert "\n" not in message
    with pytest.raises(Unusable):
        read_messages(row)


def test_the_settings_that_an_error_names_are_its_ways_out(asked):
    rows = [{"prompt": "Write a poem.", "topic": topic} for topic in ("spring", "rain")]
    assert asked(rows, columns=["prompt"]) == ["Write a poem."]
    assert asked(rows, columns=["prompt", "topic"]) == ["Write a poem.\n\nspring", "Write a poem.\n\nrain"]
    assert asked(rows, template="{prompt} On {topic}!") == ["Write a poem. On spring!", "Write a poem. On rain!"]
    assert asked(rows, column="prompt") == ["Write a poem."]


def test_rows_that_a_column_alone_tells_apart_are_not_lost_as_duplicates(load):
    rows = [{"prompt": "What is a + b?", "a": n, "b": 1} for n in range(4)]
    with pytest.raises(
        PromptError, match=r"3 rows .* one of its 1 prompts but differ in a: prompts.columns=\[prompt, a"
    ):
        load(rows)
    assert len(load(rows, template="What is {a} + {b}?").prompts) == 4
    assert len(load(rows, columns=["prompt"]).prompts) == 1
    few = load([*rows[:2], {"prompt": "other"}])
    assert few.differing == {"a": 1}
    assert "duplicates that differ: 1 in a" in few.columns()


def test_a_list_of_columns_is_joined_in_its_order(asked):
    row = {"stem": "Which?", "fact": "Iron rusts.", "system": "Be brief.", "choices": ["x", "y"], "empty": None}
    assert asked([row], columns=["fact", "stem"]) == ["Iron rusts.\n\nWhich?"]
    assert asked([row], columns=["stem", "empty", "choices"]) == ["Which?\nA) x\nB) y"]
    assert asked([row], columns=["system", "stem"]) == [[("system", "Be brief."), ("user", "Which?")]]
    talk = {"log": [turn("Hi"), turn("x", "assistant")], "system": "Be brief.", "note": "z"}
    assert asked([talk], columns=["system", "log"]) == [[("system", "Be brief."), ("user", "Hi")]]
    assert asked([talk], columns=["log"]) == ["Hi"]


def test_a_mapping_gives_columns_their_usual_names(asked):
    row = {"problem": "Which?", "fact": "Iron rusts.", "opts": ["x", "y"], "note": "unused"}
    columns = {"question": "problem", "context": "fact", "choices": "opts"}
    assert asked([row], columns=columns) == ["Iron rusts.\n\nWhich?\nA) x\nB) y"]


def test_a_template_fills_in_names_alone(asked):
    row = {"q": "2 + 2 {x}", "n": 3, "choices": ["x", "y"], "a.b": "dotted", "parts": ["one", "two"]}
    assert asked([row], template="{{{n}}} {q} {a.b}\n{choices}\n{parts}") == [
        "{3} 2 + 2 {x} dotted\nA) x\nB) y\none\ntwo"
    ]


def test_a_template_is_not_filled_with_nothing(load):
    found = load([{"q": "a", "n": None}, {"q": "b", "n": 2}, {"q": "c", "n": ""}], template="{q}{n}")
    assert [p.text for p in found.prompts] == ["b2", "c"]
    assert [s.why for s in found.skipped] == ["n is null, and prompts.template needs it"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"template": "{q"}, "expected '}'"),
        ({"template": "no column"}, "name columns as {question}"),
        ({"template": "{}"}, "name columns as {question}"),
        ({"template": "{q!r}"}, "name columns as {question}"),
        ({"template": "{q:>9}"}, "name columns as {question}"),
        ({"template": "{q.__class__}"}, "has q, answer but not q.__class__"),
        ({"template": "{q[0]}"}, "has q, answer but not q[0]"),
        ({"template": "{q} {answer}"}, "prompts.template names answer, which holds answers"),
        ({"columns": ["q", "answer"]}, "prompts.columns names answer, which holds answers"),
        ({"columns": {"question": "answer"}}, "prompts.columns names answer, which holds answers"),
        ({"column": "answer"}, "prompts.column names answer, which holds answers"),
        ({"columns": {"query": "q"}}, "prompts.columns maps query; the names to map are prompt, messages"),
        ({"columns": {"context": "q"}}, "must map exactly one of prompt"),
        ({"columns": ["q", "r"]}, "has q, answer but not r"),
        ({"column": "q", "template": "{q}"}, "prompts.column and prompts.template are both set"),
    ],
)
def test_a_setting_that_cannot_be_is_told_in_one_line(load, settings, says):
    with pytest.raises(PromptError) as told:
        load([{"q": "2 + 2?", "answer": "4"}], **settings)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_columns_are_read_from_yaml_and_the_command_line_and_written_back_equal(tmp_path):
    for columns in (["q", "r"], {"question": "q"}):
        (tmp_path / "c.yaml").write_text(to_yaml(parse_config({"prompts": {"path": "p", "columns": columns}})))
        config = load_config(tmp_path / "c.yaml")
        assert config == parse_config({"prompts": {"path": "p", "columns": columns}})
        assert Layout.of(config.prompts)
    assert load_config(tmp_path / "c.yaml", ("prompts.columns=[a, b]",)).prompts.columns == ("a", "b")
    assert load_config(tmp_path / "c.yaml", ("prompts.template='{a} {b}'",)).prompts.template == "{a} {b}"
    with pytest.raises(ConfigError, match="quote it, on a command line"):
        load_config(tmp_path / "c.yaml", ("prompts.template={a}",))
    for wrong in ("q", [1], {"question": None}):
        with pytest.raises(ConfigError, match=r"1 fault.*expected a list such as"):
            parse_config({"prompts": {"path": "p", "columns": wrong}})


HOSTILE = [
    ({"conversations": [human("Hi", "tool")]}, "role out of"),
    ({"conversations": [human(None)]}, "content is NoneType"),
    ({"conversations": ["Hi"]}, "role out of"),
    ({"conversations": {"from": "human"}}, "conversations is dict"),
    ({"messages": [turn([{"type": "image_url", "image_url": {"url": "x"}}])]}, "part of type image_url"),
    ({"messages": [turn([{"type": "input_audio"}])]}, "part of type input_audio"),
    ({"messages": [turn(["Hi"])]}, "part of type str"),
    ({"messages": [turn([{"type": "text", "text": 7}])]}, "part of type text"),
    ({"messages": [turn([])]}, "the user message is empty"),
    ({"messages": "[{'role': 'user'}]"}, "not valid JSON"),
    ({"messages": [turn("Hi"), {"role": "assistant", "tool_calls": []}, turn("So?")]}, "content is NoneType"),
    ({"question": "Which?", "choices": {"text": ["x", "y"], "label": ["A"]}}, "2 options, but 1 labels"),
    ({"question": "Which?", "choices": {"text": ["x", "y"], "label": ["A", "A"]}}, "2 options, but 1 labels"),
    ({"question": "Which?", "choices": {"text": ["x", "y"], "label": 3}}, "labels of the options are int"),
    ({"question": "Which?", "choices": [["x"]]}, "the options are list"),
    ({"question": "Which?", "choices": 7}, "the options are int"),
    ({"question": "Which?", "choices": ["x"] * 27}, "27 options, but 26 labels"),
    ({"question": "Which?", "choices": "['x', 'y']"}, "not valid JSON"),
    ({"question": "Where?", "context": {"sentences": ["a"]}}, "context is dict"),
    ({"prompt": "Hi", "system": {"a": 1}}, "system is dict"),
    ({"messages": [turn("a", "system"), turn("b")], "system": "c"}, "a system column and a system turn"),
    ({"prompt": "a" * (1 << 20), "input": "b"}, "the limit is"),
]


@pytest.mark.parametrize(("row", "says"), HOSTILE, ids=[says for _, says in HOSTILE])
def test_a_row_that_cannot_be_asked_is_skipped_by_name(load, row, says):
    found = load([{"prompt": "fine"}, row])
    assert [p.text for p in found.prompts] == ["fine"]
    [skipped] = found.skipped
    assert skipped.line == 2
    assert says in skipped.why or "bytes long" in skipped.why


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from([*COLUMNS, "system", "input", "context", "choices", "A", "B", "answer", "id", "topic"])


@given(st.dictionaries(_NAMES, _VALUES, max_size=6), st.sampled_from([None, ["prompt", "A", "B"], ["system", "text"]]))
def test_any_row_is_a_prompt_or_says_why_not_and_always_the_same(row, columns):
    layout = Layout.of(PromptsConfig(path="p", columns=columns))

    def outcome():
        try:
            reading = layout.read(row)
        except Unusable as fault:
            return str(fault)
        assert set(reading.used) | set(reading.unused) == set(row)
        assert reading.messages[-1].role == "user"
        return make_prompt(reading.messages, 0.5)

    assert outcome() == outcome()
