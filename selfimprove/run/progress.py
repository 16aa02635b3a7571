"""Progress of a run: bars in a terminal, plain lines in a pipe or a log, and a record for `status` and `watch`."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

PLAIN_SECONDS = 15
"""Least interval between the lines of a stage without a terminal."""
RECORD = "progress.json"
"""What a run is doing, in its folder; read by `run.state`."""
RECORD_SECONDS = 1
"""Least interval between two records of a stage."""
RECORD_BYTES = 512
"""Length of the record, padded: it is overwritten in one write."""

Note = Callable[[dict[str, Any]], None]


class Bar:
    """Progress of one stage: counts, rate and time left."""

    def __init__(self, name: str, total: int, noun: str, live: bool, say: Callable[[str], None], note: Note) -> None:
        """`total` items called `noun`; `live` draws a bar, otherwise `say` is given a line now and then.

        `note` is given the state now and then.
        """
        self._say, self._note = say, note
        self._name, self._total, self._noun = name, total, noun
        self._done = self._tokens = 0
        self._reached = 0.0
        self._started = self._said = self._noted = time.monotonic()
        self._tqdm = tqdm(total=total, desc=f"  {name}", unit=noun, leave=False, file=sys.stderr) if live else None
        note(self.state)

    @property
    def state(self) -> dict[str, Any]:
        """Stage, counts, tokens and seconds so far, ready for JSON."""
        seconds = round(time.monotonic() - self._started, 1)
        counts = {"done": self._done, "total": self._total, "noun": self._noun}
        return {"stage": self._name, **counts, "tokens": self._tokens, "seconds": seconds, "reached": self._reached}

    def _note_now_and_then(self) -> None:
        if time.monotonic() - self._noted >= RECORD_SECONDS:
            self._noted = time.monotonic()
            self._note(self.state)

    def advance(self, items: int) -> None:
        """Count finished items."""
        self._done += items
        self._reached = round(time.monotonic() - self._started, 1)
        self._note_now_and_then()
        if self._tqdm is not None:
            self._tqdm.update(items)
        elif self._done < self._total and time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            elapsed = self._said - self._started
            left = elapsed / self._done * (self._total - self._done) if self._done else 0
            self._say(f"  {self._name:9} {self._done}/{self._total} {self._noun}, about {left:.0f} s left")

    def reach(self, done: int, total: int) -> None:
        """Set the count and the total, for totals that are known late."""
        if self._tqdm is not None:
            self._tqdm.total = total
        self._total = total
        self.advance(done - self._done)

    def tokens(self, count: int) -> None:
        """Count generated tokens; shown beside the bar as a rate."""
        self._tokens += count
        self._note_now_and_then()
        if self._tqdm is not None:
            rate = self._tokens / max(time.monotonic() - self._started, 1e-6)
            self._tqdm.set_postfix_str(f"{rate:.0f} tokens/s")

    def close(self) -> None:
        """Remove the bar."""
        self._note(self.state)
        if self._tqdm is not None:
            self._tqdm.close()


class Progress:
    """Prints stage lines; `quiet` prints nothing."""

    def __init__(self, quiet: bool = False) -> None:
        """Bars are drawn only when standard error is a terminal."""
        self.quiet = quiet
        self._record: int | None = None
        self._rounds = {"round": 0, "rounds": 0}

    @contextmanager
    def recorded(self, folder: Path, rounds: int) -> Iterator[None]:
        """Keep a record of what the run is doing in its folder while the block runs.

        It is overwritten in place, not synced: it is worth nothing after a power cut, and a reader takes a torn one for
        none.
        """
        self._rounds["rounds"] = rounds
        self._record = os.open(folder / RECORD, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            yield
        finally:
            os.close(self._record)
            self._record = None

    def begin(self, round_: int, policy: str) -> None:
        """Print and record that a round begins."""
        self._rounds["round"] = round_
        self.say(f"\nround {round_}/{self._rounds['rounds']}   from {policy}")

    def _write(self, state: dict[str, Any]) -> None:
        """Write the record; a disk that is full or broken does not end the run here."""
        if self._record is not None:
            record = json.dumps({"pid": os.getpid(), **self._rounds, **state})
            with suppress(OSError):
                os.pwrite(self._record, record.encode().ljust(RECORD_BYTES), 0)

    def say(self, text: str = "") -> None:
        """Print one line."""
        if not self.quiet:
            try:
                click.echo(text)
            except BrokenPipeError:  # the reader is gone, the run goes on
                self.quiet = True

    def line(self, stage: str, *facts: str, seconds: float | None = None) -> None:
        """Print the result of a stage: its name, counts and time."""
        time_text = "" if seconds is None else f"{seconds:.1f} s"
        self.say(f"  {stage:9} {'   '.join(fact for fact in facts if fact):76} {time_text:>9}".rstrip())

    @contextmanager
    def stage(self, name: str, total: int, noun: str) -> Iterator[Bar]:
        """Show a bar, or a line now and then, while the block runs."""
        bar = Bar(name, total, noun, live=not self.quiet and sys.stderr.isatty(), say=self.say, note=self._write)
        try:
            yield bar
        finally:
            bar.close()
