"""Gradient checkpointing: memory for time (Chen et al. 2016, "Training deep nets with sublinear memory cost")."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch.nn import Module, ModuleList
from torch.utils.checkpoint import checkpoint

from ..errors import TrainingError
from ..models.packed_attention import attention


@contextmanager
def checkpointed(model: Any) -> Iterator[None]:
    """Recompute each decoder layer from its input in the backward pass; its activations are not kept.

    transformers' own setting works in training mode alone, which would switch dropout on.

    Raises:
        TrainingError: the decoder's layers cannot be found.
    """
    layers = decoder_layers(model)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of the forward pass and of the recomputation, which needs the same attention function."""
        return nullcontext(), attention(model, model.config._attn_implementation)

    for layer in layers:
        # no random numbers are drawn, so there is no state of a generator to restore
        layer.forward = partial(
            checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
        )
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def decoder_layers(model: Any) -> list[Module]:
    """Return the decoder's layers, first to last: the first list of as many modules as the model has layers.

    Raises:
        TrainingError: there is no such list.
    """
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, ModuleList) and len(module) == count:
            return list(module)
    raise TrainingError(f"{type(model).__name__} has no list of {count} layers; set train.checkpointing to false")
