"""Model text on a terminal: control characters are shown as escapes; widths are counted in columns."""

import unicodedata
from collections.abc import Sequence

import click

FAULTS = 5
"""Lines of a file that are named when they are left out; the others are counted."""

BIDI = {"\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"}


def printable(text: str, width: int | None = None) -> str:
    r"""Return `text` with control and bidi characters escaped; one line of at most `width` columns, if given.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    escaped = "".join(
        c if c in "\n\t" or (unicodedata.category(c) not in {"Cc", "Cs"} and c not in BIDI) else _escape(c)
        for c in text
    )
    if width is None:
        return escaped
    line = " ".join(escaped.split())
    return line if columns(line) <= width else f"{_beginning(line, width - 1)}…"


def columns(text: str) -> int:
    """Return how many terminal columns `text` takes: 2 for a wide (East Asian) character, 0 for a combining one."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def padded(text: str, width: int) -> str:
    """Return `text` followed by spaces up to `width` columns."""
    return text + " " * (width - columns(text))


def cell(text: str, width: int) -> str:
    """Return model text as a table cell: escaped, one line, exactly `width` columns."""
    return padded(printable(text, width), width)


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of at most `width` columns that `text` wraps to, at spaces where there are any."""
    lines, line = [], ""
    for word in text.split():
        if line and columns(line) + 1 + columns(word) <= width:
            line = f"{line} {word}"
            continue
        if line:
            lines.append(line)
        while columns(word) > width:
            head = _beginning(word, width) or word[0]
            lines.append(head)
            word = word[len(head) :]
        line = word
    return [*lines, line] if line or not lines else lines


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:  # combining marks and zero-width characters
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _beginning(text: str, width: int) -> str:
    """Return the longest beginning of `text` that fits `width` columns."""
    taken = 0
    for position, character in enumerate(text):
        taken += _columns_of(character)
        if taken > width:
            return text[:position]
    return text


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def say_left_out(faults: Sequence[str], rest: str) -> None:
    """Print the lines of a file that were left out, the first `FAULTS` by name; `rest` ends the count of the others."""
    for fault in faults[:FAULTS]:
        click.echo(f"left out: {printable(fault)}")
    if len(faults) > FAULTS:
        click.echo(f"left out: {len(faults) - FAULTS} {rest}")
