"""A task small enough to collapse in seconds: a 2-layer byte model that partly knows which number comes next.

Its training answers are noisy: two of five have a wrong digit, and the carry after a 9 is often missing. So single
answers err, votes are right on most prompts and wrong in the same way on some, and training on the votes on some
numbers generalizes to others. The model is that of tiny.py.
"""

import random
from pathlib import Path

from tasks.quiz import Question, write_questions
from tasks.tiny import teach

FORMS = ("{m}.", "{m} is next.", "{m} comes next.")
TAUGHT, ASKED = 600, 240
"""Numbers in the model's training set, and numbers in the prompts; drawn independently, so that some are in both."""
SLIPS, FORGOTTEN = 0.4, 0.7
"""Fraction of the training answers with a wrong digit; fraction of the carries that are missing."""


def question(n: int) -> str:
    """Return the prompt about a number."""
    return f"What is after {n}?"


def answer(n: int, rng: random.Random) -> str:
    """Return a noisy training answer."""
    m = n - 9 if n % 10 == 9 and rng.random() < FORGOTTEN else n + 1
    if rng.random() < SLIPS:
        place, digit = rng.choice((1, 10, 100)), rng.randrange(1, 10)
        m += ((m // place + digit) % 10 - m // place % 10) * place
    return rng.choice(FORMS).format(m=m)


def write_numbers(folder: Path) -> tuple[Path, Path]:
    """Write prompts.jsonl and audit.jsonl and return their paths."""
    numbers = random.Random(0).sample(range(100, 999), ASKED)
    return write_questions(folder, (Question(question(n), (str(n + 1),)) for n in numbers))


def teach_numbers(folder: Path, seed: int) -> Path:
    """Train a tiny model on the noisy answers, ten seconds on one core, and save it."""
    rng = random.Random(seed)
    numbers = rng.sample(range(100, 999), TAUGHT)
    examples = [(question(n), answer(n, rng)) for n in numbers for _ in range(4)]
    return teach(folder, examples, 320, batch=32, seed=seed, initializer_range=0.05, lr=6e-3, warmup=40)
