"""Vote: ballots in, one tally a prompt and one judgement a response out (self-consistency, Wang et al. 2023).

An abstention (None) does not vote: agreement is a fraction of the votes *cast*. The result does not depend on the order
of the ballots. No label is used.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..outcomes import Judgement, Tally
from ..run.session import Run
from ..types import BASE, Origin, Poll, Response, Source, Split, Stage, unit_id
from .calibration import Priors, combined, echo_prior, neighbour_prior
from .independence import Answers, Independence, independence
from .reading import Readings, read_once
from .revision import critic_verdicts
from .step_votes import StepVotes
from .units import by_prompt


@dataclass(frozen=True, slots=True)
class Ballot:
    """One response's vote.

    `weight`: decay by age; at 0 the response is judged but does not vote. `derived`: written from other answers to the
    prompt (revise, stitch), so not independent of them, or imported: neither outvotes the run's own samples. `belief`:
    the part of the vote that counts for the answer; the rest is cast for none.
    """

    response_id: int
    answer: str | None
    derived: bool
    weight: float = 1.0
    belief: float = 1.0


def count_votes(
    prompt_id: str,
    ballots: Sequence[Ballot],
    *,
    derived_cap: float,
    prior: Mapping[str, float] | None = None,
) -> tuple[Tally, list[Judgement]]:
    """Return the tally of one prompt and, in the order of `ballots`, a judgement of each response.

    Derived votes are scaled to weigh at most `derived_cap` times the others in total, and an answer that only derived
    responses give cannot win. The answer with the most weight wins; ties go to the answer with the earliest response.
    `agreement` and `margin` are fractions of the votes cast after both corrections: 0 if no answer can win; the margin
    is also 0 if an answer that cannot win weighs more than the winner.

    `prior` maps an answer to the divisor of its votes, from `calibration`. What divisors take from other answers does
    not make a single vote win against several: the prompt has no winner then.

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
        full = ballot.weight * (discount if ballot.derived else 1.0)
        return full * ballot.belief / (prior or {}).get(ballot.answer, 1.0)

    weights = {
        answer: math.fsum(weigh(ballot) for ballot in cast if ballot.answer == answer)
        for answer in {ballot.answer for ballot in cast if ballot.answer is not None}
    }
    doubt = math.fsum(b.weight * (discount if b.derived else 1.0) * (1 - b.belief) for b in cast)
    votes = math.fsum(weights.values()) + doubt
    shares = {answer: weight / votes for answer, weight in weights.items()} if votes else {}
    earliest = {answer: min(ballot.response_id for ballot in cast if ballot.answer == answer) for answer in weights}
    electable = {ballot.answer for ballot in cast if ballot.answer is not None and not ballot.derived}
    winner = min(electable, key=lambda answer: (-weights[answer], earliest[answer]), default=None)
    if prior and winner is not None and prior.get(winner, 1.0) >= 1:
        ballots_of = Counter(ballot.answer for ballot in cast)
        if ballots_of[winner] == 1 < max(ballots_of.values()):
            winner = None
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


def shares(ballots: Sequence[Ballot]) -> dict[str, float]:
    """Return the share of each answer in the votes that the originals cast."""
    weights: dict[str, list[float]] = {}
    for ballot in ballots:
        if ballot.answer is not None and not ballot.derived and ballot.weight > 0:
            weights.setdefault(ballot.answer, []).append(ballot.weight)
    total = math.fsum(weight for group in weights.values() for weight in group)
    return {answer: math.fsum(group) / total for answer, group in weights.items()}


def critic_prior(
    ballots_P: Mapping[str, Sequence[Ballot]], verdicts: Mapping[int, Sequence[bool]], *, exponent: float
) -> Priors:
    """Return, for each prompt id, the divisor of the votes for each answer that critiques judge: (2 p) ** -exponent.

    p = (r + 1) / (n + 2) when r of n verdicts on its responses call it right; `verdicts` are by response id.
    """
    priors: Priors = {}
    for prompt_id, ballots in ballots_P.items():
        said: dict[str, list[bool]] = {}
        for ballot in ballots:
            if ballot.answer is not None:
                said.setdefault(ballot.answer, []).extend(verdicts.get(ballot.response_id, ()))
        priors[prompt_id] = {answer: (2 * (sum(own) + 1) / (len(own) + 2)) ** -exponent for answer, own in said.items()}
    return priors


Votes = tuple[list[Tally], list[Judgement]]
"""The labels of a round: a tally a prompt, a judgement a response."""

