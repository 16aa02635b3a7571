"""Whether a run is going on, and what it is doing: from its lock and its progress record. Imports no model library."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..memory.store.database import writer_of
from .progress import RECORD


class State(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    """A process holds it and works on it."""
    STOPPED = "stopped"
    """No process works on it, and rounds are left: it can be resumed."""
    FINISHED = "finished"
    """All configured rounds are decided, or the guard has stopped it."""


@dataclass(frozen=True, slots=True)
class Doing:
    """The stage that a run is in, or was in when it stopped."""

    round: int
    """0: the base is measured."""
    rounds: int
    stage: str
    done: int
    total: int
    noun: str
    tokens: int
    """Generated in this stage."""
    seconds: float
    """Since the stage began."""
    pid: int
    reached: float | None = None
    """Seconds of the stage at which `done` was reached; None in records of earlier versions."""

    @property
    def share(self) -> float | None:
        """How much of the stage is done, in [0, 1]; None where its length is not known yet."""
        return self.done / self.total if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the stage still takes if it goes on as before; None where nothing is done yet.

        Items are counted by unit: within one, the time since the last count is taken off.
        """
        if not self.done:
            return None
        reached = self.seconds if self.reached is None else self.reached
        return max(0.0, reached / self.done * self.total - self.seconds)


def doing(folder: Path) -> Doing | None:
    """Return what a run's record says; None where there is none, or a damaged one."""
    try:
        return Doing(**json.loads((folder / RECORD).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def is_running(folder: Path, now: Doing | None) -> bool:
    """Whether the process that wrote the record holds the run; other commands hold it for moments only."""
    return now is not None and writer_of(folder / "memory.db") in (now.pid, 0)
