"""The k best of approximate search results: pruned by error bounds, then ranked by the stored vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

CHUNK = 8192
"""Pairs scored at a time (25 MB of float64 at 384 dimensions)."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Pair i: row `ids[i]` has a cosine within `slack[i]` of `scores[i]` to query `who[i]`."""

    who: np.ndarray  # (m,)
    ids: np.ndarray  # (m,)
    scores: np.ndarray  # (m,)
    slack: np.ndarray  # (m,)

    @classmethod
    def none(cls) -> Self:
        """Return no pairs."""
        return cls(*(np.zeros(0, dtype=kind) for kind in (np.int64, np.int64, np.float32, np.float32)))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the pairs of searches of different rows together."""
        fields = ([getattr(part, name) for part in parts] for name in ("who", "ids", "scores", "slack"))
        return cls(*(np.concatenate(field) for field in fields)) if parts else cls.none()

    def pruned(self, k: int) -> Self:
        """Drop the pairs that at least k others of the same query exceed by more than the error bounds."""
        least = self.scores - self.slack
        order = np.lexsort((-least, self.who))
        who = self.who[order]
        place = np.arange(len(who)) - np.searchsorted(who, who)  # rank among the pairs of the same query
        best = dict(zip(who[place == k - 1].tolist(), least[order][place == k - 1].tolist(), strict=True))
        bound = np.array([best.get(query, -np.inf) for query in self.who.tolist()])
        keep = self.scores + self.slack >= bound
        return type(self)(self.who[keep], self.ids[keep], self.scores[keep], self.slack[keep])


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pair i: row `ids[i]` with the stored vector `vectors[i]` may be among the best of query `who[i]`."""

    who: np.ndarray  # (m,)
    ids: np.ndarray  # (m,)
    vectors: np.ndarray  # (m, d)

    @classmethod
    def none(cls, dimension: int) -> Self:
        """Return no candidates."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(nothing, nothing, np.zeros((0, dimension), dtype=np.float32))


def rank(queries: np.ndarray, parts: Sequence[Candidates], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (q, k) and cosines (q, k) of the best candidates of each query (q, d): best first, ties by id.

    Each pair is scored by a float64 dot product of its own, so a score does not depend on the rest of the batch.
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
    """Merge results over disjoint rows, ids (q, j) and cosines (q, j) each as from `rank`, to the k best."""
    ids, scores = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
    order = np.lexsort((ids, -scores))[:, :k]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
