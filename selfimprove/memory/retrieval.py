"""Retrieval for the loop: trusted responses to other prompts, and own past answers to the same prompt.

Only answers that the vote agreed on are shown, never those of a held-out prompt or of a near-duplicate of one, and
never under another system message.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..seeds import seed_for
from ..types import VOTERS, Message, Prompt, Response, Split, Stage, unit_id
from .near_duplicates import Encode, near_duplicates
from .search.vector_index import VectorIndex
from .store.memory import ResponseMemory

NEAREST = 16
"""Trusted responses a prompt that its demonstrations are drawn from."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A trusted response: `answer` is the class that its prompt's vote chose, `agreement` that vote's share.

    `score` is the cosine to what was searched for.
    """

    response_id: int
    prompt: Prompt
    text: str
    answer: str
    score: float
    agreement: float

    @property
    def prompt_id(self) -> str:
        """Id of the prompt that it answers."""
        return self.prompt.id

    @property
    def prompt_text(self) -> str:
        """The last user turn of that prompt."""
        return self.prompt.text

    @property
    def turns(self) -> tuple[Message, ...]:
        """The demonstration: the whole conversation without its system message, and the response."""
        return (*self.prompt.turns, Message("assistant", self.text))

    def suits(self, prompt: Prompt) -> bool:
        """Whether it may be shown to `prompt`: it answers another prompt with the same system message."""
        return self.prompt.id != prompt.id and self.prompt.system == prompt.system


@dataclass(frozen=True, slots=True)
class Trusted:
    """The demonstration pool of one vote: response id -> representative response of a trusted prompt.

    A vote and its responses never change, so the pool is the same for all units of a stage.
    """

    shown: dict[int, Recalled]

    def for_prompt(self, prompt: Prompt) -> list[Recalled]:
        """Return what may be shown to `prompt`: responses to other prompts with the same system message, by id."""
        return [r for _, r in sorted(self.shown.items()) if r.suits(prompt)]


def trust(memory: ResponseMemory, encode: Encode, *, round: int, vote_index: int, min_support: float) -> Trusted:
    """Return the pool of a vote; empty when the vote was not held.

    A prompt is trusted when its support is at least `min_support`, unless it is held out or a near-duplicate of a
    held-out prompt. Its representative gave the agreed answer: not cut off, then the shortest, then the earliest.
    """
    votes = memory.tallies(round, vote_index).items()
    agreed = {id_: t for id_, t in votes if t.answer is not None and t.support >= min_support}
    prompts = {prompt.id: prompt for prompt in memory.prompts(Split.TRAIN)}
    trusted = (agreed.keys() & prompts.keys()) - leaking(memory, sorted(agreed), encode)
    shown = {}
    for response in _representatives(memory, unit_id(round, Stage.VOTE, vote_index), trusted):
        tally = agreed[response.prompt_id]
        shown[response.id] = Recalled(
            response.id, prompts[response.prompt_id], response.text, str(tally.answer), 1.0, tally.agreement
        )
    return Trusted(shown)


def latest_pool(memory: ResponseMemory, encode: Encode, min_support: float) -> Trusted:
    """Return the pool of the latest vote that has one; empty when none has."""
    votes = sorted(((unit.round, unit.index) for unit in memory.units(stage=Stage.VOTE)), reverse=True)
    pools = (trust(memory, encode, round=r, vote_index=vote, min_support=min_support) for r, vote in votes)
    return next((pool for pool in pools if pool.shown), Trusted({}))


def leaking(memory: ResponseMemory, prompt_ids: Sequence[str], encode: Encode) -> set[str]:
    """Return those of these prompts that are held out, or near-duplicates of a held-out prompt."""
    asked = set(prompt_ids)
    heldout = memory.prompts(Split.HELDOUT)
    prompts = [*heldout, *(prompt for prompt in memory.prompts(Split.TRAIN) if prompt.id in asked)]
    near = near_duplicates(prompts, memory.prompt_vectors([prompt.id for prompt in prompts]), encode)
    return {*near, *({prompt.id for prompt in heldout} & asked)}


def neighbours(
    memory: ResponseMemory, index: VectorIndex, trusted: Trusted, prompts: Sequence[Prompt], k: int = NEAREST
) -> list[list[Recalled]]:
    """Return `nearest` of prompts of the memory, searched by their stored vectors."""
    return nearest(index, trusted, prompts, memory.prompt_vectors([prompt.id for prompt in prompts]), k)


def nearest(
    index: VectorIndex, trusted: Trusted, prompts: Sequence[Prompt], vectors: np.ndarray, k: int = NEAREST
) -> list[list[Recalled]]:
    """Return for each prompt up to k of `trusted.for_prompt(prompt)`, nearest first, ties by id.

    `vectors` (n, d) are the prompts' own unit vectors.
    """
    found: list[list[Recalled]] = [[] for _ in prompts]
    groups: dict[tuple[Message, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(prompt.system, []).append(row)
    for system, rows in groups.items():
        allowed = np.array(sorted(id_ for id_, r in trusted.shown.items() if r.prompt.system == system), dtype=np.int64)
        ids, scores = index.search(vectors[rows], min(len(allowed), k + 1), allowed)  # one more: its own
        for row, near, cosines in zip(rows, ids.tolist(), scores.tolist(), strict=True):
            pairs = zip(near, cosines, strict=True)
            others = [replace(trusted.shown[id_], score=cosine) for id_, cosine in pairs if id_ >= 0]
            found[row] = [r for r in others if r.prompt_id != prompts[row].id][:k]
    return found


def draw(pool: Sequence[Recalled], shots: int, *key: object, distinct: bool = False) -> list[Recalled]:
    """Return up to `shots` of the pool in an order keyed by `key`, whatever order the pool has.

    `distinct`: no answer twice, as long as the pool has others. Near demonstrations share their mistakes; different
    answers keep the responses independent.
    """
    order = sorted(pool, key=lambda r: seed_for(*key, r.response_id))
    if distinct:
        first = {r.answer: r.response_id for r in reversed(order)}
        order.sort(key=lambda r: first[r.answer] != r.response_id)
    return order[:shots]


def pooled(near: Sequence[Sequence[Recalled]], k: int) -> list[Recalled]:
    """Return up to k of the responses that are near to one prompt of a group, the nearest to any of them first."""
    best: dict[int, Recalled] = {}
    for r in sorted((r for found in near for r in found), key=lambda r: (-r.score, r.response_id)):
        best.setdefault(r.response_id, r)
    return list(best.values())[:k]


def neighbourhoods(prompts: Sequence[Prompt], vectors: np.ndarray, *sizes: int) -> list[list[Prompt]]:
    """Return the prompts in groups of neighbours: groups of `sizes[0]` prompts, each cut into groups of `sizes[1]`, ...

    Greedy: the first prompt that is left takes its nearest of those left (cosine of `vectors`, (n, d)), ties by order.
    Each group keeps the order of `prompts`.
    """
    if not sizes:
        return [list(prompts)]
    left = np.arange(len(prompts))
    found: list[list[Prompt]] = []
    while len(left):
        cosines = vectors[left].astype(np.float64) @ vectors[left[0]].astype(np.float64)
        cosines[0] = np.inf
        rows = np.sort(left[np.argsort(-np.round(cosines, 6), kind="stable")[: sizes[0]]])
        found += neighbourhoods([prompts[row] for row in rows], vectors[rows], *sizes[1:])
        left = np.setdiff1d(left, rows)
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
