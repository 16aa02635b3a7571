"""The newest rows of the index: a flat FAISS index of half-precision vectors, searched so that no neighbour is missed.

Half precision orders near neighbours only to within `SLACK`. So a search goes on until everything that may be among
the k best has been found; the stored vectors then decide, in float64 (`ranking`).
"""

from typing import Any

import numpy as np

from .ranking import Scored

SLACK = 6e-4
"""Upper bound of the error of a cosine with a half-precision vector: 2^-11 from rounding, plus the float32 sum."""

OVERFETCH = 4
"""Rows fetched per requested neighbour; `GROWTH` times as many where these may not include all."""

GROWTH = 8

DENSE = 0.3
"""From this fraction of allowed rows on, all rows are searched and the others dropped: with an id selector FAISS
scores rows one by one, about twice as slowly."""


class FlatRows:
    """A growing table of (id, vector), ids ascending."""

    def __init__(self) -> None:
        self.ids = np.zeros(0, dtype=np.int64)  # (n,); row i of the index is response ids[i]
        self._index: Any = None  # faiss.IndexScalarQuantizer; the first rows tell the dimension

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add rows: ids (n,) int64 above all present ones, vectors (n, d) float32."""
        if len(ids) == 0:
            return
        if self._index is None:
            faiss = load_faiss()
            half = faiss.ScalarQuantizer.QT_fp16
            self._index = faiss.IndexScalarQuantizer(vectors.shape[1], half, faiss.METRIC_INNER_PRODUCT)
        self._index.add(vectors)
        self.ids = np.concatenate([self.ids, ids])

    def drop_oldest(self, rows: int) -> None:
        """Remove the first `rows` rows."""
        self._index.remove_ids(load_faiss().IDSelectorRange(0, rows))
        self.ids = self.ids[rows:]

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> Scored:
        """Return every row that may be among the k best of a query (q, d); `allowed` is sorted, None for all."""
        if len(self.ids) == 0 or k == 0:
            return Scored.none()
        chosen = np.full(len(self.ids), allowed is None)
        if allowed is not None:
            row = np.minimum(np.searchsorted(self.ids, allowed), len(self.ids) - 1)
            chosen[row[self.ids[row] == allowed]] = True
        count, searched, params = int(chosen.sum()), len(self.ids), None
        if count == 0:
            return Scored.none()
        if count < DENSE * searched:
            faiss = load_faiss()
            selector = faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
            params, searched = faiss.SearchParameters(sel=selector), count
        k = min(k, count)
        take = min(searched, OVERFETCH * k * searched // count)
        pending = np.arange(len(queries))
        parts: list[Scored] = []
        while len(pending):
            scores, row = self._index.search(queries[pending], take, params=params)  # (p, take), best first
            last = scores[:, -1].copy()
            scores[~chosen[row]] = -np.inf
            best = -np.partition(-scores, k - 1, axis=1)[:, k - 1]  # the k-th; -inf when fewer were found
            complete = (last < best - 2 * SLACK) | (take == searched)
            near = (scores >= best[:, None] - 2 * SLACK) & np.isfinite(scores) & complete[:, None]
            who = pending[np.nonzero(near)[0]]
            parts.append(Scored(who, self.ids[row[near]], scores[near], np.full(len(who), SLACK)))
            pending, take = pending[~complete], min(searched, GROWTH * take)
        return Scored.joined(parts)


def load_faiss() -> Any:
    """Import FAISS after torch: the other way round their OpenMP runtimes collide."""
    import torch  # noqa: F401
    import faiss  # isort: skip

    return faiss
