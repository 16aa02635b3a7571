#!/usr/bin/env python3
"""Some 2,300 short questions in 31 families, with their answers: the prompts of the task `everyday-large`.

    python scripts/bench/tasks/everyday_large.py DIR      write all of them: prompts.jsonl, audit.jsonl

Facts, arithmetic, words, options and two-step questions, from easy to hard for a model of 135M parameters. In some
families small models have a bias that voting can amplify: one of the options, yes over no, the euro, four legs. Equal
operands occur once, in one order, so that few questions are near-duplicates of each other. The lists of facts are in
`everyday_facts.py`.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports as a script: CONTRIBUTING.md, Layout
from selfimprove.seeds import seed_for
from tasks import everyday
from tasks import everyday_facts as facts
from tasks.quiz import Question, write_questions

EACH = 80
"""Questions of a family that can be drawn without end."""
NUMBER = "Answer with a number."
"""End of questions that a small model otherwise answers with an explanation."""


def numbers(family: str, low: int, high: int, size: int, count: int = EACH) -> list[tuple[int, ...]]:
    """Return `count` sets of `size` different numbers in [low, high], each ascending, drawn by the family's name."""
    rng = Random(seed_for("everyday-large", family))
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        found[tuple(sorted(rng.sample(range(low, high + 1), size)))] = None
    return list(found)


def shuffled(family: str, items: Iterable[str]) -> list[str]:
    """Return the items in an order drawn by the family's name."""
    return sorted(items, key=lambda item: seed_for("everyday-large", family, item))


