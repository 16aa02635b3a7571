r"""Reading mathematical answers: LaTeX and plain formulas, lists and sets, tuples, intervals, relations, matrices.

Structure (lists, brackets, relations) is taken apart here, so that no part of an answer is lost; what stands between,
a formula without commas or relation signs, is named by a process (`workers`). What is not understood keeps its text as
its name.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from . import number, quantity, short, workers
from . import text as wording
from .final import marked
from .quantity import Asked

MAX_CHARS = 400
"""Longer formulas are compared as text."""
_MAX_DEPTH = 12

_TIDY = (
    (re.compile(r"(?<![a-zA-Z\\])(or|and)(?![a-zA-Z])"), r" \1 "),
    (re.compile(r"\\(?:left|right|big|Big|bigg|Bigg|displaystyle|textstyle|limits|nolimits|mathstrut)(?![a-zA-Z])\.?"), ""),
    (re.compile(r"\\(?:d|t|c)frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\f?boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"), r"\1"),
    (re.compile(r"\{\s*,\s*\}|,\\!\s*"), ""),
    (re.compile(r"\\text\w{0,6}\s*\{\s*,?\s*(or|and)\s*\}|\\mbox\s*\{\s*(or|and)\s*\}", re.I), lambda m: f" {m[1] or m[2]} "),
    (re.compile(r"\\(?:quad|qquad)|(?<!\\)\\[,;:! ]|~|\\(?:hspace|vspace)\{[^{}]*\}"), " "),
    (re.compile(r"\\(?:mathrm|mathbf|mathit|textbf|textit|textrm|textnormal|mbox|operatorname|text|rm)\s*\{([^{}]*)\}"), r"\\text{\1}"),
    (re.compile(r"\\text\{\s*([a-zA-Z])\s*\}"), r" \1 "),
    (re.compile(r"\\(?:leqslant|leq|le)(?![a-zA-Z])|≤|⩽"), "<="),
    (re.compile(r"\\(?:geqslant|geq|ge)(?![a-zA-Z])|≥|⩾"), ">="),
    (re.compile(r"\\(?:neq|ne)(?![a-zA-Z])|≠"), "!="),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\(?:lbrace|\{)"), r"\\{"),
    (re.compile(r"\\rbrace"), r"\\}"),
    (re.compile(r"\\(?:vert|lvert|rvert|mid)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\(?:ast|star)(?![a-zA-Z])|×|\*(?!\*)(?<!\*\*)"), r"\\cdot "),
    (re.compile(r"·|⋅"), r"\\cdot "),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"√\s*\(?(\d+|[a-z])\)?"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\a-zA-Z])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\a-zA-Z])(pi|alpha|beta|theta|infty|cdot|infinity)(?![a-zA-Z])"), lambda m: "\\" + m[1].replace("infinity", "infty")),
    (re.compile(r"π"), r"\\pi "),
    (re.compile(r"∞"), r"\\infty "),
    (re.compile(r"θ"), r"\\theta "),
    (re.compile(r"∪"), r"\\cup "),
    (re.compile(r"∈"), r"\\in "),
    (re.compile(r"∅|\\varnothing"), r"\\emptyset"),
    (re.compile(r"ℝ"), r"\\mathbb{R}"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r'\\?["\u201c\u201d]'), ""),
    (re.compile(r"(?<=[\w)}])([⁰¹²³⁴⁵⁶⁷⁸⁹]+)"), lambda m: "^{" + m[1].translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")) + "}"),
    (re.compile(r"±"), r"\\pm "),
    (re.compile(r"(?<!\\)\$|\\[()]|\\\[|\\\]|&(?!\w*\\\\)(?=\s*=)"), " "),
)  # fmt: skip
_COMMANDS = frozenset(
    [
        "frac",
        "sqrt",
        "pi",
        "cdot",
        "times",
        "div",
        "pm",
        "mp",
        "infty",
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "ln",
        "log",
        "exp",
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "theta",
        "lambda",
        "mu",
        "rho",
        "sigma",
        "tau",
        "phi",
        "varphi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Sigma",
        "Phi",
        "Omega",
        "eta",
        "zeta",
        "kappa",
        "nu",
        "xi",
        "chi",
        "psi",
        "binom",
        "lfloor",
        "rfloor",
        "lceil",
        "rceil",
        "sum",
        "int",
        "prod",
        "lim",
        "to",
        "begin",
        "end",
        "pmatrix",
        "bmatrix",
        "vmatrix",
        "matrix",
        "max",
        "min",
        "gcd",
    ]
)
_ALLOWED = re.compile(r"[A-Za-z0-9\s+\-/^_(){}\[\]|.,!\\&]*")
_LOSSY = re.compile(r"\d\s*_|'|\d\s+\d|\.\.|__|_\s*[-+*/]|\^\s*\^|\d\s+\.|\\(?:ldots|dots|cdots)|[A-Z]{4,}|[a-z]{5,}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-zA-Z]+\}|\\[A-Za-z]+|\\\\")
_HUGE = re.compile(
    r"\^\s*\{?\s*-?\d{4,}|\d{4,}\s*\}?\)?\s*!|!\s*!|\^\s*(?:\{[^{}]*|\w)\^\s*(?:\{[^{}]*|\w)\^|\)\s*\^\s*\{?\d{3,}|\\binom\s*\{[^{}]*\^|\d{41,}"
)
"""What would take a process all of its time: towers of powers, large exponents and factorials."""
_ELLIPSIS = re.compile(r"\\(?:ldots|dots|cdots|dotsc|dotsb)|\.\.\.|…")
_RELATION = re.compile(
    r"<=|>=|!=|(?<![<>!:])=|<|>|\\approx(?![a-zA-Z])|\\equiv(?![a-zA-Z])|\\sim(?![a-zA-Z])|≈|\\in(?![a-zA-Z])"
)
_OPEN, _CLOSE = "([{", ")]}"
_SYMBOL = re.compile(
    r"\\?[A-Za-z]+(?:_\{?\w{1,6}\}?)?(?:\s*\(\s*[a-z]\w*\s*\))?|\|\s*[A-Z]{1,3}\s*\||[A-Z]{1,3}(?:\s*:\s*[A-Z]{1,3})?"
)
_LHS_NAME = re.compile(
    r"(?:\\text\{[^{}]*\}|\\?[A-Za-z]+'?(?:_\{?\w{1,8}\}?)?(?:\s*\([^()=]{1,12}\))?|\|[^|]{1,12}\||\\angle\s*[A-Za-z]{1,4}|\\frac\{[A-Z]{2}\}\{[A-Z]{2}\}|[A-Z]\w*(?:_\{\w+\})?\s*:\s*[A-Z]\w*(?:_\{\w+\})?|\([a-z](?:\s*[,;]\s*[a-z]\w*)+\))\s*"
)
_NO_SOLUTION = re.compile(
    r"^(?:\\emptyset|\\\{\s*\\\}|(?:\\text\{)?\s*(?:there (?:is|are) )?no (?:real )?(?:solutions?|roots?)(?: exists?)?\s*\}?)$",
    re.I,
)
_NOTHING = re.compile(
    r"^\W*(?:(?:there (?:is|are)|the equation has|it has|has)\s+)?no\s+(?:real\s+|such\s+|integer\s+)?(?:solutions?|roots?)\b[^.]{0,30}\W*$",
    re.I,
)
_WORDS = re.compile(r"[^\W\d_]{2,}")
_EQUATION_ASKED = re.compile(r"\bequations?\b|\bline\b|\binequalit(?:y|ies)\b|\brelation\b", re.I)
_ARRAY = re.compile(r"\\begin\{(?:array)\}(?:\{[^{}]*\})?")
_MATRIX = re.compile(r"^[(\[]?\s*\\begin\{([pbvBV]?matrix|smallmatrix)\}((?:(?!\\end\{).)*)\\end\{\1\}\s*[)\]]?$", re.S)


def tidy(formula: str) -> str:
    """Return a formula in one notation: no spacing commands, one kind of fraction, relation signs in ASCII."""
    text = formula.strip()
    if "matrix" not in text and "array" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z{}])", r"\\", text)
    text = _ARRAY.sub(r"\\begin{matrix}", text).replace(r"\end{array}", r"\end{matrix}")
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return re.sub(r"\s+", " ", text).strip(" ").rstrip(".,;:")


@lru_cache(maxsize=16_384)
def name(formula: str, about: Asked = Asked(), *, equation: bool = False) -> str | None:
    """Return the name of a mathematical answer, equal for equal ones; None where there is none.

    `equation`: an equation such as `y = 2x` is asked for, so that its left side is part of the answer.
    """
    text = tidy(formula)
    if not text or not re.search(r"\w|\\", text):
        return None
    found = None
    if len(text) <= MAX_CHARS and not _ELLIPSIS.search(text):
        found = _structure(text, about, equation, 0)
    return found or _as_text(text)


def _as_text(text: str) -> str | None:
    """The name of what is not understood: its text, without spaces."""
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    if re.fullmatch(r"[^\\^_{}=<>+/|]*", plain) and _WORDS.search(plain):
        return wording.fold(plain) or None
    return re.sub(r"\s+", "", text) or None


def _structure(text: str, about: Asked, equation: bool, depth: int) -> str | None:
    text = _unwrapped(text.strip().rstrip(".,;"))
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
        parts = _split(text, separators)
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
    unions = _split(text, ("\\cup",))
    if len(unions) > 1:
        names = [_structure(part, about, equation, depth + 1) for part in unions]
        return None if None in names else " U ".join(sorted(str(n) for n in names))
    return _scalar(text, about)


def _unwrapped(text: str) -> str:
    """A formula without braces or parentheses around all of it (that hold no list)."""
    while len(text) > 2 and text[0] in "{(" and _closing(text, 0) == len(text) - 1:
        inner = text[1:-1].strip()
        if text[0] == "(" and len(_split(inner, (",", ";"))) > 1:
            break
        if text[0] == "{" and len(_split(inner, (",", ";"))) > 1:
            return "\\{" + inner + "\\}"
        text = inner
    return text


def _closing(text: str, start: int) -> int:
    """The position of the bracket that closes the one at `start`; -1 where none does. Kinds may differ: `[0, 1)`."""
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] in _OPEN) - (text[position] in _CLOSE)
        if depth == 0:
            return position
    return -1


def _split(text: str, separators: Sequence[str]) -> list[str]:
    """The parts of a formula between separators that stand in no bracket or environment."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        char = text[position]
        if text.startswith("\\begin", position):
            depth += 1
        elif text.startswith("\\end", position):
            depth -= 1
        if char in _OPEN or char in _CLOSE:
            depth += 1 if char in _OPEN else -1
        elif depth == 0:
            found = next((s for s in separators if text.startswith(s, position)), None)
            if found:
                parts.append(text[start : position - (char == "\\" and found in ("{",))])
                position += len(found)
                start = position
                continue
        position += 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip(" \\")]


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
        return _list(_split(text[2:-2], (",", ";")), about, False, depth) or "no solution"
    if text[0] not in "([" or _closing(text, 0) != len(text) - 1 or text[-1] not in ")]":
        return None
    parts = _split(text[1:-1], (";",))
    if len(parts) < 2:
        parts = _split(text[1:-1], (",",))
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
    pieces: list[str] = []
    signs: list[str] = []
    start, level, position = 0, 0, 0
    while position < len(text):
        char = text[position]
        level += (char in _OPEN) - (char in _CLOSE)
        match = _RELATION.match(text, position) if level == 0 else None
        if match:
            pieces.append(text[start:position].strip())
            signs.append(match[0])
            position = start = match.end()
        else:
            position += 1
    if not signs:
        return None
    pieces.append(text[start:].strip())
    if "\\in" in signs:
        return _structure(pieces[-1], about, equation, depth + 1) if signs[-1] == "\\in" else None
    equal = {"=", "\\approx", "\\equiv", "\\sim", "≈"}
    if set(signs) <= equal:
        if not pieces[0]:
            pieces, signs = pieces[1:], signs[1:]
        exact = next((i for i, sign in enumerate(signs) if sign in ("\\approx", "≈") and i > 0), len(signs))
        last = pieces[exact]  # x = 1/3 ≈ 0.33 is 1/3
        named = bool(_LHS_NAME.fullmatch(pieces[0]))
        value = _structure(last, about, False, depth + 1) if last else None
        if not signs or (len(signs) > 1 and value is not None):
            return value
        if named and value is not None and not ((equation or pieces[0] == "y") and _is_formula(value)):
            return value
        if value is not None and not re.search(r"[A-Za-z]", re.sub(r"\\(?:frac|sqrt|cdot|times|text)", "", pieces[0])):
            if not re.search(r"[A-Za-z]", last):
                return value  # 3 + 4 = 7
            return (
                _structure(pieces[0], about, False, depth + 1)
                if _LHS_NAME.fullmatch(last)
                else _ask(pieces[0], "=", last)
            )
        return _ask(pieces[0], "=", last)
    if len(signs) == 1:
        return _ask(pieces[0], signs[0], pieces[1])
    if len(signs) == 2 and ({signs[0][0], signs[1][0]} in ({"<"}, {">"})) and _LHS_NAME.fullmatch(pieces[1]):
        low, high = _structure(pieces[0], about, False, depth + 1), _structure(pieces[2], about, False, depth + 1)
        if low is None or high is None or re.match(r"[|]", pieces[1]):
            return None
        left, right = ("[" if "=" in signs[0] else "("), ("]" if "=" in signs[1] else ")")
        if signs[0][0] == ">":
            low, high, left, right = high, low, ("[" if "=" in signs[1] else "("), ("]" if "=" in signs[0] else ")")
        return f"{left}{low}, {high}{right}"
    return None


