"""Click classes: help with examples as typed, errors as one line and an exit code, tolerant output streams."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import Interrupted, UserError
from ..fsio import final_name
from .terminal import printable

DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}
"""Error numbers of a disk that is full, read-only, not permitted or broken."""

WRONG_PLACES = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
"""Error numbers of a path at which no file can be."""

WORDS = "selfimprove.words"
"""Key of the command line in the context."""


class Help:
    """Mixin: lists a command by the first clause of its help, and its epilog as examples, one a line, unwrapped."""

    help: str | None
    epilog: str | None

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002, click's signature
        """Return the first clause of the help, whole: the list of commands wraps it."""
        first_paragraph = " ".join((self.help or "").split("\n\n")[0].split())
        return re.split(r"[;:.] |\.$", first_paragraph)[0]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002, click passes ctx
        """Write the examples below the options."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")


class Command(Help, click.Command):
    """A command whose epilog holds examples."""


class Group(Help, click.Group):
    """A group of such commands. The outermost turns exceptions into one line and an exit code.

    Exit code 2: a mistake of the user, or a disk that fails; 128 + signal: stopped by SIGINT or SIGTERM. A reader that
    closes the pipe early (`| head`) ends the command silently, with exit code 0.
    """

    command_class = Command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the command line; `--help` prints from here."""
        words = tuple(args)
        try:
            ctx = super().make_context(info_name, args, parent, **extra)
            ctx.meta.setdefault(WORDS, words)
            return ctx
        except BrokenPipeError:
            if not _stdout_closed():
                raise
            raise click.exceptions.Exit(0) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; only the outermost group translates exceptions."""
        if ctx.parent is not None:
            return super().invoke(ctx)
        _tolerate_narrow_encodings()
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except UserError as error:
            click.echo(f"Error: {printable(str(error))}", err=True)
            ctx.exit(2)
        except UnicodeEncodeError:
            wrong = next((word for word in ctx.meta[WORDS] if word.encode(errors="replace").decode() != word), None)
            if wrong is None:
                raise
            click.echo(f"Error: {wrong!r} is not valid UTF-8: type it in a terminal that is set to UTF-8", err=True)
            ctx.exit(2)
        except BrokenPipeError:
            if not _stdout_closed():
                raise
            ctx.exit(0)
        except OSError as error:
            if error.errno in DISK_FAULTS:
                advice = "what was committed is safe: make room or check the permissions, then do it again"
            elif error.errno in WRONG_PLACES and error.filename:
                advice = "name another place"
            else:
                raise
            where = f"{final_name(Path(os.fsdecode(error.filename)))}: " if error.filename else ""
            click.echo(printable(f"Error: {where}{error.strerror}; {advice}"), err=True)
            ctx.exit(2)
        except Interrupted as stop:
            click.echo(f"\nstopped by {signal.Signals(stop.signum).name}; what is finished is saved", err=True)
            ctx.exit(128 + stop.signum)


Group.group_class = Group


def _tolerate_narrow_encodings() -> None:
    """Escape characters that the terminal's encoding lacks (a Windows code page, LANG=C) instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stdout_closed() -> bool:
    """Return whether the reader of standard output is gone; if so, send the rest nowhere."""
    try:
        sys.stdout.write("\n")  # flushing alone succeeds: the failed write has emptied the buffer
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