def one(noun: str) -> str:
    """Return the noun with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def listed(options: Sequence[str]) -> str:
    """Return the options as a list that ends with "or"."""
    return f"{', '.join(options[:-1])} or {options[-1]}"


def times() -> Iterator[Question]:
    """Yield products of numbers from 2 to 13."""
    for index, (a, b) in enumerate(itertools.combinations_with_replacement(range(2, 14), 2)):
        first, second = (a, b) if index % 2 else (b, a)
        yield Question(f"What is {first} times {second}?", (str(a * b),))


def plus() -> Iterator[Question]:
    """Yield sums of two numbers up to 25."""
    for a, b in numbers("plus", 2, 25, 2):
        yield Question(f"What is {a} plus {b}? {NUMBER}", (str(a + b),))


def minus() -> Iterator[Question]:
    """Yield differences of numbers up to 25."""
    for a, b in numbers("minus", 2, 25, 2):
        if b != 2 * a:
            yield Question(f"What is {b} minus {a}? {NUMBER}", (str(b - a),))


def double_half() -> Iterator[Question]:
    """Yield doubles and halves."""
    for n in range(3, 43):
        yield Question(f"What is double {n}? {NUMBER}", (str(2 * n),))
    for n in range(44, 124, 2):
        yield Question(f"What is half of {n}? {NUMBER}", (str(n // 2),))


def two_step() -> Iterator[Question]:
    """Yield bare arithmetic of two steps."""
    for index, (a, b, c) in enumerate(numbers("two-step", 1, 12, 3)):
        text, answer = (
            (f"What is {a} plus {b} plus {c}?", a + b + c),
            (f"What is {b} plus {c} minus {a}?", b + c - a),
            (f"What is {a} times {b} plus {c}?", a * b + c),
        )[index % 3]
        if answer not in (a, b, c):
            yield Question(f"{text} {NUMBER}", (str(answer),))


def story() -> Iterator[Question]:
    """Yield word problems of two steps."""
    people, things = facts.PEOPLE.split(), facts.THINGS.split()
    for index, (a, b, c) in enumerate(numbers("story", 1, 10, 3)):
        name, thing = people[index % len(people)], things[index % len(things)]
        if index % 2:
            text = f"{name} has {c} {thing}, gets {b} more and gives {a} away. How many {thing} does {name} have now?"
            answer = c + b - a
        else:
            text = f"{name} has {a} {thing} and finds {b}. Then {name} finds {c} more. How many {thing} are there now?"
            answer = a + b + c
        if answer not in (a, b, c):
            yield Question(f"{text} {NUMBER}", (str(answer),))


def larger() -> Iterator[Question]:
    """Yield questions such as: which is larger, 45 or 78; the larger one comes first in half of them."""
    for index, pair in enumerate(numbers("larger", 10, 199, 2)):
        low, high = pair
        first, second = pair if index % 2 else (high, low)
        yield Question(f"Which is larger, {first} or {second}?", (str(high),), (str(low),))


def smallest() -> Iterator[Question]:
    """Yield questions such as: which is the smallest, 45, 12 or 78; its place rotates."""
    for index, (low, middle, high) in enumerate(numbers("smallest", 10, 199, 3)):
        order = [middle, high]
        order.insert(index % 3, low)
        text = f"Which number is the smallest: {listed([str(n) for n in order])}? {NUMBER}"
        yield Question(text, (str(low),), (str(middle), str(high)))


def successor() -> Iterator[Question]:
    """Yield questions such as: what is 1 more than 47."""
    for index, (n,) in enumerate(numbers("successor", 5, 99, 1)):
        word, answer = ("more", n + 1) if index % 2 else ("less", n - 1)
        yield Question(f"What is 1 {word} than {n}? {NUMBER}", (str(answer),))


def sequence() -> Iterator[Question]:
    """Yield arithmetic sequences of four numbers, whose next one is asked for."""
    for start, step in itertools.product(range(1, 21), (1, 2, 5, 10)):
        given = ", ".join(str(start + step * i) for i in range(4))
        yield Question(f"What number comes next: {given}? {NUMBER}", (str(start + step * 4),))


def parity() -> Iterator[Question]:
    """Yield questions such as: is 57 odd or even."""
    for (n,) in numbers("parity", 10, 299, 1):
        right, wrong = ("odd", "even") if n % 2 else ("even", "odd")
        yield Question(f"Is the number {n} odd or even?", (right,), (wrong,))


def greater() -> Iterator[Question]:
    """Yield questions for yes or no about the order of two numbers; yes is right in half of them."""
    for index, (low, high) in enumerate(numbers("greater", 10, 199, 2)):
        first, second = (high, low) if index % 2 else (low, high)
        right, wrong = ("yes", "no") if index % 2 else ("no", "yes")
        yield Question(f"Is {first} greater than {second}? Answer yes or no.", (right,), (wrong,))


def letters() -> Iterator[Question]:
    """Yield questions for the number of letters of a word."""
    for word in shuffled("letters", facts.WORDS.split())[:EACH]:
        count = len(word)
        yield Question(
            f'How many letters are in the word "{word}"? {NUMBER}', (str(count), facts.NUMERALS.split()[count])
        )


def first_letter() -> Iterator[Question]:
    """Yield questions for the first letter of a word; none is a word by itself."""
    words = [word for word in facts.WORDS.split() if word[0] not in "aio"]
    for word in shuffled("first letter", words)[:EACH]:
        yield Question(f'What is the first letter of the word "{word}"?', (word[0].upper(),))


def alphabet() -> Iterator[Question]:
    """Yield pairs of words to be put in the order of the alphabet."""
    words = shuffled("alphabet", facts.WORDS.split())
    pairs = [(a, b) for a, b in zip(words, words[7:] + words[:7], strict=True) if a[0] != b[0]][:EACH]
    for first, second in pairs:
        right, wrong = sorted((first, second))
        yield Question(f"Which word comes first in the alphabet, {first} or {second}?", (right,), (wrong,))


def plural() -> Iterator[Question]:
    """Yield questions for the plural of a noun."""
    for noun, forms in facts.table(facts.PLURALS):
        yield Question(f'What is the plural of "{noun}"?', forms)


def past() -> Iterator[Question]:
    """Yield questions for the past tense of a verb."""
    for verb, forms in facts.table(facts.PAST):
        yield Question(f'What is the past tense of "{verb}"?', forms)


def kinds() -> Iterator[Question]:
    """Yield questions such as: is a rose an animal, a plant or an object."""
    yield from everyday.kinds()
    options = ("animal", "plant", "object")
    for kind, things in zip(options, (facts.MORE_ANIMALS, facts.MORE_PLANTS, facts.MORE_OBJECTS), strict=True):
        for thing in things.split():
            rivals = tuple(option for option in options if option != kind)
            yield Question(f"Is {one(thing)} an animal, a plant or an object?", (kind,), rivals)


def classes() -> Iterator[Question]:
    """Yield questions for the class of an animal among four."""
    options = tuple(facts.CLASSES)
    for kind, animals in facts.CLASSES.items():
        for animal in animals.split():
            rivals = tuple(option for option in options if option != kind)
            yield Question(f"Is {one(animal)} a mammal, a bird, a fish or an insect?", (kind,), rivals)


def continents() -> Iterator[Question]:
    """Yield questions for the continent of a country among four."""
    options = tuple(facts.CONTINENTS)
    for continent, countries in facts.CONTINENTS.items():
        for country in countries.split(", "):
            rivals = tuple(option for option in options if option != continent)
            yield Question(f"Which continent is {country} in: {listed(options)}?", (continent,), rivals)


def languages() -> Iterator[Question]:
    """Yield questions for the main language of a country."""
    for country, names in facts.table(facts.LANGUAGES):
        yield Question(f"What is the main language of {country}?", names)


def currencies() -> Iterator[Question]:
    """Yield questions for the currency of a country."""
    for country, names in facts.table(facts.CURRENCIES):
        yield Question(f"What is the currency of {country}?", names)


def symbols() -> Iterator[Question]:
    """Yield questions for the symbol of a chemical element."""
    for element, symbol in facts.table(facts.ELEMENTS):
        yield Question(f"What is the chemical symbol of {element}?", symbol)


def weekday() -> Iterator[Question]:
    """Yield questions for the day some days after or before another."""
    yield from _calendar("day", everyday.DAYS.split(), range(1, 6))


def month() -> Iterator[Question]:
    """Yield questions for the month some months after or before another."""
    yield from _calendar("month", everyday.MONTHS.split(), range(1, 5))


def _calendar(unit: str, names: Sequence[str], steps: range) -> Iterator[Question]:
    for step, (place, name) in itertools.product(steps, enumerate(names)):
        many = unit if step == 1 else f"{unit}s"
        start = f"Today is {name}." if unit == "day" else f"It is {name} now."
        after, before = names[(place + step) % len(names)], names[place - step]
        yield Question(f"{start} What {unit} is it in {step} {many}?", (after,))
        yield Question(f"{start} What {unit} was it {step} {many} ago?", (before,))


def options() -> Iterator[Question]:
    """Yield questions with three numbered options; the right one's number rotates."""
    for index, (kind, right, wrong) in enumerate(_members("options")):
        order = list(wrong)
        place = index % 3
        order.insert(place, right)
        text = " ".join(f"{n}) {word}" for n, word in enumerate(order, 1))
        rivals = (*wrong, *(str(n) for n in (1, 2, 3) if n != place + 1))
        yield Question(f"Which of these is {one(kind)}? {text}", (right, str(place + 1)), rivals)


