"""Stages that write responses: plan units from what is committed, run those that are not there, commit each whole."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..memory.recall import own_past, recall, trust
from ..propose import exemplar as exemplars
from ..propose import revise as revisions
from ..propose import stitch as stitches
from ..run import Run
from ..seeds import seed_for
from ..types import Generation, Origin, Prompt, Request, Response, Sampling, Split, Stage, Unit, unit_id
from ..verdicts import Tally
from .groups import by_prompt

RECALLED = {Stage.SAMPLE, Stage.EXEMPLAR, Stage.REVISE, Stage.STITCH}
"""Stages whose responses are embedded: only these are ever looked up."""

Plan = Callable[[Sequence[Prompt]], list[Request]]
"""From the prompts of one unit to its requests; a pure function of what earlier stages committed."""


def sampling(run: Run, max_new_tokens: int | None = None) -> Sampling:
    """Return how this run draws tokens."""
    s = run.config.sample
    return Sampling(s.temperature, s.top_k, s.top_p, max_new_tokens or s.max_new_tokens)


def run_units(
    run: Run,
    round_: int,
    stage: Stage,
    prompts: Sequence[Prompt],
    plan: Plan,
    policy: str,
    how: Sampling | None = None,
) -> list[Response]:
    """Generate and commit what `plan` asks for, a unit of prompts at a time; return the stage's responses.

    Units that are committed already are not planned again. A unit's seconds are those since the commit before it, so
    they add up to the time that passed, however many units the engine works on at once. Where recalled answers, rivals
    or a critique make a request longer than the model's positions, it is not asked.
    """
    drawn = how or sampling(run)
    started = begun = time.monotonic()
    size = run.config.sample.unit_prompts
    batches = [prompts[i : i + size] for i in range(0, len(prompts), size)]
    with run.progress.stage(stage, len(prompts), "prompts") as bar:

        def planned() -> Iterator[Unit]:
            for index, batch in enumerate(batches):
                if run.memory.has_unit(unit_id(round_, stage, index)):
                    bar.advance(len(batch))
                else:
                    asked = tuple(r for r in plan(batch) if run.policy.fits(r.messages, drawn.max_new_tokens, r.prefix))
                    yield Unit(round_, stage, index, asked, drawn, policy)

        for unit, generations in run.engine.generate(planned(), bar.tokens):
            batch = batches[unit.index]
            vectors = _embed(run, batch, unit, generations) if stage in RECALLED else None
            run.memory.commit_unit(unit, generations, vectors, wall_s=time.monotonic() - begun)
            begun = time.monotonic()
            bar.advance(len(batch))
    responses = run.memory.responses(rounds=[round_], stages=[stage])
    truncated = sum(r.finish == "length" for r in responses)
    tokens = sum(r.new_tokens for r in responses)
    run.progress.line(
        stage,
        f"{len(prompts)} prompts",
        f"{len(responses)} responses",
        f"{tokens} tokens",
        f"{truncated} truncated" if truncated else "",
        seconds=time.monotonic() - started,
    )
    return responses


def _embed(run: Run, batch: Sequence[Prompt], unit: Unit, generations: Sequence[Generation]) -> np.ndarray:
    asked = {p.id: p.text for p in batch}
    return run.embedder.encode(
        [f"{asked[r.prompt_id]}\n{g.text}" for r, g in zip(unit.requests, generations, strict=True)]
    )


def sample(run: Run, round_: int) -> list[Response]:
    """Answer every train prompt k times with the current policy."""

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        return [
            Request(p.id, Origin.SAMPLE, p.messages, seed_for(run.config.seed, round_, Stage.SAMPLE, p.id, slot))
            for p in batch
            for slot in range(run.config.sample.k)
        ]

    return run_units(run, round_, Stage.SAMPLE, run.prompts(Split.TRAIN), plan, run.memory.current)


def exemplar(run: Run, round_: int) -> list[Response]:
    """Answer the prompts that are not decided yet again, after recalled, trusted answers to other prompts."""
    config = run.config.propose.exemplar
    tallies = run.memory.tallies(round_, 0)
    trusted = trust(run.memory, round=round_, vote_index=0, min_support=config.trust)

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        centre = run.memory.prompt_vectors([p.id for p in batch]).mean(axis=0, keepdims=True)
        query = centre / np.linalg.norm(centre)
        recalled = recall(run.memory, run.index, trusted, query, k=config.pool, diversity=config.diversity)[0]
        key = (run.config.seed, round_)
        return exemplars.plan(batch, recalled, k=config.k, shots=config.shots, seed_key=key)

    open_prompts = _between(run, tallies, 0.0, config.below) if config.k else []
    return run_units(run, round_, Stage.EXEMPLAR, open_prompts, plan, run.memory.current)


def revise(run: Run, round_: int) -> list[Response]:
    """Show the model its differing answers to a disputed prompt, have it criticise them, then write a better one."""
    config = run.config.propose.revise
    tallies = run.memory.tallies(round_, 1)
    disputed = _between(run, tallies, config.above, config.below) if config.k else []
    groups, answers = _past(run, round_, disputed)
    key = (run.config.seed, round_)

    def plan_critiques(batch: Sequence[Prompt]) -> list[Request]:
        return revisions.plan_critiques(batch, groups, answers, k=config.k, rivals=config.rivals, seed_key=key)

    how = sampling(run, config.critique_tokens)
    critiques = run_units(run, round_, Stage.CRITIQUE, disputed, plan_critiques, run.memory.current, how)
    criticised = by_prompt(critiques)

    def plan_revisions(batch: Sequence[Prompt]) -> list[Request]:
        written = [c for p in batch for c in criticised.get(p.id, ())]
        return revisions.plan_revisions(batch, written, groups, seed_key=key)

    return run_units(run, round_, Stage.REVISE, disputed, plan_revisions, run.memory.current)


def stitch(run: Run, round_: int) -> list[Response]:
    """Join the best-voted steps of past responses to a prompt and let the model continue from there."""
    config = run.config.propose.stitch
    tallies = run.memory.tallies(round_, 1)
    open_prompts = _between(run, tallies, config.above, config.below) if config.k else []
    groups, answers = _past(run, round_, open_prompts)

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        return stitches.plan(
            batch,
            groups,
            answers,
            tallies,
            k=config.k,
            same=config.same,
            embed=run.embedder.encode,
            seed_key=(run.config.seed, round_),
        )

    return run_units(run, round_, Stage.STITCH, open_prompts, plan, run.memory.current)


def _past(run: Run, round_: int, prompts: Sequence[Prompt]) -> tuple[dict[str, list[Response]], dict[int, str | None]]:
    """Return own past answers to these prompts that vote 1 has read, and the answer of each."""
    judged = run.memory.judgements(round_, 1)
    past = own_past(run.memory, [p.id for p in prompts], round_)
    groups = {id_: [r for r in group if r.id in judged] for id_, group in past.items()}
    return groups, {id_: j.answer for id_, j in judged.items()}


def _between(run: Run, tallies: Mapping[str, Tally], least: float, most: float) -> list[Prompt]:
    """Return the train prompts whose support is at least `least` and below `most`."""
    return [p for p in run.prompts(Split.TRAIN) if p.id in tallies and least <= tallies[p.id].support < most]
