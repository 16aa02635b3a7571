"""Steps: every example once an epoch, prompts together, equal shares, keyed order."""

import pytest

from selfimprove.training.packing import Encoded
from selfimprove.training.schedule import plan_steps, rate

EXAMPLES = [Encoded((prompt,) * 10, (sample,) * (5 + sample), 1.0) for prompt in range(8) for sample in range(4)]


def test_an_epoch_sees_every_example_once_and_keeps_prompts_together():
    steps = plan_steps(EXAMPLES, epochs=3, batch_tokens=130, seed=0)
    per_epoch = len(steps) // 3
    for epoch in range(3):
        stream = [i for step in steps[epoch * per_epoch : (epoch + 1) * per_epoch] for i in step]
        assert sorted(stream) == list(range(len(EXAMPLES)))
        assert [i // 4 for i in stream[::4]] == [i // 4 for i in stream[3::4]]
    assert steps[:per_epoch] != steps[per_epoch : 2 * per_epoch]


def test_steps_are_about_as_large_as_asked_with_no_small_remainder():
    steps = plan_steps(EXAMPLES, epochs=1, batch_tokens=130, seed=0)
    sizes = [sum(EXAMPLES[i].tokens for i in step) for step in steps]
    assert min(sizes) > 90
    assert max(sizes) < 170


def test_the_order_depends_on_the_seed_alone():
    assert plan_steps(EXAMPLES, 1, 130, seed=1) == plan_steps(EXAMPLES, 1, 130, seed=1)
    assert plan_steps(EXAMPLES, 1, 130, seed=1) != plan_steps(EXAMPLES, 1, 130, seed=2)


def test_examples_larger_than_a_step_get_one_each():
    assert sorted(plan_steps(EXAMPLES[:2], 1, batch_tokens=1, seed=0)) == [[0], [1]]


def test_the_rate_warms_up_and_then_falls_to_almost_nothing():
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert rate(0, 1, 0.1) == 1.0
    assert rate(0, 1, 1.0) == 1.0
