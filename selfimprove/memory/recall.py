"""What the memory hands back to the loop: trusted answers to other prompts, and own past answers to the same one.

The rules that keep recall honest live here: never a held-out prompt's response, never a near-duplicate of a held-out
prompt, and only answers that the vote agreed on.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..types import VOTERS, Finish, Judgement, Response, Split, Tally
from .index import VectorIndex
from .store import ResponseMemory

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


def trusted(
    memory: ResponseMemory,
    index: VectorIndex,
    queries: np.ndarray,
    *,
    round: int,
    vote_index: int,
    min_agreement: float,
    k: int,
    diversity: float,
    exclude_prompts: Iterable[str] = (),
) -> list[list[Recalled]]:
    """Return up to k responses to trusted prompts for each query (q, d), near to it yet unlike each other (MMR).

    A prompt is trusted when its agreement in the vote named is at least `min_agreement`. It is represented by one
    response that gave the agreed answer: the shortest of those that were not cut off.
    """
    tallies = memory.tallies(round, vote_index)
    agreed = {id_ for id_, t in tallies.items() if t.answer is not None and t.agreement >= min_agreement}
    agreed -= set(exclude_prompts) | leaking(memory, sorted(agreed))
    best = _representatives(memory, tallies, memory.judgements(round, vote_index), sorted(agreed))
    texts = {prompt.id: prompt.text for prompt in memory.prompts() if prompt.id in agreed}
    allowed = np.array(sorted(best), dtype=np.int64)
    ids, scores = index.search(queries, min(len(allowed), POOL * k), allowed)
    found = []
    for query, row_ids, row_scores in zip(queries, ids, scores, strict=True):
        near = [best[id_] for id_ in row_ids[row_ids >= 0].tolist()]
        chosen = mmr(query, memory.vectors([r.id for r in near]), k, diversity)
        found.append(
            [
                Recalled(r.id, r.prompt_id, texts[r.prompt_id], r.text, float(score), tallies[r.prompt_id].agreement)
                for r, score in ((near[row], row_scores[row]) for row in chosen)
            ]
        )
    return found


def _representatives(
    memory: ResponseMemory, tallies: dict[str, Tally], judgements: dict[int, Judgement], prompt_ids: list[str]
) -> dict[int, Response]:
    """Return, by id, the best agreed response of each prompt: not cut off, then the shortest, then the earliest."""
    best: dict[str, Response] = {}
    for response in memory.responses(prompt_ids=prompt_ids, origins=VOTERS):
        judgement = judgements.get(response.id)
        if judgement is not None and judgement.answer == tallies[response.prompt_id].answer:
            best[response.prompt_id] = min(best.get(response.prompt_id, response), response, key=_cost)
    return {response.id: response for response in best.values()}


def _cost(response: Response) -> tuple[bool, int, int]:
    return response.finish is Finish.LENGTH, len(response.text), response.id


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