def _is_formula(value: str) -> bool:
    return bool(re.search(r"[a-z]", value)) and value not in ("oo", "-oo")


def _ask(left: str, sign: str, right: str) -> str | None:
    if sign not in ("=", "!=", "<", "<=", ">", ">=") or not left or not right or not (_safe(left) and _safe(right)):
        return None
    return workers.relation(_explicit(left), sign, _explicit(right))


def _scalar(text: str, about: Asked) -> str | None:
    """The name of one value or expression."""
    if not text.endswith("!") and (amount := quantity.whole(_power_braces(text), about)) is not None:
        return amount
    noun = re.fullmatch(r"(.*?[\d}])\s*\\text\{\s*([^{}]*)\}(?:\s*\^\s*\{?\d\}?)?", text)
    if noun and (value := _scalar(noun[1].strip(), about)) is not None:
        if re.fullmatch(r"-?[\d./]+", value) and (amount := quantity.whole(f"{value} {noun[2]}", about)) is not None:
            return amount
        unit = quantity.whole("1 " + noun[2], Asked())
        if unit is None or unit == "1" or re.fullmatch(r"\d.*", value) is None:
            return (
                value
                if unit == "1" or (unit is None and not re.search(r"\b(?:hundred|thousand|million|dozen)", noun[2]))
                else f"{value} {wording.fold(noun[2])}"
            )
        return f"{value} {wording.fold(noun[2])}"
    if not _safe(text):
        return None
    return workers.expression(_explicit(text))


