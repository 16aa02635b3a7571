"""Revise: rival own answers are judged and answered again, once label-free evidence says that it does no harm.

Shown its own answers, an untrained small model does worse than when it answers again (as in MACA, arXiv 2509.15172);
one that was taught to revise (`train.revise`), or that sees demonstrations, need not. So revisions are first tried on
held-out prompts, and used in the round if they agree with the consensus there as often as samples do.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean

from ..config import ReviseConfig
from ..engines.engine import OnTokens
from ..memory.retrieval import Recalled, Trusted, draw, neighbours, pool_index
from ..models.conversation import after_system
from ..run.session import Run
from ..seeds import seed_for
from ..types import Generation, Message, Origin, Poll, Prompt, Request, Response, Stage, Unit, unit_id
from .evaluate import heldout
from .reading import read_answers
from .recall import demonstrations
from .revision import Rivals, answers_shown, past_rivals, read_revision, rivals_of
from .units import Generate, between, by_prompt, run_units

LEAST = 8
"""Held-out prompts with rival answers that a trial needs."""


@dataclass(frozen=True, slots=True)
class Demonstrated:
    """A demonstrated revision: its turns, and the ids of the responses in them."""

    turns: tuple[Message, ...]
    shown: tuple[int, ...]


Demonstrations = Callable[[Sequence[Prompt]], Mapping[str, Sequence[Demonstrated]]]
"""From prompts to the demonstrated revisions for each, by prompt id."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Evidence without labels: on `prompts` held-out prompts, the fractions that give the consensus of all samples.

    Nothing there was trained on. A sample is compared with the consensus of the others.
    """

    prompts: int
    revised: float
    sampled: float

    @property
    def passed(self) -> bool:
        """Whether revisions agree with the consensus as often as samples do."""
        return self.prompts >= LEAST and self.revised >= self.sampled


def plan_revisions(
    prompts: Sequence[Prompt],
    rivals: Mapping[str, Rivals],
    demonstrated: Mapping[str, Sequence[Demonstrated]],
    config: ReviseConfig,
    *,
    k: int,
    seed_key: tuple[object, ...],
) -> list[Request]:
    """Return `k` requests for a revision of each prompt that has rivals, each with a draw of its own.

    Demonstrations come first. Parents: the answers shown, in order, then the responses of the demonstrations.
    """
    requests = []
    for prompt in prompts:
        own = rivals.get(prompt.id)
        if own is None:
            continue
        before = demonstrated.get(prompt.id, ())
        turns = [turn for one in before for turn in one.turns]
        for slot in range(k):
            seed = seed_for(*seed_key, Stage.REVISE, prompt.id, slot)
            shown = own.draw(config.rivals, seed)
            requests.append(
                Request(
                    prompt_id=prompt.id,
                    origin=Origin.CRITIQUE,
                    messages=after_system(own.request(shown, verdicts=config.verdicts), turns),
                    seed=seed,
                    parents=(*(r.id for r in shown), *(id_ for one in before for id_ in one.shown)),
                )
            )
    return requests


def plan_answers(prompts: Sequence[Prompt], critiques: Mapping[str, Sequence[Response]]) -> list[Request]:
    """Return one request for the answer in each critique; parents: what the critique was shown, and the critique."""
    return [
        Request(prompt.id, Origin.REVISE, prompt.messages, critique.seed, parents=(*critique.parents, critique.id))
        for prompt in prompts
        for critique in critiques.get(prompt.id, ())
    ]


def revise(run: Run, round_: int) -> None:
    """Revise the answers to prompts with support from `propose.revise.above` up to `below`, if the trial is passed."""
    if run.memory.has_unit(unit_id(round_, Stage.VOTE, Poll.FINAL)):
        return  # `current`, which the trial is held on, may have moved since
    config = run.config.propose.revise
    tallies = run.memory.tallies(round_, Poll.RECALLED)
    disputed = between(run, tallies, config.above, config.below) if config.k else []
    rivals = past_rivals(run, round_, disputed, tallies, Poll.RECALLED)
    revisable = [prompt for prompt in disputed if prompt.id in rivals]
    shown = demonstrations_for(run, round_) if revisable else None
    if shown is None or (config.trial and not _passes(run, round_, shown)):
        return
    key = (run.config.seed, round_)

    def critique(batch: Sequence[Prompt]) -> list[Request]:
        return plan_revisions(batch, rivals, shown(batch), config, k=config.k, seed_key=key)

    sampling = run.config.sample.sampling(revision_length(run))
    critiques = run_units(run, round_, Stage.CRITIQUE, revisable, critique, run.memory.current, sampling)
    answers = answers_in(run, critiques)
    answered = by_prompt(c for c in answers if c.text)

    def answer(batch: Sequence[Prompt]) -> list[Request]:
        return plan_answers(batch, answered)

    taken = _taken({c.id: c for c in answers})
    run_units(run, round_, Stage.REVISE, revisable, answer, run.memory.current, sampling, taken)


def revision_length(run: Run) -> int:
    """Return the maximum length of a revision, in tokens."""
    config = run.config.propose.revise
    return run.config.sample.max_new_tokens + (config.critique_tokens if config.verdicts else 0)


def answers_in(run: Run, critiques: Sequence[Response]) -> list[Response]:
    """Return the critiques with their answers alone as texts, after the reasoning if any; empty where there is none."""
    if not run.config.propose.revise.verdicts:
        return list(critiques)
    found = []
    for critique, shown in zip(critiques, answers_shown(run, critiques), strict=True):
        text, final = critique.text, run.reader.shown(critique.text)
        answer = read_revision(final, len(shown)).answer
        whole = text.removesuffix(final) + answer if answer and text.endswith(final) else answer
        found.append(replace(critique, text=whole))
    return found


def _taken(answers: Mapping[int, Response]) -> Generate:
    """Return a function that takes the answers out of critiques, by id; their tokens are counted with the critiques."""

    def taken(units: Iterable[Unit], _: OnTokens) -> Iterator[tuple[Unit, list[Generation]]]:
        for unit in units:
            written = [answers[request.parents[-1]] for request in unit.requests]
            yield unit, [Generation(c.text, c.finish, c.prompt_tokens, new_tokens=0) for c in written]

    return taken


def demonstrations_for(run: Run, round_: int) -> Demonstrations:
    """Return how prompts get their demonstrations: revisions of answers to near prompts that the vote trusts."""
    config = run.config.propose
    tallies = run.memory.tallies(round_, Poll.RECALLED)
    trusted = demonstrations(run, round_, Poll.RECALLED).shown if config.revise.shots else {}
    rivals = past_rivals(run, round_, [r.prompt for r in trusted.values()], tallies, Poll.RECALLED)
    pool = Trusted({id_: r for id_, r in trusted.items() if r.prompt_id in rivals})
    index = cache(lambda: pool_index(run.memory, pool, run.embedder.encode))
    key = (run.config.seed, round_, Stage.CRITIQUE)

    def demonstrate(recalled: Recalled) -> Demonstrated:
        own, verdicts = rivals[recalled.prompt_id], config.revise.verdicts
        shown = own.draw(config.revise.rivals, *key, recalled.response_id)
        asked = replace(recalled.prompt, messages=own.request(shown, verdicts=verdicts))
        text = own.revised(shown, recalled.text, recalled.text, verdicts=verdicts)
        return Demonstrated((*asked.turns, Message("assistant", text)), (recalled.response_id, *(r.id for r in shown)))

    def near(batch: Sequence[Prompt]) -> dict[str, list[Demonstrated]]:
        if not pool.shown:
            return {}
        found = neighbours(run.memory, index(), pool, batch, config.exemplar.pool)
        return {
            prompt.id: [demonstrate(r) for r in draw(near, config.revise.shots, *key, prompt.id, distinct=True)]
            for prompt, near in zip(batch, found, strict=True)
        }

    return near


def _passes(run: Run, round_: int, shown: Demonstrations) -> bool:
    trial = hold_trial(run, round_, shown)
    run.progress.line(
        "",
        f"revisions of {trial.prompts} held-out prompts give the consensus at {trial.revised:.2f}, "
        f"samples at {trial.sampled:.2f}: " + ("used" if trial.passed else "not used in this round"),
    )
    return trial.passed


def hold_trial(run: Run, round_: int, shown: Demonstrations) -> Trial:
    """Revise the current policy's answers to held-out prompts, and compare with its samples."""
    config = run.config.propose.revise
    standing = [r for r in run.memory.standing if r < round_]
    groups = {
        id_: [replace(r, text=run.reader.shown(r.text)) for r in group]
        for id_, group in by_prompt(run.memory.responses(rounds=standing, stages=[Stage.PROBE])).items()
    }
    classes: dict[int, str | None] = {}
    consensus: dict[str, str | None] = {}
    prompts = sorted(heldout(run), key=lambda prompt: prompt.id)
    for prompt in prompts:
        read = read_answers(run, prompt, groups[prompt.id])
        classes |= dict(zip([r.id for r in groups[prompt.id]], read, strict=True))
        consensus[prompt.id] = _most(read)
    rivals = rivals_of(prompts, groups, classes, consensus)
    chosen = [prompt for prompt in prompts if prompt.id in rivals][: config.trial]
    key = (run.config.seed, round_, Stage.TRIAL)

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        return plan_revisions(batch, rivals, shown(batch), config, k=1, seed_key=key)

    sampling = run.config.sample.sampling(revision_length(run))
    revisions = run_units(run, round_, Stage.TRIAL, chosen, plan, run.memory.current, sampling)
    written = by_prompt(answers_in(run, revisions))
    revised, sampled = [], []
    for prompt in chosen:
        if not written.get(prompt.id):  # it does not fit the model's positions
            continue
        group, (revision,) = groups[prompt.id], written[prompt.id]
        *read, new = read_answers(run, prompt, [*group, revision])
        own = [i for i, r in enumerate(group) if r.round == standing[-1]]
        revised.append(new is not None and new == _most(read))
        sampled.append(fmean(read[i] is not None and read[i] == _most([*read[:i], *read[i + 1 :]]) for i in own))
    return Trial(len(revised), fmean(revised or [0.0]), fmean(sampled or [0.0]))


def _most(answers: Sequence[str | None]) -> str | None:
    """Return the most frequent class, ties by order; None where there is none."""
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts, key=lambda answer: counts[answer], default=None)
