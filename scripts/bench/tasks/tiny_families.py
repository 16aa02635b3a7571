"""Four families of questions about numbers, of which one collapses: for the guard, on the model of `tiny_world.py`.

What all prompts together show hides a family whose prompts all get one answer. The faults here are of one family's
training data, and the others are learnt as usual.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from selfimprove.types import Example, Generation, Unit
from tasks.quiz import Question, write_questions
from tasks.tiny import teach

FAMILIES: dict[str, tuple[str, Callable[[int], int]]] = {
    "after": ("What is after {n}?", lambda n: n + 1),
    "before": ("Name the number before {n}.", lambda n: n - 1),
    "last": ("{n} ends with which digit?", lambda n: n % 10),
    "first": ("Tell me how {n} begins: its leading digit.", lambda n: n // 100),
}
"""Wording of each family, and the right answer to a number of three digits."""
EACH, TAUGHT = 60, 300
"""Prompts of a family; numbers of a family that the model is taught."""
SLIPS = 0.4
"""Fraction of the training answers with a wrong digit."""
VICTIM = "last"
"""The family that collapses."""


def question(family: str, n: int) -> str:
    """Return the prompt of a family about a number."""
    return FAMILIES[family][0].format(n=n)


def is_victim(text: str) -> bool:
    """Return whether a prompt is of the family that collapses."""
    return FAMILIES[VICTIM][0].partition("{n}")[2] in text


def write_families(folder: Path) -> tuple[Path, Path]:
    """Write prompts.jsonl and audit.jsonl and return their paths."""
    rng = Random(0)
    rows = [
        Question(question(family, n), (str(right(n)),), family=family)
        for family, (_, right) in FAMILIES.items()
        for n in rng.sample(range(101, 999), EACH)
    ]
    return write_questions(folder, rows)


def teach_families(folder: Path, seed: int) -> Path:
    """Train a tiny model on noisy answers of all families, a quarter of a minute on one core, and save it."""
    rng = Random(seed)
    examples = []
    for family, (_, right) in FAMILIES.items():
        for n in rng.sample(range(101, 999), TAUGHT):
            for _ in range(4):
                digits = list(str(right(n)))
                if rng.random() < SLIPS:
                    digits[rng.randrange(len(digits))] = str(rng.randrange(10))
                examples.append((question(family, n), f"{''.join(digits)}."))
    return teach(folder, examples, 600, batch=32, seed=seed, initializer_range=0.05, lr=6e-3, warmup=40)


def planted(unit: Unit, answers: list[Generation]) -> list[Generation]:
    """Replace two of three answers of the family by a constant."""
    return [
        replace(a, text="7.") if r.seed % 3 and is_victim(r.messages[-1].content) else a
        for r, a in zip(unit.requests, answers, strict=True)
    ]


def biased(examples: list[Example], _: Random) -> list[Example]:
    """Give all examples of the family its commonest completion."""
    own = Counter(e.completion for e in examples if is_victim(e.messages[-1].content))
    top = own.most_common(1)[0][0] if own else ""
    return [replace(e, completion=top) if is_victim(e.messages[-1].content) else e for e in examples]


def exchanged(examples: list[Example], rng: Random) -> list[Example]:
    """Exchange completions between the prompts of the family."""
    texts = [e.completion for e in examples if is_victim(e.messages[-1].content)]
    rng.shuffle(texts)
    return [replace(e, completion=texts.pop()) if is_victim(e.messages[-1].content) else e for e in examples]
