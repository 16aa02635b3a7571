"""Experiment trackers, by accelerate's integrations: the figures of each round once it is decided.

metrics.jsonl is written in any case.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError, first_line
from .folder import flat

PROJECT = "selfimprove"
"""Project, experiment or workspace that all runs are filed under."""

Log = Callable[[int, Mapping[str, float]], None]
"""Takes a round and its figures by name."""


def no_log(step: int, figures: Mapping[str, float]) -> None:
    """Send nothing."""


def refuse_missing(kind: str) -> None:
    """Raise a UserError when the package of the tracker that `report_to` names is not installed."""
    if kind != "none" and kind not in sys.modules and importlib.util.find_spec(kind) is None:
        raise UserError(f"report_to is {kind}, which is not installed; pip install {kind}, or set report_to=none")


@contextmanager
def tracker(kind: str, name: str, folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Open the tracker that `report_to` names for the run `name` and its settings, until the block ends.

    Nothing of `folder` needs to be there: trackers with local files make their own folder in it.

    Raises:
        UserError: its package is not installed, it does not start (no key, no server), or it fails later.
    """
    if kind == "none":
        yield no_log
        return
    refuse_missing(kind)
    from accelerate.state import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    project, options = _arguments(kind, name, folder)
    with _one_line(kind, "does not start"):
        PartialState()  # accelerate's trackers ask it which process they are in
        opened = LOGGER_TYPE_TO_CLASS[kind](project, **options)
        opened.start()
        if kind == "comet_ml":
            opened.tracker.set_name(name)
        opened.store_init_configuration({key: _plain(value) for key, value in flat(settings).items()})

    def log(step: int, figures: Mapping[str, float]) -> None:
        with _one_line(kind, "failed; go on with --resume, which sends the round again"):
            opened.log(dict(figures), step=step)

    try:
        yield log
    finally:
        with _one_line(kind, "did not finish; what was sent is there"):
            opened.finish()


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers in a row of metrics: what a tracker can plot."""
    return {key: value for key, value in row.items() if isinstance(value, int | float) and key != "round"}


def _arguments(kind: str, name: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the first argument of accelerate's tracker, a project for most, and its options."""
    options: dict[str, dict[str, Any]] = {
        "aim": {"experiment": PROJECT},
        "clearml": {"task_name": name},
        "dvclive": {"dir": str(folder / "dvclive"), "resume": True},
        "mlflow": {"run_name": name},
        "swanlab": {"experiment_name": name, "logdir": str(folder / "swanlab")},
        "tensorboard": {"logging_dir": str(folder)},
        "trackio": {"name": name, "resume": "allow", "embed": False},
        "wandb": {"name": name, "group": name, "dir": str(folder)},
    }
    project = {"aim": name, "tensorboard": "tensorboard"}.get(kind, PROJECT)  # the latter: the name of the folder
    return project, options.get(kind, {})


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)


@contextmanager
def _one_line(kind: str, what: str) -> Iterator[None]:
    """Turn whatever a tracker fails with into one line."""
    try:
        yield
    except Exception as error:  # each has exceptions of its own
        raise UserError(f"{kind} {what}: {first_line(error)}; or set report_to=none") from error
