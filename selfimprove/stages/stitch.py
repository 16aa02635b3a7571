"""Stitch: steps of past responses joined along the best-voted path, which the policy continues (`step_graph`)."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np

from ..outcomes import Tally
from ..run.session import Run
from ..seeds import seed_for
from ..types import Origin, Poll, Prompt, Request, Response, Stage
from .step_graph import best_prefix, build_graph, split_steps
from .step_votes import StepVotes
from .units import between, past_answers, run_units


def plan_stitches(
    prompts: Sequence[Prompt],
    groups: Mapping[str, Sequence[Response]],
    answers: Mapping[int, str | None],
    tallies: Mapping[str, Tally],
    *,
    k: int,
    same: float,
    embed: Callable[[Sequence[str]], np.ndarray] | None,
    seed_key: tuple[object, ...],
    votes: StepVotes | None = None,
) -> list[Request]:
    """Return `k` requests to continue the best-voted prefix of each prompt that has one.

    `answers` maps response ids to classes; `embed` maps n texts to (n, d) unit rows; `votes` are those on steps
    in the whole memory. Parents: the responses that the
    prefix joins, in order.
    """
    requests = []
    for prompt in prompts:
        group, tally = groups.get(prompt.id, ()), tallies.get(prompt.id)
        if not group or tally is None or tally.answer is None:
            continue
        texts = [response.text for response in group]
        graph = build_graph(texts, [answers.get(r.id) for r in group], _embedded(texts, embed), same)
        found = best_prefix(graph, tally.answer, votes)
        if found is None:
            continue
        requests += [
            Request(
                prompt_id=prompt.id,
                origin=Origin.STITCH,
                messages=prompt.messages,
                seed=seed_for(*seed_key, Stage.STITCH, prompt.id, slot),
                prefix=found.prefix,
                parents=tuple(group[source].id for source in found.sources),
            )
            for slot in range(k)
        ]
    return requests


def _embedded(texts: Sequence[str], embed: Callable[[Sequence[str]], np.ndarray] | None) -> list[np.ndarray] | None:
    """The vectors of each text's steps, all asked for at once."""
    if embed is None:
        return None
    steps = [split_steps(text) for text in texts]
    ends = np.cumsum([len(own) for own in steps])
    return np.split(embed([step for own in steps for step in own]), ends[:-1])


def stitch(run: Run, round_: int) -> None:
    """Join the best-voted steps of past responses to a prompt and let the model continue from there."""
    config = run.config.propose.stitch
    if not config.k:
        return
    tallies = run.memory.tallies(round_, Poll.RECALLED)
    open_prompts = between(run, tallies, config.above, config.below)
    groups, answers = past_answers(run, round_, open_prompts)
    several = [
        p for p in open_prompts if median([len(split_steps(r.text)) for r in groups[p.id]] or [0]) >= config.steps
    ]
    if not several:
        run.progress.line("", f"no stitching: no answers of {config.steps} steps or more to continue")
    votes = StepVotes.of(r.text for r in run.memory.candidates(rounds=range(round_ + 1)))

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        return plan_stitches(
            batch,
            groups,
            answers,
            tallies,
            k=config.k,
            same=config.same,
            embed=run.embedder.encode,
            seed_key=(run.config.seed, round_),
            votes=votes,
        )

    run_units(run, round_, Stage.STITCH, several, plan, run.memory.current)