Labels = Callable[[Run, int, Mapping[str, Sequence[Ballot]]], Votes]
"""From a run, a round and the ballots of each prompt id to the labels: `majority`, or what a bench compares it with."""

VOTING = {
    Poll.SAMPLED: {Stage.SAMPLE},
    Poll.RECALLED: {Stage.SAMPLE, Stage.RECALL},
    Poll.FINAL: {Stage.SAMPLE, Stage.RECALL, Stage.REVISE, Stage.STITCH},
}
"""Stages of the round itself whose responses take part in each of its votes."""


def majority(run: Run, round_: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Votes:
    """Return the weighted majority vote on each prompt, with the priors and caps of the configuration."""
    config = run.config.vote
    priors = divisors(run, round_, ballots_P)
    votes = [
        count_votes(id_, ballots, derived_cap=config.derived_cap, prior=priors.get(id_))
        for id_, ballots in ballots_P.items()
    ]
    return [tally for tally, _ in votes], [j for _, judgements in votes for j in judgements]


def divisors(run: Run, round_: int, ballots_P: Mapping[str, Sequence[Ballot]]) -> Priors:
    """Return the divisors of the votes for the answers to each prompt: echo, calibration and critic, as configured."""
    config = run.config.vote
    priors: Priors = {}
    if config.calibration or config.echo:
        shares_P = {id_: shares(ballots) for id_, ballots in ballots_P.items()}
        vectors = run.memory.prompt_vectors(list(ballots_P))
        texts = {p.id: p.text for p in run.prompts(Split.TRAIN)}
        if config.calibration:
            priors = neighbour_prior(shares_P, vectors, exponent=config.calibration)
        if config.echo:
            priors = combined(priors, echo_prior(shares_P, texts, vectors, exponent=config.echo))
    if config.critic:
        priors = combined(priors, critic_prior(ballots_P, critic_verdicts(run, round_), exponent=config.critic))
    return priors


def vote(run: Run, round_: int, poll: Poll, labels: Labels = majority) -> None:
    """Read the answers to every train prompt, vote, and commit kinds, classes and tallies.

    Earlier rounds' responses take part at a decayed weight.
    """
    if run.memory.has_unit(unit_id(round_, Stage.VOTE, poll)):
        return
    begun = time.monotonic()
    groups = by_prompt(_voters(run, round_, poll))
    readings = read_once(run, round_, poll, run.prompts(Split.TRAIN), groups, reuse=labels is majority)
    shared = independence(recall_answers(round_, groups, readings.answers)) if poll is Poll.RECALLED else None
    if shared and shared.harms(run.config.propose.exemplar.agree):
        run.progress.say("            recalled answers do not vote: they agree less with samples than samples do")
        groups = by_prompt(r for g in groups.values() for r in g if r.round < round_ or r.origin is not Origin.RECALL)
    votes = labels(run, round_, _ballots(run, round_, groups, readings))
    _commit(run, round_, poll, readings, votes, begun, shared)


def vote_past(run: Run, round_: int) -> None:
    """Vote on the prompts of responses from before the run that are not its own: their answers are demonstrations.

    A response weighs decay ** (rounds that followed it in its run), an imported one as much as the newest.
    """
    if not run.memory.units(stage=Stage.IMPORT) or run.memory.has_unit(unit_id(round_, Stage.VOTE, Poll.PAST)):
        return
    groups = by_prompt(r for r in run.memory.candidates(rounds=range(round_)) if r.brought_in)
    own = {prompt.id for prompt in run.prompts(Split.TRAIN)} | run.left_out
    prompts = [p for p in run.memory.prompts(Split.TRAIN) if p.id in groups and p.id not in own]
    if not prompts:
        return
    begun = time.monotonic()
    readings = read_once(run, round_, Poll.PAST, prompts, groups)
    ages = {id_: source.age for id_, source in run.memory.sources().items()}
    votes = [
        count_votes(
            prompt.id,
            [
                Ballot(r.id, readings.answers[r.id], r.origin.derived, run.config.vote.decay ** ages.get(r.id, 0))
                for r in groups[prompt.id]
            ],
            derived_cap=run.config.vote.derived_cap,
        )
        for prompt in prompts
    ]
    found = [tally for tally, _ in votes], [j for _, judgements in votes for j in judgements]
    _commit(run, round_, Poll.PAST, readings, found, begun)


def _commit(
    run: Run,
    round_: int,
    poll: Poll,
    readings: Readings,
    votes: Votes,
    begun: float,
    shared: Independence | None = None,
) -> None:
    tallies, judgements = votes
    seconds = time.monotonic() - begun
    kinds = {id_: str(kind) for id_, kind in readings.kinds.items()}
    measured = {"independence": asdict(shared)} if shared else {}
    run.memory.commit_vote(round_, judgements, tallies, index=poll, kinds=kinds, measured=measured, wall_s=seconds)
    decided = [t for t in tallies if t.answer is not None]
    run.progress.line(
        Stage.VOTE,
        f"{sum(t.voters for t in tallies)} votes on {len(decided)} {'past ' if poll is Poll.PAST else ''}prompts",
        f"mean agreement {np.mean([t.agreement for t in decided] or [0.0]):.2f}",
        f"{sum(t.abstained for t in tallies)} abstained",
        seconds=seconds,
    )
    if shared:
        run.progress.say(f"            {shared}")


def recall_harms(run: Run, round_: int, recalled: Sequence[Response]) -> bool:
    """Return whether these recalled answers of the round would not vote (`propose.exemplar.agree`).

    All answers are read here: judgements of a bench's labels do not hold what was read.
    """
    first = {r.id for r in recalled}
    responses = run.memory.candidates(rounds=[round_])
    groups = by_prompt(r for r in responses if r.origin is Origin.SAMPLE or r.id in first)
    readings = read_once(run, round_, Poll.RECALLED, run.prompts(Split.TRAIN), groups, reuse=False)
    found = independence(recall_answers(round_, groups, readings.answers))
    return found is not None and found.harms(run.config.propose.exemplar.agree)


def recall_answers(
    round_: int, groups: Mapping[str, Sequence[Response]], answers: Mapping[int, str | None]
) -> list[tuple[Answers, Answers]]:
    """Return the classes of the round's (samples, recalled answers) to each prompt, for `independence`."""

    def read(group: Sequence[Response], origin: Origin) -> list[str | None]:
        return [answers[r.id] for r in group if r.round == round_ and r.origin is origin]

    return [(read(group, Origin.SAMPLE), read(group, Origin.RECALL)) for group in groups.values()]


def _ballots(
    run: Run, round_: int, groups: Mapping[str, Sequence[Response]], readings: Readings
) -> dict[str, list[Ballot]]:
    """Return the ballots of each train prompt that has responses.

    Earlier rounds' abstentions are left out: the policy may answer readably now. They count where the frozen base's
    responses alone vote.
    """
    labels, exponent = run.config.vote.labels, run.config.vote.steps
    believed: dict[int, float] = {}
    if exponent:
        votes = StepVotes.of(r.text for group in groups.values() for r in group)
        for group in groups.values():
            beliefs = votes.beliefs([r.text for r in group])
            believed |= {r.id: belief**exponent for r, belief in zip(group, beliefs, strict=True)}
    sources = run.memory.sources()
    return {
        prompt.id: [
            Ballot(
                r.id,
                readings.answers[r.id],
                r.origin.derived or r.origin is Origin.PAST,
                _weight(run, round_, r, sources.get(r.id)),
                believed.get(r.id, 1.0),
            )
            for r in groups[prompt.id]
            if readings.answers[r.id] is not None or r.round == round_ or labels == "base"
        ]
        for prompt in run.prompts(Split.TRAIN)
        if groups.get(prompt.id)
    }


def _weight(run: Run, round_: int, response: Response, source: Source | None) -> float:
    """Return decay ** age; with `labels` base, 1 for the base's responses and 0 for others.

    The age of a response from another run counts on from its age there; an imported one has a weight of its own.
    """
    config = run.config.vote
    if config.labels == "base":
        policy = response.policy if source is None else source.policy
        return float(policy == BASE and response.origin is not Origin.PAST)
    if source is not None and source.weight is not None:
        return source.weight
    return config.decay ** (round_ - response.round + (source.age if source else 0))


def _voters(run: Run, round_: int, poll: Poll) -> list[Response]:
    config = run.config.vote
    earliest = 0 if config.decay or config.labels == "base" else round_
    responses = run.memory.candidates(rounds=range(earliest, round_ + 1))
    stages = {str(stage) for stage in VOTING[poll]}
    voters = [r for r in responses if r.round < round_ or (r.origin in stages and not r.brought_in)]
    off = {r for r in range(1, round_ + 1) if _recall_off(run, r)}
    return [r for r in voters if r.origin is not Origin.RECALL or r.round not in off]


def _recall_off(run: Run, round_: int) -> bool:
    """Return whether the round's recalled answers do not vote (`propose.exemplar.agree`)."""
    found = run.memory.measured(round_, Poll.RECALLED, "independence")
    return found is not None and Independence(**found).harms(run.config.propose.exemplar.agree)
