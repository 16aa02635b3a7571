#!/usr/bin/env python3
"""The quickstart's prompts and their answers.

    python scripts/bench/tasks/everyday.py

About 500 short questions that a small model answers rightly in some samples and wrongly in others. `everyday.jsonl`
holds the prompts, `everyday.audit.jsonl` the answers, which only accuracy reads.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports as a script: CONTRIBUTING.md, Layout
from selfimprove.seeds import seed_for
from tasks.quiz import Question, write_questions

FOLDER = Path(__file__).resolve().parents[3] / "configs" / "prompts"

# Countries whose capital is undisputed and is not named after the country.
CAPITALS = """
France: Paris | Germany: Berlin | Italy: Rome | Spain: Madrid | Portugal: Lisbon | England: London | Scotland: Edinburgh
Ireland: Dublin | Wales: Cardiff | Belgium: Brussels | Austria: Vienna | Switzerland: Bern, Berne | Poland: Warsaw
Hungary: Budapest | Greece: Athens | Sweden: Stockholm | Norway: Oslo | Denmark: Copenhagen | Finland: Helsinki
Iceland: Reykjavik | Romania: Bucharest | Bulgaria: Sofia | Serbia: Belgrade | Croatia: Zagreb | Slovenia: Ljubljana
Slovakia: Bratislava | Ukraine: Kyiv, Kiev | Russia: Moscow | Belarus: Minsk | Lithuania: Vilnius | Latvia: Riga
Estonia: Tallinn | Albania: Tirana | Malta: Valletta | Cyprus: Nicosia | Turkey: Ankara | Georgia: Tbilisi
Armenia: Yerevan | Azerbaijan: Baku | the Netherlands: Amsterdam | the Czech Republic: Prague | Moldova: Chisinau
the United States: Washington, Washington DC | Canada: Ottawa | Cuba: Havana | Jamaica: Kingston | Haiti: Port-au-Prince
Brazil: Brasilia | Argentina: Buenos Aires | Chile: Santiago | Peru: Lima | Colombia: Bogota | Venezuela: Caracas
Ecuador: Quito | Uruguay: Montevideo | Paraguay: Asuncion | Nicaragua: Managua | Honduras: Tegucigalpa
Costa Rica: San Jose | China: Beijing | Japan: Tokyo | South Korea: Seoul | North Korea: Pyongyang | India: New Delhi
Pakistan: Islamabad | Bangladesh: Dhaka | Nepal: Kathmandu | Thailand: Bangkok | Vietnam: Hanoi | Cambodia: Phnom Penh
Laos: Vientiane | Malaysia: Kuala Lumpur | the Philippines: Manila | Mongolia: Ulaanbaatar, Ulan Bator
Afghanistan: Kabul | Iran: Tehran | Iraq: Baghdad | Syria: Damascus | Lebanon: Beirut | Jordan: Amman
Saudi Arabia: Riyadh | Qatar: Doha | Oman: Muscat | Egypt: Cairo | Libya: Tripoli | Tunisia: Tunis | Algeria: Algiers
Morocco: Rabat | Sudan: Khartoum | Ethiopia: Addis Ababa | Kenya: Nairobi | Uganda: Kampala | Rwanda: Kigali
Ghana: Accra | Nigeria: Abuja | Senegal: Dakar | Mali: Bamako | Angola: Luanda | Zambia: Lusaka | Zimbabwe: Harare
Somalia: Mogadishu | Madagascar: Antananarivo | Australia: Canberra | New Zealand: Wellington | Fiji: Suva
"""

OPPOSITES = """
hot: cold, cool | big: small, little, tiny | up: down | left: right | fast: slow | tall: short | happy: sad, unhappy
good: bad, evil | light: dark, heavy | day: night | black: white | young: old | rich: poor, impoverished, indigent
strong: weak, feeble | hard: soft, easy | wet: dry | full: empty | open: closed, close, shut | early: late
near: far, distant | high: low | loud: quiet, silent, soft | clean: dirty, unclean, filthy | thick: thin
wide: narrow | long: short | deep: shallow | first: last | begin: end, finish, stop | buy: sell | win: lose, loss
love: hate, hatred | push: pull | give: take, receive, get | come: go, leave | start: stop, end, finish
inside: outside | above: below, beneath, under | before: after | always: never | true: false, untrue | alive: dead
asleep: awake | sweet: sour, bitter | sharp: blunt, dull | smooth: rough | cheap: expensive, costly, dear
safe: dangerous, unsafe | brave: cowardly, coward, cowardice, afraid, fearful, timid | war: peace | north: south
east: west | summer: winter | king: queen | brother: sister | mother: father | boy: girl | man: woman
friend: enemy, foe | heaven: hell | life: death | front: back, rear | top: bottom | yes: no | on: off | in: out
cold: hot, warm, heat | old: young, new | new: old | small: big, large | slow: fast, quick | night: day
sad: happy, glad | heavy: light | dark: light, bright | poor: rich, wealthy | weak: strong, powerful | dry: wet
empty: full | late: early | quiet: loud, noisy | dirty: clean | narrow: wide, broad | shallow: deep | last: first
end: begin, beginning, start | sell: buy, purchase | lose: win, find, gain | hate: love | pull: push | below: above
after: before | never: always | false: true | success: failure | victory: defeat, loss | answer: question
arrive: leave, depart | remember: forget | laugh: cry | accept: reject, refuse | increase: decrease
"""

ANIMALS = """dog cat horse cow lion tiger elephant rabbit eagle penguin shark whale snake frog bee ant
sheep goat monkey bear wolf duck"""
PLANTS = "rose tulip daisy oak fern cactus sunflower bush lily orchid bamboo poppy ivy birch pine willow maple thistle"
OBJECTS = """chair table hammer spoon bicycle lamp book clock key bottle shoe umbrella pencil hat car bridge knife drum
ladder mirror"""

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
MONTHS = "January February March April May June July August September October November December"


def capitals() -> Iterator[Question]:
    """Yield questions such as: what is the capital of France."""
    for country, answers in _table(CAPITALS):
        yield Question(f"What is the capital of {country}?", answers)


def opposites() -> Iterator[Question]:
    """Yield questions such as: what is the opposite of hot."""
    for word, answers in _table(OPPOSITES):
        yield Question(f"What is the opposite of {word}?", answers)


def products() -> Iterator[Question]:
    """Yield questions such as: what is 7 times 8."""
    for a, b in itertools.product(range(2, 13), repeat=2):
        if (a + b) % 4 != 3:  # three of four pairs, every factor among them
            yield Question(f"What is {a} times {b}?", (str(a * b),))


def sums(count: int = 60) -> Iterator[Question]:
    """Yield questions such as: what is 5 plus 9."""
    for a, b in _pairs("sums", 2, 19, count):
        yield Question(f"What is {a} plus {b}?", (str(a + b),))


def larger(count: int = 50) -> Iterator[Question]:
    """Yield questions such as: which is larger, 45 or 78. The larger one comes first in half of them."""
    for index, pair in enumerate(_pairs("larger", 10, 99, count)):
        a, b = sorted(pair, reverse=index % 2 == 0)
        yield Question(f"Which is larger, {a} or {b}?", (str(max(pair)),), (str(min(pair)),))


def successors() -> Iterator[Question]:
    """Yield questions such as: what day comes after Tuesday."""
    for noun, names in (("day", DAYS), ("month", MONTHS)):
        cycle = names.split()
        for name, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            yield Question(f"What {noun} comes after {name}?", (following,))
    for number in range(9, 100, 7):
        yield Question(f"What number comes after {number}?", (str(number + 1),))


def kinds() -> Iterator[Question]:
    """Yield questions such as: is a rose an animal, a plant or an object."""
    options = ("animal", "plant", "object")
    for things in itertools.zip_longest(ANIMALS.split(), PLANTS.split(), OBJECTS.split()):
        for kind, thing in zip(options, things, strict=True):
            if thing:
                article = "an" if thing[0] in "aeiou" else "a"
                rivals = tuple(option for option in options if option != kind)
                yield Question(f"Is {article} {thing} an animal, a plant or an object?", (kind,), rivals)


def questions() -> list[Question]:
    """All questions, one kind after the other."""
    return [*capitals(), *opposites(), *products(), *sums(), *larger(), *successors(), *kinds()]


def _table(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for entry in text.strip().replace("\n", " | ").split(" | "):
        name, _, answers = entry.partition(": ")
        yield name, tuple(answers.split(", "))


def _pairs(name: str, low: int, high: int, count: int) -> list[tuple[int, int]]:
    """Return `count` pairs of different numbers in [low, high], in a fixed pseudo-random order."""
    pairs = itertools.permutations(range(low, high + 1), 2)
    return sorted(pairs, key=lambda pair: seed_for("everyday", name, *pair))[:count]


def main() -> None:
    """Write both files."""
    rows = questions()
    write_questions(FOLDER, rows, "everyday.jsonl", "everyday.audit.jsonl")
    print(f"{len(rows)} questions in {FOLDER}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
