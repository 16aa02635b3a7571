"""The additions and the chains of the bench, on models that are taught for seconds."""

import json
from itertools import islice
from random import Random
from types import SimpleNamespace

import digits
import pytest
from greedy import greedy
from tasks import chain, growing, sums

from selfimprove.answers import Kind, extract
from selfimprove.config import VoteConfig
from selfimprove.evaluation.answer_key import Key, is_right
from selfimprove.prompts import make_prompt
from selfimprove.stages.vote import Ballot
from selfimprove.types import (
    Example,
    Finish,
    Message,
    Origin,
    Response,
    Split,
    Stage,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Taught sums of one digit alone."""
    return sums.teach(tmp_path_factory.mktemp("digits") / "base", seed=0, taught=1, steps=150)


@pytest.fixture(autouse=True)
def little_training(monkeypatch):
    monkeypatch.setattr(digits, "TRAINED_TOKENS", 1500)


def test_a_sum_is_its_columns_and_the_answer_their_digits():
    assert sums.solve("12b..c75a=a") == "2b4c0"  # 17 + 25
    assert sums.solve("99x91y..z=x") == "8y1z1"  # 19 + 99
    for length in (1, 5, 10):
        question = sums.ask(length, Random(length))
        assert sums.length(question) == length
        assert len(sums.solve(question)) == 2 * length + 1


def test_a_sum_is_the_same_in_every_writing():
    columns = (("1", "2"), ("7", "5"), ("0", "9"))
    ways = [sums.write(columns, Random(i)) for i in range(20)]
    assert len(set(ways)) > 15
    assert {sums.read(way) for way in ways} == {columns}
    assert {sums.digits_of(sums.solve(way)) for way in ways} == {"3201"}  # 71 + 952 from the right
    assert {sums.spell("3201", way) == sums.solve(way) for way in ways} == {True}


def test_no_sum_is_learnt_from_and_held_out(monkeypatch):
    monkeypatch.setattr(digits, "SUMS", 10)
    sides = {}
    for question in digits.prompts(0):
        sides.setdefault(sums.read(question), []).append(digits.split(question))
    assert {len(set(found)) for found in sides.values()} == {1}
    assert {found[0]: len(found) for found in sides.values()} == {Split.TRAIN: digits.WRITINGS, Split.HELDOUT: 1}


def test_questions_are_different_and_keyed():
    asked = list(sums.questions([3], 50, "prompts", 0))
    assert len(set(asked)) == 50
    assert asked == list(sums.questions([3], 50, "prompts", 0))
    assert not set(asked) & set(sums.questions([3], 50, "fresh"))


def test_vote_and_audit_read_the_answer_as_it_is_written():
    question = sums.ask(4, Random(0))
    answer = sums.solve(question)
    wrong = answer[:-1] + str(9 - int(answer[-1]))
    assert extract(answer, Kind.SHORT, question) == answer
    assert extract(wrong, Kind.SHORT, question) == wrong
    key = Key(frozenset([answer]))
    assert is_right(answer, key)
    assert not is_right(wrong, key)
    assert not is_right(answer[:-2], key), "a digit is missing"


@pytest.mark.slow
def test_the_base_knows_what_it_was_taught_and_nothing_longer(base):
    known, longer = (list(sums.questions([length], 60, "test")) for length in (1, 4))
    right = [text == sums.solve(q) for q, text in zip(known, greedy(base, known), strict=True)]
    assert sum(right) / len(right) > 0.9
    right = [text == sums.solve(q) for q, text in zip(longer, greedy(base, longer), strict=True)]
    assert sum(right) / len(right) < 0.1


def test_reach_ends_at_the_first_length_that_is_not_good():
    assert digits.reach({1: 1.0, 2: 0.96, 3: 0.94, 4: 1.0}) == 2
    assert digits.reach({1: 0.5}) == 0


def test_a_cell_of_other_settings_is_another_cell():
    assert digits.cell_name("ours", 0) == "ours-0"
    assert len({digits.cell_name("ours", 0, changes) for changes in ((), ("rounds=1",), ("rounds=2",))}) == 3
    assert digits.cell_name("ours", 0, ("a=1", "a=2")) != digits.cell_name("ours", 0, ("a=2", "a=1"))


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["length", "rewrite"])
def test_an_arm_is_played_and_goes_on_where_it_was(base, tmp_path, monkeypatch, arm):
    monkeypatch.setattr(digits, "REACH", 2)
    monkeypatch.setattr(digits, "TAUGHT", 2)
    monkeypatch.setattr(digits, "SUMS", 24)
    monkeypatch.setattr(digits, "FRESH", 20)
    changes = ("rounds=1", "sample.max_new_tokens=8", "guard.trips=5")
    cell = digits.play(growing.ARMS[arm], base, tmp_path, 0, changes)
    assert cell["arm"] == arm
    assert len(cell["rounds"]) == len(cell["rows"]) == 2
    (first, last) = cell["rows"]
    assert (first["task"], first["arm"], first["round"], first["generated_tokens"]) == ("digits", "base", 0, 0)
    assert (last["arm"], last["round"]) == (arm, 1)
    assert last["generated_tokens"] > 0
    assert 0 <= last["mean_at_k"] <= last["pass_at_k"] <= 1
    assert set(cell["after"]) == {1, 2}
    assert digits.play(growing.ARMS[arm], base, tmp_path, 0, changes) == cell
    assert f"| {arm} | 0 |" in digits.table([cell])


@pytest.mark.slow
def test_a_round_gets_sums_one_digit_longer_than_the_round_before(base, tmp_path, monkeypatch):
    from selfimprove.memory import ResponseMemory

    monkeypatch.setattr(growing, "TAUGHT", 1)
    monkeypatch.setattr(digits, "TAUGHT", 2)
    monkeypatch.setattr(digits, "REACH", 4)
    monkeypatch.setattr(digits, "SUMS", 12)
    monkeypatch.setattr(digits, "FRESH", 2)
    changes = ("rounds=2", "sample.max_new_tokens=10", "guard.trips=5")
    cell = digits.play(growing.ARMS["ssd"], base, tmp_path, 0, changes)
    with ResponseMemory.open(tmp_path / digits.cell_name("ssd", 0, changes) / "memory.db") as memory:
        texts = {p.id: p.text for p in memory.prompts()}
        asked = {
            round_: {sums.length(texts[r.prompt_id]) for r in memory.responses(rounds=[round_], stages=[Stage.SAMPLE])}
            for round_ in (1, 2)
        }
    assert asked == {1: {1, 2}, 2: {1, 2, 3}}
    assert set(cell["rounds"][0]) == {1, 2, 3, 4}, "all lengths are held out"


@pytest.mark.slow
def test_raw_samples_are_trained_on_whatever_the_vote_says(base, tmp_path, monkeypatch):
    from selfimprove.memory import ResponseMemory

    monkeypatch.setattr(digits, "TAUGHT", 2)
    monkeypatch.setattr(digits, "REACH", 3)
    monkeypatch.setattr(digits, "SUMS", 12)
    monkeypatch.setattr(digits, "FRESH", 2)
    kept = {}
    for arm in ("lmsi", "ssd"):
        changes = ("rounds=1", "sample.max_new_tokens=10")
        digits.play(growing.ARMS[arm], base, tmp_path, 0, changes)
        with ResponseMemory.open(tmp_path / digits.cell_name(arm, 0, changes) / "memory.db") as memory:
            ids = [id_ for id_, verdict in memory.verdicts(1).items() if verdict.kept]
            texts = {p.id: p.text for p in memory.prompts()}
            kept[arm] = [r.text == sums.solve(texts[r.prompt_id]) for r in memory.responses(ids=ids)]
    assert len(kept["ssd"]) > len(kept["lmsi"]) > 0
    assert sum(kept["ssd"]) / len(kept["ssd"]) < sum(kept["lmsi"]) / len(kept["lmsi"])


def response(id_, text, prompt="p"):
    where = {"round": 1, "origin": Origin.SAMPLE, "unit": "u", "slot": 0, "seed": 0, "policy": "base"}
    return Response(id_, prompt, text=text, finish=Finish.STOP, prompt_tokens=8, new_tokens=9, parents=(), **where)


def a_run(prompts=(), responses=()):
    """As much of a run as labels look at."""
    memory = SimpleNamespace(responses=lambda ids: [r for r in responses if r.id in ids])
    config = SimpleNamespace(vote=VoteConfig(echo=0.0))
    return SimpleNamespace(memory=memory, config=config, prompts=lambda split: list(prompts))


def test_an_answer_that_ends_early_abstains():
    texts = ["2b4", "2b4", "2b4", "2b4c0", "2b4c0"]
    run = a_run(responses=[response(i, text) for i, text in enumerate(texts)])
    ((tally,), judged) = growing.whole(run, 1, {"p": [Ballot(i, text, False) for i, text in enumerate(texts)]})
    assert (tally.answer, tally.agreement, tally.voters, tally.abstained) == ("2b4c0", 1.0, 2, 3)
    assert [j.answer for j in judged] == [None, None, None, "2b4c0", "2b4c0"]


def test_the_writings_of_a_sum_vote_together_and_teach_each_other():
    prompts = [make_prompt((Message("user", text),), 0.0) for text in ("12b..c75a=a", "..x12w75v=v", "99b..c=b")]
    first, second, other = (p.id for p in prompts)
    texts = [(first, "2b5c0"), (second, "2w4x0"), (second, "2w4x0"), (other, "8c1")]
    ballots = {}
    for i, (prompt, text) in enumerate(texts):
        ballots.setdefault(prompt, []).append(Ballot(i, text, False))
    tallies, judgements = growing.pooled(a_run(prompts), 1, ballots)
    assert [(t.prompt_id, t.answer, t.voters) for t in tallies] == [
        (first, "240", 3),
        (second, "240", 3),
        (other, "81", 1),
    ]
    assert {j.response_id: j.answer for j in judgements} == {0: "250", 1: "240", 2: "240", 3: "81"}

    (asked,) = (Example(second, (Message("user", "..x12w75v=v"),), "2w4x0", 1.0, 1),)
    made = growing.rewritten([asked])
    assert len({e.messages for e in made}) > 1
    assert all(e.completion == sums.solve(e.messages[0].content) for e in made)


def test_a_chain_is_worked_out_step_by_step_and_demonstrations_are_no_task():
    shown = chain.demonstrations(60)
    asked = {q.text for q in islice(chain.chain_questions(2, 3), 4000)}
    assert len({e.messages for e in shown}) == 60
    assert not asked & {e.messages[0].content for e in shown}
    for question, worked, result in islice(chain.chains(4, "task"), 50):
        assert eval(question.removeprefix("Compute ").rstrip(".")) == result
        *steps, answer = worked.split("; ")
        assert len(steps) == 4
        assert all(eval(left) == int(right) for left, _, right in (step.partition("=") for step in steps))
        assert answer == f"answer: {result}"
        assert extract(worked, Kind.NUMBER, question) == str(result)
        assert is_right(worked, Key(frozenset([str(result)])))


def test_the_page_holds_what_is_finished_and_was_not_changed_by_hand(tmp_path):
    for name, arm, seed in (
        ("rewrite-1", "rewrite", 1),
        ("lmsi-1", "lmsi", 1),
        ("rewrite-0", "rewrite", 0),
        (digits.cell_name("lmsi", 0, ("rounds=1",)), "lmsi", 0),
        ("MANIFEST", "", 0),
    ):
        shares = {"2": 0.5, "1": 1.0}
        cell = {"arm": arm, "seed": seed, "before": shares, "after": shares}
        (tmp_path / f"{name}.json").write_text(json.dumps(cell))
    found = digits.finished(tmp_path)
    assert [(cell["arm"], cell["seed"]) for cell in found] == [("rewrite", 0), ("lmsi", 1), ("rewrite", 1)]
    assert found[0]["after"] == {1: 1.0, 2: 0.5}
