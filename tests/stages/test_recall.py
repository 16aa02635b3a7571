"""Demonstrations from memory: one draw for each slot and group of neighbours."""

from dataclasses import replace

import pytest
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.memory import ResponseMemory
from selfimprove.memory.retrieval import Recalled
from selfimprove.stages.recall import plan_recall
from selfimprove.types import Message, Origin, Prompt, Split


def prompt(id_, *turns):
    return Prompt(id_, turns or (Message("system", "Be brief."), Message("user", f"question {id_}?")), Split.TRAIN)


BRIEF = Message("system", "Be brief.")


def answers(n, system=(BRIEF,)):
    return [
        Recalled(100 + i, prompt(f"m{i}", *system, Message("user", f"recalled {i}?")), f"answer {i}", f"{i}", 0.5, 1.0)
        for i in range(n)
    ]


def plan(prompts, recalled, k=4, shots=3, key=(7, 1), together=False, distinct=False):
    groups = [prompts] if together else [[p] for p in prompts]
    return plan_recall(groups, [recalled] * len(groups), slots=range(k), shots=shots, seed_key=key, distinct=distinct)


def test_demonstrations_are_earlier_turns_behind_the_system_message():
    (request,) = plan([prompt("q")], answers(1), k=1)
    assert request.messages == (
        Message("system", "Be brief."),
        Message("user", "recalled 0?"),
        Message("assistant", "answer 0"),
        Message("user", "question q?"),
    )
    assert (request.origin, request.prompt_id, request.parents, request.prefix) == (Origin.RECALL, "q", (100,), "")


def test_a_demonstration_is_the_whole_conversation_and_stands_under_its_own_system_message():
    """What "and its capital?" asks stands in the turns before it; an answer in French is no model for German."""
    earlier = (Message("user", "Tell me about Peru."), Message("assistant", "It is large."))
    follow_up = prompt("m", BRIEF, *earlier, Message("user", "And its capital?"))
    other = answers(3, system=(Message("system", "Answer in German."),))
    (request,) = plan([prompt("q")], [Recalled(1, follow_up, "Lima.", "lima", 0.9, 1.0), *other, *answers(0)], k=1)
    assert request.parents == (1,)
    assert request.messages == (*follow_up.messages, Message("assistant", "Lima."), Message("user", "question q?"))
    assert plan([prompt("q", Message("user", "without a system message"))], other) == []


def test_a_group_shares_the_draw_of_a_slot_and_each_slot_has_its_own():
    requests = plan([prompt(f"q{i}") for i in range(5)], answers(32), together=True)
    slots = [requests[i : i + 5] for i in range(0, 20, 5)]
    assert [r.prompt_id for r in slots[0]] == [f"q{i}" for i in range(5)]
    for slot in slots:
        assert len({r.messages[:-1] for r in slot}) == 1
        assert len(slot[0].parents) == len(set(slot[0].parents)) == 3
    assert len({slot[0].parents for slot in slots}) == 4
    assert len({r.seed for r in requests}) == 20


def test_a_prompt_never_sees_its_own_answer_but_the_next_one_of_the_draw():
    recalled = answers(4)
    others, own = plan([prompt("q"), prompt("m2")], recalled, k=1, together=True)
    order = [r.response_id for r in recalled]
    full = plan([prompt("q")], recalled, k=1, shots=4, together=True)[0].parents
    assert sorted(full) == order
    assert others.parents == full[:3]
    assert own.parents == tuple(id_ for id_ in full if id_ != 102)


def test_the_draw_depends_on_its_key_alone():
    recalled = answers(32)
    first = plan([prompt("q")], recalled)
    assert first == plan([prompt("q")], recalled[::-1])
    assert first != plan([prompt("q")], recalled, key=(7, 2))
    # a prompt sees the same whatever else is in its unit
    assert [r for r in plan([prompt("p"), prompt("q")], recalled) if r.prompt_id == "q"] == first


def test_with_nothing_to_show_nothing_is_asked():
    assert plan([prompt("q")], []) == []
    assert [r.prompt_id for r in plan([prompt("m0"), prompt("q")], answers(1), k=1)] == ["q"]


def test_each_prompt_and_sample_draws_its_own():
    requests = plan([prompt("p"), prompt("q")], answers(32))
    assert [(r.prompt_id) for r in requests] == ["p", "q"] * 4
    assert len({r.parents for r in requests}) == 8
    assert all(len(set(r.parents)) == 3 for r in requests)


def test_a_distinct_draw_shows_no_answer_twice_while_there_are_others():
    pool = [replace(r, answer="same" if i < 10 else f"{i}") for i, r in enumerate(answers(12))]
    given = {r.response_id: r.answer for r in pool}
    for request in plan([prompt("q")], pool, k=8, distinct=True):
        assert len({given[id_] for id_ in request.parents}) == 3
    plain = plan([prompt("q")], pool, k=8)
    assert any(len({given[id_] for id_ in r.parents}) < 3 for r in plain), "or the pool would prove nothing"


@pytest.mark.slow
def test_nothing_is_recalled_where_all_prompts_would_see_the_same(taught_folder, prompts, tmp_path):
    exemplar = {"k": 2, "below": 2.0, "agree": 0.0, "shots": 40}  # more than there are prompts
    config = tiny_config(taught_folder, prompts, rounds=1, propose={"exemplar": exemplar})
    run_it(config, tmp_path / "run")
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        assert memory.responses(origins=[Origin.SAMPLE])
        assert not memory.responses(origins=[Origin.RECALL])
        assert any(verdict.kept for verdict in memory.verdicts(1).values())
        assert memory.verify() == []
