"""What docs/guard.md says: its table of metrics, and how the figures of its runs are counted."""

from dataclasses import asdict, replace
from pathlib import Path

import guard
import make_reference
import pytest
from healths import BASE, HEALTHY

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_metrics_is_what_the_code_says():
    page = (ROOT / "docs/guard.md").read_text(encoding="utf-8")
    assert page == make_reference.guard_page(page), "run: python scripts/bench/make_reference.py"
    assert "| truncation | fraction of the samples truncated" in page
    assert make_reference.guard_page(page.replace("| memory echo | ", "| echo | ")) == page


def test_a_fall_is_measured_from_the_best_round_so_far():
    assert guard.first_fall([0.5, 0.7, 0.66, 0.64, 0.1]) == 3
    assert guard.first_fall([0.5, 0.7, 0.66]) is None
    assert guard.first_fall([0.5, 0.4]) == 1


def test_the_guard_trips_in_the_first_round_that_it_would_not_keep():
    bad = replace(HEALTHY, parse_rate=0.1)
    assert guard.first_trip([BASE, HEALTHY, bad, HEALTHY], []) == 2
    assert guard.first_trip([BASE, HEALTHY], []) is None
    assert guard.first_trip([BASE], [1]) == 1, "nothing survived"


def played(accuracy, would_trip=None, kept=(0,), current=None):
    return {
        "accuracy": accuracy,
        "score": accuracy,
        "would_trip": would_trip,
        "kept": list(kept),
        "because": ["agreement 0.1 (limit 0.4), parse rate 0.2 (limit 0.8)"] if would_trip else [],
        "current": max(accuracy) if current is None else current,
        "health": [asdict(BASE)],
    }


def suite_run(healthy, watched, guarded=None):
    return {"scenario": "a scenario", "healthy": healthy, "seed": 3, "watched": watched, "guarded": guarded or watched}


def test_the_figures_of_the_suite_count_what_they_say():
    runs = [
        suite_run(True, played([0.5, 0.7, 0.69], kept=(0, 1, 2))),
        suite_run(True, played([0.5, 0.7, 0.69], would_trip=2, kept=(0, 1))),  # a false alarm
        suite_run(True, played([0.5, 0.4, 0.4], would_trip=2)),  # not one: it fell before
        suite_run(False, played([0.5, 0.1], would_trip=1), played([0.5, 0.4], would_trip=1, current=0.5)),
        suite_run(False, played([0.5, 0.7, 0.1], would_trip=2, kept=(0, 1))),
        suite_run(False, played([0.5, 0.7, 0.1]), played([0.5, 0.7, 0.1], kept=(0, 1, 2), current=0.1)),  # missed
        suite_run(False, played([0.5, 0.6])),  # never fell, so there is nothing to see in time
    ]
    found = guard.figures(runs)
    assert (found["runs"], found["fallen"], found["fallen_later"]) == (7, 3, 2)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["false_alarms"] == pytest.approx(1 / 3)
    assert found["within_1_point"] == pytest.approx(6 / 7)
    assert found["last_kept_within_1_point"] == pytest.approx(5 / 7)
    assert found["correlation"] == pytest.approx(1)
    table = guard.table(runs, found)
    assert table.startswith("7 runs: recall 0.67 of 3 that fell, 2 of them later than round 1; false alarms 0.33;")
    assert "| a scenario | no | 3 | 0.50 0.10 | 1 | 1 | agreement 0.1 (limit 0.4) | 0.50 |" in table
    alone = guard.figures(runs[:1])
    assert (alone["recall"], alone["false_alarms"]) == (None, 0)
    assert "recall - of 0 that fell" in guard.table(runs[:1], alone)


def test_the_scenario_called_defaults_uses_the_operators_that_are_on_by_default(tmp_path):
    config = guard.configure(guard.SCENARIOS[0], tmp_path, tmp_path, tmp_path, 3)
    on = {name: getattr(config.propose, name).k > 0 for name in ("exemplar", "revise", "stitch")}
    assert on == {"exemplar": True, "revise": False, "stitch": False}
    assert guard.SCENARIOS[0].name == "defaults"
