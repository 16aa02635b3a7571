"""Click parameters that accept what is printed (`#3369`, `r2`), and shell completion of run names and settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ..run.folder import run_names

MOST = 2**31 - 1
"""Largest round, and most lines of a list."""

if TYPE_CHECKING:
    _Number = click.ParamType[int]
else:
    _Number = click.ParamType  # cannot be subscripted in older versions of click


class ResponseId(_Number):
    """The id of a response: `3369` or, as it is printed, `#3369`."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the id as a number."""
        digits = str(value).removeprefix("#")
        if not digits.isdecimal() or len(digits) > 18:
            self.fail(f"{value!r} is no id of a response; write 3369 or '#3369'.", param, ctx)
        return int(digits)

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Say why an id may be missing: the shell has taken it for a comment."""
        return "Leave out the #, or quote it: it begins a comment in the shell."


class Round(_Number):
    """A round: `2` or, as policies are printed, `r2` or `r0002`."""

    name = "round"

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the round as a number."""
        digits = str(value).removeprefix("r")
        if not digits.isdecimal() or len(digits) > len(str(MOST)) or not self._least <= int(digits) <= MOST:
            self.fail(f"{value!r} is no round; write r{self._least}, r{self._least + 1}, ...", param, ctx)
        return int(digits)


class Limit(click.IntRange):
    """The most lines to list."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, which SQLite can hold."""
        return min(int(super().convert(value, param, ctx)), MOST)


def complete_runs(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the runs below runs/ whose name begins so."""
    return [CompletionItem(name) for name in run_names() if name.startswith(incomplete)]


def complete_keys(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the configuration keys that begin so, with their descriptions."""
    from ..config_file import config_keys

    keys = config_keys().items()
    return [CompletionItem(key, help=text) for key, (_, text) in keys if key.startswith(incomplete)]


def complete_overrides(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return `key=` for the keys that begin so and, once the key is written, its allowed values."""
    from ..config_file import config_values

    key, equals, _ = incomplete.partition("=")
    if not equals:
        return [CompletionItem(f"{item.value}=") for item in complete_keys(ctx, param, incomplete)]
    options = [f"{key}={value}" for value in config_values().get(key, "").split(" | ")]
    return [CompletionItem(option) for option in options if " " not in option and option.startswith(incomplete)]


run_argument = click.argument("run_name", metavar="RUN", shell_complete=complete_runs)
id_argument = click.argument("response_id", metavar="ID", type=ResponseId())
config_argument = click.argument("config", type=click.Path(path_type=Path))
overrides_argument = click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
