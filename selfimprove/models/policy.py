"""The model: loading, adapters, and the ONE place where messages become tokens."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import ModelConfig
from ..errors import ModelError, first_line
from ..fsio import folder_digest
from ..types import Message
from .sources import resolve_model

if TYPE_CHECKING:
    import torch

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'] }}\n\n"
    "{% elif m['role'] == 'user' %}Question: {{ m['content'] }}\n"
    "{% else %}Answer: {{ m['content'] }}{{ eos_token }}\n\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)
"""Used when a tokenizer brings no chat template (base models)."""

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = ("adapter_config.json", ADAPTER_WEIGHTS)
"""What a PEFT adapter folder holds."""

NEXT_QUESTION = "\nQuestion:"
"""Where a base model without a turn end starts to ask itself the next question."""


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide a warning to PEFT's developers that attaching an adapter gives; the filters are as before at the end."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


class Policy:
    """A causal language model with its tokenizer, on one device, with at most one adapter merged in.

    `model` is always a plain transformers model: `use` merges an adapter into freshly loaded base weights, so
    rollouts pay nothing for it and base weights never drift.
    """

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        """Load the tokenizer and the base weights from a folder that `resolve_model` returned."""
        import torch
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # stages have bars of their own
        if config.threads:
            torch.set_num_threads(config.threads)
        self.folder = folder
        self.name = config.path
        self.device = _pick_device(config.device)
        self.dtype = pick_dtype(config.dtype, self.device)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot load the tokenizer in {folder}: {' '.join(str(error).split())}") from None
        self.has_chat_template = self.tokenizer.chat_template is not None
        if not self.has_chat_template:
            self.tokenizer.chat_template = PLAIN_TEMPLATE
        if "sanitize_control_tokens" not in inspect.signature(self.tokenizer.apply_chat_template).parameters:
            raise ModelError("this transformers cannot keep control tokens out of prompts; install transformers>=5.23")
        self.adapter: Path | None = None
        self.model: Any = self._load_base()
        self._check_vocabulary()

    @classmethod
    def load(cls, config: ModelConfig) -> Policy:
        """Load the model that `config.path` names: HF id, folder, GGUF file or `bundled:...`.

        Raises:
            ModelError: it cannot be found, or holds code or pickled weights.
        """
        return cls(resolve_model(config.path, config.revision), config)

    # -- weights

    def use(self, adapter: Path | None) -> None:
        """Make the model the base (None) or the base with the PEFT adapter folder merged in."""
        if adapter == self.adapter and self.model is not None:
            return
        self.model = None  # free the old weights before the new ones are read
        base = self._load_base()
        self.model = base if adapter is None else self.merge(base, adapter)
        self.adapter = adapter

    def release(self) -> None:
        """Give the weights' memory back; the next `use` loads them again."""
        import torch

        if self.model is None:
            return
        _ = self.eos_ids, self.positions  # known without the weights from here on
        self.model, self.adapter = None, None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @staticmethod
    def merge(model: Any, adapter: Path) -> Any:
        """Return `model` with a PEFT adapter folder merged into its weights (in place).

        Raises:
            ModelError: no safetensors adapter there, or one made for another base.
        """
        attached = Policy.attach(model, adapter)
        try:
            merged = attached.merge_and_unload(safe_merge=True)
        except (RuntimeError, ValueError, KeyError) as error:
            raise _misfit(adapter, first_line(error)) from None
        return merged.eval().requires_grad_(False)

    @staticmethod
    def attach(model: Any, adapter: Path) -> Any:
        """Return `model` with a PEFT adapter folder beside its weights, not merged.

        PEFT passes over tensors that have no place in the model, and only warns of those that it misses; both are
        refused.

        Raises:
            ModelError: as `merge`.
        """
        from peft import PeftModel, get_peft_model_state_dict
        from safetensors import SafetensorError, safe_open

        weights = adapter / ADAPTER_WEIGHTS
        if not weights.is_file():
            raise ModelError(f"{adapter} holds no {weights.name}; pass a PEFT adapter folder")
        try:
            with safe_open(weights, framework="pt") as file, quiet_peft():
                warnings.filterwarnings("ignore", "Found missing adapter keys")
                attached = PeftModel.from_pretrained(model, str(adapter)).eval()
                astray = set(file.keys()) ^ get_peft_model_state_dict(attached, save_embedding_layers=False).keys()
        except (RuntimeError, ValueError, KeyError, SafetensorError) as error:
            raise _misfit(adapter, first_line(error)) from None
        if astray:
            raise _misfit(adapter, f"{len(astray)} tensors, such as {min(astray)}, are in one of the two only")
        return attached

    def _load_base(self) -> Any:
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM

        try:
            model = AutoModelForCausalLM.from_pretrained(
                self.folder, dtype=self.dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"cannot load the model in {self.folder}: {first_line(error)}") from None
        return model.to(self.device).eval().requires_grad_(False)

    def _check_vocabulary(self) -> None:
        rows = self.model.get_input_embeddings().weight.shape[0]
        if len(self.tokenizer) > rows:
            raise ModelError(
                f"the tokenizer has {len(self.tokenizer)} tokens but the model embeds {rows}; "
                "they do not belong together"
            )

    @cached_property
    def fingerprint(self) -> str:
        """One sha256 over the model folder: weights, config, tokenizer, chat template."""
        return folder_digest(self.folder)

    # -- tokens

    def encode(self, messages: Sequence[Message], prefix: str = "") -> list[int]:
        """Return the ids of a conversation up to and including the start of the assistant's turn and its `prefix`.

        Control tokens that occur in contents or prefix become plain text: data cannot end a turn.

        Raises:
            ModelError: the chat template does not take these turns.
        """
        from jinja2 import TemplateError

        conversation = [{"role": m.role, "content": m.content} for m in messages]
        try:
            rendered = self.tokenizer.apply_chat_template(
                conversation, add_generation_prompt=True, tokenize=True, sanitize_control_tokens=True
            )
        except (TemplateError, ValueError) as error:
            raise ModelError(
                f"the chat template of {self.name} refuses the turns {', '.join(m.role for m in messages)}: "
                f"{first_line(error)}; change or leave out that prompt"
            ) from None
        return list(rendered["input_ids"]) + (self._begun(prefix) if prefix else [])

    def fits(self, messages: Sequence[Message], new_tokens: int, prefix: str = "") -> bool:
        """Return whether a conversation and so many new tokens fit the model's positions.

        No token is less than a byte, so what is short in bytes is not encoded (half is left to the template).
        """
        if self.positions is None:
            return True
        size = len("".join([*(m.content for m in messages), prefix]).encode("utf-8", "replace"))
        if 2 * (size + new_tokens) <= self.positions:
            return True
        return len(self.encode(messages, prefix)) + new_tokens <= self.positions

    def encode_completion(self, text: str) -> list[int]:
        """Return the ids of a whole assistant turn: the text, then the end of the turn."""
        return [*self._begun(text), self.end_of_turn]

    def _begun(self, text: str) -> list[int]:
        """Return the ids of the beginning of an assistant turn; behind a plain "Answer:" it is a word of its own."""
        return self.plain(text if self.has_chat_template else f" {text}")

    def plain(self, text: str) -> list[int]:
        """Return the ids of `text` with control tokens as plain characters and nothing added."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a turn's tokens: control tokens removed, outer white space stripped."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if not self.has_chat_template:
            text = text.split(NEXT_QUESTION, 1)[0]
        return text.strip()

    @cached_property
    def positions(self) -> int | None:
        """Most tokens that a row may hold, prompt and answer together; None where the model sets no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token id that ends a turn, sorted."""
        configured = self.model.generation_config.eos_token_id
        ids = set(configured if isinstance(configured, list) else [configured])
        ids |= {self.tokenizer.eos_token_id, self.end_of_turn}
        return tuple(sorted(i for i in ids if i is not None))

    @cached_property
    def end_of_turn(self) -> int:
        """The token that this chat template closes an assistant turn with; the EOS token where it has none.

        Raises:
            ModelError: the tokenizer has neither.
        """
        turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        closed = self.tokenizer.apply_chat_template(turn, tokenize=True)["input_ids"]
        special = set(self.tokenizer.all_special_ids)
        tail = []
        for token in reversed(closed):
            if token not in special and self.tokenizer.decode([token]).strip():
                break
            tail.append(token)
        ends = [token for token in reversed(tail) if token in special]
        if ends:
            return ends[0]
        if self.tokenizer.eos_token_id is None:
            raise ModelError("the tokenizer has no end-of-sequence token; set eos_token in its tokenizer_config.json")
        return self.tokenizer.eos_token_id

    @property
    def pad_id(self) -> int:
        """A filler id; padding is masked by length, never by value, so it may equal the EOS."""
        pad = self.tokenizer.pad_token_id
        return self.eos_ids[0] if pad is None else pad


def _misfit(adapter: Path, why: str) -> ModelError:
    return ModelError(f"the adapter {adapter} does not fit this base model: {why}")


def _pick_device(name: str) -> torch.device:
    import torch

    if name != "auto":
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"model.device {name!r} cannot be used here: {first_line(error)}; use auto or cpu"
            ) from None
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype asked for; `auto` is bfloat16 where the device multiplies it natively, else float32."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if native else torch.float32
