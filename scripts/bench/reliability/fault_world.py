"""A whole run that takes a second, and forked processes that may be killed during it.

Model and prompts are those of tasks/tiny_runs.py. The first run happens in this process, so that a fork of it starts
with modules imported and code compiled.
"""

import json
import os
import signal
import sqlite3
import struct
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tasks.tiny import SUMS, sum_question, teach
from tasks.tiny_runs import tiny_config

from reliability.operations import Countdown
from selfimprove.config import RunConfig
from selfimprove.errors import UserError
from selfimprove.fsio import folder_digest
from selfimprove.memory import ResponseMemory
from selfimprove.rounds import improve
from selfimprove.run.progress import Progress
from selfimprove.run.session import open_run

SMALL = {
    "sample": {"k": 2, "max_new_tokens": 16, "unit_prompts": 8},
    "propose": {
        "exemplar": {"k": 1, "below": 2.0},
        "revise": {"k": 1, "below": 1.0, "critique_tokens": 4, "shots": 1, "trial": 0, "verdicts": True},
        "stitch": {"k": 1, "steps": 1},
    },
    "evaluate": {"k": 1, "limit": 3},
    "select": {"threshold": 0.0},
}
"""Changes to the configuration of tasks/tiny_runs.py: every stage still has work, and less of it."""


@dataclass(frozen=True)
class Ending:
    """The bytes that a run ended with: the digest of its memory and of each adapter."""

    memory: str
    adapters: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class World:
    """A configuration, and the ending of an undisturbed run of it in `folder`/undisturbed."""

    config: RunConfig
    folder: Path
    ending: Ending


def make_world(folder: Path) -> World:
    """Train a tiny model, write its prompts and run it undisturbed, all below `folder`."""
    torch.set_num_threads(1)
    model = folder / "model"
    model.mkdir(parents=True)
    examples = [(sum_question(a, b), f"{a} plus {b} is {a + b}.") for a, b in SUMS]
    return world_of(tiny_config(teach(model, examples, steps=60), write_few(folder), **SMALL), folder)


def write_few(folder: Path) -> Path:
    """Write a prompt file of 15 sums: enough for two units of work a stage, with a third held out."""
    prompts = folder / "few.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": sum_question(a, b)}) for a, b in SUMS[::2]), encoding="utf-8")
    return prompts


def world_of(config: RunConfig, folder: Path) -> World:
    """Run a configuration undisturbed and return its world."""
    run(config, folder / "undisturbed")
    return World(config, folder, ending(folder / "undisturbed"))


def run(config: RunConfig, folder: Path, progress: Progress | None = None) -> None:
    """Start or resume a run and finish it."""
    with open_run(config, folder=folder, resume=True, progress=progress or Progress(quiet=True)) as opened:
        improve(opened)


def doomed(world: World, folder: Path, last: int, power: str, pipe: int) -> None:
    """Run, and die at operation `last` (0: never); report the number of committed units through `pipe`."""

    def on_commit(connection: sqlite3.Connection) -> None:
        report(pipe, connection.execute("SELECT count(*) FROM units").fetchone()[0])

    Countdown(folder, last, power, on_commit).arm()
    run(world.config, folder)


def killed(world: World, folder: Path, seconds: float) -> tuple[int, int]:
    """Run in a fork that gets a SIGKILL after `seconds`; return its exit code and the number of committed units."""

    def work(pipe: int) -> None:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        doomed(world, folder, 0, "on", pipe)

    return forked(work)


def ending(folder: Path) -> Ending:
    """Return the ending of a finished run."""
    with ResponseMemory.open(folder / "memory.db") as memory:
        digest = memory.digest()
    return Ending(digest, tuple((path.name, folder_digest(path)) for path in sorted((folder / "adapters").iterdir())))


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """Run `work` in a fork of this process; return its exit code and the last number that it reported.

    The exit code is negative for a signal, and 70 where `work` raised; the traceback is printed. `work` gets a pipe for
    `report`.
    """
    mine, its = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(mine)
            work(its)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(its)
    with os.fdopen(mine, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), struct.unpack("<q", said[-8:])[0] if said else 0


def report(pipe: int, number: int) -> None:
    """Send a number to the process that waits in `forked`; the last one counts."""
    os.write(pipe, struct.pack("<q", number))


def units_of(folder: Path) -> list[tuple[str, str]]:
    """Return (name, hash over all its rows) of every committed unit, in order; [] where there is no memory yet.

    Raises:
        AssertionError: `verify` finds a fault.
    """
    path = folder / "memory.db"
    if not path.is_file():
        return []
    with ResponseMemory.open(path) as memory:
        assert memory.verify() == [], f"{path}: {memory.verify()}"
        return memory.db.rows("SELECT id, rows_sha FROM units ORDER BY seq")


def survives(world: World, folder: Path, acknowledged: int) -> str:
    """Resume a run that died and return the fault found; "" when there is none.

    `acknowledged` is the number of units reported as committed before it died.
    """
    try:
        before = units_of(folder)
        if len(before) < acknowledged:
            return f"{acknowledged} units were committed, {len(before)} are there"
        code, _ = forked(lambda _: run(world.config, folder))
        if code:
            return f"it could not be resumed: exit code {code}"
        if units_of(folder)[: len(before)] != before:
            return "a committed unit was changed on resuming"
        if ending(folder) != world.ending:
            return "it ended with other bytes"
        leftovers = [path.name for path in folder.rglob(".tmp-*")]
        return f"left behind: {', '.join(leftovers)}" if leftovers else ""
    except (AssertionError, UserError) as fault:
        return str(fault)
