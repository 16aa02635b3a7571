"""Exact nearest neighbours over the stored vectors: a cache in RAM, a function of the memory alone.

Scores are found in float32, block by block, as one matrix product for a whole batch of queries. The last bits of such
a product depend on block and batch, so every response within `SLACK` of the k best is scored again in float64 from its
stored vector, one dot product each, and equal scores are ordered by id: the answer does not depend on how rows came in.

FAISS's IndexFlatIP gives the same neighbours; at 100,000 rows and batches of 64 it took 4 to 8 times as long.
"""

from collections.abc import Iterator

import numpy as np

from .store import ResponseMemory

BLOCK = 8192
"""Rows scored together: 64 x 8192 scores stay in the second-level cache."""

SLACK = 1e-5
"""Above the error of a float32 dot product of unit vectors (cosine)."""

SPARSE = 0.25
"""Below this share of allowed rows a block's allowed rows are gathered rather than the others masked."""


class VectorIndex:
    """All embedded responses of a memory, searchable by cosine. New commits are picked up at the next search."""

    def __init__(self, memory: ResponseMemory) -> None:
        self._memory = memory
        self._ids: list[np.ndarray] = []  # (BLOCK,) each, ascending, the last one partly filled
        self._blocks: list[np.ndarray] = []  # (BLOCK, d)
        self._size = 0
        self._last_id = 0

    def __len__(self) -> int:
        self.refresh()
        return self._size

    def refresh(self) -> None:
        """Take in what was committed since the last look."""
        for ids, vectors in self._memory.vector_chunks(self._last_id):
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
            self._last_id = int(ids[-1])

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best responses for unit `queries` (q, d): ids (q, k) int64 and cosines (q, k) float64.

        `allowed` restricts the answer to these ids. Best first, ties by id; -1 and -inf where there are fewer than k.
        """
        self.refresh()
        found_ids = np.full((len(queries), k), -1, dtype=np.int64)
        found_scores = np.full((len(queries), k), -np.inf)
        if k == 0 or len(queries) == 0:
            return found_ids, found_scores
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        who, ids, vectors = self._candidates(queries, k, None if allowed is None else np.unique(allowed))
        scores = _dots(queries[who], vectors)
        order = np.lexsort((ids, -scores, who))
        starts = np.searchsorted(who[order], np.arange(len(queries)))
        ends = np.searchsorted(who[order], np.arange(len(queries)), side="right")
        for query, (start, end) in enumerate(zip(starts, ends, strict=True)):
            best = order[start : min(end, start + k)]
            found_ids[query, : len(best)] = ids[best]
            found_scores[query, : len(best)] = scores[best]
        return found_ids, found_scores

    def _candidates(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (query (m,), id (m,), vector (m, d)) of all that may be among the k best of a query."""
        import torch

        query_rows = torch.from_numpy(queries)
        best = torch.full((len(queries), k), -torch.inf)  # the k best scores so far, descending
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        for ids, block, bias in self._allowed_blocks(allowed):
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
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros_like(queries[:0])
        who, ids, vectors, approximate = (np.concatenate(part) for part in zip(*found, strict=True))
        near = approximate >= best[:, -1].numpy()[who] - SLACK
        return who[near], ids[near], vectors[near]

    def _allowed_blocks(self, allowed: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Yield (ids, vectors, bias): the bias is -inf for rows that are not allowed, None when all are."""
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


def _dots(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the dot products of paired rows (m, d) in float64, each the same whatever stands around it."""
    scores = np.empty(len(left))
    for start in range(0, len(left), BLOCK):
        part = slice(start, start + BLOCK)
        scores[part] = (left[part].astype(np.float64) * right[part]).sum(axis=1)
    return scores
