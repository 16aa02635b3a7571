"""Nearest neighbours over the stored vectors: a cache that can be deleted, a function of the memory alone.

The newest rows are held in RAM and searched exactly. Once they are many, the oldest of them are sealed into a FAISS
segment. Whatever is found is ranked by its stored vector, in float64, ties by id.
"""

import numpy as np

from ..store.memory import ResponseMemory
from . import segments
from .exact import BLOCK, ExactRows
from .ranking import rank

SEGMENT_ROWS = 8 * BLOCK
"""Rows of a segment (262,144). With fewer than twice as many rows every search is exact."""


class VectorIndex:
    """All embedded responses of a memory, searchable by cosine. New commits are picked up at the next search."""

    def __init__(self, memory: ResponseMemory, *, segment_rows: int = SEGMENT_ROWS) -> None:
        self._memory = memory
        self._segment_rows = segment_rows
        self._segments: list[segments.Segment] | None = None
        self._exact = ExactRows()
        self._last_id = 0

    def refresh(self) -> None:
        """Take in what was committed since the last look; a writer also seals what has become too much for RAM."""
        if self._segments is None:
            self._segments = []
            for first_id, last_id, segment in segments.load(self._memory):
                self._last_id = max(self._last_id, last_id)
                if segment is None:
                    self._take(first_id, last_id)
                else:
                    self._segments.append(segment)
        self._take(self._last_id + 1)
        while self._memory.db.writable and len(self._exact) >= 2 * self._segment_rows:
            segment = segments.build(*self._exact.shift(self._segment_rows))
            segments.save(self._memory, segment)
            self._segments.append(segment)

    def _take(self, first_id: int, last_id: int | None = None) -> None:
        for ids, vectors in self._memory.vector_chunks(first_id, last_id):
            self._exact.append(ids, vectors)
            self._last_id = max(self._last_id, int(ids[-1]))

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best responses for unit `queries` (q, d): ids (q, k) int64 and cosines (q, k) float64.

        `allowed` restricts the answer to these ids. Best first, ties by id; -1 and -inf where there are fewer than k.
        """
        self.refresh()
        queries = np.array(queries, dtype=np.float32, order="C")  # a copy: torch wants writable memory
        allowed = None if allowed is None else np.unique(allowed)
        parts = [self._exact.candidates(queries, k, allowed)]
        parts += [segment.candidates(self._memory, queries, k, allowed) for segment in self._segments or ()]
        return rank(queries, parts, k)
