"""Files are written whole: temporary name in the same folder, fsync, rename, fsync of the folder."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "MANIFEST.json"
TEMPORARY = ".tmp-"
"""What the name of a file begins with that is not whole yet."""


def temporary_for(path: Path) -> Path:
    """Return where to write what will be published as `path`; what an earlier try left there is removed."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary)
    else:
        temporary.unlink(missing_ok=True)
    return temporary


def publish(temporary: Path, path: Path) -> None:
    """Make a finished temporary file durable under its own name."""
    fsync_file(temporary)
    os.replace(temporary, path)
    fsync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` atomically: a reader sees the old file or the new one, never a part."""
    temporary = temporary_for(path)
    temporary.write_text(text, encoding="utf-8")
    publish(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: a missing number is null."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and those above it where they are missing, and make their names durable.

    Syncing what is in a folder does not save the folder's own name from a power cut: its parent holds that.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fsync_folder(folder.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder, then publish it as `path` with a manifest of sizes and hashes.

    Nothing appears at `path` unless the block ends without an exception; what was there before is replaced.
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
        os.rename(temporary, path)
        fsync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return `{relative name: {"bytes", "sha256"}}` of all files below `folder`, the manifest itself left out."""
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in _files(folder)
        if file.name != MANIFEST
    }


def folder_digest(folder: Path) -> str:
    """Return one sha256 over the names and contents of a folder's files."""
    return hashlib.sha256(json.dumps(manifest(folder), sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_file(path: Path) -> None:
    """Make a file's contents durable."""
    _fsync(path)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())
