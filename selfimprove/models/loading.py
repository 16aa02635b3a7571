"""Tokenizer and weights from a checked folder, on a device and in a dtype, without settings that change our calls."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, first_line
from .packed_linear import native_bfloat16
from .quantized import keep_gradients, quantize_options
from .sources import read_settings

if TYPE_CHECKING:
    import torch

CALL_SETTINGS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False, "use_cache": True}
"""Settings of config.json that change what calling a model returns, and the values that our calls rely on."""

QUANTIZERS = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "gptq": ("gptqmodel", "gptqmodel optimum"),
    "awq": ("gptqmodel", "gptqmodel"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
}
"""`quant_method` of a config.json -> (module that transformers needs to load such weights, what to install)."""


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in a folder.

    Raises:
        ModelError: it cannot be loaded, or needs a package that is not installed.
    """
    from transformers import AutoTokenizer

    alone = (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file()
    if alone and importlib.util.find_spec("sentencepiece") is None:
        raise ModelError(
            f"{folder} holds its tokenizer as tokenizer.model alone, which needs: pip install sentencepiece protobuf"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise ModelError(f"cannot load the tokenizer in {folder}: {' '.join(str(error).split())}") from None


def load_weights(folder: Path, dtype: torch.dtype, device: torch.device, quantize: str = "none") -> Any:
    """Return the causal language model in a folder, in eval mode and without gradients.

    Of its generation_config.json only token ids are kept: how text is drawn is this project's to say.

    Args:
        folder: as `resolve_model` returns it.
        dtype: of weights that are not quantized, and of activations.
        device: where the weights are put.
        quantize: 4bit or 8bit: quantize the weights while they are loaded.

    Raises:
        ModelError: it cannot be loaded, is to be quantized twice, or needs a package that is not installed.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    method = quantization(folder)
    _refuse_missing_quantizer(folder, method)
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    if quantize != "none" and method is not None:
        raise ModelError(f"the weights in {folder} are quantized already ({method}); set model.quantize to none")
    how = quantize_options(quantize, dtype) if quantize != "none" else {}
    if method == "bitsandbytes" or how:
        how["device_map"] = {"": device}  # such weights are loaded to their device, and cannot all be moved
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        for settings in {id(part): part for part in (config, config.get_text_config())}.values():
            for name, value in CALL_SETTINGS.items():
                setattr(settings, name, value)
        if method == "fp8":  # computed in `dtype` everywhere: FP8 weights can be neither merged nor trained on
            config.quantization_config["dequantize"] = True
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            generation_config=GenerationConfig(**_special_ids(folder, config)),
            dtype=dtype,
            use_safetensors=True,
            **options,
            **how,
        )
        if how:
            keep_gradients(model)
        else:
            model = model.to(device)
        if method == "fp8":  # parts of it are in bfloat16, whatever was asked for
            model = model.to(dtype)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"cannot load the model in {folder}: {first_line(error)}") from None
    return model.eval().requires_grad_(False)


def _special_ids(folder: Path, config: Any) -> dict[str, Any]:
    """Return the ids that begin, end and pad a text, of generation_config.json, or of config.json where it is not."""
    file = folder / "generation_config.json"
    settings = read_settings(file) if file.is_file() else config.get_text_config().to_dict()
    return {name: settings.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def quantization(folder: Path) -> str | None:
    """Return the `quant_method` that config.json names; None where the weights are not quantized."""
    found = read_settings(folder / "config.json").get("quantization_config")
    return str(found.get("quant_method", "")).lower() if isinstance(found, dict) else None


def _refuse_missing_quantizer(folder: Path, method: str | None) -> None:
    module, install = QUANTIZERS.get(method or "", (None, None))
    if module is not None and importlib.util.find_spec(module) is None:
        raise ModelError(
            f"the weights in {folder} are quantized with {method}, which needs: pip install {install}; "
            "or take the model that is not quantized"
        )


def pick_device(name: str) -> torch.device:
    """Return the device asked for; `auto` is the first of cuda, mps and cpu that is there.

    Raises:
        ModelError: it cannot be used here.
    """
    import torch

    if name != "auto":
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"model.device {name!r} cannot be used here: {first_line(error)}; use auto or cpu"
            ) from None
        if device.type == "cuda":
            reproducible_products()
        return device
    if torch.cuda.is_available():
        reproducible_products()
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def reproducible_products() -> None:
    """Let cuBLAS give the same bytes for the same product (its manual, 2.1.4); read at the process's first product."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype asked for; `auto` is bfloat16 where the device multiplies it natively, else float32."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and native_bfloat16()
    return torch.bfloat16 if native else torch.float32
