"""Selection: every candidate leaves with a reason and the number that decided; what is kept is agreed and varied."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.answers import Kind
from selfimprove.config import SelectConfig
from selfimprove.outcomes import Reason
from selfimprove.stages.select import AnswerPrior, Candidate, select_candidates
from selfimprove.stages.vote import Ballot, count_votes
from selfimprove.types import Finish, Origin, Response


def response(id_, prompt_id, text, finish=Finish.STOP):
    return Response(id_, prompt_id, 1, Origin.SAMPLE, "u", 0, text, finish, 0, "base", 5, len(text), ())


def unit(angle):
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


def at(angle=float):
    """Vectors of responses: unit vectors at the angle of each id."""
    return lambda responses: {r.id: unit(angle(r.id)) for r in responses}


def election(groups):
    """Candidates and tallies from {prompt: [(answer, text) or (answer, text, finish)]}; ids count up from 1."""
    candidates, tallies, next_id = [], {}, 1
    for prompt_id, group in groups.items():
        members = [response(next_id + i, prompt_id, *rest) for i, (_, *rest) in enumerate(group)]
        cast = [Ballot(r.id, answer, False) for r, (answer, *_) in zip(members, group, strict=True)]
        tallies[prompt_id], judgements = count_votes(prompt_id, cast, derived_cap=0.5)
        candidates += [Candidate(r, j) for r, j in zip(members, judgements, strict=True)]
        next_id += len(group)
    return candidates, tallies


def run(groups, config=None, ancestors=lambda id_: (), kinds=None, angle=float):
    candidates, tallies = election(groups)
    settings = {"embed": at(angle), "ancestors": ancestors, "kinds": kinds or {}}
    chosen = select_candidates(candidates, tallies, config or SelectConfig(), **settings)
    assert len(chosen.kept) + len(chosen.dropped) == len(candidates)
    return {v.response_id: v for v in (*chosen.kept, *chosen.dropped)}


def reasons(*args, **kwargs):
    return {id_: verdict.reason for id_, verdict in sorted(run(*args, **kwargs).items())}


def test_one_prompt_through_all_gates():
    long = "x" * 500
    found = run(
        {
            "p": [
                ("56", "It is 56."),
                ("56", "It is 56."),
                ("56", "56"),
                ("56", "7 x 8 = 56"),
                ("56", "So: 56"),
                ("56", "cut 56", Finish.LENGTH),
                ("56", long),
                ("54", "54"),
                (None, "well"),
            ]
        },
        angle=lambda id_: {3: 0.0, 4: 0.01}.get(id_, float(id_)),
    )
    assert [found[i].reason for i in range(1, 10)] == [
        Reason.KEPT,
        Reason.DUPLICATE,
        Reason.NEAR_DUPLICATE,
        Reason.KEPT,  # a little nearer to all of them than the one before
        Reason.KEPT,
        Reason.TRUNCATED,
        Reason.LENGTH,
        Reason.MINORITY,
        Reason.NO_ANSWER,
    ]
    assert found[3].value == pytest.approx(np.cos(0.01)) and found[3].limit == 0.98
    assert (found[7].value, found[7].limit) == (500, 120)
    assert (found[8].value, found[8].limit) == (1 / 8, 7 / 8)
    assert found[1].weight == found[4].weight == pytest.approx(6 / 8)  # the margin
    assert found[2].weight == 0


def test_abstentions_count_against_agreement():
    assert set(reasons({"p": [("a", "one"), ("a", "two"), (None, "?"), (None, "!"), (None, "-")]}).values()) == {
        Reason.LOW_AGREEMENT,
        Reason.NO_ANSWER,
    }
    assert reasons({"p": [("a", "one"), ("a", "two"), (None, "?")]})[1] is Reason.KEPT


def test_a_lone_vote_is_no_agreement():
    found = run({"p": [("a", "one")]})[1]
    assert (found.reason, found.value, found.limit) == (Reason.LOW_AGREEMENT, 1, 2)


def test_what_all_agree_on_can_be_left_out():
    config = SelectConfig(ceiling=0.9)
    assert set(reasons({"p": [("a", "one"), ("a", "two")]}, config).values()) == {Reason.TOO_EASY}


def test_a_narrow_win_still_weighs_a_little():
    found = run({"p": [("a", "one"), ("a", "two"), ("b", "x"), ("b", "y")]})
    assert found[1].weight == found[2].weight == 0.1


def test_the_cap_takes_the_commonest_wordings_and_leaves_the_rare_ones():
    """Brute force: the mean cosine to every candidate of the prompt, equal texts included."""
    texts = ["It is a.", "odd: a", "It is a.", "It's a.", "a it is", "It is a."]
    angles = {1: 0.0, 2: 2.5, 3: 0.0, 4: 0.4, 5: -0.9, 6: 0.0}
    group = {"p": [("a", text) for text in texts]}
    typical = {i: np.mean([np.cos(a - other) for other in angles.values()]) for i, a in angles.items()}
    assert sorted((1, 2, 4, 5), key=lambda i: -typical[i]) == [1, 4, 5, 2]
    for most, kept in ((1, {1}), (2, {1, 4}), (3, {1, 4, 5})):
        found = run(group, SelectConfig(per_prompt=most), angle=angles.get)
        assert {i for i, v in found.items() if v.kept} == kept
        assert found[3].reason is found[6].reason is Reason.DUPLICATE
        assert (found[2].reason, found[2].value, found[2].limit) == (Reason.PROMPT_CAP, most + 1, most)


def everywhere(winning, others):
    """`winning` prompts that answer 0 and `others` with an answer of their own."""
    groups = {f"same{i}": [("0", "zero"), ("0", "nil")] for i in range(winning)}
    return groups | {f"other{i}": [(f"{i + 1}", "some"), (f"{i + 1}", "thing")] for i in range(others)}


def kept_prompts(groups, kinds=None):
    candidates, tallies = election(groups)
    config = SelectConfig(per_prompt=1, answer_share=0.2)
    chosen = select_candidates(candidates, tallies, config, embed=at(), ancestors=lambda id_: (), kinds=kinds or {})
    prompt = {c.response.id: c.response.prompt_id for c in candidates}
    assert all(v.limit == 0.2 for v in chosen.dropped if v.reason is Reason.ANSWER_CAP)
    return [prompt[v.response_id] for v in chosen.kept]


def test_one_answer_for_everything_is_collapse_and_none_of_it_is_kept():
    assert kept_prompts(everywhere(20, 0)) == []


def test_an_answer_that_is_too_common_is_cut_to_its_share():
    kept = kept_prompts(everywhere(12, 8))
    assert sum(p.startswith("same") for p in kept) == 2  # 2 of 10 are 20 %
    assert sum(p.startswith("other") for p in kept) == 8


def test_few_wins_and_choices_are_not_held_to_a_share():
    assert len(kept_prompts(everywhere(5, 5))) == 10
    assert len(kept_prompts(everywhere(20, 0), dict.fromkeys((f"same{i}" for i in range(20)), Kind.CHOICE))) == 20


def test_no_response_is_the_ancestor_of_too_many_survivors():
    groups = {f"p{i:02}": [(f"{i}", "some"), (f"{i}", "thing")] for i in range(40)}
    config = SelectConfig(per_prompt=1, ancestor_share=0.2)
    found = run(groups, config, ancestors=lambda id_: (999,) if id_ <= 40 else ())
    capped = [v for v in found.values() if v.reason is Reason.ANCESTOR_CAP]
    assert sum(v.kept for v in found.values() if v.response_id <= 40) == 8  # 20 % of the 40
    assert len(capped) == 12 and all((v.value, v.limit) == (9, 8) for v in capped)


def test_two_candidates_with_one_id_are_refused():
    candidates, tallies = election({"p": [("a", "one"), ("a", "two")]})
    with pytest.raises(ValueError, match="one response id"):
        twice, settings = [candidates[0]] * 2, {"embed": at(), "ancestors": lambda id_: (), "kinds": {}}
        select_candidates(twice, tallies, SelectConfig(), **settings)


def test_only_candidates_that_pass_the_gates_are_embedded():
    candidates, tallies = election(
        {
            "agreed": [("a", "one"), ("a", "two"), ("a", "cut", Finish.LENGTH), ("b", "three"), (None, "?")],
            "split": [("a", "x"), ("b", "y"), ("c", "z")],
        }
    )
    asked = []

    def embed(responses):
        asked.extend(r.text for r in responses)
        return at()(responses)

    settings = {"embed": embed, "ancestors": lambda id_: (), "kinds": {}}
    select_candidates(candidates, tallies, SelectConfig(threshold=0.5), **settings)
    assert asked == ["one", "two"]


GROUPS = st.dictionaries(
    st.sampled_from("pqrstuvw"),
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", None]), st.text("xy", max_size=4), st.sampled_from([Finish.STOP, Finish.LENGTH])
        ),
        min_size=1,
        max_size=6,
    ),
)


@given(GROUPS, st.randoms())
def test_nothing_disappears_and_order_is_nothing(groups, random):
    candidates, tallies = election(groups)
    config = SelectConfig(per_prompt=2)
    lineage = {"embed": at(), "ancestors": lambda id_: range(0, id_, 3), "kinds": {}}
    chosen = select_candidates(candidates, tallies, config, **lineage)
    ids = sorted(v.response_id for v in (*chosen.kept, *chosen.dropped))
    assert ids == sorted(c.response.id for c in candidates)
    assert select_candidates(random.sample(candidates, len(candidates)), tallies, config, **lineage) == chosen
    for verdict in chosen.kept:
        assert 0.1 <= verdict.weight <= 1 and verdict.value >= config.threshold


def test_an_answer_wins_no_more_of_a_family_than_the_base_gives_it_there():
    """Twenty prompts of a family, all voted `a`; the base says `a` to half of them: the ten most agreed stay."""
    groups = {f"p{i:02}": [("a", f"text {i} {j}", Finish.STOP) for j in range(8)] for i in range(20)}
    cast, tallies = election(groups)
    tallies = {id_: replace(t, abstained=i % 4) for i, (id_, t) in enumerate(sorted(tallies.items()))}
    family = AnswerPrior(frozenset(groups), {"a": 0.5, "b": 0.5})
    kinds = dict.fromkeys(groups, Kind.CHOICE)
    config = SelectConfig(threshold=0.0, per_prompt=1)
    settings = {"embed": at(), "ancestors": lambda _: (), "kinds": kinds}
    chosen = select_candidates(cast, tallies, config, **settings, families=[family])
    kept = {prompt_of(cast, v.response_id) for v in chosen.kept}
    capped = {prompt_of(cast, v.response_id) for v in chosen.dropped if v.reason is Reason.FAMILY_CAP}
    assert len(kept) == 10 and len(capped) == 10
    assert min(tallies[id_].support for id_ in kept) >= max(tallies[id_].support for id_ in capped)
    free = select_candidates(cast, tallies, config, **settings)
    assert len(free.kept) == 20, "without a prior nothing is capped"


def prompt_of(cast, response_id):
    return next(c.response.prompt_id for c in cast if c.response.id == response_id)
