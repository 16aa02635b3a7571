"""Nearest neighbours within one demonstration pool: exact, in RAM, with FAISS."""

import numpy as np

from .flat import FlatRows
from .ranking import Candidates, rank


class PoolIndex:
    """Rows that do not change: ids (n,) int64 ascending, and unit vectors (n, d)."""

    def __init__(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self._vectors = vectors
        self._rows = FlatRows()
        self._rows.append(ids, vectors)

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `VectorIndex.search`: the k best of each unit query (q, d), best first, ties by id."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        found = self._rows.search(queries, k, allowed).pruned(k)
        if len(found.ids) == 0:
            return rank(queries, [Candidates.none(queries.shape[1])], k)
        vectors = self._vectors[np.searchsorted(self._rows.ids, found.ids)]
        return rank(queries, [Candidates(found.who, found.ids, vectors)], k)
