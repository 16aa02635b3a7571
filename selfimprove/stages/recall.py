"""Recall: answer again with the model's own trusted answers to near prompts as demonstrations.

Self-generated demonstrations as in Huang et al. 2022 (LMSI) and MoT (Li & Qiu 2023), retrieved for each prompt by its
own vector (Liu et al. 2022). Near demonstrations raise accuracy and share their mistakes: every sample draws its own,
with different answers, so that the votes stay as independent as they can be. The first answers tell whether the
others are worth their tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from ..memory.retrieval import Trusted, draw, neighbourhoods, neighbours, pool_index, pooled, trust
from ..models.conversation import after_system
from ..run.session import Run
from ..seeds import seed_for
from ..types import Origin, Poll, Prompt, Request, Stage, unit_id
from .units import between, by_prompt, run_units
from .vote import recall_harms

if TYPE_CHECKING:
    from ..memory.retrieval import Recalled

FIRST = 2
"""Recalled answers per prompt in the first pass: a pair, whose agreement tells whether they help."""


def plan_recall(
    groups: Sequence[Sequence[Prompt]],
    pools: Sequence["Sequence[Recalled]"],
    *,
    slots: Iterable[int],
    shots: int,
    seed_key: tuple[object, ...],
    distinct: bool = False,
) -> list[Request]:
    """Return a request for each prompt whose group has a pool of trusted responses: slot by slot.

    For each slot, a group of neighbours draws `shots` responses of its pool, in one order, so that the prefix of its
    requests is computed once; a prompt that may not see one of them (`Recalled.suits`) takes the next. `distinct`: with
    different answers. Demonstrations are whole conversations before the prompt's own turns, and the parents of the
    response. A draw depends on `seed_key`, the group's first prompt, slot and pool, not on the pool's order.
    """
    requests = []
    for slot in slots:
        for group, pool in zip(groups, pools, strict=True):
            for prompt in group:
                suited = [r for r in pool if r.suits(prompt)]
                shown = draw(suited, shots, *seed_key, Stage.RECALL, group[0].id, slot, distinct=distinct)
                if not shown:
                    continue
                requests.append(
                    Request(
                        prompt_id=prompt.id,
                        origin=Origin.RECALL,
                        messages=after_system(prompt.messages, [turn for r in shown for turn in r.turns]),
                        seed=seed_for(*seed_key, Stage.RECALL, prompt.id, slot),
                        parents=tuple(r.response_id for r in shown),
                    )
                )
    return requests


def demonstrations(run: Run, round_: int, poll: Poll) -> Trusted:
    """Return the responses that one vote trusts enough to be shown, without their reasoning."""
    least = run.config.propose.exemplar.trust
    found = trust(run.memory, run.embedder.encode, round=round_, vote_index=poll, min_support=least)
    shown = {id_: replace(r, text=run.reader.shown(r.text)) for id_, r in found.shown.items()}
    brought_in = run.memory.sources(shown)
    return Trusted({id_: r for id_, r in shown.items() if id_ not in brought_in or _short(run, r)})


def _short(run: Run, shown: "Recalled") -> bool:
    """Return whether a response from before the run is no longer than one of its own, and its turns leave room.

    The model would imitate the length of longer ones, and requests that do not fit its positions are dropped.
    """
    if len(run.policy.encode_completion(shown.text)) > run.config.sample.max_new_tokens + 1:  # and the end of the turn
        return False
    positions = run.policy.positions
    shares = run.config.propose.exemplar.shots + 1
    return positions is None or len(run.policy.encode(shown.turns)) * shares <= positions


def enough(trusted: int, shots: int) -> bool:
    """Return whether so many trusted answers leave a choice: with no more than `shots`, all prompts see the same."""
    return trusted > shots


def recall(run: Run, round_: int) -> None:
    """Answer the prompts whose support is below `propose.exemplar.below` again, with retrieved demonstrations.

    Nothing is asked without `enough` of them. Each prompt gets its first answers; the others only if the answers so far
    would vote (`propose.exemplar.agree`).
    """
    config = run.config.propose.exemplar
    tallies = run.memory.tallies(round_, Poll.SAMPLED)
    trusted = demonstrations(run, round_, Poll.SAMPLED)
    few = config.k > 0 and not enough(len(trusted.shown), config.shots)
    open_prompts = between(run, tallies, 0.0, config.below) if config.k and not few else []
    vectors = run.memory.prompt_vectors([prompt.id for prompt in open_prompts])
    groups = neighbourhoods(open_prompts, vectors, run.config.sample.unit_prompts, config.group)
    group_of = {prompt.id: group for group in groups for prompt in group}
    index = cache(lambda: pool_index(run.memory, trusted, run.embedder.encode))  # a resumed stage may not need it

    def plan(slots: Iterable[int], batch: Sequence[Prompt]) -> list[Request]:
        if config.draw == "random":
            together, pools = [batch], [list(trusted.shown.values())]
        else:
            near = dict(zip(batch, neighbours(run.memory, index(), trusted, batch, config.pool), strict=True))
            together = list({id(group_of[p.id]): group_of[p.id] for p in batch}.values())
            pools = [pooled([near[p] for p in group], config.pool) for group in together]
        return plan_recall(
            together,
            pools,
            slots=slots,
            shots=config.shots,
            seed_key=(run.config.seed, round_),
            distinct=config.draw == "distinct",
        )

    prompts = [prompt for group in groups for prompt in group]
    first, rest = range(min(config.k, FIRST)), range(FIRST, config.k)
    asked = run_units(run, round_, Stage.RECALL, prompts, partial(plan, first), run.memory.current)
    if few:
        run.progress.say(
            f"            nothing to recall: {len(trusted.shown)} trusted answers, all prompts would see the same"
        )
    if few or not rest or run.memory.has_unit(unit_id(round_, Stage.VOTE, Poll.RECALLED)):
        return
    if recall_harms(run, round_, asked):
        run.progress.say(f"            no more than {FIRST} a prompt are asked for: they would not vote")
        return
    complete = {id_ for id_, group in by_prompt(asked).items() if len(group) > FIRST}

    def others(batch: Sequence[Prompt]) -> list[Request]:
        # Older versions asked for all answers of a unit at once.
        return [] if any(prompt.id in complete for prompt in batch) else plan(rest, batch)

    units = -(-len(prompts) // run.config.sample.unit_prompts)
    run_units(run, round_, Stage.RECALL, prompts, others, run.memory.current, first=units)
