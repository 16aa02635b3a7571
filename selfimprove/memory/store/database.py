"""One SQLite file: one writing process, any number of readers, errors that say what to do.

Two connections that write and checkpoint at once can corrupt a WAL file in SQLite 3.7.0 to 3.51.2
(sqlite.org/wal.html#walresetbug), so one writer is a rule here and not a style.
"""

import fcntl
import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from ...errors import MemoryError_
from ...fsio import make_folder, publish, temporary_for, write_json
from .schema import APPLICATION_ID, MIGRATIONS, OLDEST_READABLE, PAGE_BYTES, migrate

_PROBED_S = 0.1
"""Time to wait for a lock: `writer_of` may have it for some microseconds."""


class Database:
    """A checked connection to a memory file of schema `version`. Autocommit outside `transaction`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: filelock.BaseFileLock | None) -> None:
        self.path = path
        self.writable = lock is not None
        (self.version,) = connection.execute("PRAGMA user_version").fetchone()
        self._connection = connection
        self._lock = lock

    @classmethod
    def create(cls, path: Path) -> "Database":
        """Make a new memory file and open it for writing. Created atomically.

        Raises:
            MemoryError_: something is there already, or another process writes there.
        """
        make_folder(path.parent)
        with _writers_lock(path) as lock, _explained(path):
            if path.exists():
                raise MemoryError_(f"{path} exists already: open it, or choose another place")
            temporary = temporary_for(path)
            with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                migrate(connection, MIGRATIONS)
                # Before it appears: a reader could not undo a switch that a killed writer left half done.
                connection.execute("PRAGMA journal_mode = WAL")
            publish(temporary, path)
            return cls(path, _connect(path, "rw"), lock)

    @classmethod
    def open(cls, path: Path, *, write: bool) -> "Database":
        """Open a memory file; a writer also takes the lock and migrates an older file after backing it up.

        Raises:
            MemoryError_: the file is missing, damaged, foreign or newer than this program, or another process
                holds it for writing.
        """
        if not path.is_file():
            raise MemoryError_(f"no response memory at {path}")
        if not write:
            with _explained(path):
                return cls(path, _connect(path, "ro"), None)
        with _writers_lock(path) as lock, _explained(path):
            return cls(path, _connect(path, "rw"), lock)

    def close(self) -> None:
        """Close the connection and give up the lock. Safe to call twice."""
        self._connection.close()
        if self._lock is not None:
            _release(self.path, self._lock)
            self._lock = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in the block is committed together, durably, or not at all.

        Raises:
            MemoryError_: opened for reading, or the disk is full or fails.
        """
        if not self.writable:
            raise MemoryError_(f"{self.path} was opened for reading")
        with _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read transaction: all reads in the block see the same state."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run one statement in the transaction under way."""
        self._connection.execute(sql, parameters)

    def insert(self, table: str, rows: Sequence[Sequence[Any]], *, replace: bool = False) -> None:
        """Add whole rows to a table in the transaction under way."""
        if rows:
            verb = "REPLACE" if replace else "INSERT"
            self._connection.executemany(f"{verb} INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with _explained(self.path):
            return self._connection.execute(sql, parameters).fetchall()

    def stream(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query one by one: for results that may not fit in RAM."""
        with _explained(self.path):
            for row in self._connection.execute(sql, parameters):  # noqa: UP028 - yield from closes the cursor, perhaps late
                yield row

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query, or None."""
        with _explained(self.path):
            return self._connection.execute(sql, parameters).fetchone()


def utc_now() -> str:
    """Return the time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Return a checked connection; `mode` is `ro` or `rw`, so that a missing file is never created."""
    connection = _connection(path, mode)
    try:
        for pragma in ("busy_timeout = 5000", "trusted_schema = OFF", "cell_size_check = ON", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        version = _version(connection, path)
        if mode == "ro":
            connection.execute("PRAGMA query_only = ON")
            if version < OLDEST_READABLE:
                raise MemoryError_(
                    f"{path} has schema version {version}, this program reads {OLDEST_READABLE} and later: "
                    "resume its run once to bring it up to date (a backup is kept)"
                )
        else:
            if version < len(MIGRATIONS):
                _back_up(connection, path, version)
                migrate(connection, MIGRATIONS)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # WAL's usual NORMAL may lose commits in a power cut
            connection.execute("PRAGMA cache_size = -65536")  # KiB
    except BaseException:
        connection.close()
        raise
    return connection


def _connection(path: Path, mode: str) -> sqlite3.Connection:
    """Return an open connection; a reader in a folder that cannot be written opens the file as immutable.

    A WAL database needs its -shm file even for reading. Where SQLite cannot make one (read-only media) and no -wal file
    holds newer pages, the file alone is the whole database and nobody writes it.
    """
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    if mode == "ro":
        try:
            connection.execute("PRAGMA schema_version")
        except sqlite3.OperationalError as error:
            connection.close()
            wal = path.with_name(f"{path.name}-wal")
            if "unable to open" not in str(error):
                raise
            if wal.is_file() and wal.stat().st_size:
                raise MemoryError_(
                    f"{path} cannot be read in a folder that cannot be written, because {wal.name} holds newer pages: "
                    "copy the whole folder to another place and look there"
                ) from None
            connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise MemoryError_(f"{path} is not a response memory (application id {application:#x})")
    if version > len(MIGRATIONS):
        raise MemoryError_(
            f"{path} has schema version {version}, this program knows {len(MIGRATIONS)}: update selfimprove"
        )
    return version


def _back_up(connection: sqlite3.Connection, path: Path, version: int) -> None:
    backup = path.with_name(f"{path.stem}.v{version}.bak.db")
    temporary = temporary_for(backup)
    connection.execute("VACUUM INTO ?", (str(temporary),))
    publish(temporary, backup)


@contextmanager
def _writers_lock(path: Path) -> Iterator[filelock.BaseFileLock]:
    """Take the writer's lock; give it up again when the block fails."""
    lock = _acquire(path)
    try:
        yield lock
    except BaseException:
        _release(path, lock)
        raise


def writer_of(path: Path) -> int | None:
    """Return the id of the process that holds a memory for writing; None if none does, 0 if it is unknown."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given up at once, by closing
        return None
    except OSError:
        try:
            return int(json.loads(_owner_file(path).read_text(encoding="utf-8"))["pid"])
        except (OSError, ValueError, KeyError):
            return 0
    finally:
        os.close(descriptor)


def _owner_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner.json")


def _acquire(path: Path) -> filelock.BaseFileLock:
    """Take an advisory file lock; the kernel releases it when the process ends."""
    lock = filelock.FileLock(f"{path}.lock", timeout=_PROBED_S, poll_interval=_PROBED_S / 10)
    try:
        lock.acquire()
        write_json(_owner_file(path), {"pid": os.getpid(), "host": socket.gethostname(), "since": utc_now()})
    except filelock.Timeout:
        raise MemoryError_(f"{path} is being written by {_owner(path)}: wait for it or stop it") from None
    except OSError as error:
        lock.release()
        raise MemoryError_(
            f"cannot write in {path.parent} ({error.strerror}): check its permissions, and the room left on the disk"
        ) from None
    return lock


def _release(path: Path, lock: filelock.BaseFileLock) -> None:
    _owner_file(path).unlink(missing_ok=True)
    lock.release()


def _owner(path: Path) -> str:
    try:
        owner = json.loads(_owner_file(path).read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"


DAMAGED = ("malformed", "foreign key mismatch", "no such table", "no such column")
"""Parts of SQLite's messages about a file that was changed: the last three when the definitions of the tables were."""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about a bad file or disk into a MemoryError_ with advice; others pass through."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "not a database" in text:
            raise MemoryError_(f"{path} is not a response memory ({text})") from None
        if "disk I/O" in text:
            raise MemoryError_(
                f"{path} could not be read or written ({text}); what was committed is safe: "
                "see whether the disk has no room left or fails, then resume"
            ) from None
        if any(sign in text for sign in DAMAGED):
            raise MemoryError_(
                f"{path} is damaged ({text}): copy what can be read with sqlite3's .recover, or go back to a backup"
            ) from None
        if "is full" in text:
            raise MemoryError_(
                f"no room left for {path}: nothing of this unit was stored; free some space and resume"
            ) from None
        if isinstance(error, sqlite3.OperationalError) and (
            "unable to open" in text or "readonly" in text or "locked" in text
        ):
            raise MemoryError_(f"cannot use {path} ({text}): check its permissions and who else has it open") from None
        raise
