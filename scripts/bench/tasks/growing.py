"""How the loop learns from sums longer than those that its model was taught: the schedule, and the bench's own arms.

The loop itself does not know what a sum is and has none of this. No arm but `oracle` sees an answer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from arms import ARMS, Arm, Vote

from selfimprove.evaluation.answer_key import Key
from selfimprove.memory import ResponseMemory
from selfimprove.seeds import seed_for
from selfimprove.stages.vote import Ballot, count_votes
from selfimprove.types import Example, Judgement, Message, Prompt, Response, Split, Tally
from tasks.sums import digits_of, length, read, spell, write

TAUGHT = 4
"""Digits of the longest sums that the base is taught."""
COPIES = 6
"""Times that the `rewrite` arm writes each survivor anew."""
WHOLE = 0.05
"""Share of the answers to questions of one length that are as long as a whole one, at least."""


class Growing:
    """A memory that holds back the sums to learn from that are too long for the round; all else is the memory's own."""

    def __init__(self, memory: ResponseMemory) -> None:
        """Stand before `memory`."""
        self.memory = memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)

    def prompts(self, split: Split | None = None) -> list[Prompt]:
        """Return all that are held out, and of the others those of up to `TAUGHT` digits and one more a round."""
        longest = TAUGHT + 1 + len(self.memory.rounds())
        return [p for p in self.memory.prompts(split) if p.split is Split.HELDOUT or length(p.text) <= longest]


class Pooling(Growing):
    """The same, and votes are counted over all the ways in which a sum is written.

    What a model this small gets wrong in one writing all its samples get wrong; in another writing it errs elsewhere.
    """

    def commit_vote(
        self, round_: int, judgements: Sequence[Judgement], tallies: Sequence[Tally], *, index: int, **rest: Any
    ) -> None:
        """Commit the vote on each sum as the vote on each of its writings; an answer is its digits alone."""
        sums = {p.id: str(read(p.text)) for p in self.memory.prompts(Split.TRAIN)}
        asked = {r.id: r.prompt_id for r in self.memory.responses(ids=[j.response_id for j in judgements])}
        ballots: dict[str, list[Ballot]] = {}
        for j in judgements:
            answer = digits_of(j.answer) if j.answer else None
            ballots.setdefault(sums[asked[j.response_id]], []).append(Ballot(j.response_id, answer, False, j.weight))
        counted = {key: count_votes(key, cast, derived_cap=1.0) for key, cast in ballots.items()}
        pooled = [replace(counted[sums[t.prompt_id]][0], prompt_id=t.prompt_id) for t in tallies]
        judged = [judgement for _, found in counted.values() for judgement in found]
        self.memory.commit_vote(round_, judged, pooled, index=index, **rest)


def rewritten(examples: list[Example]) -> list[Example]:
    """Write every survivor anew, in other orders and letters: what is so in one writing is so in all."""
    made = []
    for e in examples:
        rng = Random(seed_for("digits", "rewritten", e.response_id))
        for _ in range(COPIES):
            question = write(read(e.messages[0].content), rng)
            answer = spell(digits_of(e.completion), question)
            made.append(replace(e, messages=(Message("user", question),), completion=answer))
    return made


def whole(vote: Vote, responses: Mapping[int, Response], keys: Mapping[str, Key], rng: Random) -> Vote:
    """Majority vote among whole answers: shorter ones than others to questions of that length abstain (Lee et al.).

    A small model ends a long sum where the sums that it was taught would end, and its samples agree on that.
    """
    lengths: dict[int, list[int]] = {}
    for response in responses.values():
        lengths.setdefault(response.prompt_tokens, []).append(len(response.text))
    least = {asked: sorted(found)[-math.ceil(WHOLE * len(found))] for asked, found in lengths.items()}
    ballots: dict[str, list[Ballot]] = {}
    for judgement in vote[1]:
        response = responses[judgement.response_id]
        answer = judgement.answer if len(response.text) >= least[response.prompt_tokens] else None
        ballots.setdefault(response.prompt_id, []).append(Ballot(response.id, answer, response.origin.derived))
    counted = [count_votes(id_, cast, derived_cap=1.0) for id_, cast in ballots.items()]
    return [tally for tally, _ in counted], [judgement for _, judged in counted for judgement in judged]


WAYS: dict[str, tuple[Arm, type[Growing]]] = {
    "ssd": (ARMS["ssd"], Growing),
    "lmsi": (ARMS["lmsi"], Growing),
    "length": (Arm("length", "lmsi", vote=whole), Growing),
    "ours": (ARMS["ours"], Growing),
    "rewrite": (Arm("rewrite", "lmsi", examples=rewritten), Pooling),
    "oracle": (ARMS["oracle"], Growing),
}
"""An arm, and the memory that it has."""
