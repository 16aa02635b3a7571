"""Stages that judge: read the answers, count the votes, sort the candidates into kept and dropped."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..consistency.answers import Kind, classes, kind_of
from ..consistency.select import Candidate
from ..consistency.select import select as select_candidates
from ..consistency.vote import Ballot, cross_prompt_prior
from ..consistency.vote import vote as count_votes
from ..propose.ledger import operators
from ..run import Run
from ..types import BASE, VOTERS, Prompt, Response, Split, Stage, unit_id
from ..verdicts import Judgement, Selection, Tally
from .groups import by_prompt

VOTING = ({Stage.SAMPLE}, {Stage.SAMPLE, Stage.EXEMPLAR}, {Stage.SAMPLE, Stage.EXEMPLAR, Stage.REVISE, Stage.STITCH})
"""Stages of the round itself whose responses take part in its votes 0, 1 and 2."""


def vote(run: Run, round_: int, index: int) -> dict[str, Tally]:
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
    return run.memory.tallies(round_, index)


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


def read_answers(run: Run, prompt: Prompt, group: Sequence[Response]) -> list[str | None]:
    """Return the answer class of each response of a group."""
    texts = [r.text for r in group]
    return classes(texts, answer_kind(run, prompt, texts), prompt.text, run.embedder.encode, run.config.vote.same)


def answer_kind(run: Run, prompt: Prompt, texts: Sequence[str]) -> Kind:
    """Return how the final answers to a prompt are read: as configured, or by looking at prompt and answers."""
    kind = run.config.vote.kind
    return kind_of(prompt.text, texts) if kind == "auto" else Kind(kind)


def select(run: Run, round_: int) -> Selection:
    """Sort the candidates of this round (and, when accumulating, of all rounds) into kept and dropped."""
    begun = time.monotonic()
    if not run.memory.has_unit(unit_id(round_, Stage.SELECT)):
        judgements = run.memory.judgements(round_, 2)
        responses = [
            r for r in run.memory.responses(ids=list(judgements)) if run.config.train.accumulate or r.round == round_
        ]
        vectors = run.memory.vectors([r.id for r in responses])
        candidates = [Candidate(r, judgements[r.id], v) for r, v in zip(responses, vectors, strict=True)]
        groups = by_prompt(responses)
        kinds = {
            p.id: answer_kind(run, p, [r.text for r in groups[p.id]])
            for p in run.prompts(Split.TRAIN)
            if p.id in groups
        }
        chosen = select_candidates(
            candidates,
            run.memory.tallies(round_, 2),
            run.config.select,
            ancestors=run.memory.ancestors,
            kinds=kinds,
        )
        run.memory.commit_selection(round_, chosen, wall_s=time.monotonic() - begun)
    verdicts = run.memory.verdicts(round_).values()
    selection = Selection(tuple(v for v in verdicts if v.kept), tuple(v for v in verdicts if not v.kept))
    most = Counter(str(verdict.reason) for verdict in selection.dropped).most_common(3)
    run.progress.line(
        Stage.SELECT,
        f"kept {len(selection.kept)} of {len(verdicts)}",
        "dropped: " + ", ".join(f"{count} {reason}" for reason, count in most) if most else "",
        seconds=time.monotonic() - begun,
    )
    for origin, book in operators(run.memory, round_).items():
        run.progress.line(
            "",
            f"{origin}: {book.survivors} of {book.candidates} survive, {book.votes_changed} votes changed, "
            f"{book.tokens} tokens",
        )
    return selection


def _voters(run: Run, round_: int, index: int) -> list[Response]:
    config = run.config.vote
    earliest = 1 if config.decay or config.labels == "base" else round_
    responses = run.memory.responses(rounds=range(earliest, round_ + 1), origins=VOTERS)
    stages = {str(stage) for stage in VOTING[index]}
    return [r for r in responses if r.round < round_ or r.origin in stages]
