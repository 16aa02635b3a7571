"""Reference answers as public data sets hold them, read for reports alone, and matched with what a model says."""

import json

import pytest

from selfimprove.config import PromptsConfig
from selfimprove.errors import PromptError
from selfimprove.evaluation.answer_key import is_right, load_audit
from selfimprove.evaluation.reference import Reference, read_reference
from selfimprove.prompts import Unusable, load_prompts
from selfimprove.run.validate import refuse_unusable
from selfimprove.types import Split

METALS = {"question": "Which is a metal?", "choices": {"text": ["glass", "iron"], "label": ["A", "B"]}}
IRON = Reference(frozenset({"iron"}), frozenset({"glass"}), "B")


def one(*answers, rivals=()):
    return Reference(frozenset(answers), frozenset(rivals))


KNOWN = [
    ("own", {"prompt": "a", "answers": ["b", "c"], "rivals": ["d"]}, one("b", "c", rivals=["d"])),
    ("GSM8K", {"question": "a", "answer": "6 * 7 = <<6*7=42>>42\n#### 1,042"}, one("1,042")),
    ("MATH", {"problem": "a", "solution": r"so $\boxed{1}$, no, $\boxed{\frac{1}{2}}$."}, one(r"\frac{1}{2}")),
    ("ARC", METALS | {"answerKey": "B"}, IRON),
    (
        "ARC with numbers",
        METALS | {"choices": {"text": ["glass", "iron"], "label": ["1", "2"]}, "answerKey": "2"},
        IRON,
    ),
    ("MMLU", {"question": "a", "choices": ["glass", "iron"], "answer": 1}, IRON),
    ("MedQA", {"question": "a", "options": {"A": "glass", "B": "iron"}, "answer": "iron", "answer_idx": "B"}, IRON),
    ("MedMCQA", {"question": "a", "opa": "glass", "opb": "iron", "cop": 1}, IRON),
    ("a CSV", {"question": "a", "choices": '["glass", "iron"]', "answer": "B"}, IRON),
    (
        "SQuAD",
        {"question": "a", "answers": {"text": ["Rome", "in Rome"], "answer_start": [1, 2]}},
        one("Rome", "in Rome"),
    ),
    ("TriviaQA", {"question": "a", "answer": {"value": "UK", "aliases": ["Britain"]}}, one("UK", "Britain")),
    ("BoolQ", {"question": "a", "answer": False}, one("no", "false", rivals=["yes", "true"])),
    ("a number", {"question": "a", "answer": 7}, one("7")),
    ("an empty column before", {"question": "a", "answer": None, "solution": "x"}, one("x")),
]


@pytest.mark.parametrize(("row", "expected"), [row[1:] for row in KNOWN], ids=[row[0] for row in KNOWN])
def test_the_answer_of_a_known_row(row, expected):
    assert read_reference(row) == expected


@pytest.mark.parametrize(
    ("row", "column", "says"),
    [
        ({"prompt": "a"}, None, "answers must be"),
        ({"prompt": "a", "answers": "b"}, None, "answers must be"),
        ({"prompt": "a", "answer": " "}, None, "answer must be"),
        ({"prompt": "a", "answer": {"other": 1}}, None, "answer must be"),
        ({"prompt": "a", "key": "x"}, "gold", "has prompt, key but not gold; set prompts.audit_column"),
        (METALS | {"answerKey": "C"}, None, "'C' is none of the options A, B"),
        (METALS | {"answerKey": "2"}, None, "'2' is none of the options A, B"),
        (METALS | {"answerKey": -1}, None, "'-1' is none of the options A, B"),
        (METALS | {"answerKey": True}, None, "'True' is none of the options A, B"),
    ],
)
def test_an_answer_that_cannot_be_understood_is_refused(row, column, says):
    with pytest.raises(Unusable, match=says):
        read_reference(row, column)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", True),
        ("(B)", True),
        ("B) iron", True),
        ("The answer is B.", True),
        ("Option B: iron", True),
        ("A", False),
        ("A) glass, since it shines", False),
        ("C.", False),
        ("A metal is iron.", True),
        ("iron", True),
        ("It is glass.", False),
    ],
)
def test_an_option_may_be_named_by_its_letter(text, right):
    assert is_right(text, IRON) is right


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Sums as GSM8K holds them, with a train and a test split."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for split, first in (("train", 0), ("test", 50)):
        rows = [{"question": f"{n} + 1?", "answer": f"Easy.\n#### {n + 1}"} for n in range(first, first + 20)]
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "data" / f"{split}.parquet")
    return f"hf:{tmp_path / 'data'}"


def test_a_dataset_audits_its_own_prompts(dataset):
    config = PromptsConfig(path=dataset, audit=dataset, heldout=0.5)
    prompts = load_prompts(config).prompts
    keys = load_audit(dataset, config)
    assert {p.id for p in prompts} == set(keys)
    [asked] = [p for p in prompts if p.text == "7 + 1?"]
    assert keys[asked.id] == one("8")
    refuse_unusable(config, prompts)


def test_split_and_column_of_the_audit_are_settings(dataset):
    test = load_audit(dataset, PromptsConfig(path=dataset, audit_split="test"))
    assert test.keys() == {p.id for p in load_prompts(PromptsConfig(path=dataset, split="test", heldout=0)).prompts}
    wrong = PromptsConfig(path=dataset, audit=dataset, audit_column="gold", heldout=0.5)
    with pytest.raises(PromptError, match=r"has question, answer but not gold; set prompts\.audit_column"):
        refuse_unusable(wrong, load_prompts(wrong).prompts)


def test_an_audit_that_is_not_there_is_told_before_anything_is_spent(dataset):
    prompts = load_prompts(PromptsConfig(path=dataset, heldout=0.5)).prompts
    assert {p.split for p in prompts} == set(Split)
    for audit, says in (
        ("openai/gsm8k", "no audit file openai/gsm8k; if it is the id of a dataset, write hf:openai/gsm8k"),
        ("hf:nobody/nothing", "offline, and it is not in the cache"),
        (f"{dataset}/none", "no such folder"),
    ):
        with pytest.raises(PromptError, match=says):
            refuse_unusable(PromptsConfig(path="p", audit=audit), prompts)


def test_the_columns_that_ask_are_those_of_the_prompts(tmp_path):
    rows = [{"stem": f"Which {n}?", "options": ["x", "y"], "key": "B", "note": "z"} for n in range(4)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PromptsConfig(path=str(tmp_path / "p.jsonl"), heldout=0.5, columns=["stem", "options"], audit_column="key")
    keys = load_audit(config.path, config)
    assert keys.keys() == {p.id for p in load_prompts(config).prompts}
    assert {key.letter for key in keys.values()} == {"B"}
    (tmp_path / "own.jsonl").write_text(json.dumps({"prompt": "Which 0?\nA) x\nB) y", "answers": ["y"]}) + "\n")
    own = load_audit(tmp_path / "own.jsonl", config.model_copy(update={"audit_column": None}))
    assert own.keys() < keys.keys()
