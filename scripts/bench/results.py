#!/usr/bin/env python3
"""Rows, confidence intervals, tables and plots of the cells of compare.py.

    python scripts/bench/results.py runs/compare/cells.jsonl            the tables
    python scripts/bench/results.py runs/compare/cells.jsonl --write    results.json, results-tables.md and its plots

Of cells with equal arm, task, model, seed and dtype the last one counts. Cells of different dtypes, perhaps from
different machines, are not compared: each dtype has its own tables and plots; the rows of others stay in results.json.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measures
import numpy as np

from selfimprove.evaluation.statistics import Interval
from selfimprove.fsio import write_text

DOCS = Path(__file__).resolve().parents[2] / "docs"
BASE, RIVAL, ORACLE = "base", "lmsi", "oracle"
ROW = (
    *("task", "model", "arm", "seed", "dtype", "round", "greedy", "mean_at_k", "maj_at_k", "pass_at_k"),
    *("generated_tokens", "trained_tokens", "examples", "label_accuracy", "agreement", "guard"),
)
Cell = dict[str, Any]


def untrained(arm: str) -> bool:
    """Return whether an arm is the base: as it is, or a control of it (`base-64`)."""
    return arm == BASE or arm.startswith(f"{BASE}-")


def rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return one row a cell and round: the base's is round 0, every other arm's begin with round 1."""
    return [
        {name: ({"model": "", **cell, **figures})[name] for name in ROW}
        for cell in cells
        for figures in (cell["rounds"] if untrained(cell["arm"]) else cell["rounds"][1:])
    ]


