"""The model with its adapter, and the one place where messages become tokens."""

from __future__ import annotations

import datetime as dt
import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..answers.final import MARKS
from ..config import ModelConfig
from ..errors import ModelError, first_line
from ..fsio import folder_digest
from ..types import Message
from .loading import load_tokenizer, load_weights, pick_device, pick_dtype
from .quantized import is_quantized
from .sources import WANTED, absolute_name, hub_commit, resolve_model
from .stop_strings import StopStrings
from .template import (
    PLAIN_STOPS,
    PLAIN_TEMPLATE,
    ControlTokens,
    LeftContext,
    end_of_turn,
    plain_ids,
    tells_date,
    with_date,
)

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = ("adapter_config.json", ADAPTER_WEIGHTS)
"""Files of a PEFT adapter folder."""


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Ignore PEFT's FutureWarning about an attribute that transformers has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


@dataclass(frozen=True, slots=True)
class Turn:
    """An answer as text: control tokens removed, cut at the first stop string, outer white space stripped.

    `tokens` counts the drawn tokens that the text is made of; `stopped` says whether a stop string ended it.
    """

    text: str
    tokens: int
    stopped: bool


class Policy:
    """A causal language model with its tokenizer, on one device, with at most one adapter merged in.

    `model` is always a plain transformers model: `use` merges an adapter into freshly loaded base weights, so
    rollouts pay nothing for it and base weights never drift.
    """

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        """Load the tokenizer and the base weights from a folder that `resolve_model` returned."""
        import torch
        from transformers.utils import logging

        logging.disable_progress_bar()  # stages have bars of their own
        if config.threads:
            torch.set_num_threads(config.threads)
        self.folder = folder
        self.name = config.path
        self.device = pick_device(config.device)
        self.dtype = pick_dtype(config.dtype, self.device)
        self.tokenizer: Any = load_tokenizer(folder)
        if "sanitize_control_tokens" not in inspect.signature(self.tokenizer.apply_chat_template).parameters:
            raise ModelError("this transformers cannot keep control tokens out of prompts; install transformers>=5.23")
        self.has_chat_template = self.tokenizer.chat_template is not None
        self.template: str = self.tokenizer.get_chat_template() if self.has_chat_template else PLAIN_TEMPLATE
        """The chat template as the model brings it; the tokenizer's own copy renders a fixed date."""
        date = (config.date or dt.date.today()) if tells_date(self.template) else config.date
        self.tokenizer.chat_template = with_date(self.template, date) if date else self.template
        self.config = config.model_copy(
            update={"path": absolute_name(config.path), "commit": hub_commit(config.path, folder), "date": date}
        )
        """The settings with absolute path, commit and date: they load the same model again, anywhere and later."""
        self.template_arguments: dict[str, Any] = dict(config.template.arguments)
        """Keyword arguments of the chat template, wherever it is applied."""
        self.thinking_marks = MARKS if config.template.thinking is None else config.template.thinking
        self.stop = None if self.has_chat_template else StopStrings(PLAIN_STOPS, self._text)
        """Stop strings besides the end of the turn; None for a model with a chat template of its own."""
        self.adapter: Path | None = None
        self._stamps = self._read_stamps()
        self.model: Any = self._load_base()
        self._check_vocabulary()

    @classmethod
    def load(cls, config: ModelConfig, fingerprint: str | None = None) -> Policy:
        """Load the model that `config.path` names: HF id, folder, GGUF file or `bundled:...`.

        Args:
            config: which model, and how it is loaded.
            fingerprint: that of the model an adapter was trained on, as the run recorded it; None: not compared.

        Raises:
            ModelError: it cannot be found, holds code or pickled weights, or has another fingerprint.
        """
        folder = resolve_model(config.path, config.commit or config.revision)
        if fingerprint is not None and (found := folder_digest(folder)) != fingerprint:
            raise ModelError(
                f"the base model {config.path} is not the one that the adapter was trained on: its files have "
                f"fingerprint {found[:12]}, recorded is {fingerprint[:12]}; put the original files back in {folder}"
            )
        return cls(folder, config)

    # -- weights

    def use(self, adapter: Path | None) -> None:
        """Make the model the base (None) or the base with a PEFT adapter folder merged in (quantized: beside it)."""
        if adapter == self.adapter and self.model is not None:
            return
        self.model = None  # free the old weights before the new ones are read
        base = self._load_base()
        if adapter is None:
            self.model = base
        elif is_quantized(base):
            self.model = self.attach(base, adapter).get_base_model().requires_grad_(False)
        else:
            self.model = self.merge(base, adapter)
        self.adapter = adapter

    def release(self) -> None:
        """Free the memory of the weights; the next `use` loads them again."""
        import torch

        if self.model is None:
            return
        _ = self.eos_ids, self.positions  # cached: they are read from the weights' configuration
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

        PEFT ignores unexpected tensors and only warns of missing ones; both are errors here.

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
        if self._read_stamps() != self._stamps:
            raise ModelError(f"the files of the base model in {self.folder} changed while it was in use; put them back")
        return load_weights(self.folder, self.dtype, self.device, self.config.quantize)

    def _read_stamps(self) -> dict[str, tuple[int, int]]:
        """Return name -> (size in bytes, time of the last change in ns) of the model's files."""
        files = {file for pattern in WANTED for file in self.folder.glob(pattern)}
        return {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}

    def _check_vocabulary(self) -> None:
        """Refuse a tokenizer that gives ids the model has no embedding for.

        Ids beyond the embedding that neither text nor the chat template can produce are left alone: control tokens
        for images, or padding, that a text model was published with.
        """
        rows = self.model.get_input_embeddings().weight.shape[0]
        tokenizer = self.tokenizer
        added = tokenizer.added_tokens_decoder
        inserted = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token}
        found = [
            token
            for token, id_ in tokenizer.get_vocab().items()
            if id_ >= rows
            and not (id_ in added and added[id_].special and token not in inserted and token not in self.template)
        ]
        if found:
            raise ModelError(
                f"the tokenizer has {len(tokenizer)} tokens but the model embeds {rows}, and text can hold "
                f"{len(found)} of those beyond, such as {min(found)!r}; they do not belong together"
            )
        self._rows = rows

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

        try:
            rendered = self.render(messages)
        except (TemplateError, ValueError) as error:
            raise ModelError(
                f"the chat template of {self.name} refuses the turns {', '.join(m.role for m in messages)}: "
                f"{first_line(error)}; change or leave out that prompt"
            ) from None
        return rendered + (self._left_context.encode(prefix) if prefix else [])

    def render(self, messages: Sequence[Message]) -> list[int]:
        """Apply the chat template, up to the start of the assistant's turn, and return the ids."""
        conversation = [{"role": m.role, "content": m.content} for m in messages]
        found = self._control_tokens.within([conversation, self.template_arguments])
        return list(
            self.tokenizer.apply_chat_template(
                conversation,
                add_generation_prompt=True,
                tokenize=True,
                sanitize_control_tokens=found,
                **self.template_arguments,
            )["input_ids"]
        )

    @cached_property
    def _control_tokens(self) -> ControlTokens:
        return ControlTokens(self.tokenizer)

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
        """Return the ids of a whole assistant turn as they follow the prompt: the text, then the end of the turn."""
        return [*self._left_context.encode(text), self.end_of_turn]

    @cached_property
    def _left_context(self) -> LeftContext:
        return LeftContext(self.tokenizer, self.template_arguments)

    def encode_continuation(self, text: str, prefix: str = "") -> list[int]:
        """Return the ids of text that was written after a prompt and the `prefix` of the turn, as they follow both."""
        begun = self._left_context.encode(prefix) if prefix else []
        written = text if prefix else text.removeprefix(self._left_context.lead)
        whole = self._left_context.encode(prefix + written)
        return whole[len(begun) :] if whole[: len(begun)] == begun else self.plain(text)

    def plain(self, text: str) -> list[int]:
        """Return the ids of a text by itself, with control tokens as plain characters and nothing added."""
        return plain_ids(self.tokenizer, text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a turn's tokens up to a stop string: see `read`."""
        return self.read(ids).text

    def stops(self, more: Sequence[str]) -> StopStrings | None:
        """Return the test for the model's own stop strings and `more`; None where there are none."""
        own = self.stop.strings if self.stop else ()
        return StopStrings((*own, *more), self._text) if more else self.stop

    def read(self, ids: Sequence[int], prefix: str = "", stop: StopStrings | None = None) -> Turn:
        """Return what the tokens drawn after a prompt, and after the `prefix` of the turn, say.

        `stop` is for other stop strings than the model's own.
        """
        stop = stop or self.stop
        begun = self._left_context.encode(prefix) if prefix else []
        text = self._text([*begun, *ids])
        end = stop.find(text) if stop else None
        if end is None:
            return Turn(text.strip(), len(ids), stopped=False)
        count = len(ids)
        while count and self._text([*begun, *ids[: count - 1]]).startswith(text[:end]):
            count -= 1
        return Turn(text[:end].strip(), count, stopped=True)

    def _text(self, ids: Sequence[int]) -> str:
        """The text of tokens, without control tokens but the marks of reasoning: it would be read as the answer."""
        pieces: list[list[int]] = [[]]
        for token in ids:
            if token in self._mark_tokens:
                pieces += [[token], []]
            else:
                pieces[-1].append(token)
        return "".join(
            self._mark_tokens.get(piece[0])
            or self.tokenizer.decode(piece, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for piece in pieces
            if piece
        )

    @cached_property
    def _mark_tokens(self) -> dict[int, str]:
        """Control tokens that marks of reasoning are made of, by id; tokens that end a turn are none."""
        marks = "".join(mark for pair in self.thinking_marks for mark in pair)
        special = zip(self.tokenizer.all_special_ids, self.tokenizer.all_special_tokens, strict=True)
        return {id_: text for id_, text in special if text in marks and id_ not in self.eos_ids}

    @cached_property
    def opens_thinking(self) -> bool:
        """Whether the chat template ends with an opening mark of reasoning, so that responses begin inside it."""
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}], add_generation_prompt=True, tokenize=False, **self.template_arguments
        )
        return rendered.rstrip().endswith(tuple(opening for opening, _ in self.thinking_marks))

    @cached_property
    def positions(self) -> int | None:
        """Most tokens that a row may hold, prompt and answer together; None where the model sets no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token id that ends a turn, sorted."""
        ids = eos_set(self.model.generation_config.eos_token_id) | {self.end_of_turn}
        return tuple(sorted(ids | eos_set(self.tokenizer.eos_token_id)))

    @cached_property
    def end_of_turn(self) -> int:
        """The token that the chat template closes an assistant turn with; the EOS token where it has none.

        Raises:
            ModelError: the tokenizer has neither.
        """
        return end_of_turn(self.tokenizer, self.template_arguments)

    @property
    def pad_id(self) -> int:
        """A token to fill rows with, never attended to; an end of turn where the model embeds no padding token."""
        pad = self.tokenizer.pad_token_id
        return self.eos_ids[0] if pad is None or pad >= self._rows else pad


def eos_set(configured: int | list[int] | None) -> set[int]:
    """Return the `eos_token_id` of a generation config or tokenizer as a set."""
    return set(configured if isinstance(configured, list) else [] if configured is None else [configured])


def _misfit(adapter: Path, why: str) -> ModelError:
    return ModelError(f"the adapter {adapter} does not fit this base model: {why}")
