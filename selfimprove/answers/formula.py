r"""Names of formulas: lists and sets, tuples, intervals, relations, matrices, and what stands between.

Structure (lists, brackets, relations) is taken apart here, so that no part of an answer is lost; what stands between,
a formula without commas or relation signs, is named by a process (`workers`). What is not understood keeps its text as
its name.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from . import quantity, workers
from . import text as wording
from .amount import UNASKED, Asked
from .latex import CLOSE, ELLIPSIS, OPEN, closing, explicit, safe, split, tidy, unwrapped

MAX_CHARS = 400
"""Longer formulas are compared as text."""
_MAX_DEPTH = 12

_RELATION = re.compile(
    r"<=|>=|!=|(?<![<>!:])=|<|>|\\approx(?![a-zA-Z])|\\equiv(?![a-zA-Z])|\\sim(?![a-zA-Z])|≈|\\in(?![a-zA-Z])"
)
_SYMBOL = re.compile(
    r"\\?[A-Za-z]+(?:_\{?\w{1,6}\}?)?(?:\s*\(\s*[a-z]\w*\s*\))?|\|\s*[A-Z]{1,3}\s*\||[A-Z]{1,3}(?:\s*:\s*[A-Z]{1,3})?"
)
_LHS_NAME = re.compile(
    r"(?:\\text\{[^{}]*\}|\\?[A-Za-z]+'?(?:\s*\^\s*\{?-1\}?)?(?:_\{?\w{1,8}\}?)?(?:\s*\([^()=]{1,12}\))?|\|[^|]{1,12}\||"
    r"\\angle\s*[A-Za-z]{1,4}|\\frac\{[A-Z]{2}\}\{[A-Z]{2}\}|[A-Z]\w*(?:_\{\w+\})?\s*:\s*[A-Z]\w*(?:_\{\w+\})?|"
    r"\([a-z](?:\s*[,;]\s*[a-z]\w*)+\))\s*"
)
_NO_SOLUTION = re.compile(
    r"^(?:\\emptyset|\\\{\s*\\\}|(?:\\text\{)?\s*(?:there (?:is|are) )?no (?:real )?(?:solutions?|"
    r"roots?)(?: exists?)?\s*\}?)$",
    re.I,
)

_PROSE = re.compile(
    r"[^\W\d_]{3,}|(?<![A-Za-z\\])(?:[Ss]o|[Ii][fnst]|[Ww]e|[Tt]o|[Oo]f|[Bb][ey]|[Aa][nst]|[Hh]e)(?![A-Za-z])"
)
_COMMAND = re.compile(
    r"\\[A-Za-z]+(?:\{(?:array|[pbv]?matrix|cases)\})?|\b(?:sin|cos|tan|log|ln|sqrt|and|or|pi|infinity|inf|exp)\b"
)


def is_prose(text: str) -> bool:
    """Return whether a text has words that no formula has, such as `is`."""
    return bool(_PROSE.search(_COMMAND.sub(" ", text)))


_WORDS = re.compile(r"[^\W\d_]{2,}")
_MATRIX = re.compile(r"^[(\[]?\s*\\begin\{([pbvBV]?matrix|smallmatrix)\}((?:(?!\\end\{).)*)\\end\{\1\}\s*[)\]]?$", re.S)


@lru_cache(maxsize=16_384)
def name(formula: str, about: Asked = UNASKED, *, equation: bool = False) -> str | None:
    """Return the name of a mathematical answer, equal for equal ones; None where there is none.

    `equation`: an equation such as `y = 2x` is asked for, so that its left side is part of the answer.
    """
    text = tidy(formula)
    if not text or not re.search(r"\w|\\", text):
        return None
    found = None
    if len(text) <= MAX_CHARS and not ELLIPSIS.search(text):
        found = _structure(text, about, equation, 0)
    return found or _as_text(text)


def _as_text(text: str) -> str | None:
    """The name of what is not understood: its text, without spaces."""
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    if re.fullmatch(r"[^\\^_{}=<>+/|]*", plain) and _WORDS.search(plain):
        return wording.fold(plain) or None
    return re.sub(r"\s+", "", text) or None


def _structure(text: str, about: Asked, equation: bool, depth: int) -> str | None:
    text = unwrapped(text.strip().rstrip(".,;"))
    if not text or depth > _MAX_DEPTH:
        return None
    if _NO_SOLUTION.match(text):
        return "no solution"
    if re.fullmatch(r"\\text\{[^{}]*\}", text) or re.fullmatch(r"[A-Za-z]{2,}(?: [A-Za-z]+)*", text):
        words = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
        amount = quantity.whole(words, about) if re.search(r"[a-z]", words) else None
        letter = re.fullmatch(r"\W*([A-Za-z])\W*", words)
        return amount or (letter[1] if letter else wording.fold(words)) or None
    if re.fullmatch(r"[A-Za-z]", text):
        return text
    for separators in ((";",), (" or ", " and ", ",")):
        parts = split(text, separators)
        if len(parts) > 1:
            amount = None
            grouped = re.fullmatch(r"\D*\d{1,3}(?:,\d{3})+(?![\d,]).*|\D*\d{4,},\d{1,2}\D*", text)
            if (
                separators != (";",)
                and re.fullmatch(r"[^()=\[\]{}<>]*", text)
                and (grouped or (about.comma and len(parts) == 2))
            ):
                amount = quantity.whole(text, about)
            return amount or _list(parts, about, equation, depth)
    if matrix := _MATRIX.match(text):
        return _matrix(matrix[2], about, depth)
    if (related := _relations(text, about, equation, depth)) is not None:
        return related
    if bracketed := _bracketed(text, about, depth):
        return bracketed
    unions = split(text, ("\\cup",))
    if len(unions) > 1:
        names = [_structure(part, about, equation, depth + 1) for part in unions]
        return None if None in names else " U ".join(sorted(str(n) for n in names))
    return _scalar(text, about)


def _list(parts: Sequence[str], about: Asked, equation: bool, depth: int) -> str | None:
    """The name of several answers: a set, or the values of different unknowns in order of their names."""
    parts = [re.sub(r"^(?:and|or)\s+", "", part) for part in parts]
    assigned = [re.match(r"\s*([A-Za-z]\w*(?:_\{?\w+\}?)?)\s*=(?!=)", part) for part in parts]
    unknowns = [re.sub(r"^x_\{?\d\}?$", "x", match[1]) for match in assigned if match]
    names = [_structure(part, about, equation, depth + 1) for part in parts]
    if None in names:
        return None
    known = [str(n) for n in names]
    if len(unknowns) == len(parts) and len(set(unknowns)) == len(unknowns) > 1:
        return "(" + ", ".join(value for _, value in sorted(zip(unknowns, known, strict=True))) + ")"
    return ", ".join(sorted(set(known)))


def _bracketed(text: str, about: Asked, depth: int) -> str | None:
    """The name of a tuple, an interval or a set."""
    if text.startswith("\\{") and text.endswith("\\}"):
        return _list(split(text[2:-2], (",", ";")), about, False, depth) or "no solution"
    if text[0] not in "([" or closing(text, 0) != len(text) - 1 or text[-1] not in ")]":
        return None
    parts = split(text[1:-1], (";",))
    if len(parts) < 2:
        parts = split(text[1:-1], (",",))
    if len(parts) < 2 and text[0] == "(":
        return None
    names = [_structure(part, about, False, depth + 1) for part in parts]
    return None if None in names else text[0] + ", ".join(str(n) for n in names) + text[-1]


def _matrix(body: str, about: Asked, depth: int) -> str | None:
    rows = [
        [_structure(cell, about, False, depth + 1) for cell in row.split("&")]
        for row in body.split("\\\\")
        if row.strip()
    ]
    if any(cell is None for row in rows for cell in row):
        return None
    return "[" + "; ".join(", ".join(str(cell) for cell in row) for row in rows) + "]"


def _relations(text: str, about: Asked, equation: bool, depth: int) -> str | None:
    """The name of a formula with relation signs; None where it has none at its top."""
    pieces, signs = _related(text)
    if not signs:
        return None
    if "\\in" in signs:
        return _structure(pieces[-1], about, equation, depth + 1) if signs[-1] == "\\in" else None
    if set(signs) <= {"=", "\\approx", "\\equiv", "\\sim", "≈"}:
        return _equation(pieces, signs, about, equation, depth)
    if len(signs) == 1:
        return _ask(pieces[0], signs[0], pieces[1])
    return _between(pieces, signs, about, depth) if len(signs) == 2 else None


def _related(text: str) -> tuple[list[str], list[str]]:
    """Return the parts of a formula between its top-level relation signs, and the signs."""
    pieces: list[str] = []
    signs: list[str] = []
    start, level, position = 0, 0, 0
    while position < len(text):
        char = text[position]
        level += (char in OPEN) - (char in CLOSE)
        match = _RELATION.match(text, position) if level == 0 else None
        if match:
            pieces.append(text[start:position].strip())
            signs.append(match[0])
            position = start = match.end()
        else:
            position += 1
    if signs:
        pieces.append(text[start:].strip())
    return pieces, signs


def _equation(pieces: list[str], signs: list[str], about: Asked, equation: bool, depth: int) -> str | None:
    """The name of `x = 4` (4), of a chain (its last exact value), or of an equation between expressions."""
    if not pieces[0]:
        pieces, signs = pieces[1:], signs[1:]
    exact = next((i for i, sign in enumerate(signs) if sign in ("\\approx", "≈") and i > 0), len(signs))
    first, last = pieces[0], pieces[exact]  # x = 1/3 ≈ 0.33 is 1/3
    value = _structure(last, about, False, depth + 1) if last else None
    if not signs or (len(signs) > 1 and value is not None):
        return value
    if value is None:
        return _ask(first, "=", last)
    if _LHS_NAME.fullmatch(first) and not ((equation or first == "y") and _is_formula(value)):
        return value
    if re.search(r"[A-Za-z]", _FUNCTION.sub("", first)):
        return _ask(first, "=", last)
    if not re.search(r"[A-Za-z]", last):
        return value  # 3 + 4 = 7
    return _structure(first, about, False, depth + 1) if _LHS_NAME.fullmatch(last) else _ask(first, "=", last)


_FUNCTION = re.compile(
    r"\\(?:frac|sqrt|cdot|times|text|binom|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|pm|div)(?![a-zA-Z])"
)


def _between(pieces: list[str], signs: list[str], about: Asked, depth: int) -> str | None:
    """The name of `0 < x <= 1`, as an interval."""
    if {signs[0][0], signs[1][0]} not in ({"<"}, {">"}) or not _LHS_NAME.fullmatch(pieces[1]) or pieces[1][0] == "|":
        return None
    if signs[0][0] == ">":
        pieces, signs = pieces[::-1], signs[::-1]
    low, high = _structure(pieces[0], about, False, depth + 1), _structure(pieces[2], about, False, depth + 1)
    if low is None or high is None:
        return None
    return f"{'[' if '=' in signs[0] else '('}{low}, {high}{']' if '=' in signs[1] else ')'}"


def _is_formula(value: str) -> bool:
    return bool(re.search(r"[a-z]", value)) and value not in ("oo", "-oo")


def _ask(left: str, sign: str, right: str) -> str | None:
    if sign not in ("=", "!=", "<", "<=", ">", ">=") or not left or not right or not (safe(left) and safe(right)):
        return None
    return workers.relation(explicit(left), sign, explicit(right))


def _scalar(text: str, about: Asked) -> str | None:
    """The name of one value or expression."""
    if not text.endswith("!") and (amount := quantity.whole(_power_braces(text), about)) is not None:
        return amount
    noun = re.fullmatch(r"(.*?[\d}a-z])\s*\\text\{\s*([^{}]*)\}(?:\s*\^\s*\{?(\d)\}?)?", text)
    if noun and (value := _scalar(noun[1].strip(), about)) is not None:
        return _with_noun(value, noun[2] + (f"^{noun[3]}" if noun[3] else ""), about)
    if not safe(text):
        return None
    return workers.expression(explicit(text))


def _with_noun(value: str, noun: str, about: Asked) -> str:
    """The name of a value with words behind it: a unit stays, what is counted does not."""
    exact = re.fullmatch(r"-?\d{1,12}(?:\.\d{1,9}|/\d{1,12})?", value)
    if exact and (amount := quantity.whole(f"{value} {noun}", about)) is not None:
        return amount
    unit = quantity.whole(f"1 {noun}", about)
    if unit == "1" or (unit is None and not re.search(r"\b(?:hundred|thousand|million|dozen)", noun)):
        return value
    return f"{value} {wording.fold(noun)}"


def _power_braces(text: str) -> str:
    return text.replace("\\cdot", "×").replace("\\times", "×")
