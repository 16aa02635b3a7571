"""Prompts added to a run that has begun: its own from the next round on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import MemoryError_, UserError
from ..memory import Embedder, ResponseMemory
from ..memory.near_duplicates import Encode, near_duplicates
from ..models.policy import Policy
from ..outcomes import Decision
from ..prompts import load_prompts
from ..types import Prompt, Split
from .folder import saved_config
from .validate import refuse_unfit


@dataclass(frozen=True, slots=True)
class Added:
    """Numbers of prompts that join in round `begins`, of those that the run has, and of those that are left out."""

    train: int
    heldout: int
    begins: int
    known: int
    left_out: int
    """Near-duplicates of held-out prompts, or to be held out themselves but near-duplicates of what was learnt from."""
    faults: tuple[str, ...]
    """Each row that holds no prompt, and why."""


def add_prompts(folder: Path, file: str) -> Added:
    """Add the prompts in a file, read and split as the run's own; the file is not needed afterwards.

    Raises:
        UserError: the file has no new prompts that can be used, the run has not begun or was stopped by its guard, or
            another process writes it.
    """
    config = saved_config(folder)
    found = load_prompts(config.prompts.model_copy(update={"path": file, "limit": 0}), further=True)
    with ResponseMemory.open(folder / "memory.db", write=True) as memory:
        if not memory.units():
            raise UserError(f"the run {folder} has not begun; put the prompts into {config.prompts.path}")
        if any(record.decision is Decision.STOP for record in memory.rounds()):
            raise UserError(
                f"the guard has stopped the run {folder}; begin another one that takes over its memory: "
                f"memory.from={folder.name} name=NEW"
            )
        own = memory.joined()
        stored = {prompt.id: prompt for prompt in memory.prompts()}  # also of what was brought in: splits stay
        fresh = [stored.get(prompt.id, prompt) for prompt in found.prompts if prompt.id not in own]
        embedder = Embedder.load(config.embedder, config.model.device)
        if memory.meta("embedder") != embedder.fingerprint:
            raise MemoryError_(f"{config.embedder} is not the embedder that {folder} was made with")
        vectors = embedder.encode([prompt.conversation for prompt in fresh]) if fresh else np.zeros((0, 0), np.float32)
        left_out = _left_out(memory, fresh, vectors, embedder.encode)
        rows = [row for row, prompt in enumerate(fresh) if prompt.id not in left_out]
        chosen = [fresh[row] for row in rows]
        if not chosen:
            raise UserError(
                f"none of the {len(found.prompts)} prompts in {file} can be added: {len(found.prompts) - len(fresh)} "
                f"are the run's already, {len(left_out)} are near-duplicates across the held-out split"
            )
        refuse_unfit(chosen, Policy.load(config.model, memory.meta("model")), config.sample.max_new_tokens)
        memory.commit_addition(chosen, vectors[rows], {"file": Path(file).name, "left_out": sorted(left_out)})
        train, heldout = (sum(prompt.split is split for prompt in chosen) for split in Split)
        faults = tuple(map(str, found.skipped))
        known = len(found.prompts) - len(fresh)
        return Added(train, heldout, memory.begun + 1, known, len(left_out), faults)


def _left_out(memory: ResponseMemory, fresh: Sequence[Prompt], vectors: np.ndarray, encode: Encode) -> set[str]:
    """Return the new prompts that the rule on near-duplicates leaves out.

    A new held-out prompt must be no near-duplicate of what was learnt from or shown, a new train prompt none of a
    held-out prompt, old or new.
    """
    if not fresh:
        return set()
    there = memory.prompts()
    known = memory.prompt_vectors([prompt.id for prompt in there])
    ids = {prompt.id for prompt in fresh}
    old = [row for row, prompt in enumerate(there) if prompt.id not in ids]
    learnt = [row for row in old if there[row].split is Split.TRAIN]
    asked = [row for row, prompt in enumerate(fresh) if prompt.split is Split.HELDOUT]
    swapped = [replace(fresh[row], split=Split.TRAIN) for row in asked]  # the rule is asked the other way round
    swapped += [replace(there[row], split=Split.HELDOUT) for row in learnt]
    found = set(near_duplicates(swapped, np.concatenate([vectors[asked], known[learnt]]), encode))
    held = [row for row in old if there[row].split is Split.HELDOUT]
    left = [row for row, prompt in enumerate(fresh) if prompt.id not in found]
    both = [*(fresh[row] for row in left), *(there[row] for row in held)]
    return found | set(near_duplicates(both, np.concatenate([vectors[left], known[held]]), encode))
