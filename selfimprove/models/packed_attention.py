"""The seam in transformers' attention interface through which rollouts and training lay tokens out their own way.

Both pack the tokens of many sequences into one, (1, T), so every other layer of the model computes real tokens only;
the layout that travels through the model's keyword arguments says what each of them may see.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

NAME = "selfimprove"
_UNKNOWN = ("softcap", "s_aux", "position_bias")
"""Arguments with which some architectures change the scores in ways that no layout computes."""


class Layout(Protocol):
    """Attention over packed tokens."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Return what query, (1, H, T, D), sees of key and value, (1, Hkv, T, D), as (1, T, H, D)."""


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
    """The function that transformers calls in every layer."""
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
