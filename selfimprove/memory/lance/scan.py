"""Exact nearest neighbours by one pass over blocks of rows: for Lance data sets, which do not fit in RAM.

The last bits of a float32 product depend on the shapes of both sides. So all rows within `SLACK` of the k best are
returned, to be ranked in float64: which of them win then depends on the rows alone.
"""

from collections.abc import Iterable

import numpy as np

from ..search.ranking import Candidates

SLACK = 1e-5
"""Above the error of a float32 dot product of unit vectors (cosine)."""

Block = tuple[np.ndarray, np.ndarray]
"""Rows: ids (b,) and vectors (b, d)."""


def nearest(queries: np.ndarray, k: int, blocks: Iterable[Block]) -> Candidates:
    """Return every row of `blocks` that may be among the k best of a query (q, d); one block in RAM at a time."""
    import torch

    if k == 0:
        return Candidates.none(queries.shape[1])
    query_rows = torch.from_numpy(queries)
    best = torch.full((len(queries), k), -torch.inf)  # the k best scores so far, descending
    found: list[tuple[np.ndarray, ...]] = []
    for ids, block in blocks:
        scores = query_rows @ torch.from_numpy(block).T  # (q, b)
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
