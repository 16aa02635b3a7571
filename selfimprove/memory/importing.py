"""Import responses from another run's export, in quarantine: never demonstrations, never voters, never trained on.

The payload of their unit records the file, and the source of each response.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError, first_line
from ..fsio import sha256
from ..types import Finish, Stage
from .store.memory import ResponseMemory

SOURCE = ("id", "round", "origin", "policy", "unit")
"""Columns recorded as the source of a response, in the numbering of the exporting memory."""

NEEDED = {"prompt_id": str, "response": str, "finish": str, "prompt_tokens": int, "new_tokens": int}
NEEDED |= {"id": int, "round": int, "origin": str, "policy": str, "unit": str}


@dataclass(frozen=True, slots=True)
class Imported:
    """`unit` is the id of the import; `left_out` counts responses to prompts that the memory does not have."""

    unit: str
    responses: int
    left_out: int


def import_file(memory: ResponseMemory, path: Path) -> Imported:
    """Add the responses in a .jsonl or .parquet file in the format of `export`, as one unit of round 0, atomically.

    Raises:
        UserError: the file cannot be read or is no export, was imported before, or answers no prompt of this memory.
    """
    readers = {".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UserError(f"cannot tell the format of {path}; name it .jsonl or .parquet")
    if not path.is_file():
        raise UserError(f"no file {path}")
    sha = sha256(path)
    for unit in memory.units(stage=Stage.IMPORT):
        if unit.payload and unit.payload["sha256"] == sha:
            raise UserError(f"{path} is in this memory already: {unit.id}")
    known = {prompt.id for prompt in memory.prompts()}
    rows = [_checked(row, f"{path} row {number}") for number, row in enumerate(readers[path.suffix](path), start=1)]
    fitting = [row for row in rows if row["prompt_id"] in known]
    if not fitting:
        raise UserError(f"none of the {len(rows)} responses in {path} answers a prompt of this run")
    source = {"file": path.name, "sha256": sha, "columns": SOURCE, "rows": [[r[c] for c in SOURCE] for r in fitting]}
    unit_id = memory.commit_import(
        [(r["prompt_id"], r["finish"], r["prompt_tokens"], r["new_tokens"], r["response"]) for r in fitting], source
    )
    return Imported(unit_id, len(fitting), len(rows) - len(fitting))


def _jsonl(path: Path) -> list[Any]:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                raise UserError(f"{path} line {number} is no JSON; export writes one object a line") from None
    return rows


def _parquet(path: Path) -> list[Any]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        return list(parquet.read_table(path).to_pylist())
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is no Parquet file: {first_line(error)}") from None


def _checked(row: Any, where: str) -> dict[str, Any]:
    """Return the row; UserError unless it has the columns that `export` writes."""
    if not isinstance(row, dict):
        raise UserError(f"{where} is no object; export writes one object a line")
    for name, kind in NEEDED.items():
        if type(row.get(name)) is not kind:
            raise UserError(f"{where}: {name} should be {kind.__name__}, it is {row.get(name)!r}")
        if kind is int and not 0 <= row[name] < 2**63:
            raise UserError(f"{where}: {name} should be a count, it is {row[name]}")
    if row["finish"] not in set(Finish):
        raise UserError(f"{where}: finish should be {' or '.join(Finish)}, it is {row['finish']!r}")
    return row
