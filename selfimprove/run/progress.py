"""Progress of a run: bars in a terminal, plain lines in a pipe or a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from tqdm import tqdm

PLAIN_SECONDS = 15
"""Least interval between the lines of a stage without a terminal."""


class Bar:
    """Progress of one stage: counts, rate and time left."""

    def __init__(self, name: str, total: int, noun: str, live: bool, say: Callable[[str], None]) -> None:
        """`total` items called `noun`; `live` draws a bar, otherwise `say` is given a line now and then."""
        self._say = say
        self._name, self._total, self._noun = name, total, noun
        self._done = self._tokens = 0
        self._started = self._said = time.monotonic()
        self._tqdm = tqdm(total=total, desc=f"  {name}", unit=noun, leave=False, file=sys.stderr) if live else None

    def advance(self, items: int) -> None:
        """Count finished items."""
        self._done += items
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
        if self._tqdm is not None:
            rate = self._tokens / max(time.monotonic() - self._started, 1e-6)
            self._tqdm.set_postfix_str(f"{rate:.0f} tokens/s")

    def close(self) -> None:
        """Remove the bar."""
        if self._tqdm is not None:
            self._tqdm.close()


class Progress:
    """Prints stage lines; `quiet` prints nothing."""

    def __init__(self, quiet: bool = False) -> None:
        """Bars are drawn only when standard error is a terminal."""
        self.quiet = quiet

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
        bar = Bar(name, total, noun, live=not self.quiet and sys.stderr.isatty(), say=self.say)
        try:
            yield bar
        finally:
            bar.close()
