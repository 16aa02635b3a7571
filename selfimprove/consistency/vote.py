"""The vote on a prompt: answers in, one tally and one judgement a response out.

Universal rules: an abstention (None) does not vote, so agreement is a share of the votes *cast*; the result is the same
in whatever order the ballots come; no label is ever seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..verdicts import Judgement, Tally


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


def vote(
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
