"""Revision: rivals in view, verdicts that the vote labels, what is taught, and the trial that decides on its use."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.config import ReviseConfig
from selfimprove.memory import ResponseMemory
from selfimprove.memory.operators import operators
from selfimprove.outcomes import Selection
from selfimprove.run.progress import Progress
from selfimprove.run.session import open_run
from selfimprove.stages.method import OURS
from selfimprove.stages.revise import Demonstrated, Trial, demonstrations_for, hold_trial, plan_answers, plan_revisions
from selfimprove.stages.revision import (
    Revised,
    Rivals,
    answers_shown,
    critic_verdicts,
    draws,
    fits,
    read_revision,
    rivals_of,
)
from selfimprove.stages.vote import Ballot, count_votes, critic_prior
from selfimprove.types import Finish, Message, Origin, Prompt, Response, Split, Stage

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


def rivals(group=GROUP, consensus="56"):
    return rivals_of([PROMPT], {"p": group}, ANSWERS, {"p": consensus})


def plan(k=1, shown=(), **changes):
    config = ReviseConfig(**changes)
    return plan_revisions([PROMPT], rivals(), {"p": shown}, config, k=k, seed_key=(7, 1))


def test_readable_answers_are_shown_in_the_order_of_the_parents():
    (request,) = plan()
    assert sorted(request.parents) == [1, 2, 3, 4], "the unreadable answer is left out"
    assert request.origin is Origin.CRITIQUE
    system, asked = request.messages
    assert system == PROMPT.messages[0]
    assert asked.content.startswith("What is {7} x 8?")
    shown = [line for line in asked.content.splitlines() if line[:1].isdigit()]
    texts = {r.id: r.text for r in GROUP}
    assert shown == [f"{i}. {texts[id_]}" for i, id_ in enumerate(request.parents, start=1)]


def test_every_revision_has_a_draw_of_its_own_with_either_side_in_it():
    requests = plan(k=24, rivals=2)
    assert {len(set(r.parents) & {1, 3}) for r in requests} == {1}
    assert {r.parents.index(i) for r in requests for i in (1, 3) if i in r.parents} == {0, 1}, "no side comes first"
    assert len({request.seed for request in requests}) == 24
    assert plan(k=24, rivals=2) == requests


def test_answers_that_agree_are_not_revised():
    assert rivals([GROUP[0], GROUP[2], GROUP[4]]) == {}
    assert rivals(consensus=None) == rivals(consensus="57") == {}


def test_demonstrated_revisions_come_after_the_system_message():
    turns = (Message("user", "What is 2 x 2?"), Message("assistant", "1 wrong, 2 right\n4"))
    (request,) = plan(shown=[Demonstrated(turns, (40, 41))], rivals=2)
    assert request.messages[0] == PROMPT.messages[0]
    assert request.messages[1:3] == turns
    assert request.parents[2:] == (40, 41)


def test_the_answer_of_a_critique_descends_from_it_and_what_it_was_shown():
    critique = response(9, "1 wrong, 2 right\n56", Origin.CRITIQUE, (2, 3))
    (answer,) = plan_answers([PROMPT], {"p": [critique]})
    assert answer.origin is Origin.REVISE
    assert answer.parents == (2, 3, 9)


@pytest.mark.parametrize(
    ("text", "verdicts", "answer"),
    [
        ("wrong, right, wrong\nIt is 56.", (False, True, False), "It is 56."),
        ("Wrong, right, wrong\nRight", (False, True, False), "Right"),
        ("1 wrong, 2 right, 3 wrong\nIt is 56.", (False, True, False), "It is 56."),
        ("1: Correct. 3 is incorrect; 56", (True, None, False), "56"),
        ("1 right, 2 wrong, 1 wrong\n56", (True, False, None), "56"),
        ("Right.", (None, None, None), "Right."),
        ("right, wrong, wrong, wrong\n56", (True, False, False), "wrong\n56"),
        ("It is 56.\n", (None, None, None), "It is 56."),
        ("56 right", (None, None, None), "56 right"),
        ("1 wrong, 2 right", (False, True, None), ""),
        ("", (None, None, None), ""),
    ],
)
def test_a_revision_is_read(text, verdicts, answer):
    assert read_revision(text, 3) == Revised(verdicts, answer)


def test_what_is_taught_is_read_back():
    own = rivals()["p"]
    shown = own.draw(4, 0)
    for text, final in (("It is 56.", "It is 56."), ("<think>7 x 8</think>\n56", "56")):
        taught = own.revised(shown, text, final, verdicts=True)
        assert taught.startswith(text.removesuffix(final))
        read = read_revision(taught.removeprefix(text.removesuffix(final)), 4)
        assert read == Revised(tuple(r.id in (1, 3) for r in shown), final)
    assert own.revised(shown, "It is 56.", "It is 56.", verdicts=False) == "It is 56."


def many(right, wrong):
    group = tuple(response(i, "56" if i < right else "54") for i in range(right + wrong))
    return Rivals(PROMPT, group, {r.id: r.text for r in group}, "56")


def test_hard_sets_are_preferred_and_easy_ones_kept_in():
    own = many(6, 6)
    for easy, least in ((0.0, 0), (0.5, 2), (1.0, 4)):
        sets = draws(own, 4, 4, easy, 0)
        assert len(sets) == 4
        assert sum(not own.hard(shown) for shown in sets) == least
    assert own.hard([own.answers[0], own.answers[11]]), "a tie is no majority"
    clear = many(9, 1)
    assert [clear.hard(shown) for shown in draws(clear, 4, 4, 0.0, 0)] == [False] * 4, "easy ones, where none is hard"
    assert len(draws(many(1, 1), 4, 4, 0.5, 0)) == 1, "no set twice"


def test_verdicts_weigh_the_votes():
    ballots = [Ballot(1, "56", False), Ballot(2, "54", False), Ballot(3, "54", False), Ballot(4, None, False)]
    verdicts = {1: [True, True], 2: [False], 3: [False, False, True]}
    priors = critic_prior({"p": ballots}, verdicts, exponent=1.0)["p"]
    assert priors == {"56": pytest.approx(1 / 1.5), "54": pytest.approx(1 / (2 * 2 / 6))}
    assert count_votes("p", ballots, derived_cap=0.5)[0].answer == "54"
    assert count_votes("p", ballots, derived_cap=0.5, prior=priors)[0].answer == "56"
    assert set(critic_prior({"p": ballots}, {}, exponent=1.0)["p"].values()) == {1.0}


def test_a_critique_judges_the_answers_to_its_own_prompt_alone(undisturbed):
    """With three answers shown, a fourth verdict would fall on a demonstration."""
    folder, _ = undisturbed
    with ResponseMemory.open(folder / "memory.db") as memory:
        first, second = sorted({r.prompt_id for r in memory.responses(origins=[Origin.SAMPLE])})[:2]
        own, other = ([r.id for r in memory.responses(prompt_ids=[id_])][:3] for id_ in (first, second))
        critique = replace(response(10**6, "right, wrong, right, wrong\n56", Origin.CRITIQUE), prompt_id=first)
        critique = replace(critique, parents=(*own, *other))
        run = SimpleNamespace(memory=memory)
        assert answers_shown(run, [critique]) == [tuple(own)]
        assert len(read_revision(critique.text, len(own)).verdicts) == 3


@pytest.mark.parametrize(
    ("trial", "passed"), [(Trial(20, 0.5, 0.5), True), (Trial(20, 0.4, 0.5), False), (Trial(7, 1.0, 0.0), False)]
)
def test_a_trial_needs_prompts_and_revisions_as_good_as_samples(trial, passed):
    assert trial.passed is passed


def test_revisions_are_taught_recorded_and_used(undisturbed):
    folder, _ = undisturbed
    with ResponseMemory.open(folder / "memory.db") as memory:
        responses = {r.id: r for r in memory.responses()}
        critiques = [r for r in responses.values() if r.unit.split("/")[1] == "critique"]
        assert critiques
        for answer in memory.responses(origins=[Origin.REVISE]):
            *shown, critique = answer.parents
            assert responses[critique].parents == tuple(shown)
            assert responses[critique].text.endswith(answer.text)
            assert answer.new_tokens == 0, "its tokens are the critique's"
        for round_ in (1, 2):
            taught = memory.result(round_, Stage.TRAIN)["revisions"]
            verdicts = memory.verdicts(round_)
            winners = {id_: tally.answer for id_, tally in memory.tallies(round_, 2).items()}
            judged = memory.judgements(round_, 2)
            assert taught
            for survivor, shown in taught:
                assert verdicts[survivor].kept, "what is taught is a survivor's text"
                prompt_id = responses[survivor].prompt_id
                assert {responses[id_].prompt_id for id_ in shown} == {prompt_id}
                assert {judged[id_].answer == winners[prompt_id] for id_ in shown} == {True, False}
            spent = sum(r.new_tokens for r in critiques if r.round == round_)
            assert operators(memory, round_)[Origin.REVISE].tokens == spent > 0


@pytest.mark.parametrize("least", [1, 1000])
def test_the_trial_decides_whether_revisions_are_used(taught_folder, prompts, tmp_path, monkeypatch, least):
    monkeypatch.setattr("selfimprove.stages.revise.LEAST", least)
    propose = {"exemplar": {"k": 0}, "revise": {"k": 1, "below": 1.0, "shots": 1, "trial": 4}}
    config = tiny_config(taught_folder, prompts, propose=propose, rounds=1)
    run_it(config, tmp_path / "run")
    with open_run(config, folder=tmp_path / "run", resume=True, progress=Progress(quiet=True)) as run:
        held = {r.id: r for r in run.memory.responses(stages=[Stage.TRIAL])}
        demonstrated = demonstrations_for(run, 1)
        trial = hold_trial(run, 1, demonstrated)
        assert 0 < trial.prompts == len(held) <= 4
        assert trial.passed == bool(run.memory.responses(stages=[Stage.CRITIQUE]))
        assert trial.passed or least == 1000 or trial.revised < trial.sampled
        assert operators(run.memory, 1)[Origin.REVISE].tokens >= sum(r.new_tokens for r in held.values()) > 0
        heldout = {p.id for p in run.prompts(Split.HELDOUT)}
        assert {r.prompt_id for r in held.values()} <= heldout
        assert not held.keys() & set(critic_verdicts(run, 1))
        shown = demonstrated(run.prompts(Split.HELDOUT)[:1])
        assert all(len(demonstrations) == 1 for demonstrations in shown.values())
        parents = {r.id: r for r in run.memory.responses()}
        for one in (one for demonstrations in shown.values() for one in demonstrations):
            assert not {parents[id_].prompt_id for id_ in one.shown} & heldout
            assert [turn.role for turn in one.turns] == ["user", "assistant"]


def test_examples_beyond_the_positions_are_not_trained_on(undisturbed, taught_folder, prompts):
    folder, _ = undisturbed
    config = tiny_config(taught_folder, prompts)
    with open_run(config, folder=folder, resume=True, progress=Progress(quiet=True)) as run:
        verdicts = run.memory.verdicts(2).values()
        selection = Selection(tuple(v for v in verdicts if v.kept), ())
        examples = OURS.examples(run, 2, selection).examples
        sizes = [len(run.policy.encode(e.messages)) + len(run.policy.encode_completion(e.completion)) for e in examples]
        run.policy.positions = sorted(sizes)[len(sizes) // 2]
        fitting = [e for e, size in zip(examples, sizes, strict=True) if size <= run.policy.positions]
        assert [e for e in examples if fits(run, e)] == fitting
        assert len(fitting) < len(examples)
        fewer = OURS.examples(run, 2, selection).examples
        assert fewer
        assert all(fits(run, e) for e in fewer)


def test_half_of_the_completion_tokens_are_taught_as_revisions(undisturbed, taught_folder, prompts):
    folder, _ = undisturbed
    config = tiny_config(taught_folder, prompts)
    with open_run(config, folder=folder, resume=True, progress=Progress(quiet=True)) as opened:
        train = config.train.model_copy(update={"revise": config.train.revise.model_copy(update={"share": 0.5})})
        run = replace(opened, config=config.model_copy(update={"train": train}))
        verdicts = run.memory.verdicts(2).values()
        selection = Selection(tuple(v for v in verdicts if v.kept), ())
        examples = OURS.examples(run, 2, selection).examples
        sizes = [(len(run.policy.encode_completion(e.completion)), bool(e.shown)) for e in examples]
        revised, direct = (sum(size for size, shown in sizes if bool(shown) is side) for side in (True, False))
        assert revised - sizes[-1][0] < direct <= revised, "half, to the example"
        assert OURS.examples(run, 2, selection).examples == examples
