"""Statistics against brute force and against what is known of them."""

import math

import numpy as np
import pytest

from selfimprove.evaluation.statistics import (
    concentration,
    maj_at_k,
    mean_at_k,
    paired_bootstrap,
)


def test_the_interval_is_that_of_the_paired_differences():
    rng = np.random.default_rng(0)
    before = rng.random(400)
    after = before + 0.1 + 0.2 * rng.standard_normal(400)
    found = paired_bootstrap(before, after, seed=1)
    difference = after - before
    half = 1.96 * difference.std() / math.sqrt(400)
    assert found.diff == pytest.approx(difference.mean())
    assert found.low == pytest.approx(found.diff - half, abs=0.1 * half)
    assert found.high == pytest.approx(found.diff + half, abs=0.1 * half)
    assert paired_bootstrap(before, after, seed=-1).diff == found.diff
    assert paired_bootstrap(before, after, seed=1) == found != paired_bootstrap(before, after, seed=2)


def test_the_bootstrap_of_two_pairs_by_hand():
    # means over resampled pairs of (0, 1) are 0, 1/2 and 1 with chances 1/4, 1/2 and 1/4
    found = paired_bootstrap([0, 0], [0, 1], seed=0, level=0.4)
    assert (found.diff, found.low, found.high) == (0.5, 0.5, 0.5)
    found = paired_bootstrap([0, 0], [0, 1], seed=0, level=0.6)
    assert (found.low, found.high) == (0, 1)


def test_a_constant_gain_has_no_spread_however_many_prompts():
    found = paired_bootstrap(np.zeros(30_000), np.ones(30_000), seed=0, resamples=200)
    assert (found.diff, found.low, found.high) == (1, 1, 1)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(200):
        sample = rng.normal(0.3, 1.0, size=60)
        found = paired_bootstrap(np.zeros(60), sample, seed=trial, resamples=500)
        hits += found.low <= 0.3 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def test_unpaired_input_is_refused():
    for before, after in (([1.0], [1.0, 2.0]), ([], [])):
        with pytest.raises(ValueError, match="equally long"):
            paired_bootstrap(before, after, seed=0)


def test_majority_and_mean():
    assert maj_at_k(["a", "a", "b", None], [True, True, False, False]) == 1
    assert maj_at_k(["a", "b", None], [True, False, False]) == 0.5  # a tie, in expectation
    assert maj_at_k([None, None], [False, False]) == 0
    assert mean_at_k([True, False, False, True]) == 0.5
    with pytest.raises(ValueError, match="empty"):
        mean_at_k([])


def test_concentration_sees_one_answer_for_everything():
    assert concentration(["0"] * 10) == 1
    assert concentration([str(i) for i in range(10)]) == 0.1
    assert concentration(["0", "0", "1", None]) == pytest.approx(2 / 3)
    assert concentration([None]) == 0
