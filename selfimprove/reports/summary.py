"""Files and output of a run: tables, summary.json, metrics.jsonl, accuracy.json, answers.json, the tracker."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..evaluation.accuracy import Accuracy, audit, audited_prompts
from ..evaluation.scores import to_json
from ..fsio import write_json, write_text
from ..run.session import Run
from ..run.trackers import numbers
from ..training.footprint import peak_gb
from .advice import advice
from .answers import ANSWERS, read_heldout
from .changes import family_names
from .figures import Figures, fresh_figures
from .stored import ACCURACY, stored_answers
from .tables import final_table, round_lines


@dataclass(frozen=True)
class Summary:
    """The figures of a run (`summary.json`) and the table that shows them."""

    figures: dict[str, Any]
    table: str
    advice: tuple[str, ...] = ()
    """What to try in another run; empty if a round was kept."""


def summarise(run: Run) -> Summary:
    """Write accuracy.json, summary.json and metrics.jsonl; return the figures and the table."""
    found = _audited(run)
    units_s = sum(unit.wall_s for unit in run.memory.units())
    figures = found.summary() | {
        "wall_s": round(max(time.monotonic() - run.begun, units_s), 1),
        "peak_gb": round(peak_gb(str(run.policy.device)), 2),
        "digest": run.memory.digest(),
    }
    write_json(run.folder / "summary.json", figures)
    write_metrics(run, found.metrics())
    return Summary(figures, final_table(found, figures), advice(found))


def _audited(run: Run) -> Figures:
    """Read the held-out answers and audit every measured round, keep both per prompt, and return the figures."""
    accuracy = audit(run)
    _write_accuracy(run, accuracy)
    known = stored_answers(run.folder)
    answers = replace(read_heldout(run.memory, run.reader, known), families=family_names(run.latest.families))
    if answers != known:
        write_text(run.folder / ANSWERS, json.dumps(answers.to_json()) + "\n")
    return fresh_figures(run.config, run.memory, accuracy, answers)


def _write_accuracy(run: Run, accuracy: Mapping[int, Accuracy]) -> None:
    file = run.folder / ACCURACY
    if accuracy:
        write_text(file, json.dumps(to_json(accuracy)) + "\n")
    else:
        file.unlink(missing_ok=True)  # of an audit file that is no longer set


def reporting(run: Run) -> Callable[[], None]:
    """Return a function to call whenever a round is decided: it sends figures to the tracker of `report_to`.

    It sends the figures of the rounds that metrics.jsonl lacks, then writes them there. A process that dies in between
    sends them again when the run is resumed; none is left out.
    """
    if run.config.prompts.audit is not None:
        _say_if_unaudited(run)

    def report() -> None:
        sent = _rounds_on_disk(run)
        if {0, *(record.round for record in run.memory.rounds())} <= sent:
            return
        found = _audited(run)
        rows = found.metrics()
        for row in rows:
            if row["round"] not in sent:
                run.log(row["round"], numbers(row))
                for name, text in round_lines(found, row["round"]):
                    run.progress.line(name, text)
        write_metrics(run, rows)

    return report


def _say_if_unaudited(run: Run) -> None:
    prompts, keys = audited_prompts(run)
    if not prompts:
        run.progress.say(
            f"none of the {len(keys)} prompts in {run.config.prompts.audit} equals a held-out prompt: no accuracy will "
            "be known; write each there as it is asked"
        )


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
