"""The exact part of the index: vectors in RAM, scored by matrix products, a batch of queries at a time.

The last bits of a float32 product depend on the shapes of both sides. So all rows within `SLACK` of the k best are
handed on, to be scored again one by one in float64: which ones win then depends on the rows alone.
FAISS's IndexFlatIP finds the same neighbours; at 100,000 rows and batches of 64 it took 4 to 8 times as long.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from .ranking import Candidates

BLOCK = 32_768
"""Rows scored together. Their scores for 64 queries stay in the last-level cache (8 MB); smaller blocks are no faster
alone and wait more often where threads share their cores with other work."""

SLACK = 1e-5
"""Above the error of a float32 dot product of unit vectors (cosine)."""

SPARSE = 0.25
"""Below this share of allowed rows a block's allowed rows are gathered rather than the others masked."""

Block = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Rows: ids (b,), vectors (b, d), and a bias (b,) that is -inf for rows that are not allowed, None when all are."""


class ExactRows:
    """A growing table of (id, vector), ids ascending."""

    def __init__(self) -> None:
        self._ids: list[np.ndarray] = []  # (BLOCK,) each, the last one partly filled
        self._blocks: list[np.ndarray] = []  # (BLOCK, d)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add rows: ids (n,) int64 above all present ones, vectors (n, d) float32."""
        start = 0
        while start < len(ids):
            filled = self._size % BLOCK
            if filled == 0:
                self._ids.append(np.empty(BLOCK, dtype=np.int64))
                self._blocks.append(np.empty((BLOCK, vectors.shape[1]), dtype=np.float32))
            take = min(BLOCK - filled, len(ids) - start)
            self._ids[-1][filled : filled + take] = ids[start : start + take]
            self._blocks[-1][filled : filled + take] = vectors[start : start + take]
            self._size += take
            start += take

    def shift(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Remove and return the oldest `rows` rows, a multiple of BLOCK: ids (rows,), vectors (rows, d)."""
        count = rows // BLOCK
        ids, vectors = np.concatenate(self._ids[:count]), np.concatenate(self._blocks[:count])
        del self._ids[:count], self._blocks[:count]
        self._size -= rows
        return ids, vectors

    def candidates(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> Candidates:
        """Return every row that may be among the k best of a query (q, d); `allowed` is sorted, None for all."""
        return nearest(queries, k, self._allowed_blocks(allowed))

    def _allowed_blocks(self, allowed: np.ndarray | None) -> Iterator[Block]:
        for number, (ids, block) in enumerate(zip(self._ids, self._blocks, strict=True)):
            rows = min(BLOCK, self._size - number * BLOCK)
            ids, block = ids[:rows], block[:rows]
            if allowed is None:
                yield ids, block, None
                continue
            first, last = np.searchsorted(allowed, (ids[0], ids[-1] + 1))
            chosen = np.isin(ids, allowed[first:last], assume_unique=True)
            count = int(chosen.sum())
            if count == rows:
                yield ids, block, None
            elif count >= SPARSE * rows:
                yield ids, block, np.where(chosen, np.float32(0), np.float32(-np.inf))
            elif count:
                yield ids[chosen], block[chosen], None


def nearest(queries: np.ndarray, k: int, blocks: Iterable[Block]) -> Candidates:
    """Return every row of `blocks` that may be among the k best of a query (q, d); one block in RAM at a time."""
    import torch

    if k == 0:
        return Candidates.none(queries.shape[1])
    query_rows = torch.from_numpy(queries)
    best = torch.full((len(queries), k), -torch.inf)  # the k best scores so far, descending
    found: list[tuple[np.ndarray, ...]] = []
    for ids, block, bias in blocks:
        scores = query_rows @ torch.from_numpy(block).T  # (q, b)
        if bias is not None:
            scores += torch.from_numpy(bias)
        hit = (scores.amax(1) >= best[:, -1] - SLACK).nonzero()[:, 0]
        if len(hit) == 0:
            continue
        scores = scores[hit]
        top = scores.topk(min(k, scores.shape[1])).values
        best[hit] = torch.cat([best[hit], top], 1).topk(k).values
        threshold = (best[hit, -1:] - SLACK).clamp(min=torch.finfo(torch.float32).min)
        row, column = (scores >= threshold).nonzero(as_tuple=True)
        at = column.numpy()
        found.append((hit[row].numpy(), ids[at], block[at], scores[row, column].numpy()))
    if not found:
        return Candidates.none(queries.shape[1])
    who, ids, vectors, approximate = (np.concatenate(part) for part in zip(*found, strict=True))
    near = approximate >= best[:, -1].numpy()[who] - SLACK
    return Candidates(who[near], ids[near], vectors[near])
