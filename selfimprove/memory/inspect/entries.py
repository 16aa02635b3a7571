"""Responses with their prompt, last vote and last verdict, for lists and exports."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from ...fsio import publish, temporary_for
from ..store.reads import Filter, MemoryReader, where
from ..store.rows import SINCE

EVERY = Filter()
"""Every response."""

ROW_GROUP = 10_000
"""Rows per row group of a Parquet file, which are held in RAM."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the view `history`. `answer`, `share` and `reason` are None where no vote or verdict was given.

    `source` is the run or file that it is from, None for one of this run; `curation` is excluded, pinned or None.
    """

    id: int
    round: int
    stage: str
    origin: str
    prompt_id: str
    split: str
    prompt: str
    response: str
    finish: str
    answer: str | None
    share: float | None
    reason: str | None
    prompt_tokens: int
    new_tokens: int
    policy: str
    unit: str
    source: str | None = None
    curation: str | None = None


_COLUMNS = [field.name for field in fields(Entry)]
_SINCE = {"source": SINCE["sources"], "curation": SINCE["overlays"]}


def find(
    memory: MemoryReader, wanted: Filter = EVERY, *, ids: Iterable[int] | None = None, limit: int = -1
) -> Iterator[Entry]:
    """Yield the entries that match a filter, of all or of those with these ids, ordered by id; -1: no limit."""
    clause, values = where(("id IN {}", ids), *wanted.conditions())
    columns = ", ".join(name for name in _COLUMNS if _SINCE.get(name, 0) <= memory.db.version)
    sql = f"SELECT {columns} FROM history{clause} ORDER BY id LIMIT ?"
    return (Entry(*row) for row in memory.db.stream(sql, [*values, limit]))


def in_order(memory: MemoryReader, ids: Sequence[int]) -> list[Entry]:
    """Return the entries with these ids, in the given order. KeyError for an unknown id."""
    found = {entry.id: entry for entry in find(memory, ids=ids)}
    return [found[id_] for id_ in ids]


def write_jsonl(entries: Iterable[Entry], path: Path) -> None:
    """Write one JSON object a line, whole or not at all."""
    temporary = temporary_for(path)
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
    publish(temporary, path)


def write_parquet(entries: Iterable[Entry], path: Path) -> None:
    """Write a Parquet file that `datasets.load_dataset("parquet", ...)` reads, whole or not at all."""
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    schema = arrow_schema()
    temporary = temporary_for(path)
    rest = iter(entries)
    with parquet.ParquetWriter(temporary, schema) as writer:
        while rows := [asdict(entry) for entry in islice(rest, ROW_GROUP)]:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
    publish(temporary, path)


def arrow_schema() -> Any:
    """Return the Arrow schema of an `Entry`."""
    import pyarrow

    kinds = dict.fromkeys(("id", "round", "prompt_tokens", "new_tokens"), pyarrow.int64())
    kinds |= {"share": pyarrow.float64()}
    return pyarrow.schema([(field.name, kinds.get(field.name, pyarrow.string())) for field in fields(Entry)])
