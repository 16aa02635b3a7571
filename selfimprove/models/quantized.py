"""Base weights in 4 or 8 bits, by bitsandbytes (QLoRA, Dettmers et al. 2023).

Such weights are read and never written: an adapter is not merged into them, which would round it away, but computed
beside them.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    import torch


def quantize_options(quantize: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return what `from_pretrained` needs to quantize while it loads, with `quantize` 4bit or 8bit.

    NF4 with doubly quantized constants is the paper's; products are computed in `dtype`.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"model.quantize={quantize} needs: pip install bitsandbytes; or set it to none")
    if quantize == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": config}


def is_quantized(model: Any) -> bool:
    """Return whether a loaded model holds quantized weights; not whether it was read from such."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def keep_gradients(model: Any) -> None:
    """Keep bitsandbytes 0.50 from repacking 4-bit weights on CPUs: its product of those has no gradient, silently.

    And from warning of its own casts at every product.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
