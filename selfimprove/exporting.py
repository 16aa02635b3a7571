"""Export: one folder that loads anywhere, written whole, and reloaded and compared before it gets its name.

Merging happens in float32 on freshly loaded base weights; what is stored has the base's own dtype. All that is not
weights (config, tokenizer, chat template, generation config) travels byte for byte.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .card import model_card
from .config import ModelConfig
from .errors import ModelError, UserError
from .fsio import MANIFEST, new_folder
from .model_source import WANTED
from .policy import PLAIN_TEMPLATE, Policy
from .types import Message, Split

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-3
"""Most that merging may change a logit, computed in float32."""

FORMS = ("merged", "adapter")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

NEW_TOKENS = 16
CONVERSATIONS = 20
"""How much is compared: greedy texts of so many tokens, to so many held-out prompts."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What reloading showed: the dtype stored, the size in bytes, and how near it is to the adapter in memory.

    `gap` is the largest |logit difference|, the rounding to `dtype` included; `equal` of `texts` greedy texts are
    the same, and the others part where two tokens tie within that gap.
    """

    dtype: str
    size: int
    gap: float
    texts: int
    equal: int


@dataclass(frozen=True, slots=True)
class _Probe:
    """A greedy answer: T prompt tokens, N new ones, and the logits that the new ones were chosen by."""

    tokens: torch.Tensor  # (T + N,)
    start: int  # T
    logits: torch.Tensor  # (N, V) float32


def export(
    model: ModelConfig,
    adapter: Path,
    out: Path,
    *,
    form: str,
    card: str,
    conversations: Sequence[tuple[Message, ...]],
) -> Comparison:
    """Write the base model with a PEFT adapter folder merged in, or that adapter alone, to the new folder `out`.

    `card` becomes its README.md; the conversations are what the reloaded model is compared on.

    Raises:
        UserError: no such form.
        ModelError: `out` exists, the adapter does not fit, or the reloaded model is another than the one in memory;
            nothing is left at `out` then.
    """
    if form not in FORMS:
        raise UserError(f"no export as {form!r}; there is {' and '.join(FORMS)}")
    if out.exists():
        raise ModelError(f"{out} exists already; choose a new folder, or delete it first")
    policy = _load(model)
    adapted = _attach(policy.model, adapter)
    probes = [_probe(adapted, policy, messages) for messages in conversations]
    with new_folder(out) as folder:
        if form == "merged":
            merged = _merge(adapted, probes, stored_dtype(policy.folder))
            merged.save_pretrained(folder)
            _copy_side_files(policy, folder)
            written = _load(ModelConfig(path=str(folder)))
            _check_weights(written.model, merged)
        else:
            for name in ADAPTER_FILES:
                shutil.copyfile(adapter / name, folder / name)
            _copy_side_files(policy, folder, but={"config.json", "generation_config.json"})  # the base has them
            written = _load(model)
            written.use(folder)
            _limit(_gap(written.model, probes))
        (folder / "README.md").write_text(card, encoding="utf-8")
        _check_tokens(policy, folder, conversations)
        gap = _gap(written.model, probes)
        equal = sum(_same_text(written, probe, gap) for probe in probes)
        size = sum(file.stat().st_size for file in folder.iterdir())
        return Comparison(stored_dtype(folder), size, gap, len(probes), equal)


def _load(model: ModelConfig) -> Policy:
    return Policy.load(model.model_copy(update={"dtype": "float32", "device": "cpu"}))


def _attach(model: Any, adapter: Path) -> Any:
    """Return the model with the adapter beside its weights, not merged: what the merge must equal."""
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"{adapter} holds no adapter_model.safetensors; pass a PEFT adapter folder")
    try:
        return PeftModel.from_pretrained(model, str(adapter)).eval()
    except (RuntimeError, ValueError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ModelError(f"the adapter {adapter} does not fit this base model: {first_line}") from None


def _merge(adapted: Any, probes: Sequence[_Probe], dtype: str) -> Any:
    """Return the plain model with the adapter merged in float32, then rounded to `dtype`.

    Raises:
        ModelError: the base is quantized, or merging changed an answer.
    """
    import torch

    if getattr(adapted.config, "quantization_config", None) is not None:
        raise ModelError("nothing can be merged into a quantized base model; export the adapter: --as adapter")
    merged = adapted.merge_and_unload(safe_merge=True)
    gap = _gap(merged, probes)
    if not gap < TOLERANCE:  # NaN is a mismatch too
        raise ModelError(
            f"merging changed a logit by {gap:.2g} (limit {TOLERANCE:g}); export the adapter: --as adapter"
        )
    return merged.to(getattr(torch, dtype))


def _limit(gap: float) -> None:
    if not gap < TOLERANCE:  # NaN is a mismatch too
        raise ModelError(f"merging the adapter changes a logit by {gap:.2g} (limit {TOLERANCE:g}): not exported")


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


def _check_weights(written: Any, merged: Any) -> None:
    import torch

    found = written.state_dict()
    for name, tensor in merged.state_dict().items():
        if name not in found or not torch.equal(found[name], tensor.float()):
            raise ModelError(f"{name} was not read back as it was written; this base cannot be exported merged")


def _check_tokens(policy: Policy, folder: Path, conversations: Sequence[tuple[Message, ...]]) -> None:
    """Refuse a tokenizer that renders a conversation to another text or to other ids than the base's does."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    for messages in conversations:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        for tokenize in (False, True):
            theirs, ours = (
                t.apply_chat_template(turns, add_generation_prompt=True, tokenize=tokenize)
                for t in (tokenizer, policy.tokenizer)
            )
            if theirs != ours:
                raise ModelError(
                    "the exported tokenizer or chat template renders a prompt otherwise than the base does"
                )


