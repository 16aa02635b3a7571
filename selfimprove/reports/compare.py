"""Comparison of two runs: figures side by side, families and prompts that differ, settings that differ, warnings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..memory import ResponseMemory
from ..run.folder import flat
from ..types import Prompt, Split
from .changes import FamilyChange, PromptChange, Side, family_changes, prompt_changes
from .figures import Figures, load_figures
from .tables import by_family, quoted

Pair = tuple[Any, Any]
"""A value of the one run and of the other; None where a run has none."""

ACCURACY = {
    "held-out prompts audited": "prompts",
    "mean@k accuracy, base": "before",
    "mean@k accuracy, now": "after",
    "  change": "diff",
    "  95 % from": "diff_low",
    "  95 % to": "diff_high",
    "greedy accuracy, now": "greedy_after",
    "maj@k, now": "maj_after",
    "pass@k, now": "pass_after",
}


PROMPTS = 10
"""Prompts that the table shows."""

MEASUREMENT = ("evaluate.k", "evaluate.limit", "sample.max_new_tokens", "sample.temperature")
"""Settings that change what is measured, not only what is learnt."""


@dataclass(frozen=True)
class Comparison:
    """Figures and differing settings of two runs, by name; `warnings` say why figures are not comparable.

    `prompts` are the held-out prompts that both measured, with the answers of both current policies, those first that
    the second run answers worse; `families` are the first run's.
    """

    runs: tuple[str, str]
    figures: dict[str, Pair]
    settings: dict[str, Pair]
    prompts: tuple[PromptChange, ...] = ()
    families: tuple[FamilyChange, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "runs": self.runs,
            "figures": self.figures,
            "settings": self.settings,
            "prompts": [
                one.row()
                | {"prompt": one.prompt.text, "family": one.family, "answers": _answers(one), "mean": _means(one)}
                for one in self.prompts
            ],
            "families": [one.row() for one in self.families],
            "warnings": self.warnings,
        }

    @property
    def table(self) -> str:
        """The two runs as columns, warnings below."""
        rows = [("", *self.runs), *((name, *map(_cell, pair)) for name, pair in self.figures.items())]
        if self.settings:
            rows += [("", "", ""), ("settings that differ", "", "")]
            rows += [(f"  {key}", *map(_cell, pair)) for key, pair in self.settings.items()]
        first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [f"{a:{first}}  {b:>{second}}  {c:>{third}}".rstrip() for a, b, c in rows]
        return "\n".join([*lines, *self._differences(), *(f"warning: {text}" for text in self.warnings)])

    def _differences(self) -> list[str]:
        differ = [one for one in self.prompts if one.changed or one.by]
        if not self.prompts:
            return []
        lines = ["", *by_family(self.families, None), ""]
        lines.append(f"  {len(differ)} of {len(self.prompts)} held-out prompts differ in majority answer or accuracy")
        for one in differ[:PROMPTS]:
            old, new = map(quoted, _answers(one))
            right = "" if one.by is None else f"{one.before.mean:.2f} -> {one.after.mean:.2f}   "
            lines.append(f"    {right}{quoted(one.prompt.text, 60)}: {old or '-'} -> {new or '-'}")
        if len(differ) > PROMPTS:
            lines.append(f"    and {len(differ) - PROMPTS} more: --json lists them all")
        return lines


def _answers(one: PromptChange) -> Pair:
    return one.before.majority, one.after.majority


def _means(one: PromptChange) -> Pair:
    return one.before.mean, one.after.mean


def compare_runs(one: Path, other: Path) -> Comparison:
    """Compare two run folders. Accuracy changes are paired within a run; the two runs are not paired with each other.

    Accuracy is as of the last report, all else as of now.
    """
    sides = _side(one), _side(other)
    settings = [flat(side.config.model_dump(mode="json")) for side in sides]
    differ = {key: pair for key, pair in _paired(*settings).items() if pair[0] != pair[1] and key != "name"}
    names = (one.resolve().name, other.resolve().name)
    first, second = sides
    prompts = prompt_changes(first.prompts, first.families, first.answers, second.answers)
    return Comparison(
        runs=names,
        figures=_paired(first.figures, second.figures),
        settings=differ,
        prompts=tuple(prompts),
        families=tuple(family_changes(prompts)),
        warnings=_warnings(sides, differ),
    )


@dataclass(frozen=True)
class _Side:
    """One run of a comparison."""

    config: RunConfig
    figures: dict[str, Any]
    prompts: tuple[Prompt, ...]
    families: Mapping[str, str]
    """Family of each prompt, by its id."""
    answers: Mapping[str, Side]
    """Of the current policy, by prompt id."""

    def ids(self, split: Split | None = None) -> frozenset[str]:
        """Return the ids of the prompts, or of those of a split."""
        return frozenset(prompt.id for prompt in self.prompts if split in (None, prompt.split))


def _side(folder: Path) -> _Side:
    with ResponseMemory.open(folder / "memory.db") as memory, memory.db.snapshot():
        found = load_figures(folder, memory)
        answers = found.prompts.sides.get(found.final, {})
        return _Side(found.config, _figures(found), tuple(memory.own_prompts()), found.prompts.families, answers)


def _figures(found: Figures) -> dict[str, Any]:
    heldout, last = found.heldout or {}, found.decided[-1].round if found.decided else None
    by_round = {
        f"mean@k accuracy, round {one.round}": one.accuracy["mean_at_k"] for one in found.decided if one.accuracy
    }
    kl = next((one.health["kl"] for one in found.rounds if one.round == found.final and one.health), None)
    return {
        "rounds kept": f"{len(found.kept)} of {len(found.decided)}",
        "current policy": found.memory.current,
        **({label: heldout[key] for label, key in ACCURACY.items()} if heldout else {}),
        **by_round,
        "agreement, base (no labels)": found.agreement["before"],
        "agreement, now (no labels)": found.agreement["after"],
        "KL to base, nats a token": kl,
        "responses": found.memory.count(),
        "survivors, last round": next((r.kept for r in found.memory.rounds() if r.round == last), None),
        "new tokens": sum(found.tokens_by_origin.values()),
        "seconds": round(sum(found.seconds_by_stage.values()), 1),
    }


def _warnings(sides: tuple[_Side, _Side], differ: Mapping[str, Pair]) -> tuple[str, ...]:
    """Return why the figures of two runs are not comparable: other held-out prompts, other measurement."""
    one, other = sides
    found = []
    heldout = [side.ids(Split.HELDOUT) for side in sides]
    if heldout[0] != heldout[1]:
        shared = len(heldout[0] & heldout[1])
        found.append(
            f"the held-out prompts differ: {len(heldout[0])} and {len(heldout[1])}, {shared} in both; "
            "accuracy and agreement are not comparable"
        )
    elif one.ids() != other.ids():
        found.append("the prompts that are learnt from differ; the held-out ones are the same")
    changed = [f"{key} ({differ[key][0]} and {differ[key][1]})" for key in MEASUREMENT if key in differ]
    if changed:
        found.append(f"measured with different settings: {', '.join(changed)}; mean@k, maj@k and pass@k depend on them")
    return tuple(found)


def _paired(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Pair]:
    return {key: (one.get(key), other.get(key)) for key in (*one, *(key for key in other if key not in one))}


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