def _power_braces(text: str) -> str:
    return text.replace("\\cdot", "×").replace("\\times", "×")


def _explicit(text: str) -> str:
    """A formula with products that the parser would take for sums written out: `2(3)` is 2 times 3."""
    text = re.sub(r"(?<![\d.}])(\d+)\s*(\\frac\s*\{\d+\}\s*\{\d+\})", r"(\1+\2)", text)
    return re.sub(r"(?<=\))\s*(?=\()|(?<=\))\s*(?=\d)", r" \\cdot ", text)


def _safe(text: str) -> bool:
    """Whether a formula holds nothing but what the grammar is known to keep."""
    if not _ALLOWED.fullmatch(text) or _LOSSY.search(_ENVIRONMENT.sub(" \\\\ ", text)):
        return False
    if any(command not in _COMMANDS for command in re.findall(r"\\([A-Za-z]+)", text)):
        return False
    if _HUGE.search(text):
        return False
    depth = most = 0
    for char in text:
        depth += (char in _OPEN) - (char in _CLOSE)
        most = max(most, depth)
    return depth == 0 and most <= 20


_SPAN = re.compile(
    r"\$\$(.{1,1000}?)\$\$|\\\[(.{1,1000}?)\\\]|(?<!\\)\$([^$\n]{1,400}?)(?<!\\)\$|\\\((.{1,400}?)\\\)", re.S
)
_JOIN = re.compile(r"^\s*(?:,?\s*(?:and|or|und|oder)|,)\s*$")
_SAID = re.compile(r"\b(?:answer|solution|result|value)s?\s*(?:is|are|=|:)+\s*:?\s*([^\n]{1,300})", re.I)
_PROSE = re.compile(r"[A-Za-z]{3,}")
_COMMAND = re.compile(
    r"\\[A-Za-z]+(?:\{(?:array|[pbv]?matrix|cases)\})?|\b(?:sin|cos|tan|log|ln|sqrt|and|or|pi|infinity|inf|exp)\b"
)


