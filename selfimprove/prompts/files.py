"""Rows of a prompt file: JSON lines, a JSON array, CSV, TSV, Parquet or plain text, compressed or not.

A row is a dict from column to value, or `Unusable` where a line holds none. Text is UTF-8, or UTF-16 or UTF-32 with a
byte order mark. Values of answer columns are replaced by None right here, and never loaded from Parquet.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..config_file import expanded
from ..errors import PromptError, first_line
from .columns import is_answer

MAX_LINE = 1 << 20
"""Longest line, in bytes, and longest message, in characters."""

TEXT = (".txt", ".text")
"""Suffixes of files with one prompt a line."""

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_FOREIGN = (".zst", ".zip", ".xlsx", ".xls", ".ods", ".arrow", ".db", ".sqlite", ".pkl", ".pdf", ".docx")
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DATASET_ID = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?")
_SUFFIX = re.compile(r"\.[a-z]\w*$", re.IGNORECASE)  # a file's, not a version's


class Unusable(ValueError):
    """Why a row holds no prompt."""


Row = dict[str, Any]
Rows = Generator[tuple[int, Row | Unusable]]
"""Number of each row (from 1; lines, where the format has them) and its columns, or why it has none."""


def unit_of(path: str) -> str:
    """Return what the numbers of the rows count: "line", or "row" where a row is no line."""
    return "row" if path.startswith("hf:") or _kind(path) in (".json", ".parquet") else "line"


def read_rows(path: str, split: str = "train", *, answers: bool = False) -> Rows:
    """Yield the rows of a file, `-` (stdin) or `hf:ID[:CONFIG]`; with `answers`, those columns' values too.

    Raises:
        PromptError: the source is missing, unreachable, damaged, or of a format that is not read.
    """
    if path.startswith("hf:"):
        from .hub import dataset_rows

        rows = dataset_rows(path, split, answers=answers)
    else:
        rows = _file_rows(path, answers)
    for number, row in rows:
        if isinstance(row, dict) and not answers:
            row = {name: None if is_answer(name) else value for name, value in row.items()}
        yield number, row


def dataset_hint(path: str) -> str:
    """Return what to do about a path that is no file but looks like a dataset's id or an address, or nothing."""
    if re.match(r"\w+://", path):
        return "; addresses are not fetched: download the file first"
    if _DATASET_ID.fullmatch(path) and not _SUFFIX.search(path) and not Path(path).parent.exists():
        return f"; if it is the id of a dataset, write hf:{path}"
    return ""


