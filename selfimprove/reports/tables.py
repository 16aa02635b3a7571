"""Tables of figures as plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..types import Decision
from .figures import Figures, RoundFigures

MEASURES = {"mean_at_k": "mean@{k}", "greedy": "greedy", "maj_at_k": "maj@{k}", "pass_at_k": "pass@{k}"}
"""Kind of accuracy -> heading of its column."""


def final_table(found: Figures, summary: Mapping[str, Any]) -> str:
    """Return the table at the end of a run: before and after, by round, decisions. `summary` is summary.json."""
    lines = [
        f"held-out prompts: {_count(found)}, never trained on, never recalled",
        *_before_and_after(found),
        *by_round([one.row for one in found.rounds], found.config.evaluate.k, found.changes),
        *(_outcome(one) for one in found.decided),
        f"{len(found.kept)} of {len(found.decided)} rounds kept, current policy {summary['current']}, "
        f"{summary['wall_s']:.0f} s, peak {summary['peak_gb']:.1f} GB",
    ]
    return "\n".join(lines)


def _count(found: Figures) -> str:
    measured, audited = found.prompts_measured, found.prompts_audited
    some = found.config.prompts.audit is not None and audited != measured
    return f"{audited} of {measured} audited" if some else str(measured)


def _before_and_after(found: Figures) -> list[str]:
    k, h, agreement = found.config.evaluate.k, found.heldout, found.agreement
    rows = [("", "before", "after", "change")]
    if h:
        rows.append(
            (
                f"mean@{k} accuracy",
                f"{h['before']:.3f}",
                f"{h['after']:.3f}",
                f"{h['diff']:+.3f}  (95 % {h['diff_low']:+.3f} to {h['diff_high']:+.3f})",
            )
        )
        for label, key in (("greedy accuracy", "greedy"), (f"maj@{k}", "maj"), (f"pass@{k}", "pass")):
            rows.append((label, *_pair(h[f"{key}_before"], h[f"{key}_after"])))
    rows.append(("agreement (no labels)", *_pair(agreement["before"], agreement["after"])))
    return [f"  {label:24}{old:>8}{new:>8}   {change}".rstrip() for label, old, new, change in rows]


def _pair(before: float | None, after: float | None) -> tuple[str, str, str]:
    change = "" if before is None or after is None else f"{after - before:+.3f}"
    return _number(before), _number(after), change


def by_round(
    rows: Sequence[Mapping[str, Any]], k: int | None, changes: Mapping[int, Mapping[str, float]] | None = None
) -> list[str]:
    """Return one line a measured round under a heading: accuracy where it is known, and agreement.

    `rows` are those of `RoundFigures.row`, the base first. `changes` (as `Figures.changes`) adds the change of mean@k
    accuracy from the base with its 95 % interval.
    """
    measured = [row for row in rows if row["agreement"] is not None]
    names = [*(MEASURES if any(row["accuracy"] for row in measured) else ()), "agreement"]
    headings = [MEASURES.get(name, name).format(k=k or "k") for name in names]
    tail = f"   mean@{k or 'k'} from base (95 %)" if changes else ""
    lines = [f"  {'by round':24}" + "".join(f"{heading:>11}" for heading in headings) + tail]
    for row in measured:
        values = {"agreement": row["agreement"]} | (row["accuracy"] or {})
        label = f"{row['round']} {_word(row['decision'])}" if row["round"] else "base"
        line = f"  {label:24}" + "".join(f"{_number(values.get(name)):>11}" for name in names)
        if changes and row["round"] in changes:
            c = changes[row["round"]]
            line += f"   {c['from_base']:+.3f} ({c['from_base_low']:+.3f} to {c['from_base_high']:+.3f})"
        lines.append(line)
    return lines


def _outcome(one: RoundFigures) -> str:
    word = _word(one.decision)
    return f"round {one.round} {word}" + (": " if word == "kept" else ", because ") + one.because


def _word(decision: Decision | None) -> str:
    if decision is None:
        return "not decided"
    return "kept" if decision is Decision.KEEP else "rejected"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
