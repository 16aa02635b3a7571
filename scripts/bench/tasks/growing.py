"""Self-training on sums of growing length: the schedule, and the arms that only this task has.

No arm but `oracle` sees an answer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import arms
from arms import Arm

from selfimprove.run.session import Run
from selfimprove.seeds import seed_for
from selfimprove.stages.guard import with_care
from selfimprove.stages.vote import Ballot, Votes, count_votes, majority
from selfimprove.types import Example, Message, Split
from tasks.sums import digits_of, length, read, spell, write

TAUGHT = 4
"""Digits of the longest sums that the base is taught."""
COPIES = 6
"""Writings of each survivor in the `rewrite` arm's examples."""
WHOLE = 0.05
"""An answer is whole if at most this fraction of the answers to questions of its length is longer."""


def growing(run: Run, round_: int) -> Run:
    """Return the run as it is in a round: sums of up to `TAUGHT` digits and one more a round, no longer ones."""
    too_long = {p.id for p in run.prompts(Split.TRAIN) if length(p.text) > TAUGHT + round_}
    return replace(with_care(run, round_), left_out=run.left_out | too_long)


def pooled(run: Run, round_: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Votes:
    """Vote on each sum over all its writings; an answer's class is its digits.

    Samples of one writing share their errors; errors in different writings are more independent.
    """
    tallies, judgements = majority(run, round_, ballots_P)
    sums = {p.id: str(read(p.text)) for p in run.prompts(Split.TRAIN) if p.id in ballots_P}
    asked = {ballot.response_id: sums[prompt_id] for prompt_id, ballots in ballots_P.items() for ballot in ballots}
    pools: dict[str, list[Ballot]] = {}
    for j in judgements:
        answer = digits_of(j.answer) if j.answer else None
        pools.setdefault(asked[j.response_id], []).append(Ballot(j.response_id, answer, False, j.weight))
    counted = {key: count_votes(key, cast, derived_cap=1.0) for key, cast in pools.items()}
    shared = [replace(counted[sums[t.prompt_id]][0], prompt_id=t.prompt_id) for t in tallies]
    return shared, [judgement for _, found in counted.values() for judgement in found]


def rewritten(examples: list[Example]) -> list[Example]:
    """Return each survivor in `COPIES` other writings, the answer spelled to match."""
    made = []
    for e in examples:
        rng = Random(seed_for("digits", "rewritten", e.response_id))
        for _ in range(COPIES):
            question = write(read(e.messages[0].content), rng)
            answer = spell(digits_of(e.completion), question)
            made.append(replace(e, messages=(Message("user", question),), completion=answer))
    return made


def whole(run: Run, _round: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Votes:
    """Majority vote in which answers shorter than others to questions of that length abstain (Lee et al. 2025).

    A small model ends a long sum where the sums of its training would end, and its samples agree on that.
    """
    ids = [ballot.response_id for ballots in ballots_P.values() for ballot in ballots]
    responses = {r.id: r for r in run.memory.responses(ids=ids)}
    lengths: dict[int, list[int]] = {}
    for response in responses.values():
        lengths.setdefault(response.prompt_tokens, []).append(len(response.text))
    least = {asked: sorted(found)[-math.ceil(WHOLE * len(found))] for asked, found in lengths.items()}

    def of_whole(ballot: Ballot) -> Ballot:
        response = responses[ballot.response_id]
        short = len(response.text) < least[response.prompt_tokens]
        return Ballot(ballot.response_id, None if short else ballot.answer, ballot.derived)

    counted = [
        count_votes(id_, [of_whole(ballot) for ballot in ballots], derived_cap=1.0)
        for id_, ballots in ballots_P.items()
    ]
    return [tally for tally, _ in counted], [judgement for _, judged in counted for judgement in judged]


ARMS = {
    arm.name: arm
    for arm in (
        arms.ARMS["ssd"],
        arms.ARMS["lmsi"],
        Arm("length", "lmsi", labels=whole),
        arms.ARMS["ours"],
        Arm("rewrite", "lmsi", labels=pooled, examples=rewritten),
        arms.ARMS["oracle"],
    )
}
