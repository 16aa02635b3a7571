"""Stitching: steps that add up to the text, states that meet, and a beginning that no single response holds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.outcomes import Tally
from selfimprove.stages.step_graph import MAX_STEPS, best_prefix, build_graph, split_steps
from selfimprove.stages.step_votes import StepVotes, equations
from selfimprove.stages.stitch import plan_stitches
from selfimprove.stages.vote import Ballot, count_votes
from selfimprove.types import Finish, Message, Origin, Prompt, Response, Split


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("The capital of France is Paris.", ["The capital of France is", " Paris."]),
        ("7 x 8 = 56.", ["7 x 8 =", " 56."]),
        ("3 + 4 = 7. 7 * 2 = 14.\nSo 14", ["3 + 4 =", " 7. ", "7 * 2 =", " 14.\n", "So 14"]),
        ("Paris", ["Paris"]),
        ("a == b", ["a ==", " b"]),
        ("\n\nfirst\n\n  second\n", ["\n\nfirst\n\n  ", "second\n"]),
        ("", [""]),
    ],
)
def test_steps(text, steps):
    assert split_steps(text) == steps


@given(st.one_of(st.text(), st.text("a1 =.\n;is", max_size=400)))
def test_steps_add_up_to_the_text(text):
    steps = split_steps(text)
    assert "".join(steps) == text
    assert len(steps) <= MAX_STEPS
    assert len(steps) == 1 or all(step.strip() for step in steps)


def graph(*endings, vectors=None, same=0.95):
    texts, answers = zip(*endings, strict=True)
    return build_graph(texts, answers, vectors, same)


def test_equal_texts_and_equal_results_are_one_state():
    found = graph(("3 + 4 = 7. 7 * 2 = 14.", "14"), ("4 + 3 = 7\n7 * 2 = 15", "15"), ("3+4 = 8.", "8"))
    assert found.paths == ((0, 1, 2, 3), (4, 1, 2, 5), (0, 6))
    assert found.members[1] == (0, 1)
    assert found.value(1, "14") == 0.5
    assert found.texts(1) == [" 7. ", " 7\n"]


def test_close_meaning_is_one_state_only_with_equal_numbers():
    rows = np.array([[1.0, 0.0], [0.0, 1.0]])
    near = [rows, np.array([[0.96, 0.28], [0.0, 1.0]])]
    same_numbers = (("We add 3 and 4. Done", "7"), ("Adding 3 and 4. Done", "7"))
    assert graph(*same_numbers, vectors=near).paths == ((0, 1), (0, 1))
    assert graph(*same_numbers, vectors=near, same=0.97).paths == ((0, 1), (2, 1))
    assert graph(*same_numbers).paths == ((0, 1), (2, 1))
    other_numbers = (("We add 3 and 4. Done", "7"), ("Adding 3 and 5. Done", "8"))
    assert graph(*other_numbers, vectors=near).paths == ((0, 1), (2, 1))


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), min_size=1, max_size=6))
def test_the_graph_has_no_cycle_and_keeps_every_step(responses):
    texts = ["\n".join(steps) for steps in responses]
    found = build_graph(texts, ["x"] * len(texts), None, 0.95)
    successors = {}
    for path, steps in zip(found.paths, found.steps, strict=True):
        assert len(path) == len(steps) == len(set(path))
        for node, following in pairwise(path):
            successors.setdefault(node, set()).add(following)
    remaining = {node for path in found.paths for node in path}
    while remaining:  # a graph without cycles always has a node that leads nowhere
        ends = {node for node in remaining if not successors.get(node, set()) & remaining}
        assert ends
        remaining -= ends
    for node, members in enumerate(found.members):
        assert members == tuple(i for i, path in enumerate(found.paths) if node in path)


def test_the_start_of_one_response_joins_the_middle_of_another():
    # the first three start in the better way, the next two go on in the better way; none does both
    found = graph(
        ("3 + 4 = 7. Now wrongly. So 15", "15"),
        ("3 + 4 = 7. Now twice. So 14", "14"),
        ("3 + 4 = 7. And again. So 14", "14"),
        ("Let us see: 4 + 3 = 7. Twice 7 is 14", "14"),
        ("Let us see: 4 + 3 = 7. Twice 7 is 14", "14"),
        ("Let us see: 4 + 3 = 8. So 8", "8"),
        ("Let us see: 4 + 3 = 9. So 9", "9"),
        ("Let us see: 4 + 3 = 1. So 1", "1"),
    )
    stitched = best_prefix(found, "14")
    assert stitched is not None
    assert stitched.prefix == "3 + 4 = 7. Twice 7 is"
    assert stitched.sources == (1, 3)
    assert stitched.value == 1.0
    assert not any(text.startswith(stitched.prefix) for text in ("".join(steps) for steps in found.steps))


def test_a_beginning_ends_before_the_answer_is_stated():
    found = graph(
        ("The capital of France is Paris.", "paris"), ("Paris", "paris"), ("The capital of France is Lyon.", "lyon")
    )
    assert best_prefix(found, "paris") is None  # it does worse than the group: 1 of 2 against 2 of 3
    found = graph(
        ("The capital of France is Paris.", "paris"), ("The capital of France is Paris.", "paris"), ("Lyon", "lyon")
    )
    stitched = best_prefix(found, "paris")
    assert stitched is not None
    assert (stitched.prefix, stitched.sources, stitched.value) == ("The capital of France is", (0,), 1.0)


def test_single_steps_and_answers_first_leave_nothing_to_stitch():
    assert best_prefix(graph(("Paris", "paris"), ("Lyon", "lyon")), "paris") is None
    assert (
        best_prefix(
            graph(
                ("Paris is the capital.", "paris"),
            ),
            "paris",
        )
        is None
    )
    assert (
        best_prefix(
            graph(
                ("", None),
            ),
            "paris",
        )
        is None
    )


def test_one_lucky_response_does_not_beat_many_that_mostly_agree():
    many = [("We add. So it = 5", "5")] * 4 + [("We add. So it = 6", "6")]
    stitched = best_prefix(graph(("I guess. So it = 5", "5"), *many), "5")
    assert stitched is None or stitched.prefix.startswith("We add.")


def test_plan_continues_the_prompt_from_its_best_beginning():
    prompt = Prompt("p", (Message("user", "Capital of France?"),), Split.TRAIN)
    texts = ["The capital of France is Paris.", "The capital of France is Paris.", "Lyon"]
    group = [
        Response(40 + i, "p", 1, Origin.SAMPLE, "u", i, text, Finish.STOP, 0, "base", 5, 5, ())
        for i, text in enumerate(texts)
    ]
    answers = {40: "paris", 41: "paris", 42: "lyon"}
    tally = Tally("p", "paris", 2 / 3, 1 / 3, 3, 3, 0)

    def embed(steps):
        assert len(steps) == 5  # one call for the whole group
        return np.eye(len(steps), dtype=np.float32)

    def plan(tallies, **change):
        how = {"k": 2, "same": 0.95, "embed": embed, "seed_key": (7, 1)} | change
        return plan_stitches([prompt], {"p": group}, answers, tallies, **how)

    requests = plan({"p": tally})
    assert [r.prefix for r in requests] == ["The capital of France is"] * 2
    assert all(r.messages == prompt.messages and r.origin is Origin.STITCH for r in requests)
    assert [r.parents for r in requests] == [(40,), (40,)]
    assert requests[0].seed != requests[1].seed
    assert plan({"p": tally}, embed=None) == requests
    assert plan({}) == plan({"p": Tally("p", None, 0, 0, 0, 0, 3)}) == []
    assert plan_stitches([prompt], {}, answers, {"p": tally}, k=1, same=0.95, embed=embed, seed_key=()) == []


@pytest.mark.parametrize(
    ("text", "answer"), [("It costs = $3,000.00 now", "3000"), ("So x = -5", "-5"), ("It is the cat", "cat")]
)
def test_an_answer_is_recognised_however_it_is_written(text, answer):
    stitched = best_prefix(graph(*[(f"First. {text}. Good", answer)] * 2), answer)
    assert stitched is not None
    assert not stitched.prefix.endswith("Good") and text.split()[-1] not in stitched.prefix


STEPS = ["12+7=19; 19-5=14; answer: 14", "12 + 7 = 18; 18-5=13; answer: 13", "13"]


def test_equations_are_the_steps_that_are_pooled():
    assert equations("12+7=19; 19 - 5 = 14; answer: 14") == [("12+7", "19"), ("19-5", "14")]
    assert equations("3 x 4 is 12, so x=12 and 2\u00d73=6.") == [("2\u00d73", "6")]
    assert equations("1,200 / 2 = 600.5") == [("1,200/2", "600.5")]


def test_what_other_prompts_answers_say_of_a_step_weighs_its_answers():
    assert StepVotes.of(["1+1=3; 1+1=3; 1+1=3", "1+1=2", "so 1 + 1 = 2"]).share("1+1", "2") == 2 / 4, "a vote a text"
    votes = StepVotes.of([*STEPS, "12+7=19; 19+1=20; answer: 20", "4+8=12; 12+7=19; answer: 19"])
    assert votes.share("12+7", "19") == 3 / 5, "two of the three others, smoothed"
    assert votes.share("12+7", "18") == 1 / 5
    assert votes.share("7*7", "49") == 0.5, "nobody else says"
    right, wrong, short = votes.beliefs(STEPS)
    assert (right, wrong) == (pytest.approx(3 / 5 * 1 / 2), pytest.approx(1 / 5 * 1 / 2))
    assert short == wrong, "no better than the least believed"
    assert votes.beliefs(["7", "12+7=19", "8"]) == [1.0] * 3, "answers of one step are believed"
    assert votes.beliefs([]) == []


def test_what_is_not_believed_of_a_vote_counts_against_every_answer():
    ballots = [
        Ballot(1, "14", False, belief=0.9),
        Ballot(2, "13", False, belief=0.1),
        Ballot(3, "13", False, belief=0.1),
    ]
    tally, judgements = count_votes("p", ballots, derived_cap=0.5)
    assert tally.answer == "14"
    assert tally.agreement == pytest.approx(0.9 / 3)
    assert tally.margin == pytest.approx(0.7 / 3)
    assert [j.share for j in judgements] == [pytest.approx(x / 3) for x in (0.9, 0.2, 0.2)]


def test_the_memory_decides_which_way_a_prefix_takes():
    found = graph(
        ("12+7=19; 19-5=14; answer: 14", "14"),
        ("12+7=18; 18-4=14; answer: 14", "14"),
        ("12+7=18; 18-4=14; answer: 14", "14"),
    )
    alone, pooled = best_prefix(found, "14"), best_prefix(found, "14", StepVotes.of(["12+7=19"] * 9 + ["12+7=18"]))
    assert alone is not None and alone.prefix.startswith("12+7=18")
    assert pooled is not None and pooled.prefix.startswith("12+7=19")
