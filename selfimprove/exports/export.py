"""Export: one folder that loads anywhere, written whole, and reloaded and compared before it gets its name.

Merging happens in float32 on freshly loaded base weights. A merged folder stores the base's own dtype, and all that is
not weights (config, tokenizer, chat template, generation config) travels byte for byte; GGUF rounds from float32.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import ModelConfig
from ..errors import ModelError, UserError
from ..fsio import MANIFEST, new_folder, write_json
from ..models.policy import ADAPTER_FILES, PLAIN_TEMPLATE, Policy
from ..models.sources import WANTED, load_gguf
from ..types import VOTERS, Message, Split
from .gguf import WEIGHTS, as_stored, template_in, write_gguf
from .model_card import KNOWN_BASES, Learnt, model_card
from .ollama import modelfile, take_apart
from .verify import Probe, check_tokens, check_weights, gap, limit, load_tokenizer, probe, same_text

if TYPE_CHECKING:
    from ..memory import ResponseMemory

FORMS = ("merged", "adapter", "gguf", "ollama")

CONVERSATIONS = 20
"""Held-out prompts whose greedy answers are compared."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What reloading showed: how weights are stored, the size in bytes, and how near it is to the adapter in memory.

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
    """What is exported: the base, its adapter, the model with both side by side, and what that answers."""

    config: ModelConfig
    policy: Policy
    adapter: Path
    adapted: Any
    probes: tuple[Probe, ...]
    conversations: Sequence[tuple[Message, ...]]

    def merge(self) -> Any:
        """Return the plain model with the adapter merged, in float32; `adapted` is used up.

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
    conversations: Sequence[tuple[Message, ...]],
    weights: str = "f16",
) -> Comparison:
    """Write the base model with a PEFT adapter folder merged in, or that adapter alone, to the new folder `out`.

    `form` is one of `FORMS`, `weights` how `gguf` and `ollama` store matrices. `card` becomes its README.md; the
    conversations are what the reloaded model is compared on.

    Raises:
        UserError: no such form.
        ModelError: `out` exists or cannot be, the adapter does not fit, or the reloaded model is another than the one
            in memory; nothing is left at `out` then.
    """
    writers: dict[str, Callable[[_Source, Path], tuple[Any, Any, str]]] = {
        "merged": _write_merged,
        "adapter": _write_adapter,
        "gguf": lambda source, folder: _write_gguf(source, folder, weights),
        "ollama": lambda source, folder: _write_ollama(source, folder, weights),
    }
    _refuse(form, weights, out)
    policy = _load(model)
    adapted = Policy.attach(policy.model, adapter)  # beside its weights, not merged: what the merge must equal
    probes = tuple(probe(adapted, policy, messages) for messages in conversations)
    with new_folder(out) as folder:
        source = _Source(model, policy, adapter, adapted, probes, conversations)
        written, tokenizer, dtype = writers[form](source, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        check_tokens(policy, tokenizer, conversations)
        found = gap(written, probes)
        if not math.isfinite(found):
            raise ModelError("the exported model computes no finite logits; nothing was written")
        equal = sum(same_text(written, asked, found, policy.pad_id) for asked in probes)
        size = sum(file.stat().st_size for file in folder.iterdir())
        return Comparison(dtype, size, found, len(probes), equal)


def _refuse(form: str, weights: str, out: Path) -> None:
    if form not in FORMS:
        raise UserError(f"no export as {form!r}; there is {', '.join(FORMS)}")
    if weights not in WEIGHTS:
        raise UserError(f"no GGUF weights {weights!r}; there is {', '.join(WEIGHTS)}")
    _refuse_taken(out)


def _refuse_taken(out: Path) -> None:
    """Refuse a path where something is, a link that leads nowhere included, or where no folder can be."""
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


def _load(model: ModelConfig) -> Policy:
    return Policy.load(model.model_copy(update={"dtype": "float32", "device": "cpu"}))


# -- the forms: each writes into a folder and returns model and tokenizer read back from it, and how weights are stored


def _write_merged(source: _Source, folder: Path) -> tuple[Any, Any, str]:
    import torch

    dtype = stored_dtype(source.policy.folder)
    merged = source.merge().to(getattr(torch, dtype))
    merged.save_pretrained(folder)
    _copy_side_files(source.policy, folder)
    written = _load(ModelConfig(path=str(folder))).model
    check_weights(written.state_dict(), merged.state_dict(), lambda tensor: tensor.float())
    return written, load_tokenizer(folder), dtype


def _write_adapter(source: _Source, folder: Path) -> tuple[Any, Any, str]:
    for name in ADAPTER_FILES:
        shutil.copyfile(source.adapter / name, folder / name)
    if source.config.path in KNOWN_BASES:  # a name of ours, which PEFT could not find
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        hub_id, _ = KNOWN_BASES[source.config.path]
        write_json(folder / "adapter_config.json", settings | {"base_model_name_or_path": hub_id})
    _copy_side_files(source.policy, folder, but={"config.json", "generation_config.json"})  # the base has them
    written = _load(source.config)
    written.use(folder)
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
    if template_in(file) != source.policy.tokenizer.get_chat_template():
        raise ModelError("the GGUF file holds another chat template than the base")
    return written, tokenizer, weights


def _write_ollama(source: _Source, folder: Path, weights: str) -> tuple[Any, Any, str]:
    from jinja2 import TemplateError

    tokenizer = source.policy.tokenizer

    def render(messages: Sequence[Message], opened: bool) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        return tokenizer.apply_chat_template(turns, add_generation_prompt=opened, tokenize=False)

    try:
        turns = take_apart(render)
    except TemplateError as error:
        raise ModelError(f"this chat template refuses a plain conversation: {error}; export gguf instead") from None
    for messages in source.conversations:
        if turns.render(messages) != render(messages, True):
            raise ModelError("the Ollama template renders a prompt otherwise than the base does; export gguf instead")
    stops = [tokenizer.convert_ids_to_tokens(id_) for id_ in source.policy.eos_ids]
    (folder / "Modelfile").write_text(modelfile(f"model-{weights}.gguf", turns, stops), encoding="utf-8")
    return _write_gguf(source, folder, weights)


def stored_dtype(folder: Path) -> str:
    """Return the name of the dtype that a folder's weights are stored in, read from the weights themselves."""
    from safetensors import safe_open

    with safe_open(min(folder.glob("*.safetensors")), "pt") as file:
        return str(file.get_tensor(min(file.keys())).dtype).removeprefix("torch.")