def read(text: str, prompt_text: str) -> str | None:
    """Return the name of the mathematical answer of a response, or None.

    What is marked as final; the text itself where it is a formula; what it says the answer is; its last formula; the
    amount or the words that it asserts.
    """
    about = quantity.asked(prompt_text)
    equation = bool(_EQUATION_ASKED.search(prompt_text))
    final = marked(text)
    if final is not None:
        if not _SPAN.search(final) or not _PROSE.search(_COMMAND.sub(" ", _SPAN.sub(" ", final))):
            return _answer(final, about, equation)
        text = final
    stripped = text.strip()
    if len(stripped) <= 300 and not _PROSE.search(_COMMAND.sub(" ", re.sub(r"\\text\w*\{[^{}]*\}", " ", stripped))):
        return _answer(stripped, about, equation)
    if _NOTHING.match(stripped):
        return "no solution"
    if re.fullmatch(r"-?\d+,\d{1,2}", stripped):
        return quantity.whole(stripped, about)
    cleaned = wording.bounded(text)
    if span := _last_span(cleaned):
        return _answer(span, about, equation)
    if said := _SAID.findall(cleaned):
        rest = wording.sentences(said[-1])[:1]
        if rest and not _PROSE.search(_COMMAND.sub(" ", rest[0])):
            return _answer(rest[0], about, equation)
    if plain := _plain_relation(cleaned):
        return _answer(plain, about, equation)
    tail = cleaned[list(_SPAN.finditer(cleaned))[-1].end() :] if _SPAN.search(cleaned) else cleaned
    found = number.read(tail, prompt_text)
    if found is None and tail is not cleaned:
        found = number.read(text, prompt_text)
    return found or short.read(text, prompt_text)


