"""Units of work of the stages that generate: requests planned from committed data, generated and committed whole."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..engines.engine import OnTokens
from ..memory.retrieval import own_past
from ..outcomes import Tally
from ..run.session import Run
from ..types import Generation, Poll, Prompt, Request, Response, Sampling, Split, Stage, Unit, unit_id

Plan = Callable[[Sequence[Prompt]], list[Request]]
"""Function from the prompts of one unit to its requests; pure, given the data that earlier stages committed."""

Generate = Callable[[Iterable[Unit], OnTokens], Iterator[tuple[Unit, list[Generation]]]]
"""As `Engine.generate`."""


def run_units(
    run: Run,
    round_: int,
    stage: Stage,
    prompts: Sequence[Prompt],
    plan: Plan,
    policy: str,
    sampling: Sampling | None = None,
    generate: Generate | None = None,
    *,
    first: int = 0,
) -> list[Response]:
    """Generate and commit what `plan` asks for, a unit of prompts at a time; return the responses of these units.

    Units count from `first`: a stage that goes on later has new units.

    Committed units are skipped. A unit's seconds count from the commit before it, so that they add up to the elapsed
    time even if the engine works on several units at once. Requests that do not fit the model's positions are dropped.
    `generate` replaces the engine's.
    """
    drawn = sampling or run.config.sample.sampling()
    started = begun = time.monotonic()
    size = run.config.sample.unit_prompts
    batches = [prompts[i : i + size] for i in range(0, len(prompts), size)]
    with run.progress.stage(stage, len(prompts), "prompts") as bar:

        def planned() -> Iterator[Unit]:
            for index, batch in enumerate(batches, start=first):
                if run.memory.has_unit(unit_id(round_, stage, index)):
                    bar.advance(len(batch))
                else:
                    asked = tuple(r for r in plan(batch) if run.policy.fits(r.messages, drawn.max_new_tokens, r.prefix))
                    yield Unit(round_, stage, index, asked, drawn, policy)

        for unit, generations in (generate or run.engine.generate)(planned(), bar.tokens):
            run.memory.commit_unit(unit, generations, None, wall_s=time.monotonic() - begun)
            begun = time.monotonic()
            bar.advance(len(batches[unit.index - first]))
    units = [unit_id(round_, stage, first + index) for index in range(len(batches))]
    responses = run.memory.responses(unit_ids=units)
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


def by_prompt(responses: Iterable[Response]) -> dict[str, list[Response]]:
    """Return the responses of each prompt, in the order given."""
    groups: dict[str, list[Response]] = defaultdict(list)
    for response in responses:
        groups[response.prompt_id].append(response)
    return groups


def past_answers(
    run: Run, round_: int, prompts: Sequence[Prompt], poll: Poll = Poll.RECALLED
) -> tuple[dict[str, list[Response]], dict[int, str | None]]:
    """Return own past answers to these prompts that a vote has read, without their reasoning, and each one's class."""
    judged = run.memory.judgements(round_, poll)
    past = own_past(run.memory, [p.id for p in prompts], round_)
    groups = {
        id_: [replace(r, text=run.reader.shown(r.text)) for r in group if r.id in judged] for id_, group in past.items()
    }
    return groups, {id_: j.answer for id_, j in judged.items()}


def between(run: Run, tallies: Mapping[str, Tally], least: float, most: float) -> list[Prompt]:
    """Return the train prompts whose support is at least `least` and below `most`."""
    return [p for p in run.prompts(Split.TRAIN) if p.id in tallies and least <= tallies[p.id].support < most]
