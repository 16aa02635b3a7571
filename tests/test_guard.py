"""The guard: each way to go wrong trips its own check, and what a healthy round does trips none."""

from dataclasses import replace

import pytest

from selfimprove.config import GuardConfig
from selfimprove.guard import Health, judge
from selfimprove.types import Decision

BASE = Health(
    agreement=0.5,
    base_majority_agreement=0.6,
    concentration=0.1,
    answer_entropy=1.2,
    unique_answers=4.0,
    distinct_2=0.6,
    mean_tokens=10.0,
    p95_tokens=16.0,
    truncation=0.2,
    repetition=0.05,
    parse_rate=0.9,
    kl=None,
    human_nll=3.5,
)
HEALTHY = replace(BASE, agreement=0.65, base_majority_agreement=0.7, concentration=0.12, mean_tokens=7.0, kl=0.4)
LIMITS = GuardConfig()


def failed(now, last_kept=BASE, rejections=0):
    verdict = judge(BASE, last_kept, now, LIMITS, rejections)
    return verdict.decision, [check.name for check in verdict.checks if not check.passed]


def test_a_healthy_round_is_kept_with_every_check_on_record():
    verdict = judge(BASE, BASE, HEALTHY, LIMITS, 0)
    assert verdict.decision is Decision.KEEP
    assert verdict.because == "all checks passed"
    assert len(verdict.checks) == 7
    assert all(check.passed and check.value is not None for check in verdict.checks)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"agreement": 0.39}, "agreement"),
        ({"base_majority_agreement": 0.45}, "agreement with base majority"),
        ({"concentration": 0.26}, "top answer share"),
        ({"parse_rate": 0.79}, "parse rate"),
        ({"mean_tokens": 4.9}, "mean tokens, shortest"),
        ({"mean_tokens": 20.1}, "mean tokens, longest"),
        ({"kl": 3.1}, "KL to base"),
        ({"kl": float("nan")}, "KL to base"),
    ],
)
def test_each_way_to_go_wrong_trips_its_own_check(change, check):
    assert failed(replace(HEALTHY, **change)) == (Decision.REJECT, [check])


def test_a_value_at_its_limit_passes():
    edge = replace(HEALTHY, agreement=0.4, concentration=0.25, parse_rate=0.8, mean_tokens=20.0, kl=3.0)
    assert failed(edge) == (Decision.KEEP, [])


def test_slipping_away_by_small_steps_is_seen():
    better = replace(HEALTHY, base_majority_agreement=0.75)
    assert failed(replace(HEALTHY, base_majority_agreement=0.64), better)[1] == ["agreement with base majority"]
    worse = replace(HEALTHY, base_majority_agreement=0.52)
    assert failed(replace(HEALTHY, base_majority_agreement=0.45), worse)[1] == ["agreement with base majority"]


def test_the_second_rejection_stops_the_run():
    bad = replace(HEALTHY, parse_rate=0.1)
    assert failed(bad, rejections=0)[0] is Decision.REJECT
    assert failed(bad, rejections=1)[0] is Decision.STOP
    assert failed(HEALTHY, rejections=5)[0] is Decision.KEEP


def test_the_reason_names_value_and_limit():
    verdict = judge(BASE, BASE, replace(HEALTHY, concentration=0.9, kl=7.0), LIMITS, 0)
    assert verdict.because == "top answer share 0.9 (limit 0.25), KL to base 7 (limit 3)"


def test_a_kl_that_was_not_measured_is_not_checked():
    assert failed(replace(HEALTHY, kl=None)) == (Decision.KEEP, [])
