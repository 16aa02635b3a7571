"""Export of a policy for transformers, PEFT, llama.cpp or Ollama, reloaded and compared before it is published.

Merging happens in float32 on freshly loaded base weights. A merged folder stores the base's dtype unless another is
asked for; config, tokenizer, chat template and generation config are copied byte for byte, but for end-of-turn tokens
that the base's generation config lacks. GGUF rounds from float32.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import ModelConfig
from ..errors import ModelError, UserError
from ..fsio import MANIFEST, new_folder, write_json
from ..models.loading import load_tokenizer, quantization
from ..models.policy import ADAPTER_FILES, Policy, eos_set
from ..models.sources import WANTED, disk_faults, load_gguf, read_settings
from ..models.template import PLAIN_TEMPLATE, with_date
from ..types import Message
from .gguf import WEIGHTS, as_stored, template_in, write_gguf
from .model_card import KNOWN_BASES, PAGE
from .ollama import modelfile, parse_template
from .verify import Probe, check_tokens, check_weights, gap, limit, probe, same_text

FORMS = ("merged", "adapter", "gguf", "ollama")

GENERATION = "generation_config.json"

DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Names of the dtypes that weights can be exported in, in safetensors and in torch."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of reloading an export: dtype, size in bytes, and distance from the model in memory.

    `gap` is the largest |logit difference|, the rounding to `dtype` included; `equal` of `texts` greedy texts are
    the same, and the others part where two tokens tie within that gap.
    """

    dtype: str
    size: int
    gap: float
    texts: int
    equal: int


@dataclass(frozen=True, slots=True)
class _Source:
    """Input of an export: base, adapter, the model with the adapter attached but not merged, and its answers."""

    config: ModelConfig
    policy: Policy
    adapter: Path
    adapted: Any
    probes: tuple[Probe, ...]
    conversations: Sequence[tuple[Message, ...]]

    def merge(self) -> Any:
        """Return the model with the adapter merged, in float32; `adapted` must not be used afterwards.

        Raises:
            ModelError: the base is quantized, or merging changed an answer.
        """
        if getattr(self.adapted.config, "quantization_config", None) is not None:
            raise ModelError("nothing can be merged into a quantized base model; export the adapter: --as adapter")
        merged = self.adapted.merge_and_unload(safe_merge=True)
        limit(gap(merged, self.probes))
        return merged


