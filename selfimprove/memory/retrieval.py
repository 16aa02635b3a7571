"""What the memory hands back to the loop: trusted answers to other prompts, and own past answers to the same one.

The rules that keep recall honest live here: never a held-out prompt's response, never a near-duplicate of a held-out
prompt, and only answers that the vote agreed on.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..types import VOTERS, Response, Split, Stage, unit_id
from .search.vector_index import VectorIndex
from .store.memory import ResponseMemory

SAME_PROMPT = 0.97
"""Cosine from which two prompts with the same numbers in them are the same prompt in other words."""

POOL = 8
"""MMR chooses k from the POOL * k nearest."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A response worth showing: `score` is the cosine to the query, `agreement` that of its prompt's vote."""

    response_id: int
    prompt_id: str
    prompt_text: str
    text: str
    score: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whom one vote lets be shown: by id, one response for each trusted prompt, with its prompt's text and agreement.

    A vote and its responses never change, so a stage finds this out once and every unit of it asks.
    """

    shown: dict[int, Recalled]


def trust(memory: ResponseMemory, *, round: int, vote_index: int, min_support: float) -> Trusted:
    """Return the answers that the vote named trusts; none when it was not held.

    A prompt is trusted when its support is at least `min_support`, unless it leaks. It is represented by one response
    that gave the agreed answer: the shortest of those that were not cut off. The score of each is 1.
    """
    votes = memory.tallies(round, vote_index).items()
    agreed = {id_: t.agreement for id_, t in votes if t.answer is not None and t.support >= min_support}
    hidden = leaking(memory, sorted(agreed))
    texts = {prompt.id: prompt.text for prompt in memory.prompts(Split.TRAIN)}
    chosen = _representatives(memory, unit_id(round, Stage.VOTE, vote_index), agreed.keys() - hidden)
    return Trusted(
        {r.id: Recalled(r.id, r.prompt_id, texts[r.prompt_id], r.text, 1.0, agreed[r.prompt_id]) for r in chosen}
    )


def recall(
    memory: ResponseMemory, index: VectorIndex, trusted: Trusted, queries: np.ndarray, *, k: int, diversity: float
) -> list[list[Recalled]]:
    """Return up to k trusted responses for each query (q, d), near to it yet unlike each other (MMR)."""
    shown = trusted.shown
    ids, scores = index.search(queries, min(len(shown), POOL * k), np.array(sorted(shown), dtype=np.int64))
    found = []
    for query, row_ids, row_scores in zip(queries, ids, scores, strict=True):
        near = row_ids[row_ids >= 0]  # a sealed segment looks into some cells only: it may find fewer, -1 last
        picked = mmr(query, memory.vectors(near.tolist()), k, diversity)
        found.append([replace(shown[int(near[row])], score=float(row_scores[row])) for row in picked])
    return found


def _representatives(memory: ResponseMemory, vote: str, prompt_ids: Iterable[str]) -> list[Response]:
    """Return one response a prompt that gave the agreed answer: not cut off, then the shortest, then the earliest."""
    sql = """SELECT id FROM (
               SELECT r.id, row_number() OVER (
                 PARTITION BY r.prompt_id ORDER BY r.finish = 'length', length(r.text), r.id) AS place
               FROM tallies t
               JOIN judgements j ON j.unit = t.unit AND j.answer = t.answer
               JOIN responses r ON r.id = j.response_id AND r.prompt_id = t.prompt_id
               JOIN response_vectors v ON v.id = r.id
               WHERE t.unit = ? AND t.prompt_id IN (SELECT value FROM json_each(?))
                 AND r.origin IN (SELECT value FROM json_each(?)))
             WHERE place = 1"""
    rows = memory.db.rows(sql, (vote, json.dumps(sorted(prompt_ids)), json.dumps(VOTERS)))
    return memory.responses(ids=[row[0] for row in rows])


def own_past(memory: ResponseMemory, prompt_ids: Sequence[str], upto_round: int) -> dict[str, list[Response]]:
    """Return the answers given to each prompt up to and including a round, the oldest first."""
    past: dict[str, list[Response]] = {id_: [] for id_ in prompt_ids}
    for response in memory.responses(prompt_ids=prompt_ids, rounds=range(upto_round + 1), origins=VOTERS):
        past[response.prompt_id].append(response)
    return past


def leaking(memory: ResponseMemory, prompt_ids: Sequence[str]) -> set[str]:
    """Return those of these prompts that are held out, or say the same as a held-out prompt.

    Two prompts say the same when their words are equal, case and punctuation aside, or when they hold the same numbers
    and their embeddings have a cosine of at least `SAME_PROMPT`. Numbers count apart, because embeddings hardly tell
    "7 times 8" from "7 times 9".
    """
    wanted = set(prompt_ids)
    heldout = memory.prompts(Split.HELDOUT)
    words = {_words(prompt.text) for prompt in heldout}
    by_numbers: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for prompt in heldout:
        by_numbers[_numbers(prompt.text)].append(prompt.id)
    leaks = {prompt.id for prompt in heldout} & wanted
    suspects: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for prompt in memory.prompts(Split.TRAIN):
        if prompt.id not in wanted:
            continue
        if _words(prompt.text) in words:
            leaks.add(prompt.id)
        elif _numbers(prompt.text) in by_numbers:
            suspects[_numbers(prompt.text)].append(prompt.id)
    for numbers, ids in suspects.items():
        cosines = memory.prompt_vectors(ids) @ memory.prompt_vectors(by_numbers[numbers]).T  # (suspects, held out)
        leaks |= {id_ for id_, row in zip(ids, cosines, strict=True) if row.max() >= SAME_PROMPT}
    return leaks


def mmr(query: np.ndarray, vectors: np.ndarray, k: int, diversity: float) -> list[int]:
    """Return up to k rows of unit `vectors` (n, d), picked one after the other, ties by row.

    Each pick maximises (1 - diversity) * cos(query, v) - diversity * max over the picked w of cos(v, w): maximal
    marginal relevance (Carbonell & Goldstein 1998, lambda = 1 - diversity). The first pick is the nearest.
    """
    if len(vectors) == 0:
        return []
    relevance = vectors @ query  # (n,)
    nearest_picked = np.full(len(vectors), -np.inf)
    free = np.ones(len(vectors), dtype=bool)
    picked: list[int] = []
    gain = relevance
    while len(picked) < min(k, len(vectors)):
        row = int(np.argmax(np.where(free, gain, -np.inf)))
        picked.append(row)
        free[row] = False
        nearest_picked = np.maximum(nearest_picked, vectors @ vectors[row])
        gain = (1 - diversity) * relevance - diversity * nearest_picked
    return picked


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.casefold()))


def _numbers(text: str) -> tuple[str, ...]:
    return tuple(sorted(re.findall(r"\d+(?:[.,]\d+)*", text)))
