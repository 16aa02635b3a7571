"""Atomic, durable writes: temporary name in the same folder, fsync, rename, fsync of the folder."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

MANIFEST = "MANIFEST.json"
TEMPORARY = ".tmp-"
"""Prefix of the names of files and folders that are still being written: it, the writer's process id and `-`."""


def temporary_for(path: Path) -> Path:
    """Return the name of `path` while this process writes it, and remove what finished processes left of theirs."""
    for left in path.parent.glob(f"{TEMPORARY}*-{escape(path.name)}"):
        pid = left.name.removeprefix(TEMPORARY).removesuffix(f"-{path.name}")
        if pid.isdecimal() and not _running(int(pid)):
            with suppress(OSError):  # another process may be removing it, or it is another user's
                _remove(left)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    _remove(temporary)
    return temporary


def final_name(path: Path) -> Path:
    """Map a temporary name to the final one, for messages."""
    return path.with_name(re.sub(rf"^{re.escape(TEMPORARY)}\d+-", "", path.name))


def publish(temporary: Path, path: Path) -> None:
    """Sync a complete temporary file and rename it to `path`."""
    fsync_file(temporary)
    temporary.replace(path)
    fsync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` atomically: a reader sees the old content or the new one."""
    temporary = temporary_for(path)
    temporary.write_text(text, encoding="utf-8")
    publish(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically.

    Raises:
        ValueError: `value` contains NaN or infinity; a missing number is written as null.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, durably.

    The name of a folder is stored in its parent, so the parent of each new folder is synced.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fsync_folder(folder.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; at the end of the block add a manifest of sizes and hashes and rename it to `path`.

    An existing folder at `path` is replaced. If the block raises, `path` is not touched.
    """
    temporary = temporary_for(path)
    make_folder(path.parent)
    temporary.mkdir()
    try:
        yield temporary
        write_json(temporary / MANIFEST, manifest(temporary))
        for file in _files(temporary):
            fsync_file(file)
        fsync_folder(temporary)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        fsync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return `{relative name: {"bytes", "sha256"}}` of all files below `folder` except the manifest."""
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in _files(folder)
        if file.name != MANIFEST
    }


def folder_digest(folder: Path) -> str:
    """Return a sha256, in hex, over the names, sizes and contents of the files below a folder."""
    return hashlib.sha256(json.dumps(manifest(folder), sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_file(path: Path) -> None:
    """Sync the content of a file to the disk."""
    _fsync(path)


def fsync_folder(path: Path) -> None:
    """Sync the names in a folder to the disk."""
    _fsync(path)


def _remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())
