"""Validation of the prompts before a run spends anything: usable splits, near-duplicates, length, chat template."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from ..config import PromptsConfig
from ..config_file import expanded
from ..errors import ModelError, PromptError
from ..memory.near_duplicates import Encode, near_duplicates
from ..models.policy import Policy
from ..prompts import dataset_hint, read_rows
from ..types import Prompt, Split


def refuse_unusable(config: PromptsConfig, prompts: Sequence[Prompt]) -> None:
    """Raise a PromptError if a split has no prompts, or the audit file is missing."""
    for split in Split:
        if not any(prompt.split is split for prompt in prompts):
            raise PromptError(
                f"no {split} prompts: {len(prompts)} prompts with prompts.heldout {config.heldout:g}; "
                "add prompts or change the share"
            )
    if config.audit is not None:
        _refuse_missing_audit(config.audit, config)


def leave_out(prompts: Sequence[Prompt], vectors: np.ndarray, encode: Encode) -> frozenset[str]:
    """Return the ids of the near-duplicates of held-out prompts; `vectors` (n, d) are of the conversations.

    Raises:
        PromptError: no prompt is left to learn from.
    """
    found = near_duplicates(prompts, vectors, encode)
    train = sum(prompt.split is Split.TRAIN for prompt in prompts)
    if len(found) == train:
        raise PromptError(f"all {train} prompts to learn from are near-duplicates of held-out ones; add other prompts")
    return found


def _refuse_missing_audit(audit: str, config: PromptsConfig) -> None:
    """Raise a PromptError if the audit file, data set or column is missing; no answer is read for that."""
    if audit.startswith("hf:"):
        _, row = next(read_rows(audit, config.audit_split or config.split), (0, None))
        if config.audit_column is not None and isinstance(row, dict) and config.audit_column not in row:
            raise PromptError(f"{audit} has {', '.join(row)} but not {config.audit_column}; set prompts.audit_column")
    elif not expanded(audit).is_file():
        hint = dataset_hint(audit) or "; leave prompts.audit unset to run without one"
        raise PromptError(f"no audit file {audit}{hint}")


def refuse_unfit(prompts: Sequence[Prompt], policy: Policy, new_tokens: int) -> None:
    """Raise a PromptError for the first prompt without room for `new_tokens`, or that the chat template refuses.

    The template is tried on one prompt for each sequence of roles.
    """
    first = {tuple(m.role for m in prompt.messages): prompt for prompt in reversed(prompts)}
    for prompt in first.values():
        try:
            policy.encode(prompt.messages)
        except ModelError as error:
            raise PromptError(f"prompt {prompt.id} ({prompt.text[:40]!r} ...): {error}") from None
    for prompt in prompts:
        if not policy.fits(prompt.messages, new_tokens):
            raise PromptError(
                f"prompt {prompt.id} ({prompt.text[:40]!r} ...) has {len(policy.encode(prompt.messages))} tokens, and "
                f"sample.max_new_tokens is {new_tokens}, but the model has {policy.positions} positions; "
                "shorten the prompt or leave it out"
            )


def prompts_digest(prompts: tuple[Prompt, ...]) -> str:
    """Return the SHA-256 of ids and splits, in the order of the file."""
    return sha256("\n".join(f"{p.id} {p.split}" for p in prompts).encode()).hexdigest()
