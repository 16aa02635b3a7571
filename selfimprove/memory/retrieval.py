"""Retrieval for the loop: trusted responses to other prompts, and own past answers to the same prompt.

Only answers that the vote agreed on are shown, never those of a held-out prompt or of a near-duplicate of one, and
never under another system message.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..seeds import seed_for
from ..types import Message, Poll, Prompt, Response, Split, Stage, unit_id
from .embedding import text_of, vectors_of
from .near_duplicates import Encode, near_duplicates
from .search.vector_index import PoolIndex, VectorIndex
from .store.memory import ResponseMemory

Index = PoolIndex | VectorIndex

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
    """Return the pool of a vote and of the round's vote on what came from before the run; empty when none was held.

    A prompt is trusted when its support is at least `min_support`, unless it is held out or a near-duplicate of a
    held-out prompt. Its representative gave the agreed answer: not cut off, then the shortest, then the earliest. A
    response that the user has pinned is its prompt's representative in any case; an excluded one never is.
    """
    polls = sorted({vote_index, int(Poll.PAST)})
    votes = {id_: tally for poll in polls for id_, tally in memory.tallies(round, poll).items()}
    agreed = {id_: t for id_, t in votes.items() if t.answer is not None and t.support >= min_support}
    prompts = {prompt.id: prompt for prompt in memory.prompts(Split.TRAIN)}
    pinned = {r.prompt_id: r for r in _pinned(memory) if r.prompt_id in prompts}
    trusted = (agreed.keys() & prompts.keys()) | pinned.keys()
    trusted -= leaking(memory, sorted(trusted), encode)
    chosen = {r.prompt_id: r for r in _representatives(memory, round, polls, sorted(trusted - pinned.keys()))}
    chosen |= {id_: response for id_, response in pinned.items() if id_ in trusted}
    read = {id_: j for poll in polls for id_, j in memory.judgements(round, poll).items()} if pinned else {}
    shown = {}
    for response in sorted(chosen.values(), key=lambda r: r.id):
        tally, judged = votes.get(response.prompt_id), read.get(response.id)
        answer, share = (tally.answer, tally.agreement) if tally else (None, 0.0)
        if response.prompt_id in pinned:
            answer, share = (judged.answer, judged.share or 0.0) if judged else (None, 0.0)
        text = response.text if answer is None else answer
        shown[response.id] = Recalled(response.id, prompts[response.prompt_id], response.text, text, 1.0, share)
    return Trusted(shown)


def _pinned(memory: ResponseMemory) -> list[Response]:
    """Return the pinned responses that can be demonstrations, the last pinned one last."""
    order = memory.pinned()
    found = {r.id: r for r in memory.candidates(ids=order)}
    return [found[id_] for id_ in order if id_ in found]


def latest_pool(
    memory: ResponseMemory, encode: Encode, min_support: float, shown: Callable[[str], str] = str
) -> Trusted:
    """Return the pool of the latest vote that has one, its texts cut by `shown`; empty when none has."""
    votes = {(unit.round, min(unit.index, Poll.FINAL)) for unit in memory.units(stage=Stage.VOTE)} or {(0, 0)}
    pools = (
        trust(memory, encode, round=r, vote_index=vote, min_support=min_support)
        for r, vote in sorted(votes, reverse=True)
    )
    found = next((pool.shown for pool in pools if pool.shown), {})
    return Trusted({id_: replace(r, text=shown(r.text)) for id_, r in found.items()})


def leaking(memory: ResponseMemory, prompt_ids: Sequence[str], encode: Encode) -> set[str]:
    """Return those of these prompts that are held out, or near-duplicates of a held-out prompt."""
    asked = set(prompt_ids)
    heldout = memory.prompts(Split.HELDOUT)
    prompts = [*heldout, *(prompt for prompt in memory.prompts(Split.TRAIN) if prompt.id in asked)]
    near = near_duplicates(prompts, memory.prompt_vectors([prompt.id for prompt in prompts]), encode)
    return {*near, *({prompt.id for prompt in heldout} & asked)}


def pool_index(memory: ResponseMemory, trusted: Trusted, encode: Encode) -> PoolIndex:
    """Return the index of a pool, whose texts are without their reasoning; missing vectors are made (`vectors_of`)."""
    return PoolIndex(*vectors_of(memory, {id_: text_of(r.prompt, r.text) for id_, r in trusted.shown.items()}, encode))


def neighbours(
    memory: ResponseMemory, index: Index, trusted: Trusted, prompts: Sequence[Prompt], k: int = NEAREST
) -> list[list[Recalled]]:
    """Return `nearest` of prompts of the memory, searched by their stored vectors."""
    return nearest(index, trusted, prompts, memory.prompt_vectors([prompt.id for prompt in prompts]), k)


def nearest(
    index: Index, trusted: Trusted, prompts: Sequence[Prompt], vectors: np.ndarray, k: int = NEAREST
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


def _representatives(
    memory: ResponseMemory, round: int, polls: Iterable[int], prompt_ids: Sequence[str]
) -> list[Response]:
    """Return one response a prompt that gave the agreed answer: not cut off, then the shortest, then the earliest."""
    sql = """SELECT r.id FROM tallies t
             JOIN judgements j ON j.unit = t.unit AND j.answer = t.answer
             JOIN responses r ON r.id = j.response_id AND r.prompt_id = t.prompt_id
             WHERE t.unit IN (SELECT value FROM json_each(?)) AND t.prompt_id IN (SELECT value FROM json_each(?))"""
    units = [unit_id(round, Stage.VOTE, poll) for poll in polls]
    rows = memory.db.rows(sql, (json.dumps(units), json.dumps(prompt_ids)))
    found: dict[str, Response] = {}
    for response in memory.candidates(ids=[row[0] for row in rows]):
        key = (response.finish == "length", len(response.text), response.id)
        best = found.setdefault(response.prompt_id, response)
        if key < (best.finish == "length", len(best.text), best.id):
            found[response.prompt_id] = response
    return list(found.values())


def own_past(memory: ResponseMemory, prompt_ids: Sequence[str], upto_round: int) -> dict[str, list[Response]]:
    """Return the answers to each prompt up to and including a round that are candidates, the oldest first."""
    past: dict[str, list[Response]] = {id_: [] for id_ in prompt_ids}
    for response in memory.candidates(prompt_ids=prompt_ids, rounds=range(upto_round + 1)):
        past[response.prompt_id].append(response)
    return past
