"""Custom attention backend of transformers for packed rollouts and training.

Both pack the tokens of many sequences into one, (1, T), so that no layer computes padding. The `layout` keyword
argument of the model defines which tokens each token attends to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

NAME = "selfimprove"
_UNKNOWN = ("softcap", "s_aux", "position_bias")
"""Arguments of some architectures' attention that no layout supports."""


class Layout(Protocol):
    """Attention over packed tokens."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Return the attention output (1, T, H, D) of query (1, H, T, D) over key and value, (1, Hkv, T, D)."""


def _forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - passed by transformers; the layout says what is visible
    scaling: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function that transformers calls in every layer."""
    odd = [name for name in _UNKNOWN if kwargs.get(name) is not None]
    if layout is None or odd:
        raise NotImplementedError(f"its attention uses {', '.join(odd)}" if odd else "it drops keyword arguments")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return layout.attend(module.layer_idx, query, key, value, scaling), None


AttentionInterface.register(NAME, _forward)


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let the model's layers attend as their `layout` argument says; what they called before is put back at the end."""
    with attention(model, NAME):
        yield


@contextmanager
def attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let the model's layers call the attention function of this name; the one before is put back at the end."""
    before = model.config._attn_implementation
    if name == before:
        yield
        return
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
