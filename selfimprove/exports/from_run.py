"""Export of a run's policy: its adapter, base, held-out prompts and model card from the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..models.sources import is_gguf
from ..types import VOTERS, Split
from .export import export, refuse_export
from .model_card import Learnt, model_card

if TYPE_CHECKING:
    from ..memory import ResponseMemory

CONVERSATIONS = 20
"""Held-out prompts whose greedy answers are compared."""


def export_run(
    folder: Path, out: Path, *, round_: int | None = None, form: str, weights: str = "f16", dtype: str | None = None
) -> str:
    """Export a run's current policy, or that of a round, and return what to tell the user.

    Raises:
        UserError: see `prepare_export`.
        ModelError: see `export`.
    """
    return prepare_export(folder, out, round_=round_, form=form, weights=weights, dtype=dtype)()


def prepare_export(
    folder: Path, out: Path, *, round_: int | None = None, form: str, weights: str = "f16", dtype: str | None = None
) -> Callable[[], str]:
    """Validate cheaply; return a function that exports and returns what to tell the user.

    Raises:
        UserError: there is nothing to export: the policy is the base, its adapter is not there, or no summary is.
        ModelError: `out` exists.
    """
    from ..memory import ResponseMemory
    from ..reports.html import shared_page
    from ..run.folder import adapter_folder, saved_config

    config = saved_config(folder)
    with ResponseMemory.open(folder / "memory.db") as memory:
        policy = memory.current if round_ is None else f"r{round_:04d}"
        prompts = (memory.own_prompts(Split.HELDOUT) or memory.own_prompts(Split.TRAIN))[:CONVERSATIONS]
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
    refuse_export(form, weights, dtype, out)
    if dtype is None and form == "merged" and is_gguf(config.model.path):
        dtype = _computed_dtype(folder)
    with ResponseMemory.open(folder / "memory.db") as memory:
        summary = _summary(folder, memory, policy)
        card = model_card(config, summary, policy, form, _learnt(memory, int(policy.removeprefix("r"))))
        page = shared_page(folder, memory)
        fingerprint = memory.meta("model")
    conversations = [p.messages for p in prompts]

    def write() -> str:
        done = export(
            config.model,
            adapter,
            out,
            form=form,
            card=card,
            page=page,
            conversations=conversations,
            weights=weights,
            dtype=dtype,
            fingerprint=fingerprint,
        )
        return (
            f"wrote {out}: {form}, {done.dtype}, {done.size / 1e6:.0f} MB\n"
            f"reloaded: largest logit difference {done.gap:.1g}, {done.equal} of {done.texts} greedy texts equal"
        )

    return write


def _summary(folder: Path, memory: ResponseMemory, policy: str) -> dict[str, Any]:
    """Return the run's figures as in summary.json; accuracy is that of `policy` where its round was audited."""
    from ..reports.figures import load_figures

    figures = load_figures(folder, memory)
    round_ = int(policy.removeprefix("r"))
    own = figures.heldout_of(round_)
    summary = figures.summary() | figures.what_changed(round_)
    return summary | ({"heldout": own, "measured": policy} if own else {"measured": figures.measured})


def _computed_dtype(folder: Path) -> str | None:
    """Return the dtype that a run computed in: a GGUF file's own, of 4 or 8 bits, is none to export in."""
    file = folder / "env.json"
    return json.loads(file.read_text(encoding="utf-8")).get("dtype") if file.is_file() else None


def _learnt(memory: ResponseMemory, round_: int) -> Learnt:
    from ..run.folder import recorded_left_out

    return Learnt(
        prompts=sum(p.id not in recorded_left_out(memory) for p in memory.own_prompts(Split.TRAIN)),
        responses=len(memory.responses(rounds=range(1, round_ + 1), origins=VOTERS)),
        survivors=sum(verdict.kept for verdict in memory.verdicts(round_).values()),
    )
