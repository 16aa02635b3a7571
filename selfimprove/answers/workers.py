"""Processes that name formulas (`math_worker`): started when one is needed, killed when one takes too long."""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

SECONDS = 20.0
"""Wall time that a formula may take, start of the process excluded; its own limit, in CPU time, is far below."""
START_SECONDS = 120.0

_WORKER = Path(__file__).with_name("math_worker.py")


class _Worker:
    """One process, used by one thread at a time."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()
        self.fresh = True

    def name(self, request: Sequence[str]) -> str | None:
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", str(_WORKER)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"},
                )
                self.fresh = True
            return self._ask(self.process, request)

    def _ask(self, process: subprocess.Popen[bytes], request: Sequence[str]) -> str | None:
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(list(request)).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], START_SECONDS if self.fresh else SECONDS)
            line = process.stdout.readline() if ready else b""
        except (BrokenPipeError, OSError):
            line = b""
        if not line:  # too slow, or it died of this formula
            self.stop()
            return None
        self.fresh = False
        return json.loads(line)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            self.process = None


_workers = [_Worker() for _ in range(max(1, min(2, os.cpu_count() or 1)))]


@lru_cache(maxsize=65_536)
def _named(request: tuple[str, ...]) -> str | None:
    free = next((worker for worker in _workers if not worker.lock.locked()), _workers[0])
    return free.name(request)


def expression(latex: str) -> str | None:
    """Return the name of an expression, equal for equal ones, or None where it cannot be had (in time)."""
    return _named((latex,))


def relation(left: str, sign: str, right: str) -> str | None:
    """Return the name of an equation or inequality; `sign` is one of = != < <= > >=."""
    return _named((left, sign, right))


def stop() -> None:
    """End the processes; the next formula starts one again."""
    for worker in _workers:
        worker.stop()


atexit.register(stop)
