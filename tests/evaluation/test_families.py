"""Families: prompts that ask alike are found from their vectors, and one answer for a whole family is seen."""

import random
from dataclasses import replace

import numpy as np
import pytest
from healths import BASE, HEALTHY

from selfimprove.config import GuardConfig
from selfimprove.evaluation import families as module
from selfimprove.evaluation.families import (
    REST,
    Family,
    FamilyMetrics,
    fall,
    families,
    family_metrics,
    mean_rise,
    most_fallen,
    most_risen,
    rise,
)
from selfimprove.evaluation.limits import best, judge, score
from selfimprove.evaluation.metrics import Health
from selfimprove.memory import Embedder
from selfimprove.outcomes import Decision

LANDS = ["France", "Spain", "Peru", "Chad", "Cuba", "Iran", "Iraq", "Laos", "Mali", "Oman"]
CAPITALS = [f"What is the capital of {land}?" for land in LANDS]
SUMS = [f"How much is {a} plus {b}?" for a in range(2, 6) for b in range(3, 7)]
LONE = ["Write a poem.", "Who are you?"]


def found(texts, dimension=256):
    ids = [f"{i:03}" for i in range(len(texts))]
    named = families(ids, texts, Embedder.load(f"hash:{dimension}").encode(texts))
    return {family.name: [texts[int(id_)] for id_ in family.prompt_ids] for family in named}


def test_prompts_that_ask_alike_are_one_family_named_by_their_common_words():
    named = found([*CAPITALS, *SUMS, *LONE])
    assert list(named) == ["how much plus", "what the capital", REST]
    assert named["what the capital"] == CAPITALS
    assert named["how much plus"] == SUMS
    assert named[REST] == LONE, "small clusters are pooled"


def test_families_depend_on_the_prompts_and_not_on_their_order():
    texts = [*CAPITALS, *SUMS, *LONE]
    shuffled = random.Random(1).sample(texts, len(texts))
    assert {name: set(own) for name, own in found(shuffled).items()} == {
        name: set(own) for name, own in found(texts).items()
    }


def test_every_prompt_is_in_one_family_however_few_there_are():
    for texts in ([], ["one"], ["one", "two"], CAPITALS[:3]):
        assert sorted(text for own in found(texts).values() for text in own) == sorted(texts)


def test_prompts_beyond_those_clustered_join_their_nearest(monkeypatch):
    monkeypatch.setattr(module, "EXACT", 15)
    named = found([*CAPITALS, *SUMS])
    assert set(named["what the capital"]) == set(CAPITALS)
    assert set(named["how much plus"]) == set(SUMS)


def test_the_metrics_of_a_family_against_counting_by_hand():
    family = Family("f", ("a", "b", "c", "d"))
    answers = {"a": ["x", "x", "y", None], "b": ["x", "x", "x", "x"], "c": ["z", "z", None, None], "d": [None] * 4}
    got = family_metrics(family, answers)
    assert got == FamilyMetrics("f", 4, (0.5 + 1 + 0.5 + 0) / 4, "x", 2 / 3, got.entropy)
    assert family_metrics(family, answers, {"a": 0.5, "b": 1.0, "z": 0.0}).base_share == 0.75
    shares = np.array([2 / 3, 1 / 3])
    assert np.isclose(got.entropy, -(shares * np.log(shares)).sum())
    assert family_metrics(Family("g", ("q",)), answers) is None


def one(fraction, prompts=14, name="animal plant object"):
    return FamilyMetrics(name, prompts, 0.6, "animal", fraction, 0.5)


def test_one_answer_for_a_whole_family_is_rejected_though_it_is_a_small_fraction_of_all_prompts():
    base = replace(BASE, families=(one(0.5), one(0.1, 86, "what is")))
    now = (one(1.0), one(0.1, 86, "what is"))
    verdict = judge([base], replace(HEALTHY, families=now, family_rise=rise(base.families, now)), GuardConfig(), 0)
    assert verdict.decision is Decision.REJECT
    assert verdict.because == "top answer of a family 0.5 (limit 0.3)"
    assert most_risen(base.families, now).name == "animal plant object"
    assert most_risen((), now) is None


