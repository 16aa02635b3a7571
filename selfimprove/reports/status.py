"""How far a run is, read from its memory without disturbing the process that writes it."""

from pathlib import Path
from typing import Any

from ..memory import ResponseMemory
from ..run.folder import RUNS


def run_status(folder: Path) -> dict[str, Any]:
    """Return current policy, decisions, counts and the last committed unit of a run, ready for JSON."""
    with ResponseMemory.open(folder / "memory.db") as memory:
        units = memory.units()
        return {
            "run": str(folder),
            "current": memory.current,
            "responses": memory.count(),
            "last_unit": units[-1].id if units else None,
            "rounds": [
                {"round": r.round, "decision": r.decision, "because": r.because, "policy": r.policy}
                for r in memory.rounds()
            ],
        }


def list_runs() -> list[dict[str, Any]]:
    """Return the status of every run below runs/, by name."""
    return [run_status(path.parent) for path in sorted(RUNS.glob("*/memory.db"))]
