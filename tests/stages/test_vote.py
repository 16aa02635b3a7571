"""The vote: counted right, the same in any order, and never decided by answers made out of answers."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.answers import Kind, Reader
from selfimprove.evaluation.limits import careful
from selfimprove.memory import Embedder, ResponseMemory
from selfimprove.run.progress import Progress
from selfimprove.run.session import open_run
from selfimprove.stages import evaluate, reading
from selfimprove.stages.calibration import SMOOTHING, combined, echo_prior, neighbour_prior
from selfimprove.stages.reading import answer_kind, read_texts
from selfimprove.stages.sample import sample
from selfimprove.stages.vote import Ballot, count_votes, shares, vote
from selfimprove.types import VOTERS, Message, Origin, Poll, Prompt, Response, Split


def ballots(answers, derived=()):
    """Ballots of originals, then of derived responses; ids count up from 1."""
    cast = [(answer, False) for answer in answers] + [(answer, True) for answer in derived]
    return [Ballot(i, answer, is_derived) for i, (answer, is_derived) in enumerate(cast, start=1)]


def test_majority_with_abstentions():
    tally, judgements = count_votes("p", ballots(["a", "a", "a", "b", None, None]), derived_cap=0.5)
    assert (tally.answer, tally.votes, tally.voters, tally.abstained) == ("a", 4, 4, 2)
    assert tally.agreement == 0.75  # of the votes cast: abstentions do not vote
    assert tally.margin == 0.5
    assert [j.share for j in judgements] == [0.75, 0.75, 0.75, 0.25, None, None]
    assert [j.weight for j in judgements] == [1, 1, 1, 1, 0, 0]


def test_nobody_votes():
    tally, judgements = count_votes("p", ballots([None, None]), derived_cap=0.5)
    assert (tally.answer, tally.agreement, tally.margin, tally.voters, tally.abstained) == (None, 0, 0, 0, 2)
    assert [j.share for j in judgements] == [None, None]
    assert count_votes("p", [], derived_cap=0.5)[0].answer is None


def test_a_tie_goes_to_the_earliest_response():
    assert count_votes("p", ballots(["b", "a", "a", "b"]), derived_cap=0.5)[0].answer == "b"


def test_derived_votes_are_capped_together():
    tally, judgements = count_votes("p", ballots(["a", "a", "b", "b"], derived=["b"] * 8), derived_cap=0.5)
    assert tally.answer == "b"
    assert tally.votes == pytest.approx(6)  # 4 originals and 0.5 of that
    assert tally.agreement == pytest.approx(4 / 6)
    assert judgements[-1].weight == pytest.approx(2 / 8)


def test_few_derived_votes_keep_their_full_weight():
    assert count_votes("p", ballots(["a", "a"], derived=["a"]), derived_cap=0.5)[0].votes == 3


def test_an_answer_that_no_original_gave_cannot_win():
    tally, _ = count_votes("p", ballots(["a", "b", "c"], derived=["new"] * 9), derived_cap=1.0)
    assert tally.answer == "a"
    assert tally.agreement == pytest.approx(1 / 6)
    assert tally.margin == 0  # the unelectable answer weighs more


def test_derived_votes_alone_decide_nothing():
    tally, _ = count_votes("p", ballots([None, None], derived=["new", "new"]), derived_cap=1.0)
    assert (tally.answer, tally.agreement, tally.votes, tally.voters) == (None, 0, 0, 2)


def test_earlier_rounds_weigh_less():
    cast = [
        Ballot(1, "old", False, 0.5),
        Ballot(2, "old", False, 0.5),
        Ballot(3, "new", False),
        Ballot(4, "gone", False, 0),
    ]
    tally, _ = count_votes("p", cast, derived_cap=0.5)
    assert (tally.answer, tally.agreement, tally.voters) == ("old", 0.5, 3)  # a tie: the earlier one
    cast.append(Ballot(5, "new", False, 0.25))
    assert count_votes("p", cast, derived_cap=0.5)[0].answer == "new"


def test_weights_that_are_none_are_refused():
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="prompt p"):
            count_votes("p", [Ballot(1, "a", False, weight)], derived_cap=0.5)


def test_an_answer_given_to_all_near_prompts_loses_its_votes_and_far_prompts_do_not_matter():
    """Two families on two axes: `0` wins everywhere in one, and nowhere in the other."""
    groups = {f"p{i}": ballots(["0", "0", "0", f"own{i}", f"own{i}"]) for i in range(30)}
    groups |= {f"q{i}": ballots(["0", "0", "other", f"far{i}"]) for i in range(1)}
    vectors = np.array([[1.0, 0.0]] * 30 + [[0.0, 1.0]])
    given = {id_: shares(group) for id_, group in groups.items()}
    priors = neighbour_prior(given, vectors, exponent=1.0)
    assert priors["p3"] == pytest.approx({"0": 1 + 0.6 / SMOOTHING, "own3": 1.0})
    assert count_votes("p3", groups["p3"], derived_cap=0.5)[0].answer == "0"
    tally, _ = count_votes("p3", groups["p3"], derived_cap=0.5, prior=priors["p3"])
    assert tally.answer == "own3"
    assert tally.agreement == pytest.approx(2 / (2 + 3 / 13))
    assert neighbour_prior(given, vectors, exponent=0.0)["p3"] == {"0": 1.0, "own3": 1.0}
    assert neighbour_prior({"p": given["p1"]}, vectors[:1], exponent=1.0) == {"p": {}}, "nobody is near"


def test_divisors_alone_do_not_make_one_vote_a_majority():
    """Seven echoes that lose their votes are no reason to believe the one other answer."""
    divided = {"sharp": 20.0}
    tally, judgements = count_votes("p", ballots(["sharp"] * 7 + ["dull"]), derived_cap=0.5, prior=divided)
    assert (tally.answer, tally.agreement, tally.margin, tally.support) == (None, 0, 0, 0)
    assert judgements[-1].share == pytest.approx(1 / (1 + 7 / 20))
    two = count_votes("p", ballots(["sharp"] * 6 + ["dull"] * 2), derived_cap=0.5, prior=divided)[0]
    assert (two.answer, two.agreement) == ("dull", pytest.approx(2 / (2 + 6 / 20)))
    alone = count_votes("p", ballots(["dull", None]), derived_cap=0.5, prior=divided)[0]
    assert alone.answer == "dull", "nothing was divided; select refuses a single vote"


LIVES = {"Ann": "Rome", "Ben": "Lima", "Eva": "Bern"}


def test_an_echo_of_the_question_loses_its_votes_where_near_prompts_are_echoed_too():
    """A base model says "sharp" is the opposite of "sharp": it agrees with itself, and knows nothing."""
    words = ["sharp", "deep", "open", "old"]
    texts = {word: f"What is the opposite of {word}?" for word in words} | {"pick": "Is a rose a plant or an animal?"}
    said = {word: ballots([word] * 5 + ["other", "other", None]) for word in words}
    said |= {"pick": ballots(["plant", "plant", "animal"])}
    given = {id_: shares(group) for id_, group in said.items()}
    vectors = np.ones((5, 1))
    priors = echo_prior(given, texts, vectors, exponent=1.0)
    assert priors == {word: pytest.approx({word: 1 + 5 / 7 / SMOOTHING}) for word in words}, "options are meant"
    assert count_votes("deep", said["deep"], derived_cap=0.5)[0].answer == "deep"
    assert count_votes("deep", said["deep"], derived_cap=0.5, prior=priors["deep"])[0].answer == "other"
    once = {**given, **{word: {"other": 1.0} for word in words[1:]}}
    assert echo_prior(once, texts, vectors, exponent=1.0)["sharp"] == {"sharp": 1.0}, "no habit, no correction"
    assert echo_prior({"sharp": given["sharp"]}, texts, vectors[:1], exponent=1.0) == {}, "nobody is near"
    extracts = {who: f"{who} lives in {city}. Bob lives in Oslo. Where does {who} live?" for who, city in LIVES.items()}
    cities = {who: {city.casefold(): 1.0} for who, city in LIVES.items()}
    nothing = {who: {} for who in LIVES}
    assert echo_prior(cities, extracts, np.ones((3, 1)), exponent=1.0) == nothing, "what the material holds is no echo"
    commands = {who: f"Name the city: {who} lives in {city}." for who, city in LIVES.items()}
    assert echo_prior(cities, commands, np.ones((3, 1)), exponent=1.0) == nothing
    days = {day: f"Today is {day}. What day is it in 3 days?" for day in ("Monday", "Friday", "Sunday")}
    assert all(echo_prior({day: {day.casefold(): 1.0} for day in days}, days, np.ones((3, 1)), exponent=1.0).values())
    before = {who: f"{who} lives in {city}. Name the city where {who} lives." for who, city in LIVES.items()}
    assert echo_prior(cities, before, np.ones((3, 1)), exponent=1.0) == nothing
    both = combined({"p": {"a": 2.0}}, {"p": {"a": 3.0, "b": 5.0}, "q": {}})
    assert both == {"p": {"a": 6.0, "b": 5.0}, "q": {}}


CAST = st.lists(
    st.builds(
        lambda answer, derived, weight: (answer, derived, weight),
        st.sampled_from(["a", "b", "c", None]),
        st.booleans(),
        st.sampled_from([1.0, 0.5, 0.25, 0.1, 0.0]),
    ),
    max_size=12,
)


@given(CAST, st.floats(0, 1), st.randoms())
def test_the_order_of_ballots_is_nothing_to_the_vote(cast, cap, random):
    given_order = [Ballot(i, *fields) for i, fields in enumerate(cast)]
    shuffled = random.sample(given_order, len(given_order))
    tally, judgements = count_votes("p", given_order, derived_cap=cap)
    other, others = count_votes("p", shuffled, derived_cap=cap)
    assert tally == other
    assert {j.response_id: j for j in judgements} == {j.response_id: j for j in others}
    assert [j.response_id for j in others] == [b.response_id for b in shuffled]


@given(CAST, st.floats(0, 1))
def test_the_tally_equals_a_count_by_hand(cast, cap):
    group = [Ballot(i, *fields) for i, fields in enumerate(cast)]
    tally, judgements = count_votes("p", group, derived_cap=cap)
    weights = Counter()
    for judgement in judgements:
        if judgement.answer is not None:
            weights[judgement.answer] += judgement.weight
    originals = {b.answer for b in group if not b.derived and b.weight > 0 and b.answer is not None}
    assert tally.votes == pytest.approx(sum(weights.values()))
    assert 0 <= tally.margin <= tally.agreement <= 1 + 1e-12
    if originals:
        assert tally.answer in originals
        assert weights[tally.answer] == pytest.approx(max(weights[answer] for answer in originals))
        assert tally.agreement == pytest.approx(weights[tally.answer] / tally.votes)
    else:
        assert tally.answer is None
    derived = sum(j.weight for b, j in zip(group, judgements, strict=True) if b.derived)
    assert derived <= cap * (tally.votes - derived) + 1e-9


@pytest.mark.slow
def test_a_response_is_read_once_a_round_and_its_kind_is_decided_once(taught_folder, prompts, tmp_path, monkeypatch):
    """Votes 1 and 2 read only what was written since; `select` reads nothing."""
    read, decided = Counter(), Counter()

    def counting(run, prompt, kind, texts):
        read.update((prompt.id, text) for text in texts)
        return read_texts(run, prompt, kind, texts)

    def deciding(run, prompt, texts):
        decided[prompt.id] += 1
        return answer_kind(run, prompt, texts)

    monkeypatch.setattr(reading, "read_texts", counting)
    monkeypatch.setattr(reading, "answer_kind", deciding)
    monkeypatch.setattr(evaluate, "read_answers", lambda run, prompt, group: [None] * len(group))  # held-out prompts
    run_it(tiny_config(taught_folder, prompts, rounds=2), tmp_path / "run")
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        written = Counter((r.prompt_id, r.text) for r in memory.responses(origins=VOTERS))
        kinds = [memory.kinds(round_, poll) for round_ in (1, 2) for poll in Poll]
    assert read == written, "each response once, over two rounds of three votes"
    assert set(decided.values()) == {2}, "once a round"
    assert kinds[0] == kinds[1] == kinds[2] and set(kinds[0].values()) == {"number"}


@pytest.mark.slow
def test_the_base_votes_after_a_rejection_though_no_ordinary_vote_held_its_old_responses(
    taught_folder, prompts, tmp_path
):
    config = tiny_config(taught_folder, prompts, rounds=2, vote={"decay": 0.0})
    run_it(config, tmp_path / "run")
    later = tiny_config(taught_folder, prompts, rounds=3, vote={"decay": 0.0})
    with open_run(later, folder=tmp_path / "run", resume=True, progress=Progress(quiet=True)) as run:
        assert run.memory.current != "base", "round 3 samples from a trained policy"
        now = replace(run.at(3), config=careful(run.config))
        sample(now, 3)
        vote(now, 3, Poll.SAMPLED)
        judged, first = run.memory.judgements(3, Poll.SAMPLED), run.memory.judgements(1, Poll.FINAL)
        before, after = run.memory.kinds(1, Poll.FINAL), run.memory.kinds(3, Poll.SAMPLED)
        same = {r.id for r in run.memory.responses() if before.get(r.prompt_id) == after.get(r.prompt_id)}
        said = {id_: j.answer for id_, j in first.items() if j.answer is not None and id_ in same}
        assert said and said.items() <= {id_: j.answer for id_, j in judged.items()}.items()


def test_free_text_written_later_joins_the_classes_that_are_there():
    prompt = Prompt("p", (Message("user", "Write a line about the sea."),), Split.TRAIN)
    texts = ["The sea is calm today.", "The sea is calm  today!", "Rain falls on the town."]
    one, same, other = (
        Response(i, "p", 1, Origin.SAMPLE, "u", i, text, "stop", 0, "base", 0, 0, ()) for i, text in enumerate(texts)
    )
    run = SimpleNamespace(reader=Reader(embed=Embedder.load("hash:64").encode))
    first = reading._read(run, prompt, Kind.FREE, [one], [one], {})
    later = reading._read(run, prompt, Kind.FREE, [same, other], [one, same, other], {0: first[0]})
    assert later[0] == first[0] and later[1] != first[0]
    assert [*first, *later] == reading.read_texts(run, prompt, Kind.FREE, texts)
