"""Fault injection: a run is killed, or loses power, at every operation that changes the disk, and must lose nothing.

    python scripts/bench/reliability/crash_sweep.py --json           one JSON line last; --json FILE writes it there too

A two-round run on a tiny model dies at its 1st, 2nd, 3rd ... operation (SQLite's own way of testing) until one gets to
its end. Each time the memory is verified, the run dies once more while it is resumed, is resumed again, and must end
with the bytes of an undisturbed run. Parts:

    operations   killed at each operation on files and each SQL statement that writes; wherever something was not
                 synced, the same as a power cut (counted as `power`): contents, or contents and names, are gone
    torn         every commit's write-ahead log truncated at and within each frame, or corrupted, or its checkpoint
                 torn: the memory must have the digest from before that commit, or from after it
    kills        SIGKILL at random times
    boundaries   SIGKILL, SIGINT and SIGTERM at every beginning and end of a stage
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports as a script: CONTRIBUTING.md, Layout
from reliability.fault_world import World, doomed, forked, killed, make_world, run, survives
from reliability.json_line import JSON, tell
from reliability.operations import DIED, DIED_UNSYNCED, Countdown
from selfimprove.config_file import to_yaml
from selfimprove.errors import UserError
from selfimprove.memory import ResponseMemory
from selfimprove.run.progress import Bar, Progress

PARTS = ("operations", "torn", "kills", "boundaries")


@dataclass
class Tally:
    """Points tried, by part, and the faults found."""

    points: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, part: str, where: str, fault: str) -> None:
        """Count a point; `fault` is "" when the run survived it."""
        self.points[part] += 1
        if fault:
            self.faults.append(f"{part} {where}: {fault}")


def operations(world: World, folder: Path, tally: Tally, stride: int) -> None:
    """Kill the run at every `stride`-th operation; where something was unsynced, cut the power there too."""
    for last in count(1, stride):
        code, acknowledged = _die(world, folder / "op", last, "on")
        if code == 0:
            return
        tally.add("operations", str(last), _recover(world, folder / "op", acknowledged, last, code))
        if code == DIED_UNSYNCED:
            for power in ("cut", "cut+names"):
                code, acknowledged = _die(world, folder / "op", last, power)
                tally.add("power", f"{last} {power}", _recover(world, folder / "op", acknowledged, last, code))


def _die(world: World, folder: Path, last: int, power: str) -> tuple[int, int]:
    """Begin a new run that dies at operation `last`; return its exit code and how many units it had committed."""
    shutil.rmtree(folder, ignore_errors=True)
    return forked(partial(doomed, world, folder, last, power))


def _recover(world: World, folder: Path, acknowledged: int, last: int, code: int) -> str:
    """Kill the run again early while it is resumed, then check that it survives."""
    if code not in (DIED, DIED_UNSYNCED):
        return f"it ended with code {code} instead of dying"
    code, again = forked(partial(doomed, world, folder, 1 + last % 24, "on"))
    if code not in (0, DIED, DIED_UNSYNCED):
        return f"resuming ended with code {code}"
    return survives(world, folder, max(acknowledged, again))


def torn(world: World, folder: Path, tally: Tally, stride: int) -> None:
    """Damage the write-ahead log of every `stride`-th commit: the memory must be the old or the new one."""
    images = folder / "images"
    images.mkdir()

    def keeping(_pipe: int) -> None:
        def on_commit(_: sqlite3.Connection) -> None:
            image = images / f"{len(list(images.iterdir())):04d}"
            image.mkdir()
            for name in ("memory.db", "memory.db-wal"):
                shutil.copyfile(folder / "run" / name, image / name)

        Countdown(folder / "run", 0, "on", on_commit).arm()
        run(world.config, folder / "run")

    code, _ = forked(keeping)
    assert code == 0, f"the run whose commits are kept ended with code {code}"
    kept = sorted(images.iterdir())
    said = [_digest(image) for image in kept]
    for number in range(1, len(kept), stride):
        old, new = said[number - 1 : number + 1]
        for damage in _tears(kept[number]):
            now = _digest(kept[number])
            fault = "" if now in (old, new) else f"its digest is neither the old nor the new one: {now}"
            tally.add("torn", f"commit {number} {damage}", fault)
    shutil.rmtree(images)


def _digest(image: Path) -> str:
    """Return the digest of a memory that verifies, else its faults."""
    (image / "memory.db-shm").unlink(missing_ok=True)
    try:
        with ResponseMemory.open(image / "memory.db") as memory:
            return "; ".join(memory.verify()) or memory.digest()
    except UserError as error:
        return str(error)


def _tears(image: Path) -> Iterator[str]:
    """Damage the last transaction of a log step by step, as a power cut during it could; yield each damage's name."""
    path = image / "memory.db-wal"
    log = path.read_bytes()
    page = int.from_bytes(log[8:12], "big")
    size = 24 + page  # a frame: page number, size of the database after a commit (else 0), salt, checksum, the page
    frames = [at for at in range(32, len(log) - size + 1, size) if log[at + 8 : at + 16] == log[16:24]]
    commits = [at for at in frames if int.from_bytes(log[at + 4 : at + 8], "big")]
    begin = commits[-2] + size if len(commits) > 1 else 32

    database = (image / "memory.db").read_bytes()
    with (image / "memory.db").open("r+b") as file:
        for at in frames:
            if at <= commits[-1]:
                file.seek((int.from_bytes(log[at : at + 4], "big") - 1) * page)
                file.write(random.Random(at).randbytes(page // 2))
    yield "checkpoint torn"
    (image / "memory.db").write_bytes(database)

    for at in reversed([at for at in frames if begin <= at <= commits[-1]]):
        whole = log[: at + size]
        for damage, bytes_ in (
            ("garbled", whole[:-512] + random.Random(at).randbytes(512)),
            ("zeroed", whole[: at + 24] + bytes(page)),
            ("cut within", whole[: at + size // 2]),
            ("cut before", whole[:at]),
        ):
            path.write_bytes(bytes_)
            yield f"frame {at // size} {damage}"


def kills(world: World, folder: Path, tally: Tally, how_many: int) -> None:
    """Kill so many runs, each at a random time."""
    rng = random.Random(0)
    begun = time.monotonic()
    forked(lambda _: run(world.config, folder / "timed"))
    whole = time.monotonic() - begun
    for number in range(how_many):
        target = folder / f"kill{number}"
        code, acknowledged = killed(world, target, rng.uniform(0, whole))
        fault = "" if code in (0, -signal.SIGKILL) else f"it ended with code {code}"
        tally.add("kills", str(number), fault or survives(world, target, acknowledged))
        shutil.rmtree(target, ignore_errors=True)


class Tripwire(Progress):
    """Sends this process a signal at the n-th beginning or end of a stage."""

    signal = signal.SIGKILL
    left = 0

    def _pass(self) -> None:
        Tripwire.left -= 1
        if Tripwire.left == 0:
            os.kill(os.getpid(), self.signal)

    def line(self, stage: str, *facts: str, seconds: float | None = None) -> None:
        """Count the end of a stage."""
        super().line(stage, *facts, seconds=seconds)
        self._pass()

    @contextmanager
    def stage(self, name: str, total: int, noun: str) -> Iterator[Bar]:
        """Count the beginning of a stage."""
        with super().stage(name, total, noun) as bar:
            self._pass()
            yield bar


def boundaries(world: World, folder: Path, tally: Tally, stride: int) -> None:
    """Send each signal at every `stride`-th boundary of a stage, through the command line."""
    config = folder / "config.yaml"
    config.write_text(to_yaml(world.config), encoding="utf-8")
    for signum in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        expected = -signum if signum is signal.SIGKILL else 128 + signum
        for number in count(1, stride):
            shutil.rmtree(folder / "runs", ignore_errors=True)
            code, _ = forked(partial(_signalled, folder, config, number, signum))
            if code == 0:
                break
            where, target = f"{signum.name} {number}", folder / "runs" / "run"
            fault = "" if code == expected else f"exit code {code}, expected {expected}"
            if signum is not signal.SIGKILL and (target / "memory.db.owner.json").exists():
                fault = fault or "the lock was not given up"
            tally.add("boundaries", where, fault or survives(world, target, 0))


def _signalled(folder: Path, config: Path, number: int, signum: signal.Signals, _: int) -> None:
    from selfimprove.cli.main import main

    os.chdir(folder)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    Tripwire.left, Tripwire.signal = number, signum
    with patch("selfimprove.run.session.Progress", Tripwire):
        main(["run", str(config)])


def sweep(
    world: World, folder: Path, *, parts: tuple[str, ...] = PARTS, stride: int = 1, random_kills: int = 50
) -> Tally:
    """Try the parts, each in an own folder below `folder`; every `stride`-th point of them."""
    tally = Tally()
    for part, work, amount in (
        ("operations", operations, stride),
        ("torn", torn, stride),
        ("kills", kills, random_kills),
        ("boundaries", boundaries, stride),
    ):
        if part in parts:
            (folder / part).mkdir()
            work(world, folder / part, tally, amount)
    return tally


def main() -> None:
    """Sweep, print each fault and the closing line; exit code 1 when there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1, help="try every n-th point only")
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs at random times")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        world = make_world(Path(scratch) / "world")
        (Path(scratch) / "sweep").mkdir()
        tally = sweep(
            world, Path(scratch) / "sweep", parts=options.parts, stride=options.stride, random_kills=options.kills
        )
    for fault in tally.faults:
        print(fault)
    points = sum(tally.points.values())
    figures = {
        "points": points,
        "survived": points - len(tally.faults),
        "by_part": dict(tally.points),
        "seconds": round(time.monotonic() - begun),
    }
    listed = ", ".join(f"{number} {part}" for part, number in tally.points.items())
    print(f"{figures['survived']} of {points} points survived with equal bytes ({listed}) in {figures['seconds']} s")
    tell(figures, options.json)
    sys.exit(bool(tally.faults))


if __name__ == "__main__":
    main()
