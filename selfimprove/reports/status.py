"""Status of a run: what it is doing, from its progress record, and what it has found, from its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..memory import ResponseMemory
from ..outcomes import Decision
from ..run.folder import RUNS, saved_config
from ..run.state import Doing, State, doing, is_running
from ..types import Stage
from .figures import measured_rounds, survivors
from .tables import by_round

if TYPE_CHECKING:
    from ..memory.store.rows import UnitRecord


def run_status(folder: Path) -> dict[str, Any]:
    """Return the state, policy, decisions, counts and last committed unit of a run, ready for JSON.

    Agreement and accuracy (None without an audit file) are given for each round, and under `base` for the base.
    """
    with ResponseMemory.open(folder / "memory.db") as memory:
        return status_now(folder, found(folder, memory))


def found(folder: Path, memory: ResponseMemory) -> dict[str, Any]:
    """Return what a run has found so far: all of its status but what it is doing."""
    units = memory.units()
    base, *rounds = measured_rounds(folder, memory)
    return {
        "run": str(folder),
        "current": memory.current,
        "responses": memory.count(),
        "last_unit": units[-1].id if units else None,
        "base": {"agreement": base.agreement, "accuracy": base.accuracy},
        "rounds": [one.row for one in rounds if one.decision is not None],
        "survivors": [asdict(one) for one in survivors(memory)],
        "seconds": seconds_by_stage(units),
    }


def status_now(folder: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's status: what is `known` of it, its state, and the stage that it is in or stopped in.

    `seconds_left` is for the rounds that are configured; None until one round shows how long a round takes.
    """
    now = doing(folder)
    state = _state(folder, known["rounds"], now)
    status = {"state": state, **known}
    if now is None or state is State.FINISHED:
        return status | {"doing": None, "seconds_left": None}
    stage = asdict(now) | {"share": now.share, "seconds_left": now.seconds_left}
    left = seconds_left(known["seconds"], now) if state is State.RUNNING else None
    return status | {"doing": stage, "seconds_left": left}


def _state(folder: Path, rounds: Sequence[Mapping[str, Any]], now: Doing | None) -> State:
    if is_running(folder, now):
        return State.RUNNING
    try:
        configured = saved_config(folder).rounds
    except UserError:
        return State.STOPPED
    decided = max((one["round"] for one in rounds), default=0)
    stopped = any(one["decision"] is Decision.STOP for one in rounds)
    return State.FINISHED if stopped or decided >= configured else State.STOPPED


def seconds_by_stage(units: Sequence[UnitRecord]) -> dict[int, dict[str, float]]:
    """Return the seconds of the committed units, by round and stage."""
    seconds: dict[int, dict[str, float]] = {}
    for unit in units:
        stages = seconds.setdefault(unit.round, {})
        stages[unit.stage] = round(stages.get(unit.stage, 0.0) + unit.wall_s, 2)
    return seconds


def seconds_left(seconds: Mapping[int, Mapping[str, float]], now: Doing) -> float | None:
    """Return how long a run still takes, if its stages take as long as in its last whole round; None without one."""
    whole = [seconds[round_] for round_ in sorted(seconds) if round_ and Stage.GUARD in seconds[round_]]
    if not whole:
        return None
    usual, order = whole[-1], [stage.value for stage in Stage]
    rest = usual.get(now.stage, 0.0) * (1 - (now.share or 0))
    here = rest if now.seconds_left is None else now.seconds_left
    later = sum(usual.get(stage, 0.0) for stage in order[order.index(now.stage) + 1 :]) if now.stage in order else 0.0
    return round(here + later + (now.rounds - now.round) * sum(usual.values()), 1)


def list_runs() -> list[dict[str, Any]]:
    """Return the status of every run below runs/, by name; of one that cannot be read, `run` and `error` alone."""
    return [_status_or_error(path.parent) for path in sorted(RUNS.glob("*/memory.db"))]


def _status_or_error(folder: Path) -> dict[str, Any]:
    try:
        return run_status(folder)
    except UserError as error:
        return {"run": str(folder), "error": str(error)}


def headline(row: Mapping[str, Any]) -> str:
    """Return a run's status in one line, or why there is none."""
    if "error" in row:
        return f"{row['run']}: {row['error']}"
    where = f" in {stage_line(row)}" if row["doing"] else ""
    return f"{row['run']}: {row['state']}{where}, current {row['current']}, {row['responses']} responses"


def stage_line(row: Mapping[str, Any]) -> str:
    """Return the stage that a run is in, with its share and the time left, in one line."""
    now, left = row["doing"], row["seconds_left"]
    share = "" if now["share"] is None else f" {now['share']:.0%}"
    stage = f"round {now['round']}/{now['rounds']}" if now["round"] else "base"
    stage += f", {now['stage']}{share}"
    if row["state"] is not State.RUNNING:
        return stage
    times = [f"{time_text(now['seconds_left'])} left in this stage"] if now["seconds_left"] else []
    times += [f"about {time_text(left)} in all"] if left else []
    return f"{stage} ({', '.join(times)})" if times else stage


def time_text(seconds: float) -> str:
    """Return a duration for people: 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def table(row: Mapping[str, Any]) -> str:
    """Return a run's status for people: stage, decisions, accuracy and agreement by round, survivors, last unit."""
    rounds = row["rounds"]
    measured = [{"round": 0, "decision": None, **row["base"]}, *rounds]
    return "\n".join(
        [
            headline(row),
            *(f"  round {one['round']} {one['decision']}: {one['because']}" for one in rounds),
            *by_round(measured, None),
            *(f"  round {one['round']} kept {one['kept']} of {one['candidates']}" for one in row["survivors"]),
            f"  last committed unit {row['last_unit']}",
        ]
    )