def over_seeds(
    difference_S: Sequence[np.ndarray], *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean of paired differences, one vector (P,) a seed, and its interval over seeds and prompts.

    Two-stage bootstrap: seeds are drawn with replacement, then prompts within each drawn seed (Davison & Hinkley 1997,
    section 3.8). With one seed it is the paired bootstrap over prompts.
    """
    rng = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for _ in difference_S:
        chosen = rng.integers(len(difference_S), size=resamples)
        for index, difference in enumerate(difference_S):
            count = int((chosen == index).sum())
            draws = rng.integers(difference.size, size=(count, difference.size))
            means[chosen == index] += difference[draws].mean(axis=1)
    low, high = np.quantile(means / len(difference_S), ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(np.mean([d.mean() for d in difference_S])), float(low), float(high))


def against(cells: Sequence[Cell], rivals: Sequence[Cell]) -> Interval | None:
    """Return the last-round mean@k of cells less that of the rivals with the same seeds; None where there is none."""
    other = {cell["seed"]: cell for cell in rivals}
    pairs = [(cell, other[cell["seed"]]) for cell in cells if cell["seed"] in other]
    if not pairs:
        return None
    return over_seeds([np.subtract(a["heldout"]["mean"][-1], b["heldout"]["mean"][-1]) for a, b in pairs])


def share_of_gain(cells: Sequence[Cell], oracles: Sequence[Cell]) -> float | None:
    """Return the gain of mean@k over the base as a fraction of the oracle's, summed over the seeds that both have."""
    gains = [
        {c["seed"]: np.mean(c["heldout"]["mean"][-1]) - np.mean(c["heldout"]["mean"][0]) for c in group}
        for group in (cells, oracles)
    ]
    both = gains[0].keys() & gains[1].keys()
    return float(sum(gains[0][s] for s in both) / sum(gains[1][s] for s in both)) if both else None


def table(cells: Sequence[Cell]) -> str:
    """Return Markdown: one row an arm and task, means over seeds, changes with their 95 % intervals.

    mean@k stands for every round; all other figures are of the last.
    """
    lines = []
    for task, model, own in settings_of(cells):
        lines += [
            f"**{task}**{', ' + model if model else ''}, {len(own[0]['heldout']['ids'])} held-out prompts a seed",
            "",
            "| arm | seeds | mean@k | gain over base | of the oracle's | over lmsi | greedy | maj@k | pass@k "
            "| labels right | examples | generated | trained | guard would keep |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        groups = {arm: [cell for cell in own if cell["arm"] == arm] for arm in _unique(own, "arm")}
        lines += [_line(arm, group, groups) for arm, group in groups.items()]
        lines.append("")
    return "\n".join(lines).rstrip()


def settings_of(cells: Sequence[Cell]) -> list[tuple[str, str, list[Cell]]]:
    """Return the cells of each task and model: (task, model, cells); the model is empty in cells without one."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell["task"], cell.get("model", "")), []).append(cell)
    return [(*names, own) for names, own in groups.items()]


def _line(arm: str, group: Sequence[Cell], groups: dict[str, list[Cell]]) -> str:
    by_round = list(zip(*(cell["rounds"][0 if untrained(arm) else 1 :] for cell in group), strict=True))
    last = by_round[-1]
    labels = [figures["label_accuracy"] for figures in last if figures["label_accuracy"] is not None]
    gain = over_seeds([np.subtract(c["heldout"]["mean"][-1], c["heldout"]["mean"][0]) for c in group])
    share = share_of_gain(group, groups.get(ORACLE, []))
    kept = sum(figures["guard"] == "keep" for figures in last)
    fields = [
        arm,
        str(len(group)),
        ", ".join(_mean(figures, "mean_at_k") for figures in by_round),
        "" if untrained(arm) else _signed(gain),
        "" if untrained(arm) or arm == ORACLE or share is None else f"{share:.0%}",
        "" if untrained(arm) or arm == RIVAL else _signed(against(group, groups.get(RIVAL, []))),
        *(_mean(last, name) for name in ("greedy", "maj_at_k", "pass_at_k")),
        f"{np.mean(labels):.2f}" if labels else "",
        *(f"{np.mean([f[name] for f in last]):.0f}" for name in ("examples", "generated_tokens", "trained_tokens")),
        "" if untrained(arm) else f"{kept} of {len(last)}",
    ]
    return "| " + " | ".join(fields) + " |"


def operators_table(cells: Sequence[Cell]) -> str:
    """Return Markdown: what each operator of each arm wrote and what of it was right, summed over seeds."""
    lines = ["| task | arm | responses | written | right | survivors | right |", "|---|---|---|---|---|---|---|"]
    for task in _unique(cells, "task"):
        for arm in _unique(cells, "arm"):
            own = [c for c in cells if (c["task"], c["arm"]) == (task, arm)]
            books = [f["operators"] for c in own for f in c["rounds"]]
            for origin in dict.fromkeys(name for book in books for name in book):
                total = {
                    name: sum(book.get(origin, {}).get(name, 0) for book in books)
                    for name in ("written", "right", "kept", "kept_right")
                }
                right = f"{total['right'] / total['written']:.2f}"
                kept_right = f"{total['kept_right'] / total['kept']:.2f}" if total["kept"] else ""
                fields = (task, arm, origin, total["written"], right, total["kept"], kept_right)
                lines.append("| " + " | ".join(map(str, fields)) + " |")
    return "\n".join(lines)


def plot(cells: Sequence[Cell], path: Path) -> None:
    """Draw, for each task: accuracy by round, gain for generated tokens, and agreement against label accuracy.

    A task that only the base was measured on is left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cells = [cell for cell in cells if not untrained(cell["arm"])]
    tasks, arms = _unique(cells, "task"), _unique(cells, "arm")
    colours = dict(zip(arms, pyplot.get_cmap("tab20")(np.arange(len(arms))), strict=True))
    figure, axes = pyplot.subplots(len(tasks), 3, figsize=(13, 3.6 * len(tasks)), squeeze=False, layout="constrained")
    for task, (by_round, by_cost, calibration) in zip(tasks, axes, strict=True):
        for arm in arms:
            own = [c for c in cells if (c["task"], c["arm"]) == (task, arm)]
            if not own:
                continue
            means = np.array([[f["mean_at_k"] for f in c["rounds"]] for c in own])  # (S, rounds)
            spent = np.array([[f["generated_tokens"] for f in c["rounds"]] for c in own])[:, 1:] / 1e6
            by_round.plot(means.mean(axis=0), marker="o", color=colours[arm], label=arm)
            gain = (means[:, -1] - means[:, 0]) / spent[:, -1]  # (S,)
            by_cost.scatter(gain, [arm] * len(gain), color=colours[arm], alpha=0.5)
            by_cost.scatter(gain.mean(), arm, color=colours[arm], marker="|", s=300)
            votes = np.array([vote for c in own for f in c["rounds"] for vote in f["votes"]])  # (bins, 3)
            where = np.digitize(votes[:, 0], measures.BINS)
            points = [np.average(votes[where == b, :2], axis=0, weights=votes[where == b, 2]) for b in np.unique(where)]
            calibration.plot(*np.transpose(points), marker="o", color=colours[arm])
        by_round.set(title=task, xlabel="round", ylabel="held-out mean@k accuracy")
        by_round.xaxis.get_major_locator().set_params(integer=True)
        by_cost.set(xlabel="gain of mean@k per million generated tokens, by seed")
        by_cost.invert_yaxis()
        calibration.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
        calibration.set(xlabel="support of the winner (bins)", ylabel="right answers among it")
        by_round.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write_results(cells: Sequence[Cell], docs: Path = DOCS) -> None:
    """Write the rows into results.json, and of each dtype the plots and the tables between their markers."""
    put_rows(rows(cells), docs / "results.json")
    for dtype in _unique(cells, "dtype"):
        own = [cell for cell in cells if cell["dtype"] == dtype]
        page = insert((docs / "results-tables.md").read_text(encoding="utf-8"), f"arms, {dtype}", table(own))
        write_text(docs / "results-tables.md", insert(page, f"operators, {dtype}", operators_table(own)))
        plot(own, docs / f"results-arms-{dtype}.png")


def put_rows(fresh: Sequence[dict[str, Any]], file: Path) -> None:
    """Replace the rows of the same cells in a JSON list of rows, one a line; rows without a model match any."""
    old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    measured = {_cell(row | model) for row in fresh for model in ({}, {"model": ""})}
    lines = map(json.dumps, [*(row for row in old if _cell(row) not in measured), *fresh])
    write_text(file, "[\n" + ",\n".join(lines) + "\n]\n")


def _cell(of: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(of.get(name, "") for name in ("task", "model", "arm", "seed", "dtype"))


def insert(page: str, name: str, text: str) -> str:
    """Return the page with the text between the markers of `name` replaced.

    Raises:
        ValueError: the page does not have them.
    """
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, found, rest = page.partition(first)
    _, ended, tail = rest.partition(last)
    if not (found and ended):
        raise ValueError(f"no markers {first} and {last}")
    return f"{head}{first}\n{text}\n{last}{tail}"


def load(files: Sequence[Path]) -> list[Cell]:
    """Return the cells of several files."""
    lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return list({_cell(cell): cell for cell in lines}.values())


def _unique(cells: Sequence[Cell], name: str) -> list[str]:
    return list(dict.fromkeys(cell[name] for cell in cells))


def _mean(figures: Sequence[Cell], name: str) -> str:
    return f"{np.mean([f[name] for f in figures]):.3f}"


def _signed(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.diff:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def main() -> None:
    """Print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, nargs="+", help="cells.jsonl of one or more --work folders")
    parser.add_argument("--write", action="store_true", help="write into docs/")
    options = parser.parse_args()
    cells = load(options.cells)
    print(f"{table(cells)}\n\n{operators_table(cells)}")
    if options.write:
        write_results(cells)


if __name__ == "__main__":
    main()
