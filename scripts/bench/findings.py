#!/usr/bin/env python3
"""The tables of the cells of compare.py that decide: gains, later rounds, families, controls, off-task, predictions.

    python scripts/bench/findings.py runs/compare/cells.jsonl [MORE ...]                 print them
    python scripts/bench/findings.py runs/compare/cells.jsonl --write docs/PAGE.md       between the page's markers

All intervals are 95 %, paired, over seeds and prompts (`results.over_seeds`). Cells of several folders are merged; of
equal ones the last counts.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results import BASE, RIVAL, Cell, insert, load, over_seeds, settings_of, untrained

from selfimprove.evaluation.statistics import Interval
from selfimprove.fsio import write_text

VOTES = f"{BASE}-64"
"""The control with 64 samples a prompt."""

Groups = dict[str, list[Cell]]
"""The cells of each arm, of one task and model."""


def by_arm(cells: Sequence[Cell]) -> Groups:
    """Return the cells of each arm, ordered by seed."""
    groups: Groups = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        groups.setdefault(cell["arm"], []).append(cell)
    return groups


def heldout(cell: Cell, what: str, round_: int) -> np.ndarray:
    """Return one figure of each held-out prompt, (P,): `greedy`, `mean` or `maj`, after a round (-1: the last)."""
    return np.array(cell["heldout"][what][round_], dtype=float)


def paired(
    cells: Sequence[Cell],
    rivals: Sequence[Cell],
    this: Callable[[Cell], np.ndarray],
    other: Callable[[Cell], np.ndarray],
) -> Interval | None:
    """Return the mean of this(cell) - other(rival) over the seeds that both have, with its interval; None without."""
    found = {rival["seed"]: rival for rival in rivals}
    differences = [this(cell) - other(found[cell["seed"]]) for cell in cells if cell["seed"] in found]
    return over_seeds(differences) if differences else None


def last(what: str) -> Callable[[Cell], np.ndarray]:
    """Return the function from a cell to a figure of its last policy, by prompt."""
    return lambda cell: heldout(cell, what, -1)


def at(what: str, round_: int) -> Callable[[Cell], np.ndarray]:
    """Return the function from a cell to a figure of the policy after a round, by prompt."""
    return lambda cell: heldout(cell, what, round_)


def summary(cells: Sequence[Cell]) -> str:
    """Return Markdown: a row a task, model and arm."""
    lines = [
        "| task | model | arm | seeds | rounds | greedy | mean@k | maj@k | mean@k over base | mean@k over lmsi "
        "| last over first round | labels right, first and last round | families below base | tokens |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for task, model, own in settings_of(cells):
        groups = by_arm(own)
        for arm, group in groups.items():
            trained = not untrained(arm)
            fields = [
                *(task, model, arm, str(len(group)), str(len(group[0]["rounds"]) - 1)),
                *(_mean([last(what)(c).mean() for c in group]) for what in ("greedy", "mean", "maj")),
                shown(paired(group, group, last("mean"), at("mean", 0))) if trained else "",
                shown(paired(group, groups.get(RIVAL, []), last("mean"), last("mean")))
                if trained and arm != RIVAL
                else "",
                shown(paired(group, group, last("mean"), at("mean", 1)))
                if trained and len(group[0]["rounds"]) > 2
                else "",
                _labels(group) if trained else "",
                ", ".join(_fallen(group)) if trained else "",
                f"{np.mean([c['rounds'][-1]['generated_tokens'] for c in group]):.0f}" if trained else "",
            ]
            lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines)


def _labels(group: Sequence[Cell]) -> str:
    """Return the label accuracy of the survivors of the first and of the last round."""
    ends = [
        [c["rounds"][r]["label_accuracy"] for c in group if c["rounds"][r]["label_accuracy"] is not None]
        for r in (1, -1)
    ]
    return ", ".join(_mean(end) if end else "-" for end in ends)


def family_changes(group: Sequence[Cell], round_: int = -1, what: str = "greedy") -> dict[str, Interval]:
    """Return, for each family, the change of accuracy since the base with its interval; empty without families."""
    found = {}
    for family in dict.fromkeys(name for cell in group for name in cell["heldout"].get("families", ())):
        differences = []
        for cell in group:
            own = np.array([name == family for name in cell["heldout"]["families"]])
            if own.any():
                differences.append((heldout(cell, what, round_) - heldout(cell, what, 0))[own])
        found[family] = over_seeds(differences, resamples=2_000)
    return found


def _fallen(group: Sequence[Cell]) -> list[str]:
    """Return the families whose greedy accuracy fell beyond chance."""
    changes = family_changes(group).items()
    return [f"{name} {change.diff:+.2f}" for name, change in changes if change.high < 0]


def families(cells: Sequence[Cell], arms: Sequence[str] = ("ours", RIVAL)) -> str:
    """Return Markdown: greedy accuracy of each family by round, means over seeds; a table a task, model and arm."""
    lines: list[str] = []
    for task, model, own in settings_of(cells):
        for arm, group in by_arm(own).items():
            if arm not in arms or "families" not in group[0]["heldout"]:
                continue
            rounds = len(group[0]["rounds"])
            lines += [
                f"**{task}, {model}, {arm}**: greedy accuracy by round, and its change",
                "",
                "| family | base | " + " | ".join(map(str, range(1, rounds))) + " | change |",
                "|---" * (rounds + 2) + "|",
            ]
            for family, change in family_changes(group).items():
                curve = [_mean([_of_family(c, family, r) for c in group]) for r in range(rounds)]
                lines.append(f"| {family} | " + " | ".join(curve) + f" | {shown(change)} |")
            lines.append("")
    return "\n".join(lines).rstrip()


def _of_family(cell: Cell, family: str, round_: int) -> float:
    own = np.array([name == family for name in cell["heldout"]["families"]])
    return float(heldout(cell, "greedy", round_)[own].mean()) if own.any() else float("nan")


def controls(cells: Sequence[Cell]) -> str:
    """Return Markdown: each trained arm beside what more sampling or another temperature gives the base."""
    lines = [
        "| task | model | arm | base greedy | base at its best temperature, mean@k | base maj@64 | greedy "
        "| greedy - base maj@64 | greedy where base maj@64 is right, wrong | greedy - base greedy "
        "| learnt prompts: greedy | mean |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for task, model, own in settings_of(cells):
        groups = by_arm(own)
        bases = {arm: group for arm, group in groups.items() if untrained(arm)}
        best = max(
            ((float(np.mean([last("mean")(c).mean() for c in group])), arm) for arm, group in bases.items()),
            default=None,
        )
        votes = bases.get(VOTES, [])
        for arm, group in groups.items():
            if untrained(arm):
                continue
            learnt = [c["learnt"] for c in group if "learnt" in c]
            fields = [
                *(task, model, arm, _mean([at("greedy", 0)(c).mean() for c in group])),
                f"{best[0]:.3f} ({best[1]})" if best else "",
                _mean([last("maj")(c).mean() for c in votes]) if votes else "",
                _mean([last("greedy")(c).mean() for c in group]),
                shown(paired(group, votes, last("greedy"), last("maj"))),
                _by_majority(group, votes),
                shown(paired(group, group, last("greedy"), at("greedy", 0))),
                f"{_mean([one['greedy'][0] for one in learnt])}, {_mean([one['greedy'][-1] for one in learnt])}"
                if learnt
                else "",
                f"{_mean([one['mean'][0] for one in learnt])}, {_mean([one['mean'][1] for one in learnt])}"
                if learnt
                else "",
            ]
            lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines)


def _by_majority(group: Sequence[Cell], votes: Sequence[Cell]) -> str:
    """Return the greedy accuracy on the held-out prompts whose base maj@64 is right, and on the others.

    Training on majority votes can only teach the modes of the base's answers; the second figure is what went beyond.
    """
    found = {cell["seed"]: last("maj")(cell) >= 0.5 for cell in votes}
    both = [(last("greedy")(cell), found[cell["seed"]]) for cell in group if cell["seed"] in found]
    if not both:
        return ""
    greedy, right = (np.concatenate(parts) for parts in zip(*both, strict=True))
    return ", ".join(_mean(greedy[chosen].tolist()) if chosen.any() else "-" for chosen in (right, ~right))


def off_task(cells: Sequence[Cell]) -> str:
    """Return Markdown: the accuracy on the tasks that nothing trained on, before and after."""
    lines = [
        "| task | model | arm | off-task | greedy before, after | change | mean before, after | change |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task, model, own in settings_of(cells):
        for arm, group in by_arm(own).items():
            measured = [c["off_task"] for c in group if "off_task" in c]
            for name in measured[0] if measured else ():
                fields = [task, model, arm, name]
                for what in ("greedy", "mean"):
                    both = [np.array(one[name][what], dtype=float) for one in measured]  # each (2, P)
                    change = over_seeds([after - before for before, after in both])
                    fields += [", ".join(_mean([pair[i].mean() for pair in both]) for i in (0, 1)), shown(change)]
                lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines)


def happened(cell: Cell, round_: int) -> str:
    """Return what a round did to the held-out accuracy of the policy before it, greedy and mean@k.

    "worse" or "better" if one of them fell or rose beyond chance (95 %, paired) and the other did not do the opposite.
    """
    changes = [
        over_seeds([heldout(cell, what, round_) - heldout(cell, what, round_ - 1)]) for what in ("greedy", "mean")
    ]
    fell, rose = any(c.high < 0 for c in changes), any(c.low > 0 for c in changes)
    return "worse" if fell and not rose else "better" if rose and not fell else "no difference"


def predictions(cells: Sequence[Cell]) -> str:
    """Return Markdown: the label-free decision of the guard on each round beside what the round did to accuracy.

    A decision is right if a kept round was not worse, or a rejected one not better.
    """
    lines = [
        "| task | model | arm | rounds | kept: better, no difference, worse | rejected: better, no difference, worse "
        "| right |",
        "|---|---|---|---|---|---|---|",
    ]
    total = Counter[bool]()
    for task, model, own in settings_of(cells):
        for arm, group in by_arm(own).items():
            if untrained(arm):
                continue
            seen = Counter(
                (c["rounds"][r]["guard"] == "keep", happened(c, r)) for c in group for r in range(1, len(c["rounds"]))
            )
            right = sum(n for (kept, what), n in seen.items() if what != ("worse" if kept else "better"))
            total += Counter({True: right, False: seen.total() - right})
            counts = [
                ", ".join(str(seen[kept, w]) for w in ("better", "no difference", "worse")) for kept in (True, False)
            ]
            lines.append(f"| {task} | {model} | {arm} | {seen.total()} | {counts[0]} | {counts[1]} | {right} |")
    return "\n".join([*lines, f"| all | | | {total.total()} | | | {total[True]} |"])


def shown(interval: Interval | None) -> str:
    """Return a difference with its interval as text; empty without one."""
    return "" if interval is None else f"{interval.diff:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def _mean(values: Sequence[Any]) -> str:
    return f"{np.mean(values):.3f}"


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, nargs="+", help="cells.jsonl of one or more --work folders")
    parser.add_argument("--arms", default="ours,lmsi", help="arms with a table of families, joined by commas")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a page with such markers: <!-- summary -->")
    options = parser.parse_args()
    cells = load(options.cells)
    parts = {
        "summary": summary(cells),
        "controls": controls(cells),
        "off-task": off_task(cells),
        "predictions": predictions(cells),
        "families": families(cells, options.arms.split(",")),
    }
    print("\n\n".join(f"## {name}\n\n{text}" for name, text in parts.items()))
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        for name, text in parts.items():
            if f"<!-- {name} -->" in page:
                page = insert(page, name, text)
        write_text(options.write, page)


if __name__ == "__main__":
    main()
