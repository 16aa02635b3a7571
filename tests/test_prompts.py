"""What becomes a prompt, what is skipped and why, and what is never read at all."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.config import PromptsConfig
from selfimprove.errors import PromptError
from selfimprove.prompts import MAX_LINE, load_prompts, make_prompt, prompt_id, read_rows
from selfimprove.types import Message, Split


@pytest.fixture
def load(tmp_path):
    """Write bytes (or rows as JSONL) to a file and load it."""

    def write_and_load(content, name="prompts.jsonl", **settings):
        if not isinstance(content, bytes):
            content = "".join(json.dumps(row) + "\n" for row in content).encode()
        (tmp_path / name).write_bytes(content)
        return load_prompts(PromptsConfig(path=str(tmp_path / name), **{"heldout": 0, **settings}))

    return write_and_load


def texts(found):
    return [prompt.text for prompt in found.prompts]


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": "hi"}, [("user", "hi")]),
        ({"question": "hi"}, [("user", "hi")]),
        ({"instruction": "hi"}, [("user", "hi")]),
        ({"text": "hi"}, [("user", "hi")]),
        ({"text": "another form of it", "prompt": "hi"}, [("user", "hi")]),
        ({"messages": [{"role": "user", "content": "hi"}]}, [("user", "hi")]),
        (
            {"prompt": [{"role": "system", "content": ""}, {"role": "user", "content": "hi"}]},
            [("system", ""), ("user", "hi")],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": "yes?"},
                    {"role": "user", "content": "two plus two"},
                    {"role": "assistant", "content": "the answer, which nothing may see"},
                ]
            },
            [("user", "hi"), ("assistant", "yes?"), ("user", "two plus two")],
        ),
    ],
)
def test_the_forms_a_prompt_may_have(load, row, messages):
    (prompt,) = load([row]).prompts
    assert [(m.role, m.content) for m in prompt.messages] == messages


def test_answers_are_not_read_whatever_they_hold(load):
    rows = [{"prompt": f"question {i}"} for i in range(20)]
    poisoned = [row | {"answer": i, "solution": "\ud800", "label": [[[]]]} for i, row in enumerate(rows)]
    clean, found = load(rows, heldout=0.3), load(poisoned, heldout=0.3)
    assert found.prompts == clean.prompts
    assert found.unused == ("answer", "solution", "label")


def test_equal_prompts_are_one_and_are_counted(load):
    found = load(
        [{"prompt": "a"}, {"prompt": "b"}, {"question": "a"}, {"messages": [{"role": "user", "content": "a"}]}]
    )
    assert texts(found) == ["a", "b"]
    assert found.duplicates == 2


def test_plain_text_is_one_prompt_a_line(load):
    found = load("\ufeff What is 2 + 2? \r\n\r\n{not json}\nlast".encode(), name="p.txt")
    assert texts(found) == ["What is 2 + 2?", "{not json}", "last"]


def test_byte_order_mark_carriage_returns_and_a_missing_last_newline_do_no_harm(load):
    found = load('\ufeff{"prompt": "a"}\r\n{"prompt": "b"}\r\n{"prompt": "c\u2028d"}'.encode())
    assert texts(found) == ["a", "b", "c\u2028d"]
    assert not found.skipped


MALFORMED = [
    (b"{", "not valid JSON"),
    (b'["a"]', "a JSON list"),
    (b"7", "a JSON int"),
    (b'{"prompt": "\xff"}', "not UTF-8"),
    (b'{"prompt": "a\\u0000b"}', "NUL"),
    (b'{"prompt": "\\ud83d"}', "surrogate"),
    (b'{"prompt": 7}', "prompt is int"),
    (b'{"prompt": null}', "prompt is NoneType"),
    (b'{"prompt": "  "}', "empty"),
    (b'{"prompt": []}', "no user turn"),
    (b'{"messages": [{"role": "assistant", "content": "a"}]}', "no user turn"),
    (b'{"messages": [{"role": "wizard", "content": "a"}]}', "role out of"),
    (b'{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', "content is list"),
    (b'{"messages": ["hi"]}', "role out of"),
    (b'{"prompt": ' + b"[" * 100_000 + b"}", "nested too deeply"),
    (b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}", "not valid JSON"),
    (b'{"prompt": "' + b"a" * MAX_LINE + b'"}', "the limit is"),
    (b'{"query": "a"}', "has query but not prompt or messages"),
    (b"{}", "has no columns"),
]


@pytest.mark.parametrize(("line", "why"), MALFORMED)
def test_a_malformed_line_is_skipped_and_named_and_stops_only_the_strict(load, line, why):
    lines = b'{"prompt": "first"}\n\n' + line + b'\n{"prompt": "last"}\n'
    found = load(lines)
    assert texts(found) == ["first", "last"]
    assert [skipped.line for skipped in found.skipped] == [3]
    assert why in found.skipped[0].why
    with pytest.raises(PromptError, match=r"prompts\.jsonl, line 3: "):
        load(lines, strict=True)


def test_nothing_usable_names_the_columns_and_the_key_to_set(load):
    rows = [{"problem": "2 + 2?", "solution": "4"}] * 3
    with pytest.raises(PromptError, match=r"all 3 lines .* has problem, solution .* set prompts\.column"):
        load(rows)
    assert texts(load(rows, column="problem")) == ["2 + 2?"]
    with pytest.raises(PromptError, match=r"but not Problem"):
        load(rows, column="Problem")
    with pytest.raises(PromptError, match="empty"):
        load(b"\n\n")


def test_a_missing_file_and_a_folder_are_told_in_one_line(tmp_path):
    for path, why in ((tmp_path / "none.jsonl", "No such file"), (tmp_path, "directory")):
        with pytest.raises(PromptError, match=why):
            load_prompts(PromptsConfig(path=str(path)))


def test_nothing_left_to_learn_from_is_an_error(load):
    with pytest.raises(PromptError, match=r"prompts\.heldout is 1"):
        load([{"prompt": "a"}], heldout=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b'{"prompt": "a"}\n{"prompt": "b"}\n', ["a", "b"]), (b"plain a\nplain b\n", ["plain a", "plain b"])],
)
def test_standard_input_is_json_lines_or_text(monkeypatch, content, expected):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert texts(load_prompts(PromptsConfig(path="-", heldout=0))) == expected


def test_the_limit_is_a_number_of_prompts_not_of_lines(load):
    rows = [{"prompt": text} for text in ("a", "a", "b", "c")]
    assert texts(load(rows, limit=2)) == ["a", "b"]


def test_adding_prompts_moves_none_to_the_other_split(load):
    rows = [{"prompt": f"question {i}"} for i in range(400)]
    few = {p.id: p.split for p in load(rows[100:200], heldout=0.3).prompts}
    many = {p.id: p.split for p in load(rows, heldout=0.3).prompts}
    more = {p.id: p.split for p in load(rows, heldout=0.5).prompts}
    assert few.items() <= many.items()
    assert 0.22 < sum(split is Split.HELDOUT for split in many.values()) / 400 < 0.38
    assert all(more[name] is Split.HELDOUT for name, split in many.items() if split is Split.HELDOUT)


def test_an_id_never_changes():
    """Ids name prompts in every memory that was ever written."""
    assert prompt_id([Message("user", "What is the capital of Peru? ¿Sí?")]) == "c8fd6bc0206b4214"


@given(st.lists(st.tuples(st.sampled_from(["system", "user"]), st.text(st.characters(exclude_categories=["Cs"])))))
def test_ids_tell_conversations_apart_by_role_content_and_boundaries(pairs):
    messages = tuple(Message(role, content) for role, content in pairs)
    assert prompt_id(messages) == prompt_id(list(messages))
    assert prompt_id(messages) != prompt_id((*messages, Message("user", "")))
    joined = (Message("user", "".join(m.content for m in messages)),)
    assert (prompt_id(messages) == prompt_id(joined)) == (messages == joined)
    assert make_prompt(messages, 0).split is Split.TRAIN
    assert make_prompt(messages, 1).split is Split.HELDOUT


class TestDatasets:
    """A folder of Parquet is a dataset like any on the Hub."""

    @pytest.fixture
    def dataset(self, tmp_path, monkeypatch):
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        columns = {"question": ["a", "b", "a"], "solution": ["1", "2", "3"]}
        datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "data" / "train.parquet")
        return f"hf:{tmp_path / 'data'}"

    def test_its_prompt_column_is_read(self, dataset):
        found = load_prompts(PromptsConfig(path=dataset, heldout=0))
        assert texts(found) == ["a", "b"]
        assert found.duplicates == 1

    def test_the_answer_column_never_leaves_the_table(self, dataset):
        rows = [row for _, row in read_rows(dataset)]
        assert rows == [{"question": text, "solution": None} for text in ("a", "b", "a")]

    def test_wrong_columns_splits_and_names_are_told(self, dataset):
        for settings, why in (
            ({"path": dataset, "column": "query"}, "has question, solution but not query"),
            ({"path": dataset, "split": "validation"}, "cannot load the dataset"),
            ({"path": f"{dataset}/none"}, "cannot load the dataset"),
        ):
            with pytest.raises(PromptError, match=why):
                load_prompts(PromptsConfig(**settings))
