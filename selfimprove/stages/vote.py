"""The vote on a prompt: answers in, one tally and one judgement a response out.

Universal rules: an abstention (None) does not vote, so agreement is a share of the votes *cast*; the result is the same
in whatever order the ballots come; no label is ever seen.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..consistency.answers import Kind, classes, kind_of
from ..run.session import Run
from ..types import BASE, VOTERS, Judgement, Poll, Prompt, Response, Split, Stage, Tally, unit_id
from .units import by_prompt


@dataclass(frozen=True, slots=True)
class Ballot:
    """One response's vote.

    `weight` carries the decay of earlier rounds (0: judged, but without a say); `derived` votes (revise, stitch) were
    made out of the others' answers, so they are not independent and count less.
    """

    response_id: int
    answer: str | None
    derived: bool
    weight: float = 1.0


def count_votes(
    prompt_id: str,
    ballots: Sequence[Ballot],
    *,
    derived_cap: float,
    prior: Mapping[str, float] | None = None,
) -> tuple[Tally, list[Judgement]]:
    """Return the tally of one prompt and, in the order of `ballots`, a judgement of each response.

    Derived votes are scaled down together until they weigh at most `derived_cap` times the originals, and an answer
    that no original gave cannot win: proposals move the vote among the originals' answers, they never make one up. The
    heaviest answer wins; a tie goes to the answer with the earliest response. `agreement` and `margin` are shares of
    the votes cast after both corrections (0 when nothing can win; the margin is 0 too where an unelectable answer
    weighs more than the winner).

    `prior` maps an answer to the divisor of its votes, from `cross_prompt_prior`: an answer that is given to every
    question says little about this one (calibration as in Zhao et al. 2021, with the other prompts as the context).

    Raises:
        ValueError: a weight is negative or not finite.
    """
    if not all(math.isfinite(ballot.weight) and ballot.weight >= 0 for ballot in ballots):
        raise ValueError(f"prompt {prompt_id}: votes need finite weights of at least 0")
    cast = [ballot for ballot in ballots if ballot.answer is not None and ballot.weight > 0]
    original = math.fsum(ballot.weight for ballot in cast if not ballot.derived)
    derived = math.fsum(ballot.weight for ballot in cast if ballot.derived)
    discount = min(1.0, derived_cap * original / derived) if derived else 1.0

    def weigh(ballot: Ballot) -> float:
        if ballot.answer is None:
            return 0.0
        return ballot.weight * (discount if ballot.derived else 1.0) / (prior or {}).get(ballot.answer, 1.0)

    weights = {
        answer: math.fsum(weigh(ballot) for ballot in cast if ballot.answer == answer)
        for answer in {ballot.answer for ballot in cast if ballot.answer is not None}
    }
    votes = math.fsum(weights.values())
    shares = {answer: weight / votes for answer, weight in weights.items()} if votes else {}
    earliest = {answer: min(ballot.response_id for ballot in cast if ballot.answer == answer) for answer in weights}
    electable = {ballot.answer for ballot in cast if ballot.answer is not None and not ballot.derived}
    winner = min(electable, key=lambda answer: (-weights[answer], earliest[answer]), default=None)
    top = shares.get(winner, 0.0) if winner is not None else 0.0
    runner_up = max((share for answer, share in shares.items() if answer != winner), default=0.0)
    tally = Tally(
        prompt_id=prompt_id,
        answer=winner,
        agreement=top,
        margin=max(0.0, top - runner_up),
        votes=votes,
        voters=len(cast),
        abstained=sum(ballot.answer is None and ballot.weight > 0 for ballot in ballots),
    )
    judgements = [
        Judgement(
            response_id=ballot.response_id,
            answer=ballot.answer,
            weight=weigh(ballot),
            share=None if ballot.answer is None else shares.get(ballot.answer, 0.0),
        )
        for ballot in ballots
    ]
    return tally, judgements


def cross_prompt_prior(ballots_P: Mapping[str, Sequence[Ballot]], *, strength: float) -> dict[str, dict[str, float]]:
    """Return, for each prompt id, the divisor of each answer's votes there: (1 + f) ^ strength.

    f is the sum over the *other* prompts of the answer's share of their originals' votes: the number of other prompts
    that the answer would fill. An answer seen nowhere else keeps its votes (divisor 1); at strength 1 one that fills
    nine other prompts keeps a tenth. Right where answers should differ between prompts; wrong for closed sets such as
    yes and no, where frequent answers are frequent for a reason.
    """
    shares_P = {prompt_id: _shares(ballots) for prompt_id, ballots in ballots_P.items()}
    everywhere: dict[str, list[float]] = {}
    for shares in shares_P.values():
        for answer, share in shares.items():
            everywhere.setdefault(answer, []).append(share)
    filled = {answer: math.fsum(shares) for answer, shares in everywhere.items()}
    return {
        prompt_id: {answer: (1 + max(0.0, filled[answer] - share)) ** strength for answer, share in shares.items()}
        for prompt_id, shares in shares_P.items()
    }


def _shares(ballots: Sequence[Ballot]) -> dict[str, float]:
    """Share of each answer in the votes that the originals cast."""
    weights: dict[str, list[float]] = {}
    for ballot in ballots:
        if ballot.answer is not None and not ballot.derived and ballot.weight > 0:
            weights.setdefault(ballot.answer, []).append(ballot.weight)
    total = math.fsum(weight for group in weights.values() for weight in group)
    return {answer: math.fsum(group) / total for answer, group in weights.items()}


VOTING = ({Stage.SAMPLE}, {Stage.SAMPLE, Stage.RECALL}, {Stage.SAMPLE, Stage.RECALL, Stage.REVISE, Stage.STITCH})
"""Stages of the round itself whose responses take part in its votes 0, 1 and 2."""


def vote(run: Run, round_: int, index: Poll) -> None:
    """Count the votes on every train prompt, earlier rounds' responses included at a decayed weight."""
    if not run.memory.has_unit(unit_id(round_, Stage.VOTE, index)):
        begun = time.monotonic()
        groups = by_prompt(_voters(run, round_, index))
        tallies, judgements = _count(run, round_, groups)
        seconds = time.monotonic() - begun
        run.memory.commit_vote(round_, judgements, tallies, index=index, wall_s=seconds)
        decided = [t for t in tallies if t.answer is not None]
        run.progress.line(
            Stage.VOTE,
            f"{sum(t.voters for t in tallies)} votes on {len(decided)} prompts",
            f"mean agreement {np.mean([t.agreement for t in decided] or [0.0]):.2f}",
            f"{sum(t.abstained for t in tallies)} abstained",
            seconds=seconds,
        )


