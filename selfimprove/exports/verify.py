"""Comparison of a reloaded export with the model in memory: weights, tokens, logits and greedy texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..models.policy import Policy
from ..models.template import with_date
from ..types import Message

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-3
"""Most that merging may change a logit, computed in float32."""

NEW_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Probe:
    """A greedy answer: T prompt tokens, N new ones, and the logits that the new ones were chosen by."""

    tokens: torch.Tensor  # (T + N,)
    start: int  # T
    logits: torch.Tensor  # (N, V) float32


def probe(model: Any, policy: Policy, messages: tuple[Message, ...]) -> Probe:
    """Answer a conversation greedily, with up to `NEW_TOKENS` tokens."""
    import torch

    prompt = torch.tensor([policy.encode(messages)])
    tokens = _continue(model, prompt, policy.pad_id)
    return Probe(tokens, prompt.shape[1], _logits(model, tokens, prompt.shape[1]))


def gap(model: Any, probes: Sequence[Probe]) -> float:
    """Return max |logit difference| of a model on the probes' answers; NaN when any logit is."""
    import torch

    return float(torch.stack([(_logits(model, p.tokens, p.start) - p.logits).abs().max() for p in probes]).max())


def limit(found: float) -> None:
    """Check that merging hardly changed the logits.

    Raises:
        ModelError: it is not below `TOLERANCE`.
    """
    if not found < TOLERANCE:  # NaN is a mismatch too
        raise ModelError(
            f"merging changes a logit by {found:.2g} (limit {TOLERANCE:g}); export the adapter: --as adapter"
        )


def same_text(model: Any, asked: Probe, gap: float, pad_id: int) -> bool:
    """Return whether the greedy answer is the same.

    Raises:
        ModelError: it is not, and the two tokens' logits differ by more than `gap` allows.
    """
    tokens = _continue(model, asked.tokens[None, : asked.start], pad_id)
    shared = min(len(tokens), len(asked.tokens))
    differing = (tokens[:shared] != asked.tokens[:shared]).nonzero()
    if not len(differing):
        if len(tokens) != len(asked.tokens):
            raise ModelError("the exported model ends its turns elsewhere; its generation config is not the base's")
        return True
    first = int(differing[0])
    logits = asked.logits[first - asked.start]
    margin = float(logits[asked.tokens[first]] - logits[tokens[first]])
    if not margin <= 2 * gap + TOLERANCE:
        raise ModelError(f"the exported model prefers another token by {margin:.2g} where logits differ by {gap:.2g}")
    return False


def check_weights(
    found: Mapping[str, torch.Tensor],
    written: Mapping[str, torch.Tensor],
    stored: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Check that weights were read back as written; `stored` rounds a tensor as the file format does.

    Raises:
        ModelError: one is missing or differs in a bit.
    """
    import torch

    for name, tensor in written.items():
        if name not in found or not torch.equal(found[name], stored(tensor)):
            raise ModelError(f"{name} was not read back as it was written; this base cannot be exported so")


def check_tokens(policy: Policy, tokenizer: Any, conversations: Sequence[tuple[Message, ...]]) -> None:
    """Check that a tokenizer renders conversations to the same text and ids as the base's.

    Where the template renders today's date, the run's date is put into `tokenizer` first.
    """
    if policy.config.date is not None:
        tokenizer.chat_template = with_date(tokenizer.get_chat_template(), policy.config.date)
    for messages in conversations:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        for tokenize in (False, True):
            options = {"add_generation_prompt": True, "tokenize": tokenize, **policy.template_arguments}
            theirs, ours = (t.apply_chat_template(turns, **options) for t in (tokenizer, policy.tokenizer))
            if theirs != ours:
                raise ModelError(
                    "the exported tokenizer or chat template renders a prompt otherwise than the base does"
                )


def _continue(model: Any, prompt: torch.Tensor, pad_id: int) -> torch.Tensor:
    """Return prompt (1, T) and greedy answer as (T + N,), as plain `generate` writes it."""
    settings = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "pad_token_id": pad_id}
    mask = prompt.new_ones(prompt.shape)
    return model.generate(prompt, attention_mask=mask, max_new_tokens=NEW_TOKENS, **settings)[0]


def _logits(model: Any, tokens: torch.Tensor, start: int) -> torch.Tensor:
    """Return the logits (N, V) that predict tokens[start:]."""
    import torch

    with torch.inference_mode():
        return model(tokens[None, :-1]).logits[0, start - 1 :].float()
