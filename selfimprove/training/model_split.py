"""A model split into decoder and output layer: hidden states that predict completion tokens, and a frozen head."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ..models.packed_attention import packed_attention
from .losses import Head
from .packing import Encoded, Packed, pack_tree, pad_rows, split_rows, split_tree

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Network:
    """A causal language model as decoder and head.

    `tree` says whether examples share a row (see `packing`); `head.weight` is None when the model's logits are not a
    plain function of its last hidden states, and the whole model must run to get them.
    """

    model: Any
    head: Head
    tree: bool
    pad_id: int

    def rows(self, examples: Sequence[Encoded], limit: int) -> Iterator[Sequence[int]]:
        """Yield consecutive indices of examples that `pack` turns into about `limit` tokens."""
        return split_tree(examples, limit) if self.tree else split_rows(examples, limit)

    def pack(self, examples: Sequence[Encoded]) -> Packed:
        """Turn examples into model input, on the model's device."""
        packed = pack_tree(examples, self.model.device) if self.tree else pad_rows(examples, self.pad_id)
        return packed.to(self.model.device)

    def states(self, packed: Packed) -> torch.Tensor:
        """Return the (N, d) states that predict the packed targets.

        They are looked up, not indexed: the gradients of a state used twice then add up in a fixed order.
        """
        return F.embedding(packed.at, self._run(packed).flatten(0, 1))

    def _run(self, packed: Packed) -> torch.Tensor:
        call = self.model if self.head.weight is None else self.model.get_decoder()
        if packed.blocks is None:
            out = call(input_ids=packed.tokens, attention_mask=packed.mask, use_cache=False)
        else:
            with packed_attention(self.model):
                out = call(
                    input_ids=packed.tokens, position_ids=packed.positions, use_cache=False, layout=packed.blocks
                )
        return out.logits if self.head.weight is None else out.last_hidden_state


@torch.no_grad()
def split_network(model: Any, examples: Sequence[Encoded], pad_id: int) -> Network:
    """Split `model` and test on two short sequences whether it can be packed; log what it cannot."""
    name = type(model).__name__
    tokens = (examples[0].prompt + examples[0].completion)[:24]
    half = len(tokens) // 2
    probe = [Encoded(tokens[:1], tokens[1:], 1.0), Encoded(tokens[:1], tokens[1:half] + tokens[:half], 1.0)]
    whole = Network(model, Head(), tree=False, pad_id=pad_id)
    flat = whole.pack(probe)
    logits = whole.states(flat)

    head = _find_head(model)
    if head is not None:
        head = _fit_scale(head, Network(model, head, tree=False, pad_id=pad_id).states(flat), logits)
    if head is None:
        log.warning(
            "%s: logits are not a function of the last hidden states alone; training computes all of them", name
        )
    padded = Network(model, head or Head(), tree=False, pad_id=pad_id)

    longest = max(len(e.prompt) + max(len(c) for c in e.completions) for e in examples)
    if longest > _window(model):
        log.warning("%s: examples are longer than a token sees; training pads one completion a row", name)
        return padded
    tree = Network(model, padded.head, tree=True, pad_id=pad_id)
    why = _obstacle(tree, tree.pack(probe), padded, flat)
    if why is not None:
        log.warning("%s: %s; training pads one completion a row", name, why)
        return padded
    return tree


def _obstacle(tree: Network, packed: Packed, padded: Network, flat: Packed) -> str | None:
    """Return why packing changes the hidden states; None if it does not."""
    try:
        shared, apart = tree.states(packed), padded.states(flat)
    except NotImplementedError as error:
        return str(error)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        return f"shared rows fail ({type(error).__name__})"
    spans = zip(packed.spans, flat.spans, strict=True)
    alike = all(_close(shared[a[0]], apart[b[0]]) for a, b in spans)
    return None if alike else "a token sees more than its ancestors"


@torch.no_grad()
def fitted_head(model: Any, ids: Sequence[int]) -> Head | None:
    """Return what makes `model`'s logits of its last hidden states, found out on the first of `ids`.

    None: its logits are not a function of those states alone.
    """
    head = _find_head(model)
    if head is None:
        return None
    tokens = torch.tensor([ids[:24]], device=model.device)
    return _fit_scale(head, model.get_decoder()(tokens).last_hidden_state[0], model(tokens).logits[0])


def _find_head(model: Any) -> Head | None:
    layer = model.get_output_embeddings()
    if not isinstance(layer, torch.nn.Linear) or not layer.weight.is_floating_point():
        return None
    if model.get_decoder() in (None, model):  # Llama4ForCausalLM finds none of its own
        return None
    config = model.config.get_text_config()
    return Head(layer.weight.detach(), layer.bias, softcap=getattr(config, "final_logit_softcapping", None))


def _fit_scale(head: Head, states: torch.Tensor, logits: torch.Tensor) -> Head | None:
    """Return the head with the factor that some families put on their logits; None when the logits differ anyhow."""
    raw = head.logits(states)
    if head.softcap is None:
        scale = float((raw * logits).sum() / (raw * raw).sum())
        head = Head(head.weight, head.bias, 1.0 if abs(scale - 1) < 1e-3 else scale)
    return head if _close(head.logits(states), logits) else None


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equality up to rounding in their dtype, accumulated over the layers."""
    coarse = max(torch.finfo(a.dtype).eps, torch.finfo(b.dtype).eps)
    return bool((a - b).norm() <= coarse**0.5 * b.norm())


def _window(model: Any) -> float:
    """Return the attention window in tokens; infinity for full attention."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    spans = [
        getattr(config, key, None)
        for key, kind in (("sliding_window", "sliding_attention"), ("attention_chunk_size", "chunked_attention"))
        if not kinds or kind in kinds
    ]
    return min((span for span in spans if span), default=float("inf"))