def export(
    model: ModelConfig,
    adapter: Path,
    out: Path,
    *,
    form: str,
    card: str,
    page: str | None = None,
    conversations: Sequence[tuple[Message, ...]],
    weights: str = "f16",
    dtype: str | None = None,
    fingerprint: str | None = None,
) -> Comparison:
    """Write the base model with a PEFT adapter folder merged in, or that adapter alone, to the new folder `out`.

    Args:
        model: the base model.
        adapter: the PEFT adapter folder.
        out: the folder to write.
        form: one of `FORMS`.
        card: becomes its README.md.
        page: becomes its report.html, to which the card links; None: there is none.
        conversations: prompts to compare the reloaded model on.
        weights: how `gguf` and `ollama` store matrices.
        dtype: float32, bfloat16 or float16, of a `merged` folder; None: the base's own.
        fingerprint: that of the base the adapter was trained on; None: not compared.

    Raises:
        UserError: no such form.
        ModelError: `out` exists or cannot be written, the base is another one, the adapter does not fit, or the
            reloaded model is another than the one in memory; nothing is left at `out` then.
    """
    writers: dict[str, Callable[[_Source, Path], tuple[Any, Any, str]]] = {
        "merged": lambda source, folder: _write_merged(source, folder, dtype),
        "adapter": _write_adapter,
        "gguf": lambda source, folder: _write_gguf(source, folder, weights),
        "ollama": lambda source, folder: _write_ollama(source, folder, weights),
    }
    refuse_export(form, weights, dtype, out)
    policy = _load(model, fingerprint)
    policy.model.generation_config.eos_token_id = list(policy.eos_ids)  # a base's may be the end of a document alone
    adapted = Policy.attach(policy.model, adapter)  # not merged: the reference for the merge
    probes = tuple(probe(adapted, policy, messages) for messages in conversations)
    with disk_faults(out), new_folder(out) as folder:
        source = _Source(model, policy, adapter, adapted, probes, conversations)
        written, tokenizer, dtype = writers[form](source, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        if page is not None:
            (folder / PAGE).write_text(page, encoding="utf-8")
        check_tokens(policy, tokenizer, conversations)
        found = gap(written, probes)
        if not math.isfinite(found):
            raise ModelError("the exported model computes no finite logits; nothing was written")
        equal = sum(same_text(written, asked, found, policy.pad_id) for asked in probes)
        size = sum(file.stat().st_size for file in folder.iterdir())
        return Comparison(dtype, size, found, len(probes), equal)


def refuse_export(form: str, weights: str, dtype: str | None, out: Path) -> None:
    """Refuse what can be refused before a model is loaded.

    Raises:
        UserError: no such form, or an option that the form does not have.
        ModelError: `out` exists or cannot be written.
    """
    if form not in FORMS:
        raise UserError(f"no export as {form!r}; there is {', '.join(FORMS)}")
    if weights not in WEIGHTS:
        raise UserError(f"no GGUF weights {weights!r}; there is {', '.join(WEIGHTS)}")
    if dtype is not None and form != "merged":
        raise UserError(f"a dtype is for --as merged alone; {form} " + _STORED[form])
    _refuse_taken(out)


_STORED = dict.fromkeys(("gguf", "ollama"), "takes --weights") | {"adapter": "is stored in float32"}


def _refuse_taken(out: Path) -> None:
    """Refuse a path that exists, dangling links included, or whose parent is no folder."""
    try:
        out.lstat()
    except FileNotFoundError:
        above = next(folder for folder in out.absolute().parents if os.path.lexists(folder))
        if not above.is_dir():
            raise ModelError(f"{out} cannot be written: {above} is no folder; choose another place") from None
    except OSError as error:
        raise ModelError(f"{out} cannot be written: {error.strerror}; choose another place") from None
    else:
        raise ModelError(f"{out} exists already; choose a new folder, or delete it first")


def _load(model: ModelConfig, fingerprint: str | None = None) -> Policy:
    # with model.quantize the adapter goes on the weights as they are stored: into quantized ones nothing can be merged
    return Policy.load(model.model_copy(update={"dtype": "float32", "device": "cpu", "quantize": "none"}), fingerprint)


# -- writers: each fills a folder and returns the model and tokenizer read back from it, and the stored dtype


def _write_merged(source: _Source, folder: Path, dtype: str | None) -> tuple[Any, Any, str]:
    import torch

    base = source.policy.folder
    own = stored_dtype(base)
    dtype = dtype or own
    merged = source.merge().to(getattr(torch, dtype))
    merged.save_pretrained(folder)
    _copy_side_files(source.policy, folder)
    if dtype != own or quantization(base):
        settings = read_settings(base / "config.json") | {"dtype": dtype}
        unfit = {"quantization_config", "torch_dtype"}
        write_json(folder / "config.json", {key: value for key, value in settings.items() if key not in unfit})
    written = _load(ModelConfig(path=str(folder))).model
    check_weights(written.state_dict(), merged.state_dict(), lambda tensor: tensor.float())
    return written, load_tokenizer(folder), dtype


def _write_adapter(source: _Source, folder: Path) -> tuple[Any, Any, str]:
    for name in ADAPTER_FILES:
        shutil.copyfile(source.adapter / name, folder / name)
    if source.config.path in KNOWN_BASES:  # PEFT knows no bundled names
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        hub_id, _ = KNOWN_BASES[source.config.path]
        write_json(folder / "adapter_config.json", settings | {"base_model_name_or_path": hub_id})
    _copy_side_files(source.policy, folder, but={"config.json"})  # the base has it
    written = _load(source.config)
    written.use(folder)
    written.model.generation_config.eos_token_id = read_settings(folder / GENERATION)["eos_token_id"]
    limit(gap(written.model, source.probes))
    return written.model, load_tokenizer(folder), stored_dtype(folder)


def _write_gguf(source: _Source, folder: Path, weights: str) -> tuple[Any, Any, str]:
    import torch

    file = folder / f"model-{weights}.gguf"
    merged = source.merge()
    write_gguf(merged, source.policy, file, weights)
    written, tokenizer = load_gguf(file)
    written.generation_config = merged.generation_config  # a GGUF names one end of turn only
    check_weights(
        written.state_dict(), merged.state_dict(), lambda tensor: torch.from_numpy(as_stored(tensor.numpy(), weights))
    )
    if template_in(file) != source.policy.template:
        raise ModelError("the GGUF file holds another chat template than the base")
    return written, tokenizer, weights


def _write_ollama(source: _Source, folder: Path, weights: str) -> tuple[Any, Any, str]:
    from jinja2 import TemplateError

    policy, tokenizer = source.policy, source.policy.tokenizer
    if policy.config.date is not None:
        _refuse_date(policy)

    def render(messages: Sequence[Message], opened: bool) -> str:
        return _render(policy, messages, opened, tokenizer.chat_template)

    try:
        turns = parse_template(render)
    except TemplateError as error:
        raise ModelError(f"this chat template refuses a plain conversation: {error}; export gguf instead") from None
    for messages in source.conversations:
        if turns.render(messages) != render(messages, True):
            raise ModelError("the Ollama template renders a prompt otherwise than the base does; export gguf instead")
    stops = [tokenizer.convert_ids_to_tokens(id_) for id_ in policy.eos_ids]
    stops += policy.stop.strings if policy.stop else ()
    (folder / "Modelfile").write_text(modelfile(f"model-{weights}.gguf", turns, stops), encoding="utf-8")
    return _write_gguf(source, folder, weights)


def _render(policy: Policy, messages: Sequence[Message], opened: bool, template: str) -> str:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    return policy.tokenizer.apply_chat_template(
        turns,
        add_generation_prompt=opened,
        tokenize=False,
        chat_template=template,
        **policy.template_arguments,
    )


def _refuse_date(policy: Policy) -> None:
    """Refuse a template that renders the date: a Modelfile would keep the run's."""
    asked = [Message("user", "a")]
    days = (dt.date(2001, 1, 1), dt.date(2012, 12, 12))
    first, second = (_render(policy, asked, True, with_date(policy.template, day)) for day in days)
    if first != second:
        raise ModelError("this chat template renders today's date, which no Modelfile can; export gguf instead")


def stored_dtype(folder: Path) -> str:
    """Return the dtype that most of a folder's weights are stored in; bfloat16 where that is none to export in."""
    from safetensors import safe_open

    sizes: Counter[str] = Counter()
    for shard in folder.glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - a file is no mapping
                tensor = file.get_slice(name)
                if tensor.get_dtype().startswith(("F", "BF")):  # masks and packed weights are integers
                    sizes[tensor.get_dtype()] += math.prod(tensor.get_shape())
    return DTYPES.get(max(sizes, key=sizes.__getitem__), "bfloat16")


def _copy_side_files(policy: Policy, folder: Path, but: Set[str] = frozenset()) -> None:
    """Copy the base's files other than weights, over those in `folder`; generate then stops at all ends of a turn."""
    for file in {file for pattern in WANTED for file in policy.folder.glob(pattern)}:
        weights = file.suffix == ".safetensors" or file.name.endswith(".index.json")
        if not weights and file.name not in but | {MANIFEST}:
            shutil.copyfile(file, folder / file.name)
    settings = read_settings(folder / GENERATION) if (folder / GENERATION).is_file() else {}
    if eos_set(settings.get("eos_token_id")) != set(policy.eos_ids):
        write_json(folder / GENERATION, settings | {"eos_token_id": list(policy.eos_ids)})
    if not policy.has_chat_template:  # the one it was trained with
        (folder / "chat_template.jinja").write_text(PLAIN_TEMPLATE, encoding="utf-8")
