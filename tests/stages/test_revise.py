"""Critique with rivals in view, then revision: what is shown, and what the result descends from."""

from selfimprove.stages.revise import plan_critiques, plan_revisions
from selfimprove.types import Finish, Message, Origin, Prompt, Response, Split

PROMPT = Prompt("p", (Message("system", "Be brief."), Message("user", "What is {7} x 8?")), Split.TRAIN)


def response(id_, text, origin=Origin.SAMPLE, parents=()):
    return Response(id_, "p", 1, origin, "u", 0, text, Finish.STOP, 0, "base", 5, 5, parents)


GROUP = [
    response(1, "It is 56."),
    response(2, "54"),
    response(3, "56"),
    response(4, "It is 55"),
    response(5, "who knows"),
]
ANSWERS = {1: "56", 2: "54", 3: "56", 4: "55", 5: None}


def critiques(k=1, rivals=3, group=GROUP):
    return plan_critiques([PROMPT], {"p": group}, ANSWERS, k=k, rivals=rivals, seed_key=(7, 1))


def test_one_short_answer_of_each_class_is_shown():
    (request,) = critiques()
    assert sorted(request.parents) == [2, 3, 4]
    assert request.origin is Origin.CRITIQUE
    system, asked = request.messages
    assert system == PROMPT.messages[0]
    assert asked.content.startswith("What is {7} x 8?")
    shown = [line for line in asked.content.splitlines() if line[:1].isdigit()]
    texts = {r.id: r.text for r in GROUP}
    assert shown == [f"{i}. {texts[id_]}" for i, id_ in enumerate(request.parents, start=1)]


def test_the_most_frequent_answers_are_the_rivals():
    assert sorted(critiques(rivals=2)[0].parents) == [2, 3]


def test_no_place_in_the_list_is_always_the_majoritys():
    requests = critiques(k=12)
    assert {request.parents.index(3) for request in requests} == {0, 1, 2}
    assert len({request.seed for request in requests}) == 12


def test_answers_that_agree_are_not_disputed():
    assert critiques(group=[GROUP[0], GROUP[2], GROUP[4]]) == []
    assert plan_critiques([PROMPT], {}, {}, k=1, rivals=3, seed_key=()) == []


def test_a_revision_continues_the_conversation_of_its_critique():
    (request,) = critiques()
    critique = response(9, " The second is wrong. ", Origin.CRITIQUE, request.parents)
    (revision,) = plan_revisions([PROMPT], [critique], {"p": GROUP}, seed_key=(7, 1))
    assert revision.messages[:2] == request.messages
    assert revision.messages[2] == Message("assistant", "The second is wrong.")
    assert revision.messages[3].role == "user" and revision.messages[3].content.endswith("What is {7} x 8?")
    assert revision.parents == (*request.parents, 9)
    assert revision.origin is Origin.REVISE


def test_an_empty_critique_leads_nowhere():
    silent = response(9, " \n", Origin.CRITIQUE, (1, 2))
    assert plan_revisions([PROMPT], [silent], {"p": GROUP}, seed_key=()) == []
