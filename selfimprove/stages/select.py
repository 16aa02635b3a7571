"""Select: candidates into survivors and drops, each drop with its reason, value and limit.

Filters run in a fixed order and the first that applies decides: no answer, low agreement, too easy, minority answer,
truncated, too long, an answer that wins too many prompts, or more of a family than the base gives it, duplicate,
near-duplicate, cap per prompt, cap per ancestor.

The threshold is on support: the winner's fraction of the votes cast times the fraction of responses that cast one. Of
93 short questions to a 135M model, the 34 with support of at least 0.5 have 82 % right labels, the 33 with at least 0.6
of the votes cast 70 %: where few responses have a readable answer, most of these are guesses.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from ..answers import Kind
from ..config import SelectConfig
from ..evaluation.families import LEAST
from ..memory.embedding import text_of, vectors_of
from ..memory.operators import operators
from ..outcomes import Judgement, Reason, Selection, Tally, Verdict
from ..run.session import Run
from ..types import Finish, Poll, Response, Stage, unit_id
from .units import by_prompt

_QUORUM = 2
"""Least votes for agreement: a single vote always agrees with itself."""
_BRIEF = 120
"""Characters: shorter answers are never too long."""
_FEW = 5
"""Prompts per answer, and survivors per ancestor, that no cap on fractions applies to."""
_LEAST_WEIGHT = 0.1
CLOSED = (Kind.CHOICE, Kind.YES_NO)
"""Kinds whose answers come from a small set, so that one may win many prompts."""


@dataclass(frozen=True, slots=True)
class AnswerPrior:
    """A family of prompts, and the mean share of each answer among the base's samples on them."""

    prompt_ids: frozenset[str]
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A response, and what the vote says of it."""

    response: Response
    judgement: Judgement


def select_candidates(
    candidates: Sequence[Candidate],
    tallies: Mapping[str, Tally],
    config: SelectConfig,
    *,
    embed: Callable[[Sequence[Response]], Mapping[int, np.ndarray]],
    ancestors: Callable[[int], Iterable[int]],
    kinds: Mapping[str, Kind],
    families: Sequence[AnswerPrior] = (),
    shown: Callable[[str], str] = str,
) -> Selection:
    """Split candidates into kept and dropped, both ordered by response id; together they are all candidates.

    A survivor's training weight is its prompt's margin clipped to [0.1, 1] (as in ScPO, Prasad et al. 2024). Of a
    prompt's candidates those are taken first whose embeddings have the highest mean cosine to all of them (minimum
    Bayes risk, Kumar & Byrne 2004): a rare wording of the agreed answer would be learnt as a format. `embed` returns
    the unit vectors (d,) of responses by id, and is asked for those alone that no other filter drops. `ancestors(id)`
    gives all responses that a response descends from; `kinds` the kind of each prompt's answer: choices come from small
    sets, so only other kinds are held to `answer_share`. `shown` cuts a response to what is compared by length, such as
    what follows its reasoning.

    Raises:
        ValueError: two candidates have one id.
    """
    if len({candidate.response.id for candidate in candidates}) < len(candidates):
        raise ValueError("two candidates have one response id")
    ordered = sorted(candidates, key=lambda candidate: candidate.response.id)
    verdicts = gates(ordered, tallies, config, shown)
    verdicts |= _too_common(_left(ordered, verdicts), tallies, config, kinds)
    verdicts |= _family_cap(_left(ordered, verdicts), tallies, families)
    left = _left(ordered, verdicts)
    vectors = embed([candidate.response for candidate in left])
    for group in _by_prompt(left).values():
        verdicts |= _typical(group, vectors, config)
    survivors = sorted(_left(ordered, verdicts), key=lambda c: -tallies[c.response.prompt_id].support)
    verdicts |= _ancestor_cap(survivors, config, ancestors)
    for candidate in _left(ordered, verdicts):
        tally = tallies[candidate.response.prompt_id]
        weight = min(1.0, max(_LEAST_WEIGHT, tally.margin))
        verdicts[candidate.response.id] = Verdict(
            candidate.response.id, Reason.KEPT, tally.support, config.threshold, weight
        )
    final = [verdicts[candidate.response.id] for candidate in ordered]
    return Selection(tuple(v for v in final if v.kept), tuple(v for v in final if not v.kept))


def _left(candidates: Sequence[Candidate], verdicts: Mapping[int, Verdict]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.response.id not in verdicts]


def _by_prompt(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.response.prompt_id].append(candidate)
    return groups


def gates(
    candidates: Sequence[Candidate],
    tallies: Mapping[str, Tally],
    config: SelectConfig,
    shown: Callable[[str], str],
) -> dict[int, Verdict]:
    """Return the drops, by response id, that need only a candidate, its prompt's vote and its group's usual length."""
    verdicts: dict[int, Verdict] = {}
    for prompt_id, group in _by_prompt(candidates).items():
        readable = [len(shown(c.response.text)) for c in group if c.judgement.answer is not None]
        longest = max(_BRIEF, config.length_factor * median(readable)) if readable else math.inf
        for candidate in group:
            length = len(shown(candidate.response.text))
            fault = _fault(candidate, tallies.get(prompt_id), length, longest, config)
            if fault is not None:
                verdicts[candidate.response.id] = Verdict(candidate.response.id, *fault)
    return verdicts


def _fault(
    candidate: Candidate, tally: Tally | None, length: int, longest: float, config: SelectConfig
) -> tuple[Reason, float | None, float | None] | None:
    judgement, response = candidate.judgement, candidate.response
    if judgement.answer is None or tally is None or tally.answer is None:
        return Reason.NO_ANSWER, None, None
    if tally.voters < _QUORUM:
        return Reason.LOW_AGREEMENT, tally.voters, _QUORUM
    if tally.support < config.threshold:
        return Reason.LOW_AGREEMENT, tally.support, config.threshold
    if tally.support > config.ceiling:
        return Reason.TOO_EASY, tally.support, config.ceiling
    if judgement.answer != tally.answer:
        return Reason.MINORITY, judgement.share, tally.agreement
    if response.finish is Finish.LENGTH:
        return Reason.TRUNCATED, response.new_tokens, None
    if length > longest:
        return Reason.LENGTH, length, longest
    return None


def _too_common(
    candidates: Sequence[Candidate], tallies: Mapping[str, Tally], config: SelectConfig, kinds: Mapping[str, Kind]
) -> dict[int, Verdict]:
    """Drops for an answer that wins more than `answer_share` of the prompts in question.

    It keeps its most agreed prompts, as many as leave it that share beside the prompts that other answers won: an
    answer that won everything keeps none.
    """
    prompts = {c.response.prompt_id for c in candidates if kinds.get(c.response.prompt_id) not in CLOSED}
    winners = {prompt_id: tallies[prompt_id].answer for prompt_id in prompts}
    verdicts: dict[int, Verdict] = {}
    for answer, count in Counter(winners.values()).items():
        if count <= _FEW or count <= config.answer_share * len(prompts):
            continue
        rest = len(prompts) - count
        allowed = math.floor(rest * config.answer_share / (1 - config.answer_share) + 1e-9)
        won = sorted((p for p in prompts if winners[p] == answer), key=lambda p: (-tallies[p].support, p))
        over = set(won[allowed:])
        for candidate in candidates:
            if candidate.response.prompt_id in over:
                verdicts[candidate.response.id] = Verdict(
                    candidate.response.id, Reason.ANSWER_CAP, count / len(prompts), config.answer_share
                )
    return verdicts


def _family_cap(
    candidates: Sequence[Candidate], tallies: Mapping[str, Tally], families: Sequence[AnswerPrior]
) -> dict[int, Verdict]:
    """Drops for an answer that wins more of a family's prompts than the base's samples give it there.

    It keeps its most agreed prompts, as many as match its prior (distribution alignment, Berthelot et al. 2020), and at
    least `_FEW`. So a vote cannot turn a bias of the base into the one answer of a family.
    """
    verdicts: dict[int, Verdict] = {}
    for family in families:
        own = [c for c in candidates if c.response.prompt_id in family.prompt_ids]
        winners = {c.response.prompt_id: tallies[c.response.prompt_id].answer for c in own}
        for answer, count in Counter(winners.values()).items():
            prior = family.shares.get(answer or "", 0.0)
            allowed = max(_FEW, round(prior * len(winners)))
            if count <= allowed:
                continue
            won = sorted((p for p in winners if winners[p] == answer), key=lambda p: (-tallies[p].support, p))
            over = set(won[allowed:])
            for candidate in own:
                if candidate.response.prompt_id in over:
                    verdicts[candidate.response.id] = Verdict(
                        candidate.response.id, Reason.FAMILY_CAP, count / len(winners), prior
                    )
    return verdicts


def _typical(group: Sequence[Candidate], vectors: Mapping[int, np.ndarray], config: SelectConfig) -> dict[int, Verdict]:
    """Drops within one prompt: equal texts, near-duplicates of what is taken, and what exceeds `per_prompt`."""
    verdicts: dict[int, Verdict] = {}
    unique: dict[str, Candidate] = {}
    for candidate in group:
        if unique.setdefault(candidate.response.text.strip(), candidate) is not candidate:
            verdicts[candidate.response.id] = Verdict(candidate.response.id, Reason.DUPLICATE, 1.0, 1.0)
    mean = np.mean([vectors[c.response.id] for c in group], axis=0, dtype=np.float64)  # (d,), repeated texts included
    taken: list[Candidate] = []
    for candidate in sorted(
        unique.values(),
        key=lambda c: (-round(float(vectors[c.response.id] @ mean), 6), len(c.response.text), c.response.id),
    ):
        own = vectors[candidate.response.id]
        nearest = max((float(own @ vectors[chosen.response.id]) for chosen in taken), default=-1.0)
        if nearest >= config.near_duplicate:
            fault = (Reason.NEAR_DUPLICATE, nearest, config.near_duplicate)
        elif len(taken) == config.per_prompt:
            fault = (Reason.PROMPT_CAP, len(taken) + 1, len(taken))
        else:
            taken.append(candidate)
            continue
        verdicts[candidate.response.id] = Verdict(candidate.response.id, *fault)
    return verdicts


def _ancestor_cap(
    survivors: Sequence[Candidate], config: SelectConfig, ancestors: Callable[[int], Iterable[int]]
) -> dict[int, Verdict]:
    """Drops, least agreed last, of survivors one of whose ancestors has its share of descendants already."""
    limit = max(_FEW, math.floor(config.ancestor_share * len(survivors) + 1e-9))
    descendants: Counter[int] = Counter()
    verdicts: dict[int, Verdict] = {}
    for candidate in survivors:
        lineage = set(ancestors(candidate.response.id))
        most = max((descendants[ancestor] for ancestor in lineage), default=0)
        if most >= limit:
            verdicts[candidate.response.id] = Verdict(candidate.response.id, Reason.ANCESTOR_CAP, most + 1, limit)
        else:
            descendants.update(lineage)
    return verdicts


def select(run: Run, round_: int) -> Selection:
    """Sort the candidates of this round (and, when accumulating, of all rounds) into kept and dropped."""
    begun = time.monotonic()
    if not run.memory.has_unit(unit_id(round_, Stage.SELECT)):
        judgements = run.memory.judgements(round_, Poll.FINAL)
        responses = [
            r for r in run.memory.candidates(ids=list(judgements)) if run.config.train.accumulate or r.round == round_
        ]
        kinds = {id_: Kind(kind) for id_, kind in run.memory.kinds(round_, Poll.FINAL).items()}
        chosen = select_candidates(
            [Candidate(r, judgements[r.id]) for r in responses],
            run.memory.tallies(round_, Poll.FINAL),
            run.config.select,
            embed=partial(_embedded, run),
            ancestors=run.memory.ancestors,
            kinds=kinds,
            families=_priors(run),
            shown=run.reader.shown,
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
            f"{book.towards} flips towards the consensus, {book.away} away" if book.towards or book.away else "",
        )
    return selection


def _embedded(run: Run, responses: Sequence[Response]) -> dict[int, np.ndarray]:
    prompts = {prompt.id: prompt for prompt in run.memory.prompts()}
    texts = {r.id: text_of(prompts[r.prompt_id], run.reader.shown(r.text)) for r in responses}
    ids, vectors = vectors_of(run.memory, texts, run.embedder.encode)
    return dict(zip(ids.tolist(), vectors, strict=True))


def _priors(run: Run) -> list[AnswerPrior]:
    """Return the answer priors of the families, from the base's samples of round 1."""
    judgements = run.memory.judgements(1, Poll.SAMPLED)
    sampled = by_prompt(r for r in run.memory.candidates(ids=list(judgements)) if not r.brought_in)
    shares: dict[str, dict[str, float]] = {}
    for prompt_id, group in sampled.items():
        read = [answer for r in group if (answer := judgements[r.id].answer) is not None]
        shares[prompt_id] = {answer: count / len(read) for answer, count in Counter(read).items()}
    priors = []
    for family in run.families:
        answered = [shares[id_] for id_ in family.prompt_ids if shares.get(id_)]
        if len(answered) >= LEAST:
            total: dict[str, float] = defaultdict(float)
            for own in answered:
                for answer, share in own.items():
                    total[answer] += share / len(answered)
            priors.append(AnswerPrior(frozenset(family.prompt_ids), dict(total)))
    return priors
