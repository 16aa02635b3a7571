"""Accuracy on the held-out prompts, from the user's audit file. Reports read it; vote, selection and guard do not."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..run.session import Run
from ..stages.evaluate import answers, heldout
from ..stages.reading import read_answers
from ..types import Prompt, Stage
from .answer_key import Key, is_right, load_audit
from .scores import Accuracy
from .statistics import maj_at_k

__all__ = ["Accuracy", "audit", "audited_prompts"]


def audit(run: Run) -> dict[int, Accuracy]:
    """Return the accuracy of every evaluated round (0 is the base); empty without an audit file.

    Raises:
        PromptError: the audit file cannot be read.
    """
    prompts, keys = audited_prompts(run)
    rounds = [0, *(record.round for record in run.memory.rounds())]
    measured = [r for r in rounds if run.memory.result(r, Stage.HEALTH) is not None]
    ids = {prompt.id for prompt in prompts}  # a rejected round did not answer the prompts that were added later
    measured = [r for r in measured if ids <= answers(run, r, Stage.GREEDY).keys()]
    return {r: _accuracy(run, r, prompts, keys) for r in measured} if prompts else {}


def audited_prompts(run: Run) -> tuple[list[Prompt], dict[str, Key]]:
    """Return the evaluated prompts that the audit has answers to, and all its keys by prompt id; empty without one.

    Raises:
        PromptError: the audit cannot be read.
    """
    file = run.config.prompts.audit
    keys = {} if file is None else load_audit(file, run.config.prompts)
    asked = answers(run, 0, Stage.GREEDY).keys()
    return [p for p in heldout(run.latest) if p.id in keys and (p.id in asked or not asked)], keys


def _accuracy(run: Run, round_: int, prompts: Sequence[Prompt], keys: Mapping[str, Key]) -> Accuracy:
    probes, greedy = (answers(run, round_, stage) for stage in (Stage.PROBE, Stage.GREEDY))
    rows = []
    right_ids: set[int] = set()
    for prompt in prompts:
        key, group, first = keys[prompt.id], probes[prompt.id], greedy[prompt.id][0]
        right = [is_right(run.reader.shown(r.text), key) for r in group]
        one = is_right(run.reader.shown(first.text), key)
        rows.append((one, np.mean(right), maj_at_k(read_answers(run, prompt, group), right), any(right)))
        right_ids |= {r.id for r, is_so in zip((*group, first), (*right, one), strict=True) if is_so}
    first_right, mean, majority, some_right = np.array(rows, dtype=float).T
    return Accuracy(tuple(p.id for p in prompts), first_right, mean, majority, some_right, frozenset(right_ids))
