"""Whether packed attention reproduces a model's logits, tested once per model on two short prompts."""

from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from ..models.packed_attention import packed_attention
from .prefill import prefill_groups
from .shared_prefix import Group, Prompt

_TOLERANCE = 1e-3
"""Largest difference of logits in float32, as a share of the largest logit."""
_TOLERANCE_HALF = 0.1
"""The same in bfloat16 and float16, where the plain path itself is that far from float32."""
_probed: "WeakKeyDictionary[PreTrainedModel, str]" = WeakKeyDictionary()


def misfit(model: PreTrainedModel, longest: int) -> str:
    """Return why the packed path cannot serve rows of up to `longest` tokens, or an empty string if it can."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ("unknown",)) - {"full_attention"}
    if kinds - {"unknown", "sliding_attention"}:
        return f"it has {', '.join(sorted(kinds))} layers"
    window = getattr(config, "sliding_window", None)
    if kinds and window is not None and window < longest:
        return f"its window of {window} tokens is shorter than rows of {longest}"
    if model not in _probed:
        _probed[model] = _probe(model)
    return _probed[model]


def _probe(model: PreTrainedModel) -> str:
    """Compare logits of two short prompts on a shared prefix with the model's own."""
    if not model._can_set_attn_implementation():
        return "its attention cannot be exchanged"
    size = model.config.get_text_config().vocab_size
    texts = [tuple((7 * i + 3 * text * (i > 3)) % size for i in range(1, 8 - text)) for text in (0, 1)]
    group = Group(3, tuple(Prompt(ids, (row,)) for row, ids in enumerate(texts)))
    with torch.inference_mode():
        expected = torch.stack([model(torch.tensor([ids], device=model.device)).logits[0, -1] for ids in texts]).float()
        try:
            with packed_attention(model):
                _, filled = prefill_groups(model, [group])
                logits = filled.logits.float()
        except NotImplementedError as error:
            return str(error)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}".splitlines()[0]
    limit = _TOLERANCE if model.dtype in (torch.float32, torch.float64) else _TOLERANCE_HALF
    gap = ((logits - expected).abs().max() / expected.abs().max()).item()
    return "" if gap <= limit else f"its logits differ by {gap:.2g} of their size (limit {limit})"
