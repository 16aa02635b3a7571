"""A memory as a Lance data set on shared storage, for more responses than one machine should search.

A row is an `Entry` and its vector. A fragment is the unit of work of a distributed scan; each round starts a new one.
Fragments are written first, then the manifest that lists them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ...fsio import new_folder
from ..inspect.entries import Entry, arrow_schema
from ..store.reads import MemoryReader

FRAGMENT_ROWS = 65_536
"""Maximum of rows per fragment, which is also held in RAM (100 MB of vectors at 384 dimensions)."""

ENTRY_COLUMNS = [field.name for field in fields(Entry)]


def write_lance(memory: MemoryReader, entries: Iterable[Entry], path: Path) -> None:
    """Write `entries` and their vectors atomically. A vector is null where the memory has none.

    Raises:
        UserError: Lance is not installed.
    """
    lance = import_lance()
    with memory.db.snapshot(), new_folder(path) as folder:
        schema = _schema(memory)
        fragments = [
            lance.LanceFragment.create(folder, _table(memory, rows, schema), schema=schema) for rows in _pieces(entries)
        ]
        lance.LanceDataset.commit(folder, lance.LanceOperation.Overwrite(schema, fragments))


def import_lance() -> Any:
    """Import Lance; UserError with the installation command where it is not installed."""
    try:
        import lance
    except ImportError:
        raise UserError("Lance data sets need a package: pip install 'selfimprove[lance]'") from None
    return lance


def _pieces(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    for _, same_round in groupby(entries, key=attrgetter("round")):
        while rows := list(islice(same_round, FRAGMENT_ROWS)):
            yield rows


def _schema(memory: MemoryReader) -> Any:
    import pyarrow  # type: ignore[import-untyped]

    width = memory.prompt_vectors([prompt.id for prompt in memory.prompts()[:1]]).shape[1]
    vector = pyarrow.field("vector", pyarrow.list_(pyarrow.float32(), width))
    return arrow_schema().append(vector).with_metadata({"embedder": memory.meta("embedder") or ""})


def _table(memory: MemoryReader, rows: list[Entry], schema: Any) -> Any:
    """Return `rows` as an Arrow table with their vectors."""
    import pyarrow

    columns = [pyarrow.array([getattr(row, name) for row in rows], schema.field(name).type) for name in ENTRY_COLUMNS]
    ids = np.array([row.id for row in rows])
    embedded, found = memory.embedded(ids.tolist())
    vectors = np.zeros((len(rows), schema.field("vector").type.list_size), dtype=np.float32)
    there = np.isin(ids, embedded)
    if there.any():
        vectors[there] = found[np.searchsorted(embedded, ids[there])]
    list_of = pyarrow.FixedSizeListArray.from_arrays
    columns.append(list_of(pyarrow.array(vectors.ravel()), vectors.shape[1], mask=pyarrow.array(~there)))
    return pyarrow.Table.from_arrays(columns, schema=schema)
