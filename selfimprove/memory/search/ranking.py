"""What a search found before it is ranked: pairs of a query and a row, with the row's stored vector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CHUNK = 8192
"""Pairs scored at a time (25 MB of float64 at 384 dimensions)."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pair i says that row `ids[i]` with `vectors[i]` may be among the best of query `who[i]`."""

    who: np.ndarray  # (m,)
    ids: np.ndarray  # (m,)
    vectors: np.ndarray  # (m, d)

    @classmethod
    def none(cls, dimension: int) -> "Candidates":
        """Return no candidates."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(nothing, nothing, np.zeros((0, dimension), dtype=np.float32))


def rank(queries: np.ndarray, parts: Sequence[Candidates], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (q, k) and cosines (q, k) of the best candidates of each query (q, d): best first, ties by id.

    Each pair is scored by a float64 dot product of its own, so a score does not depend on what stands beside it.
    Rows with fewer than k candidates end in -1 and -inf.
    """
    who, ids, vectors = (np.concatenate([getattr(part, name) for part in parts]) for name in ("who", "ids", "vectors"))
    scores = np.empty(len(who))
    for start in range(0, len(who), CHUNK):
        some = slice(start, start + CHUNK)
        scores[some] = (queries[who[some]].astype(np.float64) * vectors[some]).sum(axis=1)
    found_ids = np.full((len(queries), k), -1, dtype=np.int64)
    found_scores = np.full((len(queries), k), -np.inf)
    order = np.lexsort((ids, -scores, who))
    place = np.arange(len(who)) - np.searchsorted(who[order], who[order])  # rank of each pair among its query's
    order, place = order[place < k], place[place < k]
    found_ids[who[order], place] = ids[order]
    found_scores[who[order], place] = scores[order]
    return found_ids, found_scores


def best_of(found: Sequence[tuple[np.ndarray, np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of what searches of different rows found: ids (q, j) and cosines (q, j), as `rank` has them."""
    ids, scores = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
    order = np.lexsort((ids, -scores))[:, :k]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