def parse_json(line: bytes) -> Row:
    """Return the JSON object that a line holds.

    Raises:
        Unusable: it is not UTF-8, not JSON, not an object, longer than `MAX_LINE` or nested too deeply.
    """
    row = _json(_decode(line))
    if not isinstance(row, dict):
        raise Unusable(f'a JSON {type(row).__name__}, expected an object such as {{"prompt": "..."}}')
    return row


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise Unusable("nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, or an integer of more than 4300 digits
        hint = "; is it UTF-16 without a byte order mark?" if text.startswith("{\0") else ""
        raise Unusable(f"not valid JSON ({error}){hint}") from None


def _decode(line: bytes) -> str:
    if len(line) > MAX_LINE:
        raise Unusable(f"{len(line)} bytes long, the limit is {MAX_LINE}")
    return _utf8(line).removeprefix("\ufeff")


def _utf8(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise Unusable(f"not UTF-8 (byte {error.start}); save the file as UTF-8") from None


def _kind(path: str) -> str:
    """Return the suffix that decides the format, in lower case; "" for stdin."""
    name = Path(path)
    return (name.with_suffix("") if name.suffix.lower() in _OPENERS else name).suffix.lower()


def _file_rows(path: str, answers: bool) -> Rows:
    kind = _kind(path)
    if kind in _FOREIGN:
        raise PromptError(f"{path}: {kind} files are not read; save it as JSON lines, CSV, Parquet or plain text")
    try:
        if path == "-":
            yield from _parse("", cast(BinaryIO, sys.stdin.buffer), mixed=True)
            return
        file = expanded(path)
        if kind == ".parquet":
            yield from _parquet(file, answers)
            return
        with _OPENERS.get(file.suffix.lower(), open)(file, "rb") as raw:
            yield from _parse(kind, raw)
    except OSError as error:
        raise PromptError(f"cannot read {path}: {error.strerror or first_line(error)}{dataset_hint(path)}") from None
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise PromptError(f"cannot read {path}: the compressed data are damaged ({first_line(error)})") from None
    except UnicodeDecodeError as error:
        raise PromptError(f"cannot read {path}: not valid {error.encoding}; save the file as UTF-8") from None
    except Unusable as fault:
        raise PromptError(f"cannot read {path}: {fault}") from None


def _parse(kind: str, raw: BinaryIO, mixed: bool = False) -> Rows:
    with closing(_utf8_lines(raw)) as lines:  # before the file is
        if kind in (".csv", ".tsv", ".tab"):
            yield from _table(lines, "," if kind == ".csv" else "\t")
        elif kind == ".json":
            yield from _document(b"".join(lines))
        else:
            yield from _lines(lines, text=kind in TEXT, mixed=mixed)


def _utf8_lines(raw: BinaryIO) -> Generator[bytes]:
    """Yield lines with their ends (LF, CR LF or CR): bytes as they are, UTF-16 and UTF-32 with a mark as UTF-8."""
    stream = raw if hasattr(raw, "peek") else io.BufferedReader(cast(Any, raw))
    head = stream.peek(4)
    marked = next((name for mark, name in _BOMS.items() if head.startswith(mark)), None)
    text = io.TextIOWrapper(stream, marked or "latin-1", newline="")  # Latin-1: a character a byte
    try:
        yield from (line.encode("utf-8" if marked else "latin-1") for line in text)
    finally:
        text.detach()  # whoever opened the file closes it


def _lines(lines: Iterable[bytes], *, text: bool, mixed: bool) -> Rows:
    """JSON lines or, with `text`, a prompt a line; `mixed`: text is what does not begin as a JSON object does."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            if text or (mixed and not line.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")):
                yield number, {"prompt": _decode(line).strip()}
            else:
                yield number, parse_json(line)
        except Unusable as fault:
            yield number, fault


def _document(content: bytes) -> Rows:
    """A JSON array of objects or texts; an object that holds one such array; or JSON lines under a wrong name."""
    try:
        document = _json(content.decode("utf-8-sig"))
    except Unusable as fault:
        rows = list(_lines(content.splitlines(), text=False, mixed=False))
        if not any(isinstance(row, dict) for _, row in rows):
            raise fault from None
        yield from rows
        return
    if isinstance(document, dict):
        arrays = [v for v in document.values() if isinstance(v, list) and v and all(isinstance(x, dict) for x in v)]
        whole = not ({"messages", "conversations", "prompt"} & document.keys()) and len(arrays) == 1
        document = arrays[0] if whole else [document]
    if not isinstance(document, list):
        raise Unusable(f"a JSON {type(document).__name__}, expected an array of objects")
    for number, item in enumerate(document, start=1):
        if isinstance(item, str):
            yield number, {"prompt": item}
        elif isinstance(item, dict):
            yield number, item
        else:
            yield number, Unusable(f'a JSON {type(item).__name__}, expected an object such as {{"prompt": "..."}}')


def _table(lines: Iterator[bytes], delimiter: str) -> Rows:
    """CSV or TSV with a header; `;` or a tab separates where the header of a CSV has more of them than commas."""
    texts = _texts(lines)
    head = next(texts, "").removeprefix("\ufeff")
    if delimiter == ",":
        delimiter = max(",;\t", key=head.count)
    csv.field_size_limit(MAX_LINE)
    records = _records(csv.reader(chain([head], texts), delimiter=delimiter, strict=True))
    _, names = next(records, (1, []))
    if isinstance(names, Unusable):
        raise names
    header = [name.strip() for name in names]
    if twice := {name for name in header if name and header.count(name) > 1}:
        raise Unusable(f"the header names {', '.join(sorted(twice))} twice")
    for number, cells in records:
        if isinstance(cells, Unusable):
            yield number, cells
        elif len(cells) == len(header):
            named = zip(header, cells, strict=True)
            yield number, {name: cell for name, cell in named if name or cell.strip()}  # spreadsheets add empty columns
        else:
            yield number, Unusable(f"{len(cells)} fields, the header has {len(header)}")


def _texts(lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield _utf8(line)
        except Unusable as fault:
            raise Unusable(f"line {number}: {fault}") from None


def _records(reader: Any) -> Iterator[tuple[int, list[str] | Unusable]]:
    """Yield the first line and the cells of each record that is not empty.

    Raises:
        Unusable: a quotation mark takes further lines with it.
    """
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if (lines := reader.line_num - first) > 0:
                raise Unusable(
                    f"line {first}: a quotation mark opens here and {lines} more lines are read as one cell ({error}); "
                    'close it, or double it ("") inside a cell'
                ) from None
            cells = Unusable(f"{error}; is a quotation mark not closed, or not doubled inside a cell?")
        if isinstance(cells, Unusable) or any(cell.strip() for cell in cells):
            yield first, cells


def _parquet(file: Path, answers: bool) -> Rows:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

    try:
        table = ParquetFile(file)
        names = table.schema_arrow.names
        read = names if answers else [name for name in names if not is_answer(name)]
        batches = table.iter_batches(columns=read)
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from ((number, dict.fromkeys(names) | row) for number, row in enumerate(rows, start=1))
    except pyarrow.ArrowException as error:
        raise PromptError(f"cannot read {file}: {first_line(error)}") from None
