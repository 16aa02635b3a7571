"""The final answer of a response, as the name of its equivalence class, or None when it cannot be read.

Reading never raises and takes bounded time, and it sees the prompt, never a label. A response that cannot be read
abstains: it is neither right nor wrong.
"""

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from hashlib import blake2b
from statistics import median

import numpy as np

from . import choices, numbers, phrases, wording

_ASKS_NUMBER = re.compile(
    r"\b(?:how (?:many|much|old|far|tall|long)|(?:what|which) (?:number|year)|calculate|compute|evaluate)\b"
    r"|\d\s*(?:[-+*\u00d7\u00f7/^=]|x|plus|minus|times|divided by|multiplied by|squared|percent of|% of)\s*\(*\d",
    re.I,
)
_ASKS_TEXT = re.compile(
    r"^\W*(?:please\s+)?(?:can you\s+|could you\s+)?(?:write|describe|explain|tell|summari[sz]e|compose|draft|rewrite|"
    r"translate|discuss|list|create|generate|suggest|give (?:me )?(?:some|an? (?:example|overview|summary)))\b",
    re.I,
)
_LONG = 40
"""Words: groups whose typical answer is longer are free text, unless they mark their answers."""
_MARKED = re.compile(r"\banswer\b|\\boxed|####", re.I)


class Kind(StrEnum):
    """How the final answer of a response is read."""

    NUMBER = "number"
    CHOICE = "choice"
    SHORT = "short"
    FREE = "free"


def kind_of(prompt_text: str, texts: Sequence[str]) -> Kind:
    """Return how answers to a prompt are to be read, from the prompt and the group of its responses.

    Options in the prompt make a choice; a request for an amount, or responses most of which hold a number that the
    prompt does not, a number; a request to write, or long unmarked responses, free text; all else is short.
    """
    if choices.options(prompt_text):
        return Kind.CHOICE
    asked = wording.question(prompt_text)
    if _ASKS_NUMBER.search(numbers.prepare(asked)):
        return Kind.NUMBER
    if _ASKS_TEXT.match(asked):
        return Kind.FREE
    if not texts:
        return Kind.SHORT
    known = {number for _, number in numbers.find(numbers.prepare(prompt_text))}
    novel = sum(any(number not in known for _, number in numbers.find(numbers.prepare(text))) for text in texts)
    if novel * 2 > len(texts):
        return Kind.NUMBER
    unmarked = sum(_MARKED.search(text) is None for text in texts) * 2 > len(texts)
    return Kind.FREE if unmarked and median(len(text.split()) for text in texts) > _LONG else Kind.SHORT


def extract(text: str, kind: Kind, prompt_text: str = "") -> str | None:
    """Return the name of the class of `text`'s answer, or None when it gives none that can be read.

    Numbers come in one spelling (`3,000.0` -> `3000`), choices by the name of the option, short texts folded
    (`The capital of France is Paris.` and `Paris` -> `paris`). Free text is its own class: see `classes`.
    """
    match kind:
        case Kind.NUMBER:
            return numbers.read(text, prompt_text)
        case Kind.CHOICE:
            offered = choices.options(prompt_text)
            return choices.read(text, offered, prompt_text) if offered else phrases.read(text, prompt_text)
        case Kind.SHORT:
            return phrases.read(text, prompt_text)
        case Kind.FREE:
            folded = wording.fold(wording.clean(text))
            return _name(folded) if folded else None


def classes(
    texts: Sequence[str],
    kind: Kind,
    prompt_text: str,
    embed: Callable[[Sequence[str]], np.ndarray] | None,
    same: float,
) -> list[str | None]:
    """Return the class of each text's answer.

    Free text is clustered greedily in the order given: a text joins the first cluster whose *first* member it has
    cosine >= `same` with, else it founds one; clusters are named by their first member. `embed` maps n texts to (n, d)
    unit rows; without it only equal texts are one class.
    """
    names = [extract(text, kind, prompt_text) for text in texts]
    readable = [index for index, name in enumerate(names) if name is not None]
    if kind is not Kind.FREE or embed is None or not readable:
        return names
    vectors = embed([texts[index] for index in readable])  # (n, d)
    founders: list[int] = []
    for row, index in enumerate(readable):
        near = np.flatnonzero(vectors[founders] @ vectors[row] >= same)  # positions in founders
        if near.size:
            names[index] = names[readable[founders[near[0]]]]
        else:
            founders.append(row)
    return names


def _name(folded: str) -> str:
    return "text-" + blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
