"""Answer again after recalled, trusted answers to other prompts: the model's own few-shot demonstrations.

Self-generated demonstrations as in Huang et al. 2022 (LMSI) and MoT (Li & Qiu 2023); a different draw for each sample,
because demonstrations that go together err together.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..memory.retrieval import recall as retrieve
from ..memory.retrieval import trust
from ..models.conversation import after_system
from ..run.session import Run
from ..seeds import seed_for
from ..types import Origin, Poll, Prompt, Request, Stage
from .units import between, run_units

if TYPE_CHECKING:
    from ..memory.retrieval import Recalled


def plan_recall(
    prompts: Sequence[Prompt], recalled: "Sequence[Recalled]", *, k: int, shots: int, seed_key: tuple[object, ...]
) -> list[Request]:
    """Return `k` requests for each prompt: slot by slot, and within a slot prompt by prompt.

    All prompts see the slot's draw of `shots` answers in the same order, so that their long common prefix is computed
    once. A prompt that is itself in the draw takes the next answer in the slot's order in its place, and so does one
    with another system message. Demonstrations are whole conversations before the prompt's own turns, and the parents
    of the response. Without an answer to another prompt there is nothing to show, and no request. The draw depends on
    `seed_key`, the slot and the pool, not on the pool's order.
    """
    requests = []
    for slot in range(k):
        order = sorted(recalled, key=lambda r: seed_for(*seed_key, Stage.RECALL, slot, r.response_id))
        for prompt in prompts:
            shown = [r for r in order if r.prompt_id != prompt.id and r.prompt.system == prompt.system][:shots]
            if not shown:
                continue
            turns = [turn for r in shown for turn in r.turns]
            requests.append(
                Request(
                    prompt_id=prompt.id,
                    origin=Origin.RECALL,
                    messages=after_system(prompt.messages, turns),
                    seed=seed_for(*seed_key, Stage.RECALL, prompt.id, slot),
                    parents=tuple(r.response_id for r in shown),
                )
            )
    return requests


def recall(run: Run, round_: int) -> None:
    """Answer the prompts that are not decided yet again, after recalled, trusted answers to other prompts."""
    config = run.config.propose.exemplar
    tallies = run.memory.tallies(round_, Poll.SAMPLED)
    trusted = trust(run.memory, run.embedder.encode, round=round_, vote_index=Poll.SAMPLED, min_support=config.trust)

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        centre = run.memory.prompt_vectors([p.id for p in batch]).mean(axis=0, keepdims=True)
        query = centre / np.linalg.norm(centre)
        recalled = retrieve(run.memory, run.index, trusted, query, k=config.pool, diversity=config.diversity)[0]
        recalled = [replace(r, text=run.reader.shown(r.text)) for r in recalled]
        key = (run.config.seed, round_)
        return plan_recall(batch, recalled, k=config.k, shots=config.shots, seed_key=key)

    open_prompts = between(run, tallies, 0.0, config.below) if config.k else []
    run_units(run, round_, Stage.RECALL, open_prompts, plan, run.memory.current)
