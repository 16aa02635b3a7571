"""Calibration of votes by the neighbourhood of a prompt: what is answered everywhere near it says little about it.

Contextual calibration (Zhao et al. 2021) and batch calibration (Zhou et al. 2023), with the nearest prompts as the
context. No generation, no label. A prior maps an answer to the divisor of its votes, (1 + m / SMOOTHING) ** exponent.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..answers import offers_options, request

NEIGHBOURS = 24
"""Nearest prompts whose answers calibrate a vote."""

SMOOTHING = 0.05
"""Mean share at which an answer's votes are divided by 2 ** exponent."""

_WORD = re.compile(r"\w+")

Shares = Mapping[str, Mapping[str, float]]
"""Prompt id -> answer -> its share of the votes of samples and recalled answers."""
Priors = dict[str, dict[str, float]]
"""Prompt id -> answer -> divisor of its votes."""


def neighbour_prior(shares_P: Shares, vectors: np.ndarray, *, exponent: float) -> Priors:
    """Return the divisors where m is the answer's mean share over the `NEIGHBOURS` nearest other prompts.

    `vectors` (P, d) are the unit vectors of the prompts, in the order of `shares_P`. An answer that no near prompt gets
    keeps its votes.
    """
    shares = list(shares_P.values())
    return {
        id_: {answer: _divisor([shares[row].get(answer, 0.0) for row in near], exponent) for answer in own}
        if len(near)
        else {}
        for (id_, own), near in zip(shares_P.items(), _nearest(vectors), strict=True)
    }


def echo_prior(shares_P: Shares, texts_P: Mapping[str, str], vectors: np.ndarray, *, exponent: float) -> Priors:
    """Return the divisors of echoes: answers all of whose words stand in what their own prompt asks.

    m is the share of echoes in the votes on a near prompt, in the mean over the `NEIGHBOURS` nearest. A small base
    model answers "What is the opposite of sharp?" with "sharp", and so at all prompts that ask alike: votes agree on it
    without knowing anything. Prompts that offer options are left alone, as their answers have to be echoes, and do not
    count as neighbours.
    """
    open_ids = [id_ for id_ in shares_P if not offers_options(texts_P[id_])]
    echoes = {id_: {a for a in shares_P[id_] if is_echo(a, texts_P[id_])} for id_ in open_ids}
    fractions = [sum(shares_P[id_][answer] for answer in echoes[id_]) for id_ in open_ids]
    rows = {id_: row for row, id_ in enumerate(shares_P)}
    near_rows = _nearest(vectors[[rows[id_] for id_ in open_ids]]) if open_ids else iter(())
    return {
        id_: dict.fromkeys(sorted(echoes[id_]), _divisor([fractions[row] for row in near], exponent))
        for id_, near in zip(open_ids, near_rows, strict=True)
        if len(near)
    }


def combined(*priors: Priors) -> Priors:
    """Return the products of the divisors."""
    found: Priors = {}
    for prior in priors:
        for id_, divisors in prior.items():
            own = found.setdefault(id_, {})
            for answer, divisor in divisors.items():
                own[answer] = own.get(answer, 1.0) * divisor
    return found


def _divisor(shares: Sequence[float], exponent: float) -> float:
    return (1 + math.fsum(shares) / len(shares) / SMOOTHING) ** exponent


def _nearest(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Yield for each of the unit vectors (P, d) the rows of its nearest others, ties by row."""
    vectors = np.asarray(vectors, dtype=np.float64)
    for row in range(len(vectors)):
        cosines = np.round(vectors @ vectors[row], 9)
        cosines[row] = -np.inf
        yield np.argsort(-cosines, kind="stable")[: min(NEIGHBOURS, len(vectors) - 1)]


def is_echo(answer: str, prompt_text: str) -> bool:
    """Return whether all words of an answer stand in what its prompt asks; the material it asks about may hold them."""
    words = _WORD.findall(answer.casefold())
    return bool(words) and set(words) <= set(_WORD.findall(request(prompt_text).casefold()))
