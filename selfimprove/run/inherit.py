"""Memory of an earlier run in a new one (`memory.from`): its responses are copied, with their ancestors and sources.

What either run holds out stays held out: the other run's held-out prompts are neither learnt from nor shown here, and
prompts that its policy has learnt from are not measured here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..config_file import expanded
from ..errors import PromptError
from ..memory import Embedder, ResponseMemory
from ..memory.near_duplicates import near_duplicates
from ..memory.store.memory import Arrival
from ..types import CANDIDATES, Action, Origin, Overlay, Prompt, Response, Source, Split
from .folder import run_folder


@dataclass(frozen=True)
class Inheritance:
    """What a run takes over from another one, read before anything is written.

    `left_out` are prompts of this run that are neither learnt from nor measured, those of `near_duplicates` included.
    """

    place: str
    arrival: Arrival
    left_out: frozenset[str]

    @property
    def said(self) -> str:
        """One line about it."""
        prompts = len({row[0] for row in self.arrival.rows})
        return f"{len(self.arrival.rows)} responses to {prompts} prompts, from {self.place}"


def inherit(
    name: str, prompts: Sequence[Prompt], vectors: np.ndarray, embedder: Embedder, fingerprint: str
) -> Inheritance:
    """Read the memory of the run `name` for a new run with these prompts (n), their vectors (n, d) and its base model.

    Raises:
        UserError: there is no such run, or its memory cannot be read.
        PromptError: no prompt of a split is left.
    """
    folder = run_folder(expanded(name))
    with ResponseMemory.open(folder / "memory.db") as other, other.db.snapshot():
        same_model = other.meta("model") == fingerprint
        same_embedder = other.meta("embedder") == embedder.fingerprint
        theirs = {prompt.id: prompt for prompt in other.prompts()}
        own = {prompt.id: prompt for prompt in prompts}
        written = other.responses(origins=(*CANDIDATES, Origin.CRITIQUE))
        chosen = _with_ancestors(
            written,
            [id_ for id_, p in theirs.items() if p.split is Split.TRAIN and _split(own, id_) is not Split.HELDOUT],
        )
        answered = {response.prompt_id for response in chosen}
        past = [p for p in theirs.values() if p.id not in own and (p.split is Split.HELDOUT or p.id in answered)]
        past_vectors = _vectors(other, past, embedder, same_embedder)
        arrival = Arrival(
            rows=[(r.prompt_id, r.origin.value, r.finish.value, r.seed, r.prompt_tokens, r.new_tokens, r.text)
                  for r in chosen],
            sources=_sources(other, chosen, folder.resolve().name, same_model),
            payload={"run": folder.resolve().name, "model": other.meta("model"), "digest": other.digest()},
            trusted=True,
            vectors=_response_vectors(other, chosen) if same_embedder else {},
            prompts=past,
            prompt_vectors=past_vectors,
            parents=_parents(chosen),
            overlays=_overlays(other, chosen, folder.resolve().name),
        )  # fmt: skip
        both = [*prompts, *past]
        rows = np.concatenate([vectors, past_vectors]) if past else vectors
        left_out = near_duplicates(both, rows, embedder.encode) & own.keys()
        left_out |= {id_ for id_ in own if own[id_].split is Split.TRAIN and _split(theirs, id_) is Split.HELDOUT}
        if not same_model:  # it may have learnt from what the other run learnt from
            learnt = sorted({r.prompt_id for r in written if theirs[r.prompt_id].split is Split.TRAIN})
            left_out |= _learnt(prompts, vectors, [theirs[id_] for id_ in learnt], other, embedder)
    for split in Split:
        mine = [prompt.id for prompt in prompts if prompt.split is split]
        if mine and left_out.issuperset(mine):
            raise PromptError(
                f"none of the {len(mine)} {split} prompts is left: {folder} holds them out or has learnt from them; "
                "add others"
            )
    return Inheritance(folder.resolve().name, arrival, frozenset(left_out))


def _split(prompts: Mapping[str, Prompt], id_: str) -> Split | None:
    return prompts[id_].split if id_ in prompts else None


def _with_ancestors(responses: Sequence[Response], prompt_ids: Iterable[str]) -> list[Response]:
    """Return the candidates among `responses` to these prompts, and all their ancestors, by id."""
    known = {response.id: response for response in responses}
    wanted = set(prompt_ids)
    waiting = [r.id for r in responses if r.prompt_id in wanted and r.origin in CANDIDATES]
    found: set[int] = set()
    while waiting:
        id_ = waiting.pop()
        if id_ in known and id_ not in found:
            found.add(id_)
            waiting += known[id_].parents
    return [known[id_] for id_ in sorted(found)]


def _parents(chosen: Sequence[Response]) -> list[tuple[int, int, int]]:
    """Return (response, position, parent) by the new ids, which count from 1: the new memory is empty."""
    new = {response.id: id_ for id_, response in enumerate(chosen, start=1)}
    return [(new[r.id], position, new[p]) for r in chosen for position, p in enumerate(r.parents)]


def _sources(other: ResponseMemory, chosen: Sequence[Response], place: str, same_model: bool) -> list[Source]:
    """Return where each response is from: the run that wrote it, also where `other` had it from that run."""
    before, last = other.sources([r.id for r in chosen]), other.begun
    found = []
    for id_, r in enumerate(chosen, start=1):
        first = before.get(r.id) or Source(r.id, place, f"#{r.id}", r.round, r.policy)
        policy = first.policy if same_model or first.policy is None else f"{first.place}:{first.policy}"
        found.append(replace(first, response_id=id_, policy=policy, age=first.age + last - r.round))
    return found


def _overlays(other: ResponseMemory, chosen: Sequence[Response], place: str) -> list[Overlay]:
    """Return what the user said of these responses in the other run, as far as it holds."""
    new = {response.id: id_ for id_, response in enumerate(chosen, start=1)}
    return [
        Overlay(new[old], action, why if action is Action.NOTE else f"{place}: {why}")
        for old, said in other.curated().items()
        if old in new
        for action, why in said
    ]


def _vectors(other: ResponseMemory, prompts: Sequence[Prompt], embedder: Embedder, same: bool) -> np.ndarray:
    if not prompts:
        return np.zeros((0, embedder.dimension), dtype=np.float32)
    if same:
        return other.prompt_vectors([prompt.id for prompt in prompts])
    return embedder.encode([prompt.conversation for prompt in prompts])


def _response_vectors(other: ResponseMemory, chosen: Sequence[Response]) -> dict[int, np.ndarray]:
    """Return the vectors that the other memory has of these responses, by new ids; others are made when compared."""
    new = {response.id: id_ for id_, response in enumerate(chosen, start=1)}
    ids, vectors = other.embedded(list(new))
    return {new[old]: vector for old, vector in zip(ids.tolist(), vectors, strict=True)}


def _learnt(
    prompts: Sequence[Prompt],
    vectors: np.ndarray,
    answered: Sequence[Prompt],
    other: ResponseMemory,
    embedder: Embedder,
) -> set[str]:
    """Return the held-out prompts that are, or are near-duplicates of, prompts that the other run has learnt from."""
    ids = {prompt.id for prompt in answered}
    rows = [row for row, prompt in enumerate(prompts) if prompt.split is Split.HELDOUT]
    held = [replace(prompts[row], split=Split.TRAIN) for row in rows]  # the rule is asked the other way round
    learnt = [replace(prompt, split=Split.HELDOUT) for prompt in answered]
    same = other.meta("embedder") == embedder.fingerprint
    known = np.concatenate([vectors[rows], _vectors(other, learnt, embedder, same)])
    return set(near_duplicates([*held, *learnt], known, embedder.encode)) | {p.id for p in held if p.id in ids}