def _count(run: Run, round_: int, groups: Mapping[str, Sequence[Response]]) -> tuple[list[Tally], list[Judgement]]:
    config = run.config.vote
    ballots: dict[str, list[Ballot]] = {}
    for prompt in run.prompts(Split.TRAIN):
        group = groups.get(prompt.id, ())
        if group:
            answers = read_answers(run, prompt, group)
            ballots[prompt.id] = [
                Ballot(r.id, answer, r.origin.derived, _weight(run, round_, r))
                for r, answer in zip(group, answers, strict=True)
                if answer is not None or r.round == round_ or config.labels == "base"  # who has learnt to answer since
            ]
    priors = cross_prompt_prior(ballots, strength=config.prior) if config.prior else {}
    votes = [
        count_votes(id_, cast, derived_cap=config.derived_cap, prior=priors.get(id_)) for id_, cast in ballots.items()
    ]
    return [tally for tally, _ in votes], [j for _, judgements in votes for j in judgements]


def _weight(run: Run, round_: int, response: Response) -> float:
    """Earlier rounds count less; where labels are the frozen base's, its answers alone count, however old."""
    config = run.config.vote
    if config.labels == "base":
        return float(response.policy == BASE)
    return config.decay ** (round_ - response.round)


def _voters(run: Run, round_: int, index: int) -> list[Response]:
    config = run.config.vote
    earliest = 1 if config.decay or config.labels == "base" else round_
    responses = run.memory.responses(rounds=range(earliest, round_ + 1), origins=VOTERS)
    stages = {str(stage) for stage in VOTING[index]}
    return [r for r in responses if r.round < round_ or r.origin in stages]


def read_answers(run: Run, prompt: Prompt, group: Sequence[Response]) -> list[str | None]:
    """Return the answer class of each response of a group."""
    texts = [r.text for r in group]
    return classes(texts, answer_kind(run, prompt, texts), prompt.text, run.embedder.encode, run.config.vote.same)


def answer_kind(run: Run, prompt: Prompt, texts: Sequence[str]) -> Kind:
    """Return how the final answers to a prompt are read: as configured, or by looking at prompt and answers."""
    kind = run.config.vote.kind
    return kind_of(prompt.text, texts) if kind == "auto" else Kind(kind)
