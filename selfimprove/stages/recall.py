"""Recall: answer again with the model's own trusted answers to near prompts as demonstrations.

Self-generated demonstrations as in Huang et al. 2022 (LMSI) and MoT (Li & Qiu 2023), retrieved for each prompt by its
own vector (Liu et al. 2022). Near demonstrations raise accuracy and share their mistakes: every sample draws its own,
with different answers, so that the votes stay as independent as they can be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..memory.retrieval import Trusted, batches, diverse, draw, neighbours, trust
from ..models.conversation import after_system
from ..run.session import Run
from ..seeds import seed_for
from ..types import Origin, Poll, Prompt, Request, Stage
from .units import between, run_units

if TYPE_CHECKING:
    from ..memory.retrieval import Recalled


def plan_recall(
    prompts: Sequence[Prompt],
    pools: Mapping[str, "Sequence[Recalled]"],
    *,
    k: int,
    shots: int,
    seed_key: tuple[object, ...],
    distinct: bool = False,
    shared: bool = False,
) -> list[Request]:
    """Return `k` requests for each prompt that has a pool of trusted responses: slot by slot.

    Each sample draws `shots` responses of its prompt's pool: `distinct`, with different answers; `shared`, the same for
    all prompts of a slot as far as their pools hold them, so that their long common prefix is computed once.
    Demonstrations are whole conversations before the prompt's own turns, and the parents of the response. A draw
    depends on `seed_key`, prompt, slot and pool, not on the pool's order.
    """
    requests = []
    for slot in range(k):
        for prompt in prompts:
            key = (slot,) if shared else (prompt.id, slot)
            shown = draw(pools.get(prompt.id, ()), shots, *seed_key, Stage.RECALL, *key, distinct=distinct)
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


def recall(run: Run, round_: int) -> None:
    """Answer the prompts whose support is below `propose.exemplar.below` again, with retrieved demonstrations."""
    config = run.config.propose.exemplar
    tallies = run.memory.tallies(round_, Poll.SAMPLED)
    found = trust(run.memory, run.embedder.encode, round=round_, vote_index=Poll.SAMPLED, min_support=config.trust)
    trusted = Trusted({id_: replace(r, text=run.reader.shown(r.text)) for id_, r in found.shown.items()})

    def pools(batch: Sequence[Prompt]) -> "dict[str, list[Recalled]]":
        if config.draw == "random":
            return {prompt.id: trusted.for_prompt(prompt) for prompt in batch}
        wide = config.pool * 4 if config.draw == "mmr" else config.pool
        near = dict(zip(batch, neighbours(run.memory, run.index, trusted, batch, wide), strict=True))
        if config.draw == "mmr":
            near = {p: diverse(run.memory, p, found, config.pool, config.diversity) for p, found in near.items()}
        if config.draw == "shared":
            union = {r.response_id for found in near.values() for r in found}
            near = {p: [r for r in trusted.for_prompt(p) if r.response_id in union] for p in batch}
        return {prompt.id: found for prompt, found in near.items()}

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        return plan_recall(
            batch,
            pools(batch),
            k=config.k,
            shots=config.shots,
            seed_key=(run.config.seed, round_),
            distinct=config.draw == "distinct",
            shared=config.draw in ("shared", "random"),
        )

    open_prompts = between(run, tallies, 0.0, config.below) if config.k else []
    vectors = run.memory.prompt_vectors([prompt.id for prompt in open_prompts])
    near_together = [p for batch in batches(open_prompts, vectors, run.config.sample.unit_prompts) for p in batch]
    run_units(run, round_, Stage.RECALL, near_together, plan, run.memory.current)
