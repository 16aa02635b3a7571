"""Status of a run, read from its memory; also while another process writes it."""

from pathlib import Path
from typing import Any

from ..memory import ResponseMemory
from ..run.folder import RUNS
from .figures import measured_rounds
from .tables import by_round


def run_status(folder: Path) -> dict[str, Any]:
    """Return the current policy, decisions, counts and last committed unit of a run, ready for JSON.

    Agreement and accuracy (None without an audit file) are given for each round, and under `base` for the base.
    """
    with ResponseMemory.open(folder / "memory.db") as memory:
        units = memory.units()
        base, *rounds = measured_rounds(folder, memory)
        return {
            "run": str(folder),
            "current": memory.current,
            "responses": memory.count(),
            "last_unit": units[-1].id if units else None,
            "base": {"agreement": base.agreement, "accuracy": base.accuracy},
            "rounds": [one.row for one in rounds if one.decision is not None],
        }


def list_runs() -> list[dict[str, Any]]:
    """Return the status of every run below runs/, by name."""
    return [run_status(path.parent) for path in sorted(RUNS.glob("*/memory.db"))]


def headline(row: dict[str, Any]) -> str:
    """Return a run's status in one line."""
    return f"{row['run']}: current {row['current']}, {row['responses']} responses"


def table(row: dict[str, Any]) -> str:
    """Return a run's status for people: decisions, accuracy and agreement by round, the last committed unit."""
    rounds = row["rounds"]
    measured = [{"round": 0, "decision": None, **row["base"]}, *rounds]
    return "\n".join(
        [
            headline(row),
            *(f"  round {one['round']} {one['decision']}: {one['because']}" for one in rounds),
            *by_round(measured, None),
            f"  last committed unit {row['last_unit']}",
        ]
    )
