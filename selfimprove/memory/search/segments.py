"""The large part of the index: sealed FAISS segments, each over a fixed range of responses.

A segment is an inverted file of 8-bit vectors (IVF, SQ8): half the RAM of the flat index, and a search covers only the
`PROBES` cells nearest to the query. Its candidates are scored again with the vectors in the database. A file is a
cache: its hash is in the database, and a file that is missing or has another hash is not read but rebuilt.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ...fsio import publish, sha256, temporary_for
from ...seeds import seed_for
from ..store.memory import ResponseMemory
from .flat import FlatRows, load_faiss
from .ranking import Scored

ROWS_A_CELL = 256
"""Mean length of an inverted list."""

SAMPLE_A_CELL = 64
"""Training rows of k-means per cell."""

PASSES = 8
"""Iterations of k-means."""

PROBES = 32
"""Cells searched (nprobe)."""

OVERFETCH = 4
"""Candidates per requested neighbour: 8-bit codes order near neighbours only approximately."""

SLACK = 0.01
"""Above the error of a cosine with an 8-bit vector (about 0.0006 where components span 0.5)."""

FEW = 16_384
"""Up to this many allowed rows of a segment are read from the database and scored exactly."""


@dataclass(frozen=True)
class Segment:
    """A sealed range of responses. An id in FAISS is `response id - first_id`."""

    first_id: int
    last_id: int
    index: Any  # faiss.IndexIVFScalarQuantizer

    def search(self, memory: ResponseMemory, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> Scored:
        """Return likely members of the k best of each query (q, d); `allowed` is sorted, None for all."""
        selector = None
        if allowed is not None:
            first, last = np.searchsorted(allowed, (self.first_id, self.last_id + 1))
            here = allowed[first:last]
            if len(here) <= FEW:
                few = FlatRows()
                few.append(*memory.embedded(here.tolist()))
                return few.search(queries, k, None)
            chosen = np.zeros(self.last_id - self.first_id + 1, dtype=bool)
            chosen[here - self.first_id] = True
            selector = load_faiss().IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
        params = load_faiss().SearchParametersIVF(sel=selector, nprobe=PROBES)
        scores, offsets = self.index.search(queries, OVERFETCH * k, params=params)
        who, column = np.nonzero(offsets >= 0)
        found = offsets[who, column] + self.first_id
        return Scored(who, found, scores[who, column], np.full(len(who), SLACK, dtype=np.float32))


def build(memory: ResponseMemory, first_id: int, last_id: int) -> Segment:
    """Return a segment over the embedded responses of a range. The same rows give the same segment."""
    faiss = load_faiss()
    ids, vectors = map(np.concatenate, zip(*memory.vector_chunks(first_id, last_id), strict=True))  # (n,), (n, d)
    rng = np.random.default_rng(seed_for("segment", first_id, last_id))
    cells = max(1, len(ids) // ROWS_A_CELL)
    sample = vectors[np.sort(rng.permutation(len(ids))[: SAMPLE_A_CELL * cells])]
    centres = _cell_centres(sample, cells, rng)
    half, byte = faiss.ScalarQuantizer.QT_fp16, faiss.ScalarQuantizer.QT_8bit
    # Not IndexFlatIP: it scores batches of 20 and more by BLAS, so that cells would depend on the batch.
    quantizer = faiss.IndexScalarQuantizer(vectors.shape[1], half, faiss.METRIC_INNER_PRODUCT)
    quantizer.add(centres)
    index = faiss.IndexIVFScalarQuantizer(quantizer, vectors.shape[1], cells, byte, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False
    index.train(sample)
    offsets, cell = ids - first_id, _nearest(vectors, centres)
    pointers = (faiss.swig_ptr(array) for array in (vectors, offsets, cell))
    index.add_core(len(ids), *pointers)  # as `add` does, with the cells known already: one product instead of a search
    return Segment(first_id, last_id, index)


def save(memory: ResponseMemory, segment: Segment) -> None:
    """Write a segment's file, then the row with its hash (the commit point)."""
    folder = _folder(memory)
    folder.mkdir(exist_ok=True)
    path = folder / f"{segment.first_id}-{segment.last_id}.faiss"
    temporary = temporary_for(path)
    load_faiss().write_index(segment.index, str(temporary))
    row = (segment.first_id, segment.last_id, path.name, sha256(temporary))
    publish(temporary, path)
    with memory.db.transaction():
        memory.db.insert("segments", [row], replace=True)


def load(memory: ResponseMemory) -> list[tuple[int, int, Segment | None]]:
    """Return (first id, last id, segment) of all segments; None where the file is missing or has another hash.

    Ranges that overlap are by an older version, which mixed up their rows: a writer forgets them all.
    """
    sealed = []
    rows = memory.db.rows("SELECT * FROM segments ORDER BY first_id")
    if any(later[0] <= earlier[1] for earlier, later in pairwise(rows)):
        if memory.db.writable:
            with memory.db.transaction():
                memory.db.write("DELETE FROM segments")
        return []
    for first_id, last_id, file, sha in rows:
        path = _folder(memory) / Path(file).name
        sound = path.is_file() and sha256(path) == sha
        segment = Segment(first_id, last_id, load_faiss().read_index(str(path))) if sound else None
        sealed.append((first_id, last_id, segment))
    return sealed


def _folder(memory: ResponseMemory) -> Path:
    return memory.db.path.with_name(f"{memory.db.path.name}.index")


def _cell_centres(rows: np.ndarray, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Return unit centres (cells, d) of spherical k-means (Dhillon & Modha 2001); a cell that empties stays put."""
    centres = rows[np.sort(rng.permutation(len(rows))[:cells])]
    for _ in range(PASSES):
        cell = _nearest(rows, centres)
        order = np.argsort(cell, kind="stable")
        taken, starts = np.unique(cell[order], return_index=True)
        sums = np.add.reduceat(rows[order], starts, axis=0)
        centres[taken] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return centres


def _nearest(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return for each row (n, d) the centre (c, d) with the largest dot product, (n,) int64."""
    import torch

    right = torch.from_numpy(centres).T
    return torch.cat([(part @ right).argmax(1) for part in torch.from_numpy(rows).split(8192)]).numpy()