def test_a_family_that_forgets_what_the_base_was_sure_of_is_rejected():
    """Answers exchanged within a family: agreement stays, no answer is frequent, nothing else moves."""

    def asked(share, prompts=12, name="capital"):
        return FamilyMetrics(name, prompts, 0.9, "paris", 0.1, 2.0, share)

    base = replace(BASE, families=(asked(0.8), asked(0.2, name="guesses"), asked(0.9, 5, "few")))
    now = (asked(0.2), asked(0.0, name="guesses"), asked(0.0, 5, "few"))
    verdict = judge([base], replace(HEALTHY, families=now, family_fall=fall(base.families, now)), GuardConfig(), 0)
    assert verdict.decision is Decision.REJECT
    assert verdict.because == "base majority of a family 0.6 (limit 0.25)"
    assert most_fallen(base.families, now).name == "capital"
    assert fall(base.families, now[1:]) == 0.0, "where the base guesses, or in a handful of prompts, nothing falls"
    assert fall(base.families, (asked(0.95),)) == 0.0


def test_chance_in_a_handful_of_prompts_trips_nothing():
    assert rise((one(0.2, 5),), (one(1.0, 5),)) == 0.0
    assert rise((one(0.2, 20),), (one(0.3, 20), one(1.0, 20, "a family that the base was not asked"))) == 0.3 - 0.2


def test_a_few_families_of_many_fail_no_check_and_those_with_more_than_a_tenth_of_the_prompts_do():
    names = [f"family {i}" for i in range(30)]
    base = tuple(one(0.1, 13, name) for name in names)

    def risen(*by):
        return tuple(one(0.1 + (by[i] if i < len(by) else 0.0), 13, name) for i, name in enumerate(names))

    assert rise(base, risen(0.8, 0.7, 0.6)) == 0.0, "39 of 390 prompts"
    assert rise(base, risen(0.8, 0.7, 0.6, 0.4)) == pytest.approx(0.4), "52 of 390 rose by 0.4 or more"
    assert most_risen(base, risen(0.8, 0.7, 0.6, 0.4)).name == "family 3", "the one whose rise is told"
    sure = tuple(replace(family, base_share=0.9) for family in base)
    lost = tuple(replace(family, base_share=share) for family, share in zip(sure, (0.1, 0.2, 0.3, 0.5), strict=False))
    assert fall(sure, lost[:3] + sure[3:]) == 0.0
    assert fall(sure, lost + sure[4:]) == pytest.approx(0.4)


def test_a_run_ends_on_the_round_before_a_family_collapsed():
    base = replace(BASE, families=(one(0.5), one(0.1, 86, "what is")))
    first = replace(HEALTHY, families=(one(0.5), one(0.1, 86, "what is")))
    second = replace(first, families=(one(0.8), one(0.0, 86, "what is")), parse_rate=first.parse_rate + 0.02)
    assert mean_rise(base.families, second.families) == (0.8 - 0.5) * 14 / 100
    assert score(base, second) < score(base, first)
    assert best({0: base, 1: first, 2: second}, GuardConfig()) == 1


def test_metrics_stored_before_there_were_families_are_read_and_not_held_to_them():
    old = {key: value for key, value in vars_of(BASE).items() if key not in ("families", "family_rise", "family_fall")}
    assert Health.of(old).families is None
    assert (
        judge([Health.of(old)], replace(HEALTHY, family_rise=0.9, family_fall=0.9), GuardConfig(), 0).decision
        is Decision.KEEP
    )
    new = vars_of(replace(BASE, families=(one(0.5),)))
    assert Health.of({**new, "families": [vars_of(row) for row in new["families"]]}).families == (one(0.5),)


def vars_of(record):
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
