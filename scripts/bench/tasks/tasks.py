"""The tasks of the comparison: prompts drawn by seed, their answers in an audit file that only the bench reads.

    python scripts/bench/tasks/tasks.py everyday DIR --seed 0      write one to a folder

A new task is one more entry in `TASKS`.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports as a script: CONTRIBUTING.md, Layout
import digits

from selfimprove.prompts import make_prompt
from selfimprove.seeds import seed_for
from selfimprove.types import Message, Split
from tasks import chain, everyday_large, puzzles
from tasks.everyday import questions
from tasks.quiz import Question, write_questions
from tasks.sums import solve

HELDOUT = 0.5
"""`prompts.heldout` of every task whose halves `halves` draws."""


@dataclass(frozen=True)
class Task:
    """A task: prompts, base model and settings.

    `write(folder, seed)` writes `prompts.jsonl` and `audit.jsonl` into an empty folder. `settings` override the
    defaults, and an arm's own settings override them. `trained_tokens` is the number of completion tokens that every
    arm trains on in a round, all epochs counted. `sized(train, heldout)` gives the `write` of other numbers of prompts,
    where there is one. `beside`: the accuracy on the prompts learnt from and on the off-task questions is measured too.
    """

    name: str
    model: str
    settings: dict[str, Any]
    write: Callable[[Path, int], object]
    trained_tokens: int
    sized: Callable[[int, int], Callable[[Path, int], object]] | None = None
    beside: bool = False


def halves(rows: Iterable[Question], seed: int, train: int, heldout: int) -> Iterator[Question]:
    """Yield `train` train questions and `heldout` held-out ones, drawn by seed; a prompt's hash decides its side.

    Raises:
        ValueError: there are fewer.
    """
    wanted = {Split.TRAIN: train, Split.HELDOUT: heldout}
    for row in sorted(rows, key=lambda row: seed_for("task", seed, row.text)):
        split = make_prompt((Message("user", row.text),), HELDOUT).split
        if wanted[split]:
            wanted[split] -= 1
            yield row
    if any(wanted.values()):
        raise ValueError(f"too few questions: still wanted {wanted}")


def spread(rows: Iterable[Question], seed: int, train: int, heldout: int) -> Iterator[Question]:
    """Yield `train` train questions and `heldout` held-out ones, drawn by seed, as evenly over families as they last.

    A prompt's hash decides its side, as in `halves`.

    Raises:
        ValueError: there are fewer.
    """
    sides: dict[Split, dict[str, list[Question]]] = {split: {} for split in Split}
    for row in sorted(rows, key=lambda row: seed_for("task", seed, row.text)):
        split = make_prompt((Message("user", row.text),), HELDOUT).split
        sides[split].setdefault(row.family, []).append(row)
    for split, wanted in ((Split.TRAIN, train), (Split.HELDOUT, heldout)):
        in_turn = itertools.chain.from_iterable(itertools.zip_longest(*sides[split].values()))
        drawn = list(itertools.islice((row for row in in_turn if row is not None), wanted))
        if len(drawn) < wanted:
            raise ValueError(f"too few questions: {len(drawn)} of {wanted} {split} ones")
        yield from drawn


def arithmetic() -> Iterator[Question]:
    """Yield small sums, differences and products, each in the same words."""
    symbols = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
    for symbol, (low, high) in {"+": (2, 20), "-": (2, 20), "*": (2, 12)}.items():
        for a, b in itertools.product(range(low, high + 1), repeat=2):
            if symbol != "-" or a > b:
                yield Question(f"What is {a} {symbol} {b}?", (str(symbols[symbol](a, b)),))


def drawn(rows: Callable[[], Iterable[Question]], train: int, heldout: int) -> Callable[[Path, int], object]:
    """Return a `Task.write` that draws from `rows()`."""
    return lambda folder, seed: write_questions(folder, halves(rows(), seed, train, heldout))


def spread_over(train: int, heldout: int) -> Callable[[Path, int], object]:
    """Return the `Task.write` of `everyday-large` with that many prompts."""
    rows = everyday_large.questions
    return lambda folder, seed: write_questions(folder, spread(rows(), seed, train, heldout))


def write_digits(folder: Path, seed: int) -> None:
    """Write the sums of all lengths of `scripts/bench/digits.py`."""
    write_questions(folder, (Question(text, (solve(text),)) for text in digits.prompts(seed)))


SHORT = {
    "model": {"threads": 1},
    "prompts": {"heldout": HELDOUT},
    "sample": {"max_new_tokens": 12},
    "select": {"per_prompt": 2},
    "train": {"batch_tokens": 1024},
    "evaluate": {"k": 4},
    "guard": {"base_truncation": 1.0},  # small models go on after a short answer
    "rounds": 1,
}
"""Answers of a dozen tokens, one round: a cell takes a minute or two on one core."""

ROUNDS = SHORT | {"rounds": 3}
"""The same in three rounds, each with three times the training."""

LARGE = SHORT | {
    "sample": {"max_new_tokens": 16, "unit_prompts": 256},
    "evaluate": {"k": 8},
    "rounds": 5,
}
"""Five rounds on many families; large units, since a GPU decodes thousands of short answers at once."""

TOKENS_A_PROMPT = 20
"""Completion tokens that `everyday-large` trains on in a round, for each prompt to learn from."""

SMOL = "bundled:smollm2-135m"
WORKED = SHORT | {"sample": {"max_new_tokens": 48}}
"""The same with worked steps, for the base that `scripts/bench/tasks/chain.py` fine-tunes."""

TASKS = {
    task.name: task
    for task in (
        Task("everyday", SMOL, SHORT, drawn(questions, 120, 80), trained_tokens=1600),
        Task("arith", SMOL, SHORT, drawn(arithmetic, 120, 80), trained_tokens=1600),
        Task("everyday-rounds", SMOL, ROUNDS, drawn(questions, 120, 80), trained_tokens=4800),
        Task("arith-rounds", SMOL, ROUNDS, drawn(arithmetic, 120, 80), trained_tokens=4800),
        Task(
            "everyday-large",
            SMOL,
            LARGE,
            spread_over(600, 400),
            trained_tokens=600 * TOKENS_A_PROMPT,
            sized=spread_over,
            beside=True,
        ),
        *(
            Task(f"rg-{kind}", str(puzzles.BASE), SHORT, drawn(partial(puzzles.questions, kind), 120, 80), 800)
            for kind in puzzles.KINDS
        ),
        Task(
            "chain", str(chain.BASE), WORKED, drawn(lambda: chain.chain_questions(2, 3), 120, 80), trained_tokens=6000
        ),
        Task(
            "chain-long", str(chain.BASE), WORKED, drawn(lambda: chain.chain_questions(4), 120, 80), trained_tokens=8000
        ),
        Task("digits", str(digits.BASE), digits.SETTINGS, write_digits, trained_tokens=15000),
    )
}


def main() -> None:
    """Write one task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    TASKS[options.task].write(options.folder, options.seed)
    print(f"{options.task} in {options.folder}")


if __name__ == "__main__":
    main()