def _probe(model: Any, policy: Policy, messages: tuple[Message, ...]) -> _Probe:
    import torch

    prompt = torch.tensor([policy.encode(messages)])
    tokens = _continue(model, prompt, policy.pad_id)
    return _Probe(tokens, prompt.shape[1], _logits(model, tokens, prompt.shape[1]))


def _continue(model: Any, prompt: torch.Tensor, pad_id: int) -> torch.Tensor:
    """Return prompt (1, T) and greedy answer as (T + N,), as plain `generate` writes it."""
    settings = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "pad_token_id": pad_id}
    return model.generate(prompt, attention_mask=prompt.new_ones(prompt.shape), max_new_tokens=NEW_TOKENS, **settings)[
        0
    ]


def _logits(model: Any, tokens: torch.Tensor, start: int) -> torch.Tensor:
    """Return the logits (N, V) that predict tokens[start:]."""
    import torch

    with torch.inference_mode():
        return model(tokens[None, :-1]).logits[0, start - 1 :].float()


def _gap(model: Any, probes: Sequence[_Probe]) -> float:
    """Return max |logit difference| on the probes' answers."""
    return max(float((_logits(model, p.tokens, p.start) - p.logits).abs().max()) for p in probes)


def _same_text(written: Policy, probe: _Probe, gap: float) -> bool:
    """Return whether the greedy answer is the same.

    Raises:
        ModelError: it is not, and not because two tokens tie: no change below `gap` explains it.
    """
    tokens = _continue(written.model, probe.tokens[None, : probe.start], written.pad_id)
    shared = min(len(tokens), len(probe.tokens))
    differing = (tokens[:shared] != probe.tokens[:shared]).nonzero()
    if not len(differing):
        if len(tokens) != len(probe.tokens):
            raise ModelError("the exported model ends its turns elsewhere; its generation config is not the base's")
        return True
    first = int(differing[0])
    logits = probe.logits[first - probe.start]
    margin = float(logits[probe.tokens[first]] - logits[tokens[first]])
    if margin > 2 * gap + TOLERANCE:
        raise ModelError(f"the exported model prefers another token by {margin:.2g} where logits differ by {gap:.2g}")
    return False


def export_run(folder: Path, out: Path, *, round_: int | None = None, form: str) -> str:
    """Export a run's current policy, or that of a round, and return what to tell the user.

    Raises:
        UserError: there is nothing to export: no round was kept, or that round trained none.
        ModelError: see `export`.
    """
    from .memory import ResponseMemory
    from .run import adapter_folder, saved_config

    config = saved_config(folder)
    with ResponseMemory.open(folder / "memory.db") as memory:
        policy = memory.current if round_ is None else f"r{round_:04d}"
        prompts = (memory.prompts(Split.HELDOUT) or memory.prompts(Split.TRAIN))[:CONVERSATIONS]
    adapter = adapter_folder(folder, policy)
    if adapter is None:
        raise UserError(
            f"no round of {folder} was kept, so the best policy is the base model itself; nothing to export"
        )
    if not adapter.is_dir():
        raise UserError(f"round {round_} of {folder} trained no adapter; selfimprove status {folder} lists the rounds")
    if not (folder / "summary.json").is_file():
        raise UserError(f"the run {folder} is not finished; go on with it: add --resume to the command that started it")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    card = model_card(config, summary, policy, form)
    done = export(config.model, adapter, out, form=form, card=card, conversations=[p.messages for p in prompts])
    return (
        f"wrote {out}: {form}, {done.dtype}, {done.size / 1e6:.0f} MB\n"
        f"reloaded: largest logit difference {done.gap:.1g}, {done.equal} of {done.texts} greedy texts equal"
    )
