"""Accuracy per held-out prompt as arrays: means, paired differences, JSON. Knows no answer key and no run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..seeds import seed_for

if TYPE_CHECKING:
    from .statistics import Interval

COLUMNS = {"greedy": "greedy", "mean": "mean_at_k", "majority": "maj_at_k", "any": "pass_at_k"}
"""Array of `Accuracy` -> its name in summary.json, metrics.jsonl and accuracy.json."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy per held-out prompt; all arrays are (P,), in the order of `prompt_ids`."""

    prompt_ids: tuple[str, ...]
    greedy: np.ndarray  # (P,) 0 or 1
    mean: np.ndarray  # (P,) mean@k: fraction of the k samples that are right
    majority: np.ndarray  # (P,) maj@k: whether the majority answer is right, averaged over ties
    any: np.ndarray  # (P,) pass@k: 0 or 1
    right: frozenset[int] | None = None
    """Ids of the right responses; None in files of earlier versions."""

    def means(self) -> dict[str, float]:
        """Return the means over prompts, keyed as in summary.json: greedy, mean_at_k, maj_at_k, pass_at_k."""
        return {name: float(getattr(self, column).mean()) for column, name in COLUMNS.items()}


def change(before: Accuracy, after: Accuracy, seed: int) -> Interval:
    """Return the change in mean@k accuracy with its 95 % interval from a paired bootstrap over prompts."""
    from .statistics import paired_bootstrap

    return paired_bootstrap(before.mean, after.mean, seed=seed_for(seed, "bootstrap"))


def to_json(rounds: Mapping[int, Accuracy]) -> dict[str, Any]:
    """Return the accuracy of several rounds, measured on the same prompts, ready for JSON."""
    ids = next(iter(rounds.values())).prompt_ids
    return {
        "prompts": list(ids),
        "rounds": [
            {
                "round": round_,
                **{name: getattr(one, column).tolist() for column, name in COLUMNS.items()},
                **({} if one.right is None else {"right": sorted(one.right)}),
            }
            for round_, one in rounds.items()
        ],
    }


def from_json(stored: Mapping[str, Any]) -> dict[int, Accuracy]:
    """Return what `to_json` was given."""
    ids = tuple(stored["prompts"])
    return {
        row["round"]: Accuracy(
            ids,
            **{column: np.array(row[name]) for column, name in COLUMNS.items()},
            right=frozenset(row["right"]) if "right" in row else None,
        )
        for row in stored["rounds"]
    }
