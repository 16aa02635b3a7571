#!/usr/bin/env python3
"""Ablation of the guard: the metrics that reject collapses first and alone, and those that could go.

    python scripts/bench/guard.py --work DIR                      the induced collapses
    python scripts/bench/guard_ablation.py DIR                    the metrics, ablated over them
    python scripts/bench/guard_ablation.py DIR runs/compare/cells.jsonl      and over the cells of compare.py

A run falls in the first round whose accuracy is `guard.FALL` below the best before it, or in which one family's is
`guard.FAMILY_FALL` below its best. A metric sees the fall if it fails in that round or earlier; it raises a false alarm
if it fails in a run that never falls. Every earlier round counts as kept.
"""

import argparse
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from guard import FAMILY_FALL, falls_in, first_fall
from results import load, untrained

from selfimprove.config import GuardConfig
from selfimprove.evaluation.families import LEAST
from selfimprove.evaluation.limits import judge
from selfimprove.evaluation.metrics import METRICS, Health

NAMES = tuple(metric.name for metric in METRICS)


@dataclass(frozen=True)
class Played:
    """A run: its name, the round in which it falls (None: never), and the metrics that fail, by round from 1."""

    name: str
    fall: int | None
    failed: tuple[frozenset[str], ...]

    def trip(self, metrics: Collection[str]) -> int | None:
        """Return the first round in which one of these metrics fails; None if none does."""
        return next((r for r, names in enumerate(self.failed, 1) if names & set(metrics)), None)

    def seen(self, metrics: Collection[str]) -> bool:
        """Return whether the fall is seen in time."""
        trip = self.trip(metrics)
        return self.fall is not None and trip is not None and trip <= self.fall

    def alarmed(self, metrics: Collection[str]) -> bool:
        """Return whether a metric fails in a run that never falls."""
        return self.fall is None and self.trip(metrics) is not None


def of_suite(found: Mapping[str, Any]) -> Played:
    """Return a run of guard.py."""
    watched = found["watched"]
    health = [Health.of(stored) for stored in watched["health"]]
    verdicts = [judge(health[:r], health[r], GuardConfig(), 0) for r in range(1, len(health))]
    failed = (frozenset(c.name for c in verdict.checks if not c.passed) for verdict in verdicts)
    return Played(f"{found['scenario']}, {found['seed']}", falls_in(watched), tuple(failed))


def of_cell(cell: Mapping[str, Any]) -> Played:
    """Return a cell of compare.py; its checks are of the default limits."""
    rounds = cell["rounds"][1:]
    failed = (frozenset(name for name, (_, _, passed) in r["checks"].items() if not passed) for r in rounds)
    means = np.array(cell["heldout"]["mean"])  # (rounds, P)
    falls = [first_fall(means.mean(axis=1).tolist())]
    families = np.array(cell["heldout"].get("families", ()))
    for family in dict.fromkeys(families.tolist()):
        if (families == family).sum() >= LEAST:
            falls.append(first_fall(means[:, families == family].mean(axis=1).tolist(), FAMILY_FALL))
    name = f"{cell['task']} {cell.get('model', '')} {cell['arm']}, {cell['seed']}"
    return Played(name, min((fall for fall in falls if fall is not None), default=None), tuple(failed))


def rates(runs: Sequence[Played], metrics: Collection[str]) -> tuple[float, float]:
    """Return recall, the fraction of falls that these metrics see in time, and false alarms in runs that never fall."""
    falls, healthy = ([r for r in runs if (r.fall is not None) is fell] for fell in (True, False))
    recall = sum(r.seen(metrics) for r in falls) / len(falls) if falls else float("nan")
    return recall, sum(r.alarmed(metrics) for r in healthy) / len(healthy) if healthy else float("nan")


def needed(runs: Sequence[Played]) -> list[str]:
    """Return a small set of metrics that sees every fall that all see: the one that sees most of the rest, repeatedly.

    Of metrics that see equally many, the one with fewer false alarms is taken.
    """
    left = [run for run in runs if run.seen(NAMES)]
    chosen: list[str] = []
    while left:
        best = max(NAMES, key=lambda n: (sum(r.seen([n]) for r in left), -sum(r.alarmed([n]) for r in runs)))
        chosen.append(best)
        left = [run for run in left if not run.seen([best])]
    return chosen


def table(runs: Sequence[Played]) -> str:
    """Return Markdown: a row a metric, and what the guard would be without it."""
    recall, alarms = rates(runs, NAMES)
    falls = sum(run.fall is not None for run in runs)
    small = needed(runs)
    lines = [
        f"{len(runs)} runs, {falls} fall: recall {recall:.2f}, false alarms {alarms:.2f}. Enough for that recall: "
        f"{', '.join(small) or 'none'} (false alarms {rates(runs, small)[1]:.2f}).",
        "",
        "| metric | sees | first | alone | false alarms | alone | recall without it | false alarms without it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in NAMES:
        others = [other for other in NAMES if other != name]
        seen = [run for run in runs if run.seen(NAMES)]
        at = [run.failed[(run.trip(NAMES) or 1) - 1] for run in seen]  # what fails in the first rejected round
        alarmed = [run for run in runs if run.alarmed([name])]
        without = rates(runs, others)
        fields = [
            *(name, sum(run.seen([name]) for run in runs), sum(name in failed for failed in at)),
            *(sum(failed == {name} for failed in at), len(alarmed), sum(not run.alarmed(others) for run in alarmed)),
            *(f"{value:.2f}" for value in without),
        ]
        lines.append("| " + " | ".join(map(str, fields)) + " |")
    missed = [run.name for run in runs if run.fall is not None and not run.seen(NAMES)]
    return "\n".join([*lines, "", f"Missed: {'; '.join(missed) or 'none'}."])


def read(paths: Sequence[Path]) -> Iterator[Played]:
    """Yield the runs of guard.py's folders and of files of cells."""
    for path in paths:
        if path.is_dir():
            for file in sorted(path.glob("*.json")):
                found = json.loads(file.read_text(encoding="utf-8"))
                if "watched" in found:
                    yield of_suite(found)
        else:
            yield from (
                of_cell(cell) for cell in load([path]) if not untrained(cell["arm"]) and "checks" in cell["rounds"][0]
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", help="--work folders of guard.py, cells.jsonl of compare.py")
    print(table(list(read(parser.parse_args().paths))))


if __name__ == "__main__":
    main()
