"""The guard: each kind of collapse fails its own check, and a healthy round fails none."""

from dataclasses import replace

import pytest
from healths import BASE, HEALTHY

from selfimprove.config import GuardConfig
from selfimprove.config_file import parse_config
from selfimprove.evaluation.limits import best, careful, judge, score
from selfimprove.evaluation.metrics import METRICS
from selfimprove.outcomes import Decision

LIMITS = GuardConfig()


def failed(now, last_kept=BASE, rejections=0):
    verdict = judge((BASE, last_kept), now, LIMITS, rejections)
    return verdict.decision, [check.name for check in verdict.checks if not check.passed]


def test_a_healthy_round_is_kept_with_every_check_on_record():
    verdict = judge((BASE,), HEALTHY, LIMITS, 0)
    assert verdict.decision is Decision.KEEP
    assert verdict.because == "all checks passed"
    assert [check.name for check in verdict.checks] == [metric.name for metric in METRICS]
    assert all(check.passed and check.value is not None for check in verdict.checks)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"agreement": 0.39}, "agreement"),
        ({"base_majority_share": 0.44}, "samples in base majority"),
        ({"concentration": 0.26}, "top answer share"),
        ({"question_echo": 0.43}, "question echo"),
        ({"parse_rate": 0.79}, "parse rate"),
        ({"finished_tokens": 3.9}, "mean tokens, shortest"),
        ({"finished_tokens": None, "mean_tokens": 3.9}, "mean tokens, shortest"),
        ({"mean_tokens": 20.1}, "mean tokens, longest"),
        ({"truncation": 0.41}, "truncation"),
        ({"kl": 3.1}, "KL to base"),
        ({"kl": float("nan")}, "KL to base"),
        ({"kl": None}, "KL to base"),
    ],
)
def test_each_kind_of_collapse_fails_its_own_check(change, check):
    assert failed(replace(HEALTHY, **change)) == (Decision.REJECT, [check])


def test_a_value_at_its_limit_passes():
    edge = replace(HEALTHY, agreement=0.4, concentration=0.25, parse_rate=0.8, mean_tokens=20.0, kl=3.0)
    assert failed(edge) == (Decision.KEEP, [])


def test_slipping_away_by_small_steps_is_seen():
    """Each round is but a little worse than the one before it; the third is too far below the best."""
    kept = [BASE, *(replace(HEALTHY, base_majority_share=v) for v in (0.70, 0.68))]
    assert judge(kept, replace(HEALTHY, base_majority_share=0.66), LIMITS, 0).decision is Decision.KEEP
    verdict = judge(kept, replace(HEALTHY, base_majority_share=0.64), LIMITS, 0)
    assert verdict.because == "samples in base majority 0.64 (limit 0.65)"


def test_the_second_rejection_stops_the_run():
    bad = replace(HEALTHY, parse_rate=0.1)
    assert failed(bad, rejections=0)[0] is Decision.REJECT
    assert failed(bad, rejections=1)[0] is Decision.STOP
    assert failed(HEALTHY, rejections=5)[0] is Decision.KEEP


def test_the_reason_names_value_and_limit():
    verdict = judge((BASE,), replace(HEALTHY, concentration=0.9, kl=7.0), LIMITS, 0)
    assert verdict.because == "top answer share 0.9 (limit 0.25), KL to base 7 (limit 3)"


def test_an_unknown_number_is_a_reason_in_words():
    assert judge((BASE,), replace(HEALTHY, kl=None), LIMITS, 0).because == "KL to base unknown (limit 3)"


def test_what_the_base_never_measured_is_not_checked():
    """A memory written before a number was taken can be judged still."""
    old = replace(BASE, base_majority_share=None, question_echo=None)
    verdict = judge((old,), HEALTHY, LIMITS, 0)
    assert verdict.decision is Decision.KEEP
    assert {metric.name for metric in METRICS} - {c.name for c in verdict.checks} == {
        "samples in base majority",
        "question echo",
    }
    assert score(old, replace(old, parse_rate=1.0)) > score(old, old) == 0


def test_the_second_try_takes_smaller_steps_on_surer_labels():
    config = parse_config({"prompts": {"path": "p.jsonl"}, "select": {"threshold": 0.4, "ceiling": 0.9}})
    second = careful(config)
    assert second.train.lr == pytest.approx(config.train.lr / 3)
    assert second.train.epochs == 1
    assert config.select.threshold < second.select.threshold < second.select.ceiling
    assert second.vote.labels == "base"
    assert second.model_copy(update={k: getattr(config, k) for k in ("train", "select", "vote")}) == config


def test_the_score_falls_with_each_kind_of_collapse():
    assert score(BASE, HEALTHY) > score(BASE, BASE) == 0
    for change in ({"concentration": 0.9}, {"parse_rate": 0.1}, {"base_majority_share": 0.1}):
        assert score(BASE, replace(BASE, **change)) < 0


def test_the_best_round_is_the_one_with_the_best_score_the_base_included():
    worse, better = (replace(HEALTHY, base_majority_share=v) for v in (0.55, 0.65))
    assert best({0: BASE, 1: HEALTHY, 2: better, 4: worse}, LIMITS) == 2
    assert best({0: BASE, 1: better, 3: better}, LIMITS) == 3
    assert best({0: BASE, 1: replace(BASE, concentration=0.2)}, LIMITS) == 0
    assert best({0: BASE}, LIMITS) == 0


def test_where_the_base_is_no_guide_the_latest_kept_round_is_the_best():
    limits = GuardConfig(base_share_drop=1)
    assert best({0: BASE, 1: replace(BASE, base_majority_share=0.2)}, limits) == 1


def test_a_base_that_is_cut_off_seldom_is_no_measure_of_how_long_an_answer_is():
    """Half of the base's samples reach the limit of 12 tokens, the others end after 4; the policy ends after 3."""
    base = replace(BASE, mean_tokens=8.0, truncation=0.5, finished_tokens=4.0)
    policy = replace(HEALTHY, mean_tokens=3.0, truncation=0.0, finished_tokens=3.0)
    names = [check.name for check in judge([base], policy, LIMITS, 0).checks if not check.passed]
    assert "mean tokens, shortest" not in names
    old = replace(base, finished_tokens=None)
    names = [
        check.name
        for check in judge([old], replace(policy, finished_tokens=None), LIMITS, 0).checks
        if not check.passed
    ]
    assert names == ["mean tokens, shortest"]
    never = replace(base, truncation=1.0, finished_tokens=None)
    checks = judge([never], policy, LIMITS, 0).checks
    assert "mean tokens, shortest" not in [check.name for check in checks], "it has learnt to end its turn"
