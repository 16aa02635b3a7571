"""What a run came to: the before / after table, summary.json and metrics.jsonl, all derived from the memory."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ..evaluation.accuracy import Accuracy, audit, audited_prompts, compare
from ..fsio import write_json, write_text
from ..memory.operators import operators
from ..run.session import Run
from ..stages.evaluate import heldout, stored_health
from ..training.footprint import peak_gb
from ..types import Decision, Stage
from .trackers import numbers, tracker


@dataclass(frozen=True)
class Summary:
    """The figures of a run (`summary.json`) and the table that shows them."""

    figures: dict[str, Any]
    table: str


def summarise(run: Run) -> Summary:
    """Write summary.json and metrics.jsonl, and return the figures with the table for people."""
    records = run.memory.rounds()
    kept = [record.round for record in records if record.decision is Decision.KEEP]
    final = run.memory.standing[-1]
    units = run.memory.units()
    figures: dict[str, Any] = {
        "run": run.config.name,
        "model": run.config.model.path,
        "current": run.memory.current,
        "rounds_kept": len(kept),
        "rounds": [
            {
                "round": r.round,
                "decision": r.decision,
                "because": r.because,
                "operators": {origin: asdict(book) for origin, book in operators(run.memory, r.round).items()},
            }
            for r in records
        ],
        "wall_s": round(max(time.monotonic() - run.begun, sum(u.wall_s for u in units)), 1),
        "peak_gb": round(peak_gb(), 2),
        "seconds_by_stage": _seconds_by_stage(run),
        "digest": run.memory.digest(),
        "agreement": {"before": stored_health(run, 0).agreement, "after": stored_health(run, final).agreement},
    }
    audited = audit(run)
    if audited:
        figures["heldout"] = _heldout(audited[0], audited[final], run.config.seed)
    write_json(run.folder / "summary.json", figures)
    write_metrics(run, metrics(run, audited))
    return Summary(figures, _table(run, figures))


@contextmanager
def reporting(run: Run) -> Iterator[Callable[[], None]]:
    """Open the tracker of `report_to`; call what is returned whenever a round was decided.

    It sends the figures of the rounds that metrics.jsonl lacks, then writes them there: a process that dies in between
    sends them again when the run is resumed, and none is left out.
    """
    settings = run.config
    told = settings.model_dump(mode="json", exclude={"server", "ray"})  # addresses and commands stay here
    if settings.prompts.audit is not None:
        _say_if_unaudited(run)
    with tracker(settings.report_to, settings.name, run.folder, told) as log:

        def report() -> None:
            sent = _rounds_on_disk(run)
            if {0, *(record.round for record in run.memory.rounds())} <= sent:
                return
            rows = metrics(run, audit(run))
            for row in rows:
                if row["round"] not in sent:
                    log(row["round"], numbers(row))
            write_metrics(run, rows)

        yield report


def _say_if_unaudited(run: Run) -> None:
    prompts, keys = audited_prompts(run)
    if not prompts:
        run.progress.say(
            f"none of the {len(keys)} prompts in {run.config.prompts.audit} equals a held-out prompt: no accuracy will "
            "be known; write each there as it is asked"
        )


def metrics(run: Run, audited: dict[int, Accuracy]) -> list[dict[str, Any]]:
    """Return a row for the base and each decided round: its health, decision, training figures and accuracy."""
    records = {record.round: record for record in run.memory.rounds()}
    rows = []
    for round_ in [0, *records]:
        health = run.memory.result(round_, Stage.HEALTH)
        row: dict[str, Any] = {"round": round_}
        if round_ in records:
            row |= {"guard/decision": records[round_].decision, "guard/because": records[round_].because}
        row |= {f"health/{name}": value for name, value in (health or {}).items()}
        training = run.memory.result(round_, Stage.TRAIN) or {}
        row |= {f"train/{name}": value for name, value in training.items() if not isinstance(value, list)}
        if round_ in audited:
            row |= {f"audit/{name}": value for name, value in audited[round_].means().items()}
        rows.append(row)
    return rows


def write_metrics(run: Run, rows: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl, one line a row."""
    write_text(run.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _rounds_on_disk(run: Run) -> set[int]:
    """Return the rounds that metrics.jsonl holds; none when it is missing or damaged."""
    try:
        lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return {json.loads(line)["round"] for line in lines}
    except (FileNotFoundError, ValueError):
        return set()


def _heldout(before: Accuracy, after: Accuracy, seed: int) -> dict[str, Any]:
    interval = compare(before, after, seed)
    old, new = before.means(), after.means()
    return {
        "prompts": len(before.prompt_ids),
        "before": old["mean_at_k"],
        "after": new["mean_at_k"],
        "diff": interval.diff,
        "diff_low": interval.low,
        "diff_high": interval.high,
        "greedy_before": old["greedy"],
        "greedy_after": new["greedy"],
        "maj_before": old["maj_at_k"],
        "maj_after": new["maj_at_k"],
        "pass_before": old["pass_at_k"],
        "pass_after": new["pass_at_k"],
    }


def _seconds_by_stage(run: Run) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for unit in run.memory.units():
        seconds[unit.stage] = round(seconds.get(unit.stage, 0.0) + unit.wall_s, 2)
    return seconds


def _table(run: Run, figures: dict[str, Any]) -> str:
    k = run.config.evaluate.k
    rows = [("", "before", "after", "change")]
    if "heldout" in figures:
        h = figures["heldout"]
        change = f"{h['diff']:+.3f}  (95 % {h['diff_low']:+.3f} to {h['diff_high']:+.3f})"
        rows += [
            (f"mean@{k} accuracy", f"{h['before']:.3f}", f"{h['after']:.3f}", change),
            *(
                (label, f"{h[f'{key}_before']:.3f}", f"{h[f'{key}_after']:.3f}", _change(h, key))
                for label, key in (("greedy accuracy", "greedy"), (f"maj@{k}", "maj"), (f"pass@{k}", "pass"))
            ),
        ]
    agreement = figures["agreement"]
    difference = f"{agreement['after'] - agreement['before']:+.3f}"
    rows.append(("agreement (no labels)", f"{agreement['before']:.3f}", f"{agreement['after']:.3f}", difference))
    measured, known = len(heldout(run)), len(audited_prompts(run)[0])
    some = run.config.prompts.audit is not None and known != measured
    count = f"{known} of {measured} audited" if some else str(measured)
    lines = [f"held-out prompts: {count}, never trained on, never recalled"]
    lines += [f"  {label:24}{old:>8}{new:>8}   {change}".rstrip() for label, old, new, change in rows]
    for record in figures["rounds"]:
        word = "kept" if record["decision"] == Decision.KEEP else "rejected"
        reason = f", because {record['because']}" if word == "rejected" else f": {record['because']}"
        lines.append(f"round {record['round']} {word}{reason}")
    lines.append(
        f"{figures['rounds_kept']} of {len(figures['rounds'])} rounds kept, current policy {figures['current']}, "
        f"{figures['wall_s']:.0f} s, peak {figures['peak_gb']:.1f} GB"
    )
    return "\n".join(lines)


def _change(heldout: dict[str, float], key: str) -> str:
    return f"{heldout[f'{key}_after'] - heldout[f'{key}_before']:+.3f}"
