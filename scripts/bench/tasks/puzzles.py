#!/usr/bin/env python3
"""Five kinds of reasoning-gym questions: demonstrations for a warm start, and prompts.

    pip install reasoning-gym==0.1.25
    python scripts/bench/tasks/puzzles.py                       fine-tune the bundled model: the base of the `rg-` tasks
    python scripts/bench/tasks/puzzles.py --model X --out DIR   another one

A demonstration is a question and its bare answer, and is in no task. Without a warm start a model of this size answers
in sentences whose first dozen tokens hold no answer; 300 demonstrations teach it the format.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports as a script: CONTRIBUTING.md, Layout
from selfimprove.config import ModelConfig, TrainConfig
from selfimprove.seeds import seed_for
from selfimprove.types import Example, Message
from selfimprove.warm_start import warm_start
from tasks.quiz import Question

BASE = Path("runs") / "bases" / "puzzles"
"""Folder of the fine-tuned model."""
KINDS = {
    "sum": ("chain_sum", {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}),
    "gcd": ("gcd", {"max_value": 30}),
    "lcm": ("lcm", {"max_value": 20}),
    "equation": ("simple_equations", {"min_terms": 2, "max_terms": 2, "max_value": 20}),
    "family": ("family_relationships", {"max_family_size": 5}),
}
"""Data set and settings of each kind, chosen so that 135M parameters are sometimes right."""
POOL = 2000
"""Questions of each kind, before duplicates are removed."""
DEMONSTRATIONS = 300
SPEC = TrainConfig(rank=32, alpha=64, lr=3e-4, epochs=3, batch_tokens=1024, beta=0.0)


def questions(kind: str, *, demonstrated: bool = False) -> Iterator[Question]:
    """Yield the questions of a kind: the quarter that is set aside for demonstrations, or the others."""
    from reasoning_gym import create_dataset

    name, settings = KINDS[kind]
    answers = {e["question"].strip(): str(e["answer"]) for e in create_dataset(name, size=POOL, seed=0, **settings)}
    for text, answer in answers.items():
        if (seed_for("puzzle", text) % 4 == 0) == demonstrated:
            yield Question(text, (answer,))


def demonstrations() -> list[Example]:
    """Return demonstrations, equally many of each kind."""
    share = DEMONSTRATIONS // len(KINDS)
    rows = chain.from_iterable(list(questions(kind, demonstrated=True))[:share] for kind in KINDS)
    return [
        Example(f"demonstration-{i}", (Message("user", row.text),), row.answers[0], 1.0, i)
        for i, row in enumerate(rows)
    ]


def main() -> None:
    """Fine-tune the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:smollm2-135m")
    parser.add_argument("--out", type=Path, default=BASE)
    options = parser.parse_args()
    report = warm_start(ModelConfig(path=options.model), demonstrations(), options.out, SPEC, seed=0)
    print(f"{options.out}: loss {report.loss_first:.2f} -> {report.loss_last:.2f} in {report.wall_s:.0f} s")


if __name__ == "__main__":
    main()
