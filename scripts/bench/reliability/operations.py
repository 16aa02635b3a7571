"""A counter of the operations that change the disk below a folder, which ends the process at the K-th.

Counted are files opened for writing, created, renamed and removed, and folders (Python's audit events), `os.fsync`, and
all SQL except queries. A power cut also takes file contents that were not synced, and names in a folder that was not
synced: `Disk.lose`.
"""

import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

DIED, DIED_UNSYNCED = 86, 87
"""Exit codes of a process that died at its operation: with nothing unsynced, and with unsynced contents or names."""

SQLITES = {"memory.db", "memory.db-wal", "memory.db-shm", "memory.db.lock", "progress.json"}
"""Files that SQLite syncs itself, without `os.fsync`; the contents of the lock and the progress do not matter."""

COUNTED = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Disk:
    """Unsynced contents and names below `folder`: what a power cut would take."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._synced: dict[int, tuple[int, int]] = {}  # inode -> (mtime in ns, size) at its last fsync
        self._undo: list[tuple[str, Callable[[], None]]] = []  # folder that must be synced, how to lose the name
        self._shadows = folder.parent / f"{folder.name}.shadows"
        shutil.rmtree(self._shadows, ignore_errors=True)  # left by a process that died
        self._shadows.mkdir()

    def before(self, event: str, path: str, target: str) -> None:
        """Record how to undo an operation on a name that is about to happen."""
        there = os.path.lexists(path)
        if event == "os.rename":
            undo_old = self._keeper(target) if os.path.isfile(target) else None
            self._note(target, lambda: _back(path, target, undo_old))
        elif event in ("open", "os.mkdir") and not there:
            self._note(path, lambda: _remove(path))
        elif event == "os.remove" and os.path.isfile(path):
            self._note(path, self._keeper(path))

    def synced(self, descriptor: int) -> None:
        """Record that a file's contents, or a folder's names, are durable."""
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isdir(path):
            self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]
        else:
            found = os.fstat(descriptor)
            self._synced[found.st_ino] = (found.st_mtime_ns, found.st_size)

    def unsynced(self) -> list[Path]:
        """Return the files with unsynced contents."""
        files = (p for p in self.folder.rglob("*") if p.is_file() and p.name not in SQLITES)
        return [p for p in files if self._synced.get(p.stat().st_ino) != (p.stat().st_mtime_ns, p.stat().st_size)]

    def at_risk(self) -> bool:
        """Whether there are unsynced contents or names."""
        return bool(self._undo or self.unsynced())

    def lose(self, names: bool) -> None:
        """Simulate a power cut: unsynced contents become noise and names stay, or contents and `names` are lost."""
        for path in self.unsynced():
            half = path.read_bytes()[: path.stat().st_size // 2]
            path.write_bytes(b"" if names else half + random.Random(len(half)).randbytes(512))
        if names:
            for _, undo in reversed(self._undo):
                undo()

    def _note(self, path: str, undo: Callable[[], None]) -> None:
        self._undo.append((os.path.dirname(path), undo))

    def _keeper(self, path: str) -> Callable[[], None]:
        """Keep a file that is about to lose its name; return a function that restores it."""
        shadow = self._shadows / str(len(list(self._shadows.iterdir())))
        os.link(path, shadow)
        return lambda: _restore(shadow, path)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def _restore(shadow: Path, path: str) -> None:
    Path(path).unlink(missing_ok=True)
    os.link(shadow, path)


def _back(old: str, new: str, undo_replaced: Callable[[], None] | None) -> None:
    if os.path.lexists(new):
        os.rename(new, old)
    if undo_replaced is not None:
        undo_replaced()


class Countdown:
    """Ends this process at operation `last` (0: never) below `folder`. It cannot be disarmed: use it in a fork.

    `power` is `on` for a process that is killed, `cut` or `cut+names` for a power cut (see `Disk.lose`). `on_commit` is
    called with the connection after each commit.
    """

    def __init__(self, folder: Path, last: int, power: str, on_commit: Callable[[sqlite3.Connection], None]) -> None:
        self.count = 0
        self._root = str(folder.absolute())
        self._last, self._power, self._on_commit = last, power, on_commit
        self._disk = Disk(folder.absolute())

    def arm(self) -> "Countdown":
        """Count from now on."""
        real_fsync, real_connect = os.fsync, sqlite3.connect

        def fsync(descriptor: int) -> None:
            self._tick()
            real_fsync(descriptor)
            self._disk.synced(descriptor)

        connect = partial(real_connect, factory=_counted(self._tick, self._on_commit))
        os.fsync, sqlite3.connect = fsync, connect  # type: ignore[assignment]  # take what this project gives them
        sys.addaudithook(self._count)
        return self

    def _tick(self) -> None:
        self.count += 1
        if self.count == self._last:
            at_risk = self._disk.at_risk()
            if self._power != "on":
                self._disk.lose(names=self._power == "cut+names")
            os._exit(DIED_UNSYNCED if at_risk else DIED)

    def _count(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in COUNTED or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if event == "open" and not arguments[2] & WRITING:
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path == self._root or path.startswith(self._root + os.sep):
            self._tick()
            target = os.path.abspath(os.fsdecode(arguments[1])) if event == "os.rename" else ""
            self._disk.before(event, path, target)


def _counted(tick: Callable[[], None], on_commit: Callable[[sqlite3.Connection], None]) -> type[sqlite3.Connection]:
    """Return a class of connections that tick before every statement that may write."""

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if not sql.lstrip().upper().startswith(("SELECT", "WITH")):
                tick()
            cursor = super().execute(sql, *rest)
            if sql == "COMMIT":
                on_commit(self)
            return cursor

        def executemany(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            tick()
            return super().executemany(sql, *rest)

        def executescript(self, sql: str) -> sqlite3.Cursor:
            tick()
            return super().executescript(sql)

    return Connection
