"""Two runs side by side: their figures, and the settings in which they differ."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..memory import ResponseMemory
from ..memory.inspect.overview import overview
from ..run.folder import flat, saved_config
from ..types import Decision, Stage
from .html import saved_summary

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


@dataclass(frozen=True)
class Comparison:
    """Figures and differing settings of two runs, by name."""

    runs: tuple[str, str]
    figures: dict[str, Pair]
    settings: dict[str, Pair]

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)

    @property
    def table(self) -> str:
        """The two runs as columns."""
        rows = [("", *self.runs), *((name, *map(_cell, pair)) for name, pair in self.figures.items())]
        if self.settings:
            rows += [("", "", ""), ("settings that differ", "", "")]
            rows += [(f"  {key}", *map(_cell, pair)) for key, pair in self.settings.items()]
        first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
        return "\n".join(f"{a:{first}}  {b:>{second}}  {c:>{third}}".rstrip() for a, b, c in rows)


def compare_runs(one: Path, other: Path) -> Comparison:
    """Compare two run folders. A change of accuracy is paired within its run; two runs are not paired with each other.

    Accuracy is as of the last summary, all else as of now.
    """
    figures, settings = (_figures(one), _figures(other)), (_settings(one), _settings(other))
    differ = {key: pair for key, pair in _paired(*settings).items() if pair[0] != pair[1] and key != "name"}
    return Comparison((one.resolve().name, other.resolve().name), _paired(*figures), differ)


def _figures(folder: Path) -> dict[str, Any]:
    heldout = saved_summary(folder).get("heldout", {})
    with ResponseMemory.open(folder / "memory.db") as memory, memory.db.snapshot():
        rounds = memory.rounds()
        kept = [record for record in rounds if record.decision is Decision.KEEP]
        before, after = (memory.result(round_, Stage.HEALTH) or {} for round_ in (0, memory.standing[-1]))
        return {
            "rounds kept": f"{len(kept)} of {len(rounds)}",
            "current policy": memory.current,
            **({label: heldout[key] for label, key in ACCURACY.items()} if heldout else {}),
            "agreement, base (no labels)": before.get("agreement"),
            "agreement, now (no labels)": after.get("agreement"),
            "KL to base, nats a token": after.get("kl"),
            "responses": memory.count(),
            "survivors, last round": rounds[-1].kept if rounds else None,
            "new tokens": sum(line.new_tokens for line in overview(memory).operators),
            "seconds": round(sum(unit.wall_s for unit in memory.units()), 1),
        }


def _settings(folder: Path) -> dict[str, Any]:
    return flat(saved_config(folder).model_dump(mode="json"))


def _paired(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Pair]:
    return {key: (one.get(key), other.get(key)) for key in (*one, *(key for key in other if key not in one))}


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
