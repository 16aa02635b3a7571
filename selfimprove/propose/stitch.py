"""Stitch past responses to a prompt into a better beginning, which the model then continues: see `steps`."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..seeds import seed_for
from ..types import Origin, Prompt, Request, Response, Stage
from ..verdicts import Tally
from .steps import best_prefix, build_graph, split_steps


def plan(
    prompts: Sequence[Prompt],
    groups: Mapping[str, Sequence[Response]],
    answers: Mapping[int, str | None],
    tallies: Mapping[str, Tally],
    *,
    k: int,
    same: float,
    embed: Callable[[Sequence[str]], np.ndarray] | None,
    seed_key: tuple[object, ...],
) -> list[Request]:
    """Return `k` requests to continue the best-voted beginning of each prompt that has one.

    `answers` are by response id; `embed` maps n texts to (n, d) unit rows. Parents are the responses that the beginning
    joins, in its order.
    """
    requests = []
    for prompt in prompts:
        group, tally = groups.get(prompt.id, ()), tallies.get(prompt.id)
        if not group or tally is None or tally.answer is None:
            continue
        texts = [response.text for response in group]
        graph = build_graph(texts, [answers.get(r.id) for r in group], _embedded(texts, embed), same)
        found = best_prefix(graph, tally.answer)
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
