"""What a probe says before anything is spent."""

from dataclasses import replace

import pytest
from tasks.tiny_runs import tiny_config

from selfimprove.cli.estimate import PROMPTS, Probe, generation_seconds, report, take, warnings
from selfimprove.models.policy import Policy
from selfimprove.prompts import load_prompts
from selfimprove.types import Split

PROMISING = Probe(
    prompts=PROMPTS,
    samples=8,
    parse_rate=0.7,
    agreement=0.6,
    headroom=0.5,
    trusted=0.4,
    open=0.9,
    truncation=0.6,
    top_answer=0.1,
    mean_tokens=10.0,
    tokens_per_s=100.0,
)


def test_a_probe_of_a_taught_model_sees_what_it_agrees_on(taught_folder, prompts):
    config = tiny_config(taught_folder, prompts)
    policy = Policy.load(config.model)
    train = [p for p in load_prompts(config.prompts).prompts if p.split is Split.TRAIN]
    seen = take(config, policy, train)
    assert seen == replace(take(config, policy, train), tokens_per_s=seen.tokens_per_s), "the same samples each time"
    assert seen.prompts == min(PROMPTS, len(train))
    assert 0.5 < seen.parse_rate <= 1
    assert 0 < seen.headroom < 0.9
    assert seen.mean_tokens <= config.sample.max_new_tokens
    certain = config.model_copy(update={"sample": config.sample.model_copy(update={"temperature": 0.0})})
    greedy = take(certain, policy, train)
    assert greedy.agreement == 1.0
    assert greedy.headroom == pytest.approx(1 - greedy.parse_rate), "samples that are one differ by silence alone"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"parse_rate": 0.3}, "can be read"),
        ({"parse_rate": 0.0, "mean_tokens": 0.0, "tokens_per_s": 0.0}, "every answer is empty"),
        ({"trusted": 0.05}, "select.threshold 0.5"),
        ({"headroom": 0.02}, "98% of the samples"),
        ({"top_answer": 0.4}, "vote.calibration"),
    ],
)
def test_what_speaks_against_rounds_is_said(change, says, taught_folder, prompts):
    config = tiny_config(taught_folder, prompts, select={"answer_share": 0.2, "threshold": 0.5})
    assert warnings(config, PROMISING) == []
    (warning,) = warnings(config, replace(PROMISING, **change))
    assert says in warning


def test_a_model_that_writes_nothing_has_no_speed(taught_folder, prompts):
    silent = replace(PROMISING, parse_rate=0.0, mean_tokens=0.0, tokens_per_s=0.0)
    lines = report(tiny_config(taught_folder, prompts), silent, 100, 50)
    assert "time      cannot be told for 2 rounds: nothing was written" in lines
    assert sum(line.startswith("warning") for line in lines) == 1


def test_the_time_is_that_of_all_answers_at_the_speed_seen(taught_folder, prompts):
    config = tiny_config(
        taught_folder,
        prompts,
        rounds=2,
        sample={"k": 8},
        propose={"exemplar": {"k": 4}},
        evaluate={"k": 3, "limit": 20},
    )
    # Two rounds of 100 prompts x (8 + 0.9 * 4), three measurements of 20 x (3 + 1), 10 tokens each, 100 a second.
    assert generation_seconds(config, PROMISING, 100, 50) == pytest.approx((2 * 1160 + 3 * 80) * 10 / 100)