def _copy_side_files(policy: Policy, folder: Path, but: Set[str] = frozenset()) -> None:
    """Copy the base's files that are not weights, over what is there."""
    for file in {file for pattern in WANTED for file in policy.folder.glob(pattern)}:
        weights = file.suffix == ".safetensors" or file.name.endswith(".index.json")
        if not weights and file.name not in but | {MANIFEST}:
            shutil.copyfile(file, folder / file.name)
    if not policy.has_chat_template:  # the answers were learned behind this one
        (folder / "chat_template.jinja").write_text(PLAIN_TEMPLATE, encoding="utf-8")


def export_run(folder: Path, out: Path, *, round_: int | None = None, form: str, weights: str = "f16") -> str:
    """Export a run's current policy, or that of a round, and return what to tell the user.

    Raises:
        UserError: see `prepare_export`.
        ModelError: see `export`.
    """
    return prepare_export(folder, out, round_=round_, form=form, weights=weights)()


def prepare_export(
    folder: Path, out: Path, *, round_: int | None = None, form: str, weights: str = "f16"
) -> Callable[[], str]:
    """Return what exports and says so, once all that can be seen at a glance speaks for it.

    Raises:
        UserError: there is nothing to export: the policy is the base, its adapter is not there, or no summary is.
        ModelError: `out` exists.
    """
    from ..memory import ResponseMemory
    from ..run.folder import adapter_folder, saved_config

    config = saved_config(folder)
    with ResponseMemory.open(folder / "memory.db") as memory:
        policy = memory.current if round_ is None else f"r{round_:04d}"
        prompts = (memory.prompts(Split.HELDOUT) or memory.prompts(Split.TRAIN))[:CONVERSATIONS]
    adapter = adapter_folder(folder, policy)
    if adapter is None:
        raise UserError(
            f"the current policy of {folder} is the base model itself, nothing to export; selfimprove status {folder} "
            "lists the rounds, --round exports one"
        )
    if not adapter.is_dir():
        raise UserError(f"there is no adapter {adapter}; selfimprove status {folder} lists the rounds")
    if not (folder / "summary.json").is_file():
        raise UserError(f"the run {folder} is not finished; go on with it: add --resume to the command that started it")
    _refuse(form, weights, out)
    with ResponseMemory.open(folder / "memory.db") as memory:
        summary = _summary(folder, memory, policy)
        card = model_card(config, summary, policy, form, _learnt(memory, int(policy.removeprefix("r"))))
    conversations = [p.messages for p in prompts]

    def write() -> str:
        done = export(config.model, adapter, out, form=form, card=card, conversations=conversations, weights=weights)
        return (
            f"wrote {out}: {form}, {done.dtype}, {done.size / 1e6:.0f} MB\n"
            f"reloaded: largest logit difference {done.gap:.1g}, {done.equal} of {done.texts} greedy texts equal"
        )

    return write


def _summary(folder: Path, memory: ResponseMemory, policy: str) -> dict[str, Any]:
    """Return the run's figures as in summary.json; accuracy is that of `policy` where its round was audited."""
    from ..reports.figures import load_figures

    figures = load_figures(folder, memory)
    own = figures.heldout_of(int(policy.removeprefix("r")))
    return figures.summary() | ({"heldout": own, "measured": policy} if own else {"measured": figures.measured})


def _learnt(memory: ResponseMemory, round_: int) -> Learnt:
    from ..run.folder import noted_twins

    return Learnt(
        prompts=len(memory.prompts(Split.TRAIN)) - len(noted_twins(memory)),
        responses=len(memory.responses(rounds=range(1, round_ + 1), origins=VOTERS)),
        survivors=sum(verdict.kept for verdict in memory.verdicts(round_).values()),
    )
