"""Distance of a policy from the base: KL on fixed completions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.policy import Policy

if TYPE_CHECKING:
    import torch

ROWS = 16
"""Sequences in a scoring batch."""


def kl_to_base(policy: Policy, adapter: Path, completions: Sequence[tuple[list[int], list[int]]]) -> float:
    """Return the mean over completion tokens of KL(policy || base), full vocabulary, in nats a token.

    `completions` are pairs of (prompt ids, completion ids); `adapter` is the policy's folder, and stays loaded. For the
    base, the last hidden states are stored instead of the logits (d instead of V numbers a token), because the frozen
    output head gives the logits from them; for models whose logits are not a function of them, the logits are stored.
    """
    import torch

    from ..training.losses import Head
    from ..training.model_split import fitted_head

    policy.use(None)
    prompt, completion = completions[0]
    head = fitted_head(policy.model, prompt + completion) or Head()
    whole = head.weight is None
    base = [s.to("cpu") for s in _states(policy.model, completions, whole)]
    policy.use(adapter)
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for reference, states in zip(base, _states(policy.model, completions, whole), strict=True):
            ours = head.logits(states).log_softmax(-1)
            theirs = head.logits(reference.to(states.device)).log_softmax(-1)
            total += float((ours.exp() * (ours - theirs)).sum())
            tokens += len(states)
    return total / tokens


def _states(model: Any, completions: Sequence[tuple[list[int], list[int]]], whole: bool) -> Iterator["torch.Tensor"]:
    """Yield, for each batch, the last hidden states at the positions that predict completion tokens, (tokens, d).

    With `whole`, yield the logits there, (tokens, V).
    """
    import torch

    device = model.device
    for begin in range(0, len(completions), ROWS):
        batch = completions[begin : begin + ROWS]
        width = max(len(p) + len(c) for p, c in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        predicts = torch.zeros(len(batch), width, dtype=torch.bool)
        for row, (prompt, completion) in enumerate(batch):
            ids[row, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
            predicts[row, len(prompt) - 1 : len(prompt) + len(completion) - 1] = True
        with torch.inference_mode():  # right padding, which causal attention never reads
            states = model(ids.to(device)).logits if whole else model.get_decoder()(ids.to(device)).last_hidden_state
        yield states[predicts.to(device)]
