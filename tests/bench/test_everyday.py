"""The everyday questions and the key to them."""

import re
from pathlib import Path

import pytest
from tasks import everyday

from selfimprove.config import PromptsConfig
from selfimprove.errors import PromptError
from selfimprove.evaluation.answer_key import Key, is_right, load_audit
from selfimprove.prompts import load_prompts
from selfimprove.types import Split

ROOT = Path(__file__).parents[2]
PROMPTS = ROOT / "configs/prompts/everyday.jsonl"
AUDIT = ROOT / "configs/prompts/everyday.audit.jsonl"


@pytest.fixture(scope="module")
def found():
    return load_prompts(PromptsConfig(path=str(PROMPTS), heldout=0.4, strict=True))


def test_the_script_writes_the_committed_bytes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(everyday, "FOLDER", tmp_path)
    everyday.main()
    for file in (PROMPTS, AUDIT):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_every_prompt_has_one_key_and_no_answer_beside_it(found):
    keys = load_audit(AUDIT)
    assert found.duplicates == 0
    assert keys.keys() == {prompt.id for prompt in found.prompts}
    assert len(AUDIT.read_text().splitlines()) == len(keys)
    assert set(re.findall(r'"(\w+)":', PROMPTS.read_text())) == {"prompt"}


def test_there_is_enough_to_learn_from_and_to_measure_on(found):
    halves = [sum(prompt.split is split for prompt in found.prompts) for split in Split]
    assert halves[0] >= 200
    assert halves[1] >= 150


@pytest.mark.parametrize("form", ["{}", "{}.", "The answer is {}.", "The answer is: {}", "It is {}.", "**{}**"])
def test_every_accepted_answer_is_right_and_every_rival_is_not(form):
    for key in load_audit(AUDIT).values():
        assert all(is_right(form.format(answer), key) for answer in key.answers), key
        assert not any(is_right(form.format(rival), key) for rival in key.rivals), key


def test_no_answer_is_right_by_repeating_the_question():
    for question in everyday.questions():
        key = Key(frozenset(question.answers), frozenset(question.rivals))
        if not key.rivals:
            assert not is_right(question.text, key), question


def test_the_larger_number_is_first_in_half_of_the_questions():
    first = [q.text.index(q.answers[0]) < q.text.index(q.rivals[0]) for q in everyday.larger()]
    assert sum(first) * 2 == len(first)


PARIS = Key(frozenset({"Paris"}))
BOGOTA = Key(frozenset({"Bogota"}))
COLD = Key(frozenset({"cold", "cool"}))
N56 = Key(frozenset({"56"}))
N78 = Key(frozenset({"78"}), frozenset({"45"}))
PLANT = Key(frozenset({"plant"}), frozenset({"animal", "object"}))
BIG = Key(frozenset({"3000"}))


@pytest.mark.parametrize(
    ("text", "key", "right"),
    [
        ("The capital of France is Paris, a city on the Seine.", PARIS, True),
        ("Sure! The capital of France is Paris.", PARIS, True),
        ("paris", PARIS, True),
        ("The capital of France is Lyon. Paris is larger.", PARIS, False),
        ("The Parisian capital.", PARIS, False),
        ("I do not know.\nThe answer is Paris.", PARIS, True),
        ("", PARIS, False),
        ("...", PARIS, False),
        ("La capital de Colombia es Bogotá.", BOGOTA, True),
        ('The opposite of "hot" is "cold", or cool.', COLD, True),
        ("The opposite of hot is scolding.", COLD, False),
        ("7 times 8 is 56.", N56, True),
        ("7 x 8 = 56\n\nFor example, 7", N56, True),
        ("7 * 8 = 56 is the product of 7 and 8", N56, True),
        ("56, which is 7 times", N56, False),  # the last number counts: strict, and the same for every policy
        ("7 times 8 is 54.", N56, False),
        ("7 times 8 is 156.", N56, False),
        ("7 times 8 is 5.6", N56, False),
        ("First 7 * 4 = 28, then 28 * 2 = 56.", N56, True),
        ("7 * 8 is hard.\n#### 56", N56, True),
        (r"So \boxed{56}.", N56, True),
        ("7 * 8 = 56\n\nThe answer is: ", N56, True),
        ("The answer is 54, not 56.", N56, False),
        ("It is 3,000.0 exactly", BIG, True),
        ("78 is larger than 45.", N78, True),
        ("45 is larger than 78.", N78, False),
        ("Of 45 and 78, the larger is 78.", N78, True),
        ("78 is.", N78, True),
        ("Both 45 and 78.", N78, False),
        ("78", N78, True),
        ("The larger number is 45.", N78, False),
        ("A rose is a plant, not an animal.", PLANT, True),
        ("A rose is both an animal and a plant.", PLANT, False),
        ("A rose is not a plant.", PLANT, False),
        ("A rose is a flower.", PLANT, False),
        ("Plant.", PLANT, True),
    ],
)
def test_what_counts_as_committing_to_a_right_answer(text, key, right):
    assert is_right(text, key) is right


@pytest.mark.parametrize("junk", ["9" * 100_000, "=" * 100_000, "answer is " * 10_000, "not a " * 20_000, "\ud800"])
def test_junk_is_wrong_and_fast(junk):
    for key in (PARIS, N56, PLANT):
        assert not is_right(junk, key)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{", "not valid JSON"),
        ('{"prompt": "a"}', "answers must be"),
        ('{"prompt": "a", "answers": "b"}', "answers must be"),
        ('{"prompt": "a", "answers": []}', "answers must be"),
        ('{"prompt": "a", "answers": ["b"], "rivals": [1]}', "answers must be"),
        ('{"answers": ["b"]}', "prompts.column"),
    ],
)
def test_an_audit_file_is_whole_or_refused(tmp_path, row, why):
    (tmp_path / "audit.jsonl").write_text(f'{{"prompt": "x", "answers": ["y"]}}\n\n{row}\n')
    with pytest.raises(PromptError, match=rf"line 3: .*{why}"):
        load_audit(tmp_path / "audit.jsonl")
    with pytest.raises(PromptError, match="No such file"):
        load_audit(tmp_path / "none.jsonl")
