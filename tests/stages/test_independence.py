"""Independence of recalled answers: agreement of pairs, counted by hand and by brute force."""

import random
from itertools import combinations, product

import pytest

from selfimprove.stages.independence import independence, ratio_interval


def test_answers_that_share_a_bias_agree_with_each_other_and_not_with_samples():
    found = independence([(["a", "b", "c", "d"], ["e", "e", "e", "e"])] * 3)
    assert (found.prompts, found.recalled, found.sampled, found.between) == (3, 1.0, 0.0, 0.0)
    assert found.design_effect == 4.0, "four answers with the evidence of one"
    assert (found.sure, found.kept) == (0, None)


def test_answers_as_independent_as_samples_have_a_design_effect_of_1():
    found = independence([(["a", "a", "b", "b"], ["a", "b"])])
    assert found.recalled < found.between
    assert found.design_effect == 1.0


def test_demonstrations_that_confuse_the_policy_are_told_from_ones_that_help():
    helped = independence([(["a", "a", "b", "c"], ["a", "a", "a", "b"])])
    confused = independence([(["a", "a", "a", "c"], ["x", "y", "a", "z"])])
    assert (helped.harms(0.85), confused.harms(0.85)) == (False, True)
    assert not confused.harms(0.0)


def test_what_samples_are_sure_of_is_kept_or_not():
    found = independence([(["a", "a", "a", "b"], ["a", "c"]), (["a", "b"], ["b", "b"])])
    assert (found.sure, found.kept) == (1, 0.5)
    assert "50% keep the answer of a sure prompt (1 prompts)" in str(found)


def test_agreement_equals_the_share_of_agreeing_pairs():
    rng = random.Random(0)
    prompts = [([rng.choice("abc") for _ in range(5)], [rng.choice(["a", "b", None]) for _ in range(4)]) for _ in "123"]

    def agree(pairs):
        pairs = list(pairs)
        return sum(a == b and a is not None for a, b in pairs) / len(pairs)

    found = independence(prompts)
    assert found.sampled == pytest.approx(sum(agree(combinations(s, 2)) for s, _ in prompts) / 3)
    assert found.recalled == pytest.approx(sum(agree(combinations(r, 2)) for _, r in prompts) / 3)
    assert found.between == pytest.approx(sum(agree(product(s, r)) for s, r in prompts) / 3)


def test_prompts_without_two_samples_or_without_a_recalled_answer_do_not_count():
    assert independence([(["a", "a"], []), (["a"], ["a", "a"]), ([], [])]) is None


def test_one_recalled_answer_a_prompt_can_disagree_with_samples():
    found = independence([(["a", "a"], ["b"]), (["c", "c"], ["c"])])
    assert (found.between, found.recalled, found.sampled) == (0.5, 0.5, 1.0)
    assert found.harms(0.85)
    assert found.design_effect == 1


def test_the_interval_of_the_ratio_is_over_prompts():
    helped, confused = (["a", "a", "b", "c"], ["a", "a", "a", "b"]), (["a", "a", "a", "c"], ["x", "y", "a", "z"])
    low, high = ratio_interval([helped, confused] * 10, seed=0)
    assert low < independence([helped, confused]).ratio < high
    assert (low, high) == ratio_interval([helped, confused] * 10, seed=0)
    same = ratio_interval([helped] * 10, seed=0)
    assert same == pytest.approx((independence([helped]).ratio,) * 2)
    assert ratio_interval([helped, confused] * 10, seed=-1)
    assert ratio_interval([], seed=0) is None
    assert ratio_interval([(["a", "b"], ["a", "b"])], seed=0) is None, "samples that never agree have no ratio"
