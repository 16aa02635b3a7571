#!/usr/bin/env python3
"""Multi-step arithmetic with worked steps: demonstrations for a warm start, and prompts.

    python scripts/bench/tasks/chain.py                       fine-tune the bundled model: the base of the `chain` tasks
    python scripts/bench/tasks/chain.py --model X --out DIR   another one

The demonstrations have two or three steps and are in no task; the tasks have two or three (`chain`) or four
(`chain-long`).
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports as a script: CONTRIBUTING.md, Layout
from selfimprove.config import ModelConfig, TrainConfig
from selfimprove.seeds import seed_for
from selfimprove.types import Example, Message
from selfimprove.warm_start import warm_start
from tasks.quiz import Question

BASE = Path("runs") / "bases" / "chain"
"""Folder of the fine-tuned model."""
DEMONSTRATIONS = 300
POOL = 2000
"""Questions of each length that tasks are drawn from."""
LARGEST = 60
"""No intermediate result is larger, and none is below 1."""
SPEC = TrainConfig(rank=32, alpha=64, lr=3e-4, epochs=2, batch_tokens=1024, beta=0.0)


def chains(steps: int, purpose: str) -> Iterator[tuple[str, str, int]]:
    """Yield distinct (question, worked answer, result) of `steps` steps; two purposes share no question."""
    rng = Random(seed_for("chain", purpose, steps))
    seen = set()
    while True:
        value = rng.randint(2, 20)
        question, worked = str(value), ""
        for _ in range(steps):
            operand = rng.randint(2, 20)
            symbol, after = rng.choice([("+", value + operand), ("-", value - operand)])
            if not 1 <= after <= LARGEST:
                symbol, after = ("-", value - operand) if symbol == "+" else ("+", value + operand)
            question += f" {symbol} {operand}"
            worked += f"{value}{symbol}{operand}={after}; "
            value = after
        belongs = "demonstration" if seed_for("chain", question) % 4 == 0 else "task"
        if belongs == purpose and question not in seen:
            seen.add(question)
            yield f"Compute {question}.", f"{worked}answer: {value}", value


def demonstrations(count: int = DEMONSTRATIONS) -> list[Example]:
    """Return worked answers of two and three steps, in equal parts."""
    rows = [row for steps in (2, 3) for row in islice(chains(steps, "demonstration"), count // 2)]
    return [
        Example(f"demonstration-{i}", (Message("user", question),), worked, 1.0, i)
        for i, (question, worked, _) in enumerate(rows)
    ]


def chain_questions(*lengths: int) -> Iterator[Question]:
    """Yield the questions of these numbers of steps that tasks are drawn from."""
    for steps in lengths:
        for question, _, result in islice(chains(steps, "task"), POOL):
            yield Question(question, (str(result),))


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
