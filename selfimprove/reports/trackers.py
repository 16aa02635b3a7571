"""Experiment trackers get the figures of each round once it is decided. metrics.jsonl is written in any case."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError, first_line

PROJECT = "selfimprove"

Log = Callable[[int, Mapping[str, float]], None]
"""Takes a round and its figures by name."""


def refuse_missing(kind: str) -> None:
    """Raise a UserError when the package of the tracker that `report_to` names is not installed."""
    if kind != "none" and kind not in sys.modules and importlib.util.find_spec(kind) is None:
        raise UserError(_not_installed(kind))


@contextmanager
def tracker(kind: str, name: str, folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Open the tracker that `report_to` names for the run `name` and its settings, until the block ends.

    Raises:
        UserError: its package is not installed, or it does not start.
    """
    if kind == "none":
        yield lambda step, figures: None
    elif kind == "tensorboard":
        with _package("torch.utils.tensorboard", kind).SummaryWriter(str(folder / "tensorboard")) as writer:

            def log(step: int, figures: Mapping[str, float]) -> None:
                for key, value in figures.items():
                    writer.add_scalar(key, value, step)
                writer.flush()

            yield log
    else:
        package = _package(kind, kind)
        options = {"dir": str(folder), "group": name} if kind == "wandb" else {"resume": "allow", "embed": False}
        refusal = package.errors.Error if kind == "wandb" else OSError  # no key, and no terminal to ask in
        try:
            package.init(project=PROJECT, name=name, config=dict(settings), **options)
        except refusal as error:
            raise UserError(f"{kind} does not start: {first_line(error)}; or set report_to=none") from None
        try:
            yield lambda step, figures: package.log(dict(figures), step=step)
        finally:
            package.finish()


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers in a row of metrics: what a tracker can plot."""
    return {key: value for key, value in row.items() if isinstance(value, int | float) and key != "round"}


def _package(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(_not_installed(package)) from None


def _not_installed(package: str) -> str:
    return f"report_to is {package}, which is not installed; pip install {package}, or set report_to=none"
