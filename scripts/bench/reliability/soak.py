"""Soak test: runs killed at random and resumed, with a concurrent reader; nothing is lost, and memory use stays flat.

    python scripts/bench/reliability/soak.py --minutes 30 --json     one JSON line last; --json FILE writes it there too

First one process runs twenty rounds and records its resident memory after each. Then runs are started, killed (SIGKILL)
at random times and resumed until they are done, one after the other, until the time is up. After each kill `verify`
must find nothing and every unit that was ever committed must be there, unchanged; a finished run must end with the
bytes of an undisturbed one. A reader opens and verifies the memory meanwhile: its counts may only rise.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports as a script: CONTRIBUTING.md, Layout
from reliability.fault_world import World, ending, forked, killed, make_world, run, units_of
from reliability.json_line import JSON, tell
from selfimprove.errors import UserError
from selfimprove.memory import ResponseMemory
from selfimprove.run.progress import Progress

ROUNDS = 20
WARM = 3
"""Rounds after which nothing is loaded lazily any more."""

LONGEST = 4.0
"""Longest time in seconds until a run is killed."""


class Meter(Progress):
    """Appends the resident bytes of this process to a file at the end of each round."""

    def __init__(self, file: Path) -> None:
        super().__init__(quiet=True)
        self._file = file

    def line(self, stage: str, *facts: str, seconds: float | None = None) -> None:  # noqa: ARG002 - as in Progress
        """Measure when a round is decided."""
        if stage == "guard":
            _note(self._file, str(psutil.Process().memory_info().rss))


def resident(world: World, folder: Path, rounds: int) -> list[int]:
    """Return the resident bytes of one process after each of `rounds` rounds."""
    config = world.config.model_copy(update={"rounds": rounds})
    code, _ = forked(lambda _: run(config, folder / "long", Meter(folder / "rss")))
    assert code == 0, f"the long run ended with code {code}"
    return [int(line) for line in (folder / "rss").read_text().splitlines()]


def read_on(path: Path, faults: Path) -> None:
    """Read and verify a memory in an endless loop; append faults to a file."""
    inode = seen = 0
    while True:
        time.sleep(0.2)
        try:
            now_inode = path.stat().st_ino
            with ResponseMemory.open(path) as memory:
                wrong, now = memory.verify(), memory.count()
        except (FileNotFoundError, UserError) as error:
            if path.is_file():  # else it is being replaced by the next run's
                _note(faults, str(error))
            continue
        if now_inode == inode and now < seen:
            wrong.append(f"there were {seen} responses, now there are {now}")
        inode, seen = now_inode, now
        for fault in wrong:
            _note(faults, fault)


def soak(world: World, folder: Path, minutes: float, seed: int) -> dict[str, int]:
    """Start, kill and resume runs for `minutes`; return the number of kills, of finished runs and of lost units."""
    rng = random.Random(seed)
    target, done = folder / "run", {"kills": 0, "runs": 0, "lost": 0}
    before: list[tuple[str, str]] = []
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        code, acknowledged = killed(world, target, rng.uniform(0, LONGEST))
        now = units_of(target)
        done["lost"] += sum(unit not in now for unit in before) + max(0, acknowledged - len(now))
        before = now
        if code == -signal.SIGKILL:
            done["kills"] += 1
            continue
        assert code == 0, f"a resumed run ended with code {code}"
        assert ending(target) == world.ending, "a run that was killed and resumed ended with other bytes"
        done["runs"] += 1
        before = []
        shutil.rmtree(folder / "done", ignore_errors=True)  # not this one yet: the next would get its inode
        target.rename(folder / "done")  # atomically: the reader must not see a partial deletion
    return done


def soak_with_reader(world: World, folder: Path, minutes: float, seed: int) -> tuple[dict[str, int], list[str]]:
    """Soak while another process reads; return the counts and the reader's faults."""
    faults = folder / "faults"
    faults.touch()
    reader = os.fork()
    if reader == 0:
        read_on(folder / "run" / "memory.db", faults)
    try:
        return soak(world, folder, minutes, seed), faults.read_text().splitlines()
    finally:
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, 0)


def _note(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write(f"{line}\n")


def main() -> None:
    """Measure, soak, print a summary; exit code 1 when anything was lost or the reader found a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="how long runs are killed and resumed")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of the run whose memory use is watched")
    parser.add_argument("--seed", type=int, default=0, help="draws the times of the kills")
    parser.add_argument("--json", **JSON)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        world = make_world(Path(scratch) / "world")
        held = resident(world, Path(scratch), options.rounds)
        counted, faults = soak_with_reader(world, Path(scratch), options.minutes, options.seed)
    growth = held[-1] / held[WARM - 1] - 1
    figures = counted | {
        "reader_faults": len(faults),
        "rss_growth": round(growth, 4),
        "rss_mb": [round(bytes_ / 1e6) for bytes_ in held],
        "minutes": options.minutes,
    }
    for fault in sorted(set(faults)):
        print(f"reader: {fault}")
    print(
        f"{counted['kills']} kills, {counted['runs']} runs finished with equal bytes, {counted['lost']} units lost, "
        f"{len(faults)} faults seen by the reader; resident memory {growth:+.1%} from round {WARM} to {len(held)}"
    )
    tell(figures, options.json)
    sys.exit(bool(counted["lost"] or faults))


if __name__ == "__main__":
    main()
