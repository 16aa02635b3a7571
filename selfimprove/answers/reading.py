"""The final answer of a response, as the name of its equivalence class, or None when it cannot be read.

A class is the whole normalised final answer. What is not understood stays in it, or makes the response abstain; it is
never thrown away, and equality is claimed only where it is certain: agreement is the only signal there is, and a wrong
class is worse than none. Reading never raises and takes bounded time, and it sees the prompt, never a label.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

import numpy as np

from . import choice, code, math, number, short, yes_no
from . import text as wording
from .final import PLAIN, Thinking, final_text
from .kind import Kind

Embed = Callable[[Sequence[str]], np.ndarray]
"""From n texts to (n, d) unit rows."""


class Pieces(Protocol):
    """An embedder that tells what it sees of a text: `memory.Embedder`."""

    def encode_pieces(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return for each text the unit vectors of the pieces that the model sees whole, (p, d) each."""

    def knows(self, text: str) -> bool:
        """Return whether the model has tokens for the script of a text."""


MAX_NAME = 200
"""Characters of a class; a longer one is named by its hash."""


def extract(text: str, kind: Kind, prompt_text: str = "", thinking: Thinking = PLAIN) -> str | None:
    """Return the name of the class of `text`'s answer, or None when it gives none that can be read.

    Only what follows the reasoning is read. Amounts come in one spelling (`3,000.0` -> `3000`), choices by the name of
    the option, short texts folded (`The capital of France is Paris.` and `Paris` -> `paris`), formulas in a canonical
    form. Free text is its own class: see `classes`.
    """
    final = final_text(text, thinking)
    if final is None or not final.strip():
        return None
    answer = _read(wording.bounded(final), kind, prompt_text)
    if not answer:
        return None
    return answer if len(answer) <= MAX_NAME else _hashed(answer)


@lru_cache(maxsize=4096)
def _read(text: str, kind: Kind, prompt_text: str) -> str | None:
    match kind:
        case Kind.NUMBER:
            return number.read(text, prompt_text)
        case Kind.MATH:
            return math.read(text, prompt_text)
        case Kind.CHOICE:
            offered = choice.options(prompt_text)
            return choice.read(text, offered, prompt_text) if offered else short.read(text, prompt_text)
        case Kind.YES_NO:
            return yes_no.read(text, prompt_text)
        case Kind.SHORT:
            return short.read(text, prompt_text)
        case Kind.CODE:
            return code.read(text)
        case Kind.FREE:
            folded = wording.fold(wording.clean(text))
            return _hashed(folded) if folded else None


def classes(
    texts: Sequence[str],
    kind: Kind,
    prompt_text: str,
    embed: Embed | Pieces | None,
    same: float,
    thinking: Thinking = PLAIN,
) -> list[str | None]:
    """Return the class of each text's answer.

    Free text is clustered greedily in the order given: a text joins the first cluster whose *first* member it has
    cosine >= `same` with, else it founds one; clusters are named by their first member. Texts longer than the embedder
    sees must be that near in each of their pieces; texts in a script that it does not know, and all texts without
    `embed`, must be equal. All other kinds are read one by one.
    """
    names = [extract(text, kind, prompt_text, thinking) for text in texts]
    readable = [index for index, name in enumerate(names) if name is not None]
    if kind is not Kind.FREE or embed is None or not readable:
        return names
    free = [final_text(texts[index], thinking) or "" for index in readable]
    if callable(embed):
        pieces, known = [row[None] for row in embed(free)], [True] * len(free)
    else:
        pieces, known = embed.encode_pieces(free), [embed.knows(text) for text in free]
    founders: list[int] = []
    for row, index in enumerate(readable):
        joined = next(
            (
                founder
                for founder in founders
                if names[readable[founder]] == names[index]
                or (known[founder] and known[row] and _near(pieces[founder], pieces[row], same))
            ),
            None,
        )
        if joined is None:
            founders.append(row)
        else:
            names[index] = names[readable[joined]]
    return names


def _near(one: np.ndarray, other: np.ndarray, same: float) -> bool:
    """Whether two texts have as many pieces, (p, d) each, and each pair of pieces cosine >= `same`."""
    return one.shape == other.shape and bool(np.all(np.einsum("pd,pd->p", one, other) >= same))


def _hashed(text: str) -> str:
    return "text-" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
