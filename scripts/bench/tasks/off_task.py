#!/usr/bin/env python3
"""Two small tasks that no arm trains on: what self-training on short answers does to other abilities.

    pip install reasoning-gym==0.1.25
    python scripts/bench/tasks/off_task.py        write the family puzzles, off_task.jsonl, anew

`word problems` are of three steps, to be worked out in the answer, as in GSM8K (Cobbe et al. 2021). `family puzzles`
are reasoning-gym's family_relationships; they are kept in a file, since a run needs no package for them then.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports as a script: CONTRIBUTING.md, Layout
from selfimprove.fsio import write_text
from selfimprove.seeds import seed_for
from tasks.quiz import Question

COUNT = 60
"""Questions of each task."""
FAMILY = Path(__file__).with_suffix(".jsonl")
WORK = 'Work it out step by step, then write "The answer is" and the number.'


@dataclass(frozen=True)
class OffTask:
    """Questions that are asked before and after, and the most tokens of an answer."""

    name: str
    questions: tuple[Question, ...]
    max_new_tokens: int


def word_problems() -> tuple[Question, ...]:
    """Return word problems of three steps, in five forms."""
    rng = Random(seed_for("off-task", "word problems"))
    found: dict[str, Question] = {}
    while len(found) < COUNT:
        a, b, c, d = (rng.randint(2, 9) for _ in range(4))
        forms = (
            (
                f"A baker makes {a} trays of {b} rolls. He sells {c} rolls in the morning and {d} in the evening. "
                "How many rolls are left?",
                a * b - c - d,
            ),
            (
                f"A ticket costs {a} dollars. A family buys {b} tickets, and {c} drinks for {d} dollars each. "
                "How many dollars does the family pay?",
                a * b + c * d,
            ),
            (
                f"Nina reads {a} pages a day for {b} days and then {c} pages a day for {d} days. "
                "How many pages does she read?",
                a * b + c * d,
            ),
            (
                f"A class has {10 * a} pupils. {b} are ill and {c} are on a trip. Then {d} of the ill ones come back. "
                "How many pupils are in class?",
                10 * a - b - c + d if d <= b else -1,
            ),
            (
                f"A farmer has {a} hens, and each lays {b} eggs. He eats {c} of the eggs and sells the others for one "
                "dollar each. How many dollars does he get?",
                a * b - c,
            ),
        )
        text, answer = forms[len(found) % len(forms)]
        if answer > 0:
            found[text] = Question(f"{text} {WORK}", (str(answer),))
    return tuple(found.values())


def family_puzzles() -> tuple[Question, ...]:
    """Return the family puzzles of the file."""
    rows = map(json.loads, FAMILY.read_text(encoding="utf-8").splitlines())
    return tuple(Question(row["prompt"], tuple(row["answers"])) for row in rows)


def off_tasks() -> tuple[OffTask, ...]:
    """Return both tasks."""
    return OffTask("word problems", word_problems(), 96), OffTask("family puzzles", family_puzzles(), 16)


def write_family() -> None:
    """Write the family puzzles."""
    from reasoning_gym import create_dataset

    entries = create_dataset("family_relationships", size=4 * COUNT, seed=0, max_family_size=5)
    answers = {entry["question"].strip(): entry["answer"] for entry in entries}
    rows = [{"prompt": text, "answers": [answer]} for text, answer in list(answers.items())[:COUNT]]
    write_text(FAMILY, "".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    """Write the file."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write_family()
    print(f"{COUNT} family puzzles in {FAMILY.name}")


if __name__ == "__main__":
    main()
