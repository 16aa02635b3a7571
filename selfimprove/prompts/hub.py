"""Rows of a dataset, by id or folder (`hf:ID[:CONFIG]`), with one quick answer where the hub cannot be reached."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..config_file import expanded
from ..errors import PromptError
from .columns import is_answer

if TYPE_CHECKING:
    from .files import Rows

PATIENCE = 5.0
"""Seconds that the hub may take to answer at all."""

MEDIA = ("Image", "Audio", "Video", "Pdf")
"""Kinds of columns that are not decoded: their value is the kind, as bytes, which no text model can be asked."""


def dataset_rows(path: str, split: str, *, answers: bool) -> Rows:
    """Yield the rows of a split; answer columns never leave the Arrow table unless `answers`.

    Raises:
        PromptError: no such dataset, configuration or split, or the hub cannot be reached and no copy is at hand.
    """
    dataset = _load(path, split)
    names = list(dataset.column_names)
    media = {name: kind.encode() for name in names if (kind := type(dataset.features[name]).__name__) in MEDIA}
    read = [name for name in names if name not in media and (answers or not is_answer(name))]
    for number, row in enumerate(dataset.select_columns(read), start=1):
        yield number, dict.fromkeys(names) | media | row


@lru_cache(maxsize=2)  # the prompts and their audit; an audit is read after every round
def _load(path: str, split: str) -> Any:
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    if not sys.stderr.isatty():
        disable_progress_bars()
    name, config = _name(path)
    if name.startswith(("/", "./", "../", "~")) and not Path(name).exists():
        raise PromptError(f"cannot load the dataset {name}: no such folder")
    offline = not Path(name).exists() and not _hub_answers()
    try:
        with _offline(offline):
            return load_dataset(name, config, split=split)
    except (DatasetsError, OSError, ValueError) as error:
        if offline:
            raise PromptError(
                f"cannot load the dataset {name}: offline, and it is not in the cache; fetch it where there is a "
                f"network (hf download {name} --repo-type dataset --local-dir DIR) and write hf:DIR"
            ) from None
        raise PromptError(f"cannot load the dataset {name}: {' '.join(str(error).split())}") from None


def _name(path: str) -> tuple[str, str | None]:
    """Return id and configuration; a folder may have a colon in its name."""
    whole = path.removeprefix("hf:").removeprefix("//datasets/")
    name, _, config = whole.partition(":")
    if (folder := expanded(whole)).exists():
        return str(folder), None
    return name, config or None


def _hub_answers() -> bool:
    """Return whether the hub answers within `PATIENCE` seconds; its own client retries for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=PATIENCE).close()
    except HTTPError:
        return True
    except (OSError, HTTPException):
        return False
    return True


@contextmanager
def _offline(offline: bool) -> Iterator[None]:
    """Make `datasets` look into its cache alone."""
    import datasets.config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if offline:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
