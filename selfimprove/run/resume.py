"""Checks before a run begins or resumes: its name, and settings that must be as recorded. Imports no model library."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .folder import as_recorded, flat, located, saved_config

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..memory import ResponseMemory

MAY_CHANGE = re.compile(
    r"name|rounds|prompts\.audit(_split|_column)?|sample\.batch_size|engine|report_to|guard\.base_truncation|(server|ray)\..*"
)
"""Settings that a resumed run may change: they cannot contradict what is already in its memory."""

PLACES: dict[str, Callable[[str], str]] = {
    "prompts.path": lambda _: "",
    "model.path": lambda _: "",
    "embedder": lambda _: "",
    "vote.reader": lambda spec: spec.rpartition(":")[2],
    "memory.from": lambda path: Path(path).name,
}
"""Paths, which may change as files are moved -> what of them may not.

The memory has fingerprints of what is there, and `open_run` compares them; an earlier run is read once, at the start.
"""


def as_resumed(config: RunConfig, folder: Path, resume: bool) -> RunConfig:
    """Return the configuration to run with in `folder`; when resuming, with the commit and date that were recorded.

    Raises:
        ConfigError: the run exists and `resume` is off, or settings differ that may not.
    """
    exists = (folder / "memory.db").is_file()
    if exists and not resume:
        raise ConfigError(
            f"the run {folder} exists already; go on with it: add --resume, start another: add name=NEW, "
            f"or delete the folder {folder}"
        )
    config = located(config)
    if exists and (folder / "config.yaml").is_file():
        saved = located(saved_config(folder))
        config = as_recorded(config, saved)
        refuse_changes(saved, config)
    return config


def refuse_changes(old: RunConfig, new: RunConfig) -> None:
    """Raise a ConfigError that names the settings that differ and may not (see `MAY_CHANGE`, `PLACES`)."""
    before, after = flat(old.model_dump()), flat(new.model_dump())
    keys = dict.fromkeys((*before, *after))  # an empty mapping has no leaves
    changed = [key for key in keys if not MAY_CHANGE.fullmatch(key) and not _same(key, before.get(key), after.get(key))]
    if changed:
        listed = ", ".join(f"{key} was {before.get(key)!r}, now {after.get(key)!r}" for key in changed)
        raise ConfigError(
            f"cannot resume with other settings: {listed}; undo the change or start another run: name=NEW"
        )


def _same(key: str, old: object, new: object) -> bool:
    if key in PLACES and isinstance(old, str) and isinstance(new, str):
        return PLACES[key](old) == PLACES[key](new)
    return old == new


def refuse_fewer_rounds(memory: ResponseMemory, rounds: int) -> None:
    """Raise a ConfigError when more rounds than `rounds` are decided already."""
    done = max((record.round for record in memory.rounds()), default=0)
    if done > rounds:
        raise ConfigError(
            f"{done} rounds are done already, rounds is {rounds}; set rounds to {done} or more, or go back to an "
            f"earlier policy: selfimprove rollback {memory.db.path.parent} {rounds}"
        )