def category() -> Iterator[Question]:
    """Yield questions such as: which of these is a fruit: chair, apple or dog; the right one's place rotates."""
    for index, (kind, right, wrong) in enumerate(_members("category")):
        order = list(wrong)
        order.insert(index % 3, right)
        yield Question(f"Which of these is {one(kind)}: {listed(order)}?", (right,), tuple(wrong))


def _members(family: str) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Yield (category, a member, two members of other categories)."""
    rng = Random(seed_for("everyday-large", family))
    members = {kind: words.split() for kind, words in facts.CATEGORIES.items()}
    for kind, words in members.items():
        for word in words:
            first, second = rng.sample([other for other in members if other != kind], 2)
            yield kind, word, (rng.choice(members[first]), rng.choice(members[second]))


def heavier() -> Iterator[Question]:
    """Yield pairs of things whose weights differ much; the heavier one comes first in half of them."""
    sizes = [group.split() for group in facts.WEIGHTS]
    rng = Random(seed_for("everyday-large", "heavier"))
    found: dict[tuple[str, str], None] = {}
    while len(found) < EACH:
        light, heavy = sorted(rng.sample(range(len(sizes)), 2))
        found[rng.choice(sizes[light]), rng.choice(sizes[heavy])] = None
    for index, (light_one, heavy_one) in enumerate(found):
        first, second = (light_one, heavy_one) if index % 2 else (heavy_one, light_one)
        yield Question(f"Which is heavier, {one(first)} or {one(second)}?", (heavy_one,), (light_one,))


def legs() -> Iterator[Question]:
    """Yield questions for the number of legs of an animal."""
    for count, animals in facts.LEGS.items():
        for animal in animals.split():
            yield Question(f"How many legs does {one(animal)} have?", (str(count), facts.NUMERALS.split()[count]))


FAMILIES: dict[str, Callable[[], Iterable[Question]]] = {
    "capital": everyday.capitals,
    "opposite": everyday.opposites,
    "times": times,
    "plus": plus,
    "minus": minus,
    "double and half": double_half,
    "two steps": two_step,
    "story": story,
    "larger": larger,
    "smallest of three": smallest,
    "one more or less": successor,
    "sequence": sequence,
    "odd or even": parity,
    "greater, yes or no": greater,
    "number of letters": letters,
    "first letter": first_letter,
    "alphabet": alphabet,
    "plural": plural,
    "past tense": past,
    "animal, plant, object": kinds,
    "class of animal": classes,
    "continent": continents,
    "language": languages,
    "currency": currencies,
    "element": symbols,
    "day": weekday,
    "month": month,
    "numbered options": options,
    "category": category,
    "heavier": heavier,
    "legs": legs,
}
"""The families by name; each yields its questions in a fixed order."""


def questions() -> list[Question]:
    """All questions, one family after the other, each with its family's name."""
    return [Question(q.text, q.answers, q.rivals, family) for family, made in FAMILIES.items() for q in made()]


def main() -> None:
    """Write all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    rows = questions()
    write_questions(folder, rows)
    print(f"{len(rows)} questions in {len(FAMILIES)} families in {folder}")


if __name__ == "__main__":
    main()
