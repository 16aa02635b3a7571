"""Nearest neighbours in a Lance data set of responses: here, on a Ray cluster, or through an index that Lance made.

The method is that of `VectorIndex`: candidates by float32 products, ranked in float64, ties by id. So exact searches
return the same ids and scores, however fragments are assigned to workers. lance-ray's own search ranks in float32,
takes one query at a time, and turns the vectors of fragments without an index into Python lists.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, first_line
from ...outcomes import Reason
from ..inspect.entries import Entry
from ..search.ranking import Candidates, best_of, rank
from .scan import nearest
from .write import ENTRY_COLUMNS, import_lance

BATCH = 8192
"""Rows per batch."""

READ_AHEAD = 64 * 2**20
"""Read-ahead buffer in bytes; Lance's default is 2 GB."""

OVERFETCH = 4
"""Candidates per requested neighbour: quantized vectors order near neighbours only approximately."""

Found = tuple[np.ndarray, np.ndarray]
"""Ids (q, k) int64 and cosines (q, k) float64, best first, ties by id; -1 and -inf where there are fewer than k."""

EMBEDDED = "vector IS NOT NULL"


def condition(
    *, round: int | None = None, prompt_id: str | None = None, reasons: Sequence[Reason] | None = None
) -> str:
    """Return a filter in Lance's SQL: written in a round, to a prompt, with one of `reasons` as the last verdict."""
    given = [EMBEDDED]
    if round is not None:
        given.append(f"round = {round:d}")
    if prompt_id is not None:
        given.append(f"prompt_id = {_quoted(prompt_id)}")
    if reasons is not None:
        given.append(f"reason IN ({', '.join(map(_quoted, reasons))})")
    return " AND ".join(given)


def search(
    path: Path, queries: np.ndarray, k: int, where: str = EMBEDDED, fragments: Sequence[int] | None = None
) -> Found:
    """Return the k best rows for unit `queries` (q, d) by an exact scan of all or some fragments.

    Raises:
        UserError: there is no data set at `path`, it is damaged, or Lance is not installed.
    """
    data = open_set(path)
    chosen = None if fragments is None else [data.get_fragment(number) for number in fragments]
    scan = data.scanner(
        ["id", "vector"], where, fragments=chosen, batch_size=BATCH, batch_readahead=2, io_buffer_size=READ_AHEAD
    )
    queries = _writable(queries)
    return rank(queries, [nearest(queries, k, map(_columns, _batches(scan, path)))], k)


def search_on_ray(path: Path, queries: np.ndarray, k: int, where: str = EMBEDDED) -> Found:
    """`search` on the connected Ray cluster, one task per fragment; `path` must be visible to all nodes."""
    import ray
    from ray.exceptions import RayTaskError

    path = path.resolve()  # workers have folders of their own
    fragments = [[fragment.fragment_id] for fragment in open_set(path).get_fragments()] or [[]]
    task, shared = ray.remote(search), ray.put(queries)
    try:
        return best_of(ray.get([task.remote(path, shared, k, where, some) for some in fragments]), k)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(f"a worker says: {error.cause}") from None
        raise


def search_index(path: Path, queries: np.ndarray, k: int, where: str = EMBEDDED, cells: int | None = None) -> Found:
    """Search with Lance's index on `vector` (metric dot) in `cells` of its cells (None: Lance's default).

    Approximately the k best; their scores are exact.
    """
    queries = _writable(queries)
    question = {"column": "vector", "q": queries, "k": OVERFETCH * k, "metric": "dot", "nprobes": cells}
    scan = open_set(path).scanner(["id", "vector", "_distance"], where, nearest=question, prefilter=True)
    parts = [Candidates(np.asarray(batch["query_index"]), *_columns(batch)) for batch in _batches(scan, path)]
    return rank(queries, [*parts, Candidates.none(queries.shape[1])], k)


def check_embedder(path: Path, embedder: str | None) -> None:
    """Raise UserError unless the vectors of a data set were made by this embedder."""
    theirs = (open_set(path).schema.metadata or {}).get(b"embedder", b"").decode()
    if theirs != (embedder or ""):
        raise UserError(f"the vectors in {path} are of embedder {theirs or 'unknown'}, this memory's of {embedder}")


def entries_of(path: Path, ids: Sequence[int]) -> list[Entry]:
    """Return the rows with these ids, in the order asked for."""
    if not ids:
        return []  # `IN ()` is no SQL to Lance
    data = open_set(path)
    columns = [name for name in ENTRY_COLUMNS if name in data.schema.names]  # older versions wrote fewer
    table = data.to_table(columns, f"id IN ({', '.join(f'{id_:d}' for id_ in ids)})")
    found = {row["id"]: Entry(**row) for row in table.to_pylist()}
    return [found[id_] for id_ in ids]


def open_set(path: Path) -> Any:
    """Open a data set; UserError when there is none."""
    try:
        return import_lance().dataset(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is no Lance data set: {first_line(error)}") from None


def _batches(scan: Any, path: Path) -> Iterator[Any]:
    try:
        yield from scan.to_batches()
    except (ValueError, OSError) as error:
        raise UserError(f"cannot read {path}: {first_line(error)}") from None


def _columns(batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (n,) and vectors (n, d) of a batch of Arrow rows."""
    vectors = batch["vector"]
    return np.asarray(batch["id"]), _writable(np.asarray(vectors.flatten()).reshape(-1, vectors.type.list_size))


def _writable(rows: np.ndarray) -> np.ndarray:
    return np.array(rows, dtype=np.float32, order="C")  # a copy: torch wants writable memory


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
