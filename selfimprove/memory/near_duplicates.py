"""The one rule of which train prompts are near-duplicates of a held-out prompt: neither learnt from nor shown."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ..types import Prompt, Split

SAME = 0.97
"""Cosine from which two prompts with the same numbers are one in other words. On bundled:minilm prompts with their
operands swapped lie above 0.98, questions that differ in one word (a weekday, a country) below 0.96."""

CHUNK = 1024
"""Train prompts compared at a time."""

CLOSEST = 8
"""Held-out prompts whose differing sentences are compared with those of a train prompt."""

SYMBOLS = "*/%&#@\\"
"""Punctuation in Unicode that changes what is asked."""

Encode = Callable[[Sequence[str]], np.ndarray]
"""From n texts to their unit vectors (n, d), as `Embedder.encode`."""


def near_duplicates(prompts: Sequence[Prompt], vectors: np.ndarray, encode: Encode) -> frozenset[str]:
    """Return the ids of the train prompts that are near-duplicates of a held-out prompt.

    Two prompts are, if their conversations have the same words, punctuation aside; or the same system message, the same
    numbers in any order and a cosine of at least `SAME`, of the whole conversations (`vectors`, (n, d), a row a prompt)
    and of the sentences in which they differ: two questions about one long passage are not one question. Numbers count
    apart, because embeddings hardly tell "7 times 8" from "7 times 9".
    """
    train, heldout = ([i for i, p in enumerate(prompts) if p.split is split] for split in Split)
    worded = {_conversation(prompts[row]) for row in heldout}
    found = {row for row in train if _conversation(prompts[row]) in worded}
    groups: dict[tuple[object, ...], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate(([row for row in train if row not in found], heldout)):
        for row in rows:
            about = tuple(words(message.content) for message in prompts[row].system)
            groups[about, numbers(prompts[row].conversation)][side].append(row)
    pairs = [
        pair
        for learnt, measured in groups.values()
        for start in range(0, len(learnt) if measured else 0, CHUNK)
        for pair in _near(vectors, learnt[start : start + CHUNK], measured)
    ]
    rests = [_differing(prompts[one].conversation, prompts[other].conversation) for one, other in pairs]
    unsure = sorted({text for both in rests if all(both) for text in both})
    place = {text: row for row, text in enumerate(unsure)}
    known = encode(unsure) if unsure else vectors
    for (row, _), (one, other) in zip(pairs, rests, strict=True):
        if not one or not other or known[place[one]] @ known[place[other]] >= SAME:
            found.add(row)
    return frozenset(prompts[row].id for row in found)


def _near(vectors: np.ndarray, learnt: list[int], measured: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (train row, held-out row) for cosines of at least `SAME`, the `CLOSEST` held-out rows of each train row."""
    cosines = vectors[learnt] @ vectors[measured].T
    closest = np.argpartition(-cosines, min(CLOSEST, len(measured)) - 1, axis=1)[:, :CLOSEST]
    for row, columns in enumerate(closest):
        yield from ((learnt[row], measured[column]) for column in columns if cosines[row, column] >= SAME)


def words(text: str) -> tuple[str, ...]:
    """Return the words and symbols of a text, case and punctuation aside; the text itself where it has none."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"[-\u2013](?=\s*\d)", "\u2212", text)  # a minus is no dash
    found = "".join(map(_kept, text)).split()
    return tuple(found) or (text.strip(),)


def numbers(text: str) -> tuple[str, ...]:
    """Return the numbers in a text, sorted, without thousands separators."""
    found = re.findall(r"\d+(?:[.,]\d+)*", unicodedata.normalize("NFKC", text))
    return tuple(sorted(n.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", n) else n for n in found))


def _kept(character: str) -> str:
    kind = unicodedata.category(character)[0]  # letters, marks (vowel signs), numbers, symbols
    if kind in "LMN":
        return character
    return f" {character} " if kind == "S" or character in SYMBOLS else " "


def _conversation(prompt: Prompt) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((message.role, words(message.content)) for message in prompt.messages)


def _differing(one: str, other: str) -> tuple[str, str]:
    """Return the sentences of each text that the other does not have; nothing where they share none."""
    mine, theirs = _sentences(one), _sentences(other)
    common = Counter(map(words, mine)) & Counter(map(words, theirs))
    return (_without(mine, common), _without(theirs, common)) if common else ("", "")


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+", text) if part.strip()]


def _without(sentences: Iterable[str], common: Counter[tuple[str, ...]]) -> str:
    left = Counter(common)
    rest = []
    for sentence in sentences:
        key = words(sentence)
        if left[key]:
            left[key] -= 1
        else:
            rest.append(sentence)
    return " ".join(rest)
