"""Nearest neighbours over the stored vectors, with FAISS from the first row: a cache that can be deleted.

The newest rows stand in a flat index, which misses nothing. Once they are many, the oldest of them are sealed into an
inverted file (`segments`). What either finds is ranked by its stored vector, in float64, ties by id.
"""

import numpy as np

from ..store.memory import ResponseMemory
from . import segments
from .flat import FlatRows
from .ranking import Candidates, Scored, rank

SEGMENT_ROWS = 131_072
"""Rows of a segment. With fewer than twice as many rows every search is exact."""


class VectorIndex:
    """All embedded responses of a memory, searchable by cosine. New commits are picked up at the next search.

    Responses that are embedded after later ones (`commit_vectors`) are in an index that is opened after that.
    """

    def __init__(self, memory: ResponseMemory, *, segment_rows: int = SEGMENT_ROWS) -> None:
        self._memory = memory
        self._segment_rows = segment_rows
        self._segments: list[segments.Segment] | None = None
        self._flat = FlatRows()
        self._last_id = 0

    def __len__(self) -> int:
        """Number of responses in the index, as of the last search."""
        return len(self._flat) + sum(segment.index.ntotal for segment in self._segments or ())

    def refresh(self) -> None:
        """Add what was committed since the last refresh.

        A writer also builds missing segments again, and seals what the flat index should not hold.
        """
        if self._segments is None:
            self._segments = []
            for first_id, last_id, segment in segments.load(self._memory):
                self._last_id = max(self._last_id, last_id)
                if segment is not None:
                    self._segments.append(segment)
                elif self._memory.db.writable:  # so that the flat index of a writer ends above all segments
                    self._seal(first_id, last_id)
                else:
                    self._add(first_id, last_id)
        self._add(self._last_id + 1)
        while self._memory.db.writable and len(self._flat) >= 2 * self._segment_rows:
            self._seal(int(self._flat.ids[0]), int(self._flat.ids[self._segment_rows - 1]))
            self._flat.drop_oldest(self._segment_rows)

    def _seal(self, first_id: int, last_id: int) -> None:
        segment = segments.build(self._memory, first_id, last_id)
        segments.save(self._memory, segment)
        self._segments = [*(self._segments or ()), segment]

    def _add(self, first_id: int, last_id: int | None = None) -> None:
        for ids, vectors in self._memory.vector_chunks(first_id, last_id):
            self._flat.append(ids, vectors)
            self._last_id = max(self._last_id, int(ids[-1]))

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best responses for unit `queries` (q, d): ids (q, k) int64 and cosines (q, k) float64.

        `allowed` restricts the answer to these ids. Best first, ties by id; -1 and -inf where there are fewer than k.
        """
        self.refresh()
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if allowed is not None and (np.diff(allowed) <= 0).any():
            allowed = np.unique(allowed)
        parts = [self._flat.search(queries, k, allowed)]
        parts += [segment.search(self._memory, queries, k, allowed) for segment in self._segments or ()]
        found = Scored.joined(parts).pruned(k)
        return _ranked(queries, found, *self._memory.embedded(np.unique(found.ids).tolist()), k)


class PoolIndex:
    """Exact search in one demonstration pool, in RAM: ids (n,) int64 ascending, and their unit vectors (n, d)."""

    def __init__(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self._ids, self._vectors = ids, vectors
        self._rows = FlatRows()
        self._rows.append(ids, vectors)

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `VectorIndex.search`; `allowed` ascends."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        return _ranked(queries, self._rows.search(queries, k, allowed).pruned(k), self._ids, self._vectors, k)


def _ranked(
    queries: np.ndarray, found: Scored, ids: np.ndarray, vectors: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rank what was found by its vectors: rows `ids` (n,) ascending, `vectors` (n, d)."""
    if len(found.ids) == 0:
        return rank(queries, [Candidates.none(queries.shape[1])], k)
    return rank(queries, [Candidates(found.who, found.ids, vectors[np.searchsorted(ids, found.ids)])], k)
