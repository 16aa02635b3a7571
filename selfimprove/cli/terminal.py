"""Model text on a terminal: what could move the cursor, recolour or reorder the screen is shown, not obeyed."""

import unicodedata

BIDI = {"\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"}


def printable(text: str, width: int | None = None) -> str:
    r"""Return `text` with control and bidi characters escaped; one line, cut to `width`, when a width is given.

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
    return line if len(line) <= width else line[: width - 1] + "…"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
