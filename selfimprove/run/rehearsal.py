"""A rehearsal of a round on a few tokens: generate, train one step, merge, compare.

An architecture that some step does not suit is found here in seconds, and not after all sampling is paid for.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import TrainConfig
from ..errors import ModelError, UserError, first_line
from ..models.policy import Policy
from ..types import Message, Sampling

if TYPE_CHECKING:
    import torch

TOKENS = 48
"""Most tokens of a prompt: its last."""

_RATE = 1e-2
"""Learning rate of the one step: large enough to tell a merged adapter from a lost one."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Result of a rehearsal.

    `adapted` says what an adapter reaches, `partial` whether it leaves matrices alone. `effect` is what one step with a
    high learning rate changes of the logits, relative to their norm. `kept` is how much of that change the merged model
    shows: <merged - base, adapted - base> / |adapted - base|^2, which is 1 but for rounding, and 0 for a lost adapter.
    """

    adapted: str
    partial: bool
    effect: float
    kept: float


def rehearse(policy: Policy, spec: TrainConfig, conversations: Sequence[Sequence[Message]]) -> Rehearsal:
    """Generate from the base, train one step on that, merge the adapter and compare; the policy is the base after it.

    Args:
        policy: the base model.
        spec: the training of the run; its learning rate and number of steps are not used.
        conversations: prompts of the run; the last tokens of the two shortest are used.

    Raises:
        ModelError: a step fails on this model, or its results are not finite, or merging changes what it computes.
    """
    from ..rollout import generate
    from ..training import Encoded, train_adapter
    from ..training.targets import find_targets

    shortest = sorted(conversations, key=lambda messages: sum(len(m.content) for m in messages))[:2]
    prompts = [tuple(policy.encode(messages)[-TOKENS:]) for messages in shortest]
    rows = [prompt for prompt in prompts for _ in range(2)]
    with _step(policy, "generated from"):
        seeds = range(len(rows))
        drawn = generate(policy.model, rows, seeds, Sampling.greedy(4), eos_ids=policy.eos_ids, pad_id=policy.pad_id)
        for prompt, rollout in zip(rows, drawn, strict=True):
            _same_as_alone(policy, prompt, rollout.token_ids)
    completions = [(*rollout.token_ids, policy.end_of_turn) for rollout in drawn]
    rejected = (policy.end_of_turn,) if spec.method == "preference" else None
    examples = [Encoded(row, completion, 1.0, rejected) for row, completion in zip(rows, completions, strict=True)]
    asked = [*rows[0], *completions[0]]
    once = {"epochs": 1, "batch_tokens": sum(e.tokens for e in examples), "lr": _RATE, "warmup": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        adapter = Path(folder) / "adapter"
        with _step(policy, "trained"):
            targets = find_targets(policy.model)
            before = _logits(policy.model, asked)
            step = spec.model_copy(update=once)
            train_adapter(policy.model, examples, step, seed=0, out=adapter, pad_id=policy.pad_id)
        with _step(policy, "used with its adapter"):
            try:
                after = _logits(Policy.attach(policy.model, adapter), asked)
                policy.release()  # it is no longer plain
                policy.use(adapter)
                merged = _logits(policy.model, asked)
            finally:
                policy.release()
                policy.use(None)
    change, kept = after - before, merged - before
    effect = float(change.norm() / before.norm())
    share = float((kept * change).sum() / (change * change).sum())
    _judge(policy, effect, share)
    return Rehearsal(targets.describe(), bool(targets.untouched), effect, share)


def _same_as_alone(policy: Policy, prompt: Sequence[int], drawn: Sequence[int]) -> None:
    """Refuse a model whose greedy tokens in a batch are not the most probable ones of the sequence alone."""
    if not drawn:
        return
    logits = _logits(policy.model, [*prompt, *drawn])[len(prompt) - 1 : -1]  # (N, V)
    behind = float((logits.amax(-1) - logits[range(len(drawn)), list(drawn)]).max() / logits.abs().max())
    if not behind <= (1e-3 if _exact(policy) else 0.25):  # NaN too
        raise ModelError(
            f"{policy.name} cannot be generated from here: in a batch it continues prompts otherwise than alone (a "
            f"token is {behind:.0%} of the largest logit behind); take another model"
        )


def _exact(policy: Policy) -> bool:
    """Whether the model computes in float32 or wider: half precision rounds, and a mixture's router may then differ."""
    return policy.dtype.itemsize >= 4


def _judge(policy: Policy, effect: float, kept: float) -> None:
    """Refuse a model on which an adapter does nothing, or is lost where it is merged."""
    if not effect > 0:  # NaN too
        raise ModelError(
            f"{policy.name} cannot be trained: a step changes its logits by {effect:g} of their norm; take another one"
        )
    if not abs(kept - 1) <= (0.01 if _exact(policy) else 0.5):
        raise ModelError(
            f"{policy.name} cannot be merged with its adapter: {kept:.0%} of the adapter's effect is left; "
            + ("take another model" if _exact(policy) else "set model.dtype to float32, or take another model")
        )


@contextmanager
def _step(policy: Policy, what: str) -> Iterator[None]:
    """Turn whatever an architecture fails with into one line; what is logged of slower paths comes with the run."""
    log = logging.getLogger("selfimprove")
    level, log.level = log.level, logging.ERROR
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # an architecture may fail in any way
        raise ModelError(
            f"{policy.name} cannot be {what} here: {type(error).__name__}: {first_line(error)}; take another model"
        ) from error
    finally:
        log.level = level


def _logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Return the logits (T, V) of a sequence in float32."""
    import torch

    with torch.inference_mode():
        return model(torch.tensor([ids], device=model.device)).logits[0].float()
