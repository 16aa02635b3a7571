"""Files in a run's folder that an earlier report has written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..evaluation import scores
from . import answers

ACCURACY = "accuracy.json"
"""Accuracy per prompt and round, in the run's folder; only there when the run has an audit file."""


def written_ns(file: Path) -> int:
    """Return when a file was last written, in ns; 0 where there is none."""
    return file.stat().st_mtime_ns if file.is_file() else 0


def stored_accuracy(folder: Path) -> dict[int, scores.Accuracy]:
    """Return accuracy.json; empty where there is none."""
    rows = _json_lines(folder / ACCURACY, whole=True)
    return scores.from_json(rows[0]) if rows else {}


def stored_answers(folder: Path) -> answers.HeldoutAnswers:
    """Return answers.json; empty where there is none."""
    rows = _json_lines(folder / answers.ANSWERS, whole=True)
    return answers.from_json(rows[0]) if rows else answers.HeldoutAnswers()


def stored_means(folder: Path, per_prompt: Mapping[int, scores.Accuracy]) -> dict[int, dict[str, float]]:
    """Return mean accuracies by round; of runs from before accuracy.json, those in metrics.jsonl."""
    if per_prompt:
        return {round_: one.means() for round_, one in per_prompt.items()}
    rows = _json_lines(folder / "metrics.jsonl")
    found = {row["round"]: {k.removeprefix("audit/"): row[k] for k in row if k.startswith("audit/")} for row in rows}
    return {round_: means for round_, means in found.items() if means}


def stored_summary(folder: Path) -> dict[str, Any]:
    """Return summary.json; empty where there is none."""
    rows = _json_lines(folder / "summary.json", whole=True)
    return rows[0] if rows else {}


def _json_lines(file: Path, *, whole: bool = False) -> list[dict[str, Any]]:
    """Return the objects in a JSON (`whole`) or JSONL file that a report has written; none where it is missing."""
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    try:
        return [json.loads(part) for part in ([text] if whole else text.splitlines())]
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}); resume its run to have it written again") from None
