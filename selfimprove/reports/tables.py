"""Tables of figures as plain text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..outcomes import Decision
from .changes import Change, FamilyChange
from .figures import MEASURES, Figures, RoundFigures


def final_table(found: Figures, summary: Mapping[str, Any]) -> str:
    """Return the table at the end of a run: before and after, by round, decisions. `summary` is summary.json."""
    lines = [
        f"held-out prompts: {_count(found)}, never trained on, never recalled",
        *_before_and_after(found),
        *by_round([one.row for one in found.rounds], found.config.evaluate.k, found.changes),
        *_prompts(found),
        *by_family(found.prompts.family_changes(found.shown) if found.shown else [], found.config.evaluate.k),
        *(_outcome(one) for one in found.decided),
        *_fallen(found),
        f"{len(found.kept)} of {len(found.decided)} rounds kept, current policy {summary['current']}, "
        f"{summary['wall_s']:.0f} s, peak {summary['peak_gb']:.1f} GB",
    ]
    return "\n".join(lines)


def round_lines(found: Figures, round_: int) -> Iterator[tuple[str, str]]:
    """Yield a name and a line about a round that was just decided: its accuracy where audited, and what fell."""
    one = next(one for one in found.rounds if one.round == round_)
    if one.accuracy is not None:
        k, change = found.config.evaluate.k, found.changes.get(round_)
        facts = [f"mean@{k} {one.accuracy['mean_at_k']:.3f}", f"greedy {one.accuracy['greedy']:.3f}"]
        if change:
            facts.append(f"mean@{k} from base {_interval(change, 'from_base')}")
        if change and "from_kept" in change and change["kept"]:
            facts.append(f"from round {change['kept']} {_interval(change, 'from_kept')}")
        yield "accuracy", "   ".join(facts)
    fallen = found.fallen(round_) if one.decision is Decision.KEEP else None
    if fallen is not None:
        yield "worse", fallen.text


def _interval(change: Mapping[str, float], name: str) -> str:
    return f"{change[name]:+.3f} ({change[f'{name}_low']:+.3f} to {change[f'{name}_high']:+.3f})"


def _prompts(found: Figures) -> list[str]:
    """Return how many prompts changed their answer and, where audited, how many got better and worse."""
    changes = found.prompts.changes(found.shown) if found.shown else []
    if not changes:
        return []
    counts = [f"{sum(one.kind is kind for one in changes)} {kind}" for kind in Change]
    facts = [", ".join(counts)] if any(one.kind for one in changes) else []
    facts.append(f"{sum(one.changed for one in changes)} with another majority answer")
    facts.append(f"{sum(one.open for one in changes)} open: no answer above half of the samples")
    return [f"  {'prompts':24}  {'; '.join(facts)}"]


def by_family(families: Sequence[FamilyChange], k: int | None) -> list[str]:
    """Return one line a family of held-out prompts under a heading, the worst first: before -> after."""
    if not families:
        return []
    audited = any(one.mean for one in families)
    heading = (f"mean@{k or 'k'}", "greedy right") if audited else ()
    columns = ("prompts", *heading, "agreement", "top answer share")
    lines = [f"  {'by family, worst first':24}{columns[0]:>9}" + "".join(f"{name:>18}" for name in columns[1:])]
    for one in families:
        cells = []
        if audited:
            cells += [
                f"{one.mean[0]:.3f} -> {one.mean[1]:.3f}" if one.mean else "-",
                f"{one.greedy[0]} -> {one.greedy[1]}" if one.greedy else "-",
            ]
        cells.append(f"{one.before.agreement:.2f} -> {one.after.agreement:.2f}")
        cells.append(f"{one.before.top_fraction:.2f} -> {one.after.top_fraction:.2f}")
        row = f"  {one.name[:24]:24}{one.prompts:>9}" + "".join(f"{cell:>18}" for cell in cells)
        lines.append(f"{row}  {quoted(one.after.top_answer)}".rstrip())
    return lines


def quoted(text: str | None, width: int = 24) -> str:
    """Return the beginning of a text between quotes, control characters escaped; nothing for None."""
    return "" if text is None else repr(text if len(text) <= width else f"{text[: width - 1]}…")


def _fallen(found: Figures) -> list[str]:
    fallen = found.fallen(found.final, final=True) if found.final else None
    return [f"round {fallen.round} is worse {fallen.text}"] if fallen else []


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
            line += f"   {_interval(c, 'from_base')}"
            if c.get("kept"):
                line += f"   {c['from_kept']:+.3f} from round {c['kept']:g}"
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
