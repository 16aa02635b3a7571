"""`selfimprove watch`: the status of a run in another terminal, until it ends."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..memory import ResponseMemory
from ..reports.status import found, headline, status_now, table
from ..reports.stored import ACCURACY, written_ns
from ..run.progress import PLAIN_SECONDS
from ..run.state import State
from .terminal import columns, printable

POLL_SECONDS = 1.0


def watch_run(folder: Path, as_json: bool) -> None:
    """Show a run's status until it ends: redrawn in a terminal, in a pipe what is new; or one JSON object a change."""
    live = sys.stdout.isatty()
    drawn, lines = 0, _Lines()
    try:
        for status in statuses(folder):
            if as_json:
                click.echo(json.dumps(status))
            elif live:
                width, height = shutil.get_terminal_size()
                shown = screen(status, width)[: height - 1]
                click.echo((f"\x1b[{drawn}A\x1b[J" if drawn else "") + "\n".join(shown))
                drawn = len(shown)
            else:
                for line in lines.new(status):
                    click.echo(line)
    except KeyboardInterrupt:
        return


def statuses(folder: Path, seconds: float = POLL_SECONDS) -> Iterator[dict[str, Any]]:
    """Yield a run's status each time that it has changed; ends with that of a run that has ended.

    The memory is read again only when something was committed, so that watching costs next to nothing.
    """
    with ResponseMemory.open(folder / "memory.db") as memory:
        version, known, last = None, {}, None
        while True:
            now = (memory.db.one("PRAGMA data_version"), written_ns(folder / ACCURACY))
            if now != version:
                with memory.db.snapshot():
                    version, known = now, found(folder, memory)
            status = status_now(folder, known)
            if status != last:
                yield status
                last = status
            if status["state"] is not State.RUNNING:
                return
            time.sleep(seconds)


def screen(status: dict[str, Any], width: int) -> list[str]:
    """Return what a terminal shows, in lines of at most `width` columns: the status, and some of the last survivors."""
    lines = [*table(status).splitlines(), *_examples(status)]
    return [printable(line, width) if columns(line) > width else line for line in lines]


def _examples(status: dict[str, Any]) -> list[str]:
    """Return some survivors of the last selection, a line each."""
    examples = status["survivors"][-1]["examples"] if status["survivors"] else ()
    return [f"  {printable(f'#{id_}  {prompt} -> {response}', 100)}" for id_, prompt, response in examples]


class _Lines:
    """What is new in a status, as lines for a pipe: stages now and then, survivors, decisions with figures, the end."""

    def __init__(self) -> None:
        self._stage: tuple[int, str] | None = None
        self._survivors = self._rounds = 0
        self._said = 0.0

    def new(self, status: dict[str, Any]) -> list[str]:
        """Return the lines that `status` adds to what was returned before."""
        lines = []
        if len(status["survivors"]) > self._survivors:
            last = status["survivors"][-1]
            lines += [f"round {last['round']} kept {last['kept']} of {last['candidates']}", *_examples(status)]
        if len(status["rounds"]) > self._rounds or not self._said:
            lines += table(status).splitlines()[1:]
        self._survivors, self._rounds = len(status["survivors"]), len(status["rounds"])
        now = status["doing"]
        stage = (now["round"], now["stage"]) if now else None
        ended = status["state"] is not State.RUNNING
        if ended or stage != self._stage or time.monotonic() - self._said > PLAIN_SECONDS:
            lines.append(headline(status))
            self._stage, self._said = stage, time.monotonic()
        return lines
