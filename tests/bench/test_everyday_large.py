"""The questions of `everyday-large`: how many, from how many families, and that the package reads their answers."""

from collections import Counter

import pytest
from tasks import off_task
from tasks.everyday_large import FAMILIES, questions
from tasks.tasks import HELDOUT, TASKS

from selfimprove.answers import Reader
from selfimprove.config import PromptsConfig
from selfimprove.evaluation.answer_key import Key, is_right, load_audit
from selfimprove.memory import Embedder
from selfimprove.memory.near_duplicates import near_duplicates
from selfimprove.prompts import load_prompts
from selfimprove.types import Split

QUESTIONS = questions()


def key(question):
    return Key(frozenset(question.answers), frozenset(question.rivals))


def drawn(folder, seed=0):
    TASKS["everyday-large"].write(folder, seed)
    return load_prompts(PromptsConfig(path=str(folder / "prompts.jsonl"), heldout=HELDOUT, strict=True)).prompts


def test_there_are_enough_distinct_questions_in_many_families():
    assert len({q.text for q in QUESTIONS}) == len(QUESTIONS) >= 2000
    assert len(FAMILIES) >= 20
    assert min(Counter(q.family for q in QUESTIONS).values()) >= 50
    assert questions() == QUESTIONS, "nothing is drawn anew"


def test_a_seed_draws_its_prompts_evenly_from_all_families(tmp_path):
    folders = [tmp_path / str(i) for i in range(3)]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        folder.mkdir()
        prompts = drawn(folder, seed)
        family = {q.text: q.family for q in QUESTIONS}
        for split, count in ((Split.TRAIN, 600), (Split.HELDOUT, 400)):
            spread = Counter(family[p.text] for p in prompts if p.split is split)
            assert (spread.total(), len(spread)) == (count, len(FAMILIES))
            assert max(spread.values()) - min(spread.values()) <= 1
        assert load_audit(folder / "audit.jsonl").keys() == {p.id for p in prompts}
    texts = [(folder / "prompts.jsonl").read_text() for folder in folders]
    assert texts[0] == texts[1] != texts[2]
    assert "answers" not in texts[0]


def test_more_prompts_than_there_are_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="of 9000 heldout ones"):
        TASKS["everyday-large"].sized(100, 9000)(tmp_path, 0)


@pytest.mark.slow
def test_hardly_a_prompt_is_left_out_as_a_near_duplicate(tmp_path):
    embedder = Embedder.load("bundled:minilm")
    prompts = drawn(tmp_path)
    found = near_duplicates(prompts, embedder.encode([p.conversation for p in prompts]), embedder.encode)
    assert len(found) <= 6


FORMS = ("{}", "{}.", "The answer is {}.")


@pytest.mark.slow
def test_right_answers_are_read_as_one_class_and_wrong_ones_as_another():
    reader = Reader()
    for question in QUESTIONS:
        texts = [form.format(question.answers[0]) for form in FORMS]
        kind = reader.kind(question.text, texts)
        classes = set(reader.classes(question.text, texts, kind))
        assert len(classes) == 1 and None not in classes, question
        assert not classes & set(reader.classes(question.text, list(question.rivals), kind)), question


def test_the_key_accepts_every_right_answer_no_wrong_one_and_no_repetition():
    for question in QUESTIONS:
        assert all(is_right(form.format(a), key(question)) for a in question.answers for form in FORMS), question
        assert not any(is_right(form.format(r), key(question)) for r in question.rivals for form in FORMS), question
        if not question.rivals:
            assert not is_right(question.text, key(question)), question


def test_places_and_yes_and_no_are_balanced():
    yes = [q.answers[0] for q in QUESTIONS if q.family == "greater, yes or no"]
    assert yes.count("yes") * 2 == len(yes)
    places = Counter(q.answers[1] for q in QUESTIONS if q.family == "numbered options")
    assert max(places.values()) - min(places.values()) <= 1


def test_the_off_task_questions_are_in_no_task_and_their_keys_fit():
    asked = {q.text for q in QUESTIONS}
    for task in off_task.off_tasks():
        assert len({q.text for q in task.questions}) == off_task.COUNT
        for question in task.questions:
            assert question.text not in asked
            assert is_right(f"So the answer is {question.answers[0]}.", key(question))