def _answer(final: str, about: Asked, equation: bool) -> str | None:
    if not re.search(r"[\\^_=<>]", final) and _PROSE.search(_COMMAND.sub(" ", final)):
        if amount := number.one(final, about):
            return amount
        if several := number._several(final, about):
            return several
    return name(final, about, equation=equation)


def _last_span(text: str) -> str | None:
    """The last formula in a text, with its neighbours in a list ("$1$ and $2$") and a percent sign behind it."""
    spans = [match for match in _SPAN.finditer(text)]
    if not spans:
        return None
    group = [spans[-1]]
    for span in reversed(spans[:-1]):
        if not _JOIN.match(text[span.end() : group[0].start()]):
            break
        group.insert(0, span)
    bodies = [next(body for body in match.groups() if body is not None) for match in group]
    after = text[group[-1].end() :]
    if re.search(r"\d", after) and (len(after.split()) > 2 or not re.search(r"\d", bodies[-1])):
        return None
    percent = re.match(r"\s*(?:\\?%|percent\b|pct\b)", after)
    return ", ".join(body.strip(" .,") for body in bodies) + (r"\%" if percent else "")


_PLAIN_RELATION = re.compile(
    r"(?:^|[\s(])((?:[a-z]|[a-z]\([a-z]\))\s*(?:=|<=?|>=?|≤|≥|≠)\s*[^\n.;,:]{1,80}(?:\.\d+)?(?:(?:\s+or\s+|\s+and\s+|,\s*)[a-z]\s*=\s*[^\n.;,:]{1,40})*)",
    re.I,
)


def _plain_relation(text: str) -> str | None:
    """The last `x = ...` in prose, words behind it cut."""
    found = _PLAIN_RELATION.findall(text)
    if not found:
        return None
    plain = re.split(r"\s+(?=[A-Za-z]{3,})(?!sqrt|sin|cos|tan|log|and\b)", found[-1])[0].strip()
    return plain if not _PROSE.search(_COMMAND.sub(" ", plain)) else None
