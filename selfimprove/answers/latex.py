r"""LaTeX in one notation, taken apart at its top level, and what of it may go to a process that names formulas."""

import re
from collections.abc import Sequence

_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_TIDY = (
    (re.compile(r"(?<![a-zA-Z\\])(or|and)(?![a-zA-Z])"), r" \1 "),
    (re.compile(r"\\(?:left|right|[bB]igg?|displaystyle|textstyle|limits|nolimits|mathstrut)(?![a-zA-Z])\.?"), ""),
    (re.compile(r"\\(?:d|t|c)frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\f?boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"), r"\1"),
    (re.compile(r"\{\s*,\s*\}|,\\!\s*"), ""),
    (re.compile(r"\\(?:text\w{0,6}|mbox)\s*\{\s*,?\s*(or|and)\s*\}", re.I), r" \1 "),
    (re.compile(r"\\(?:quad|qquad)|(?<!\\)\\[,;:! ]|~|\\(?:hspace|vspace)\{[^{}]*\}"), " "),
    (re.compile(r"\\(?:mathrm|mathbf|mathit|textbf|textit|textrm|textnormal|mbox|operatorname|text|"
r"rm)\s*\{([^{}]*)\}"), r"\\text{\1}"),
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
    (re.compile(r"(?<![\\a-zA-Z])(pi|alpha|beta|theta|infty|cdot)(?![a-zA-Z])"), r"\\\1"),
    (re.compile(r"(?<![\\a-zA-Z])infinity(?![a-zA-Z])"), r"\\infty "),
    (re.compile(r"π"), r"\\pi "),
    (re.compile(r"∞"), r"\\infty "),
    (re.compile(r"θ"), r"\\theta "),
    (re.compile(r"∪"), r"\\cup "),
    (re.compile(r"∈"), r"\\in "),
    (re.compile(r"∅|\\varnothing"), r"\\emptyset"),
    (re.compile(r"ℝ"), r"\\mathbb{R}"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r'\\?["\u201c\u201d]'), ""),
    (re.compile(r"(?<=[\w)}])([⁰¹²³⁴⁵⁶⁷⁸⁹]+)"), lambda m: "^{" + m[1].translate(_RAISED) + "}"),
    (re.compile(r"±"), r"\\pm "),
    (re.compile(r"(?<!\\)\$|\\[()]|\\\[|\\\]|&(?!\w*\\\\)(?=\s*=)"), " "),
)  # fmt: skip
_COMMAND_NAMES = """
frac sqrt pi cdot times div pm mp infty sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp
alpha beta gamma delta epsilon varepsilon theta lambda mu rho sigma tau phi varphi omega Gamma Delta Theta Lambda
Sigma Phi Omega eta zeta kappa nu xi chi psi binom lfloor rfloor lceil rceil sum int prod lim to begin end pmatrix
bmatrix vmatrix matrix max min gcd
"""
_COMMANDS = frozenset(_COMMAND_NAMES.split())
_ALLOWED = re.compile(r"[A-Za-z0-9\s+\-/^_(){}\[\]|.,!\\&]*")
_LOSSY = re.compile(r"\d\s*_|'|\d\s+\d|\.\.|__|_\s*[-+*/]|\^\s*\^|\d\s+\.|\\(?:ldots|dots|cdots)|[A-Z]{4,}|[a-z]{5,}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-zA-Z]+\}|\\[A-Za-z]+|\\\\")
_HUGE = re.compile(
    r"\^\s*\{?\s*-?\d{4,}|\d{4,}\s*\}?\)?\s*!|!\s*!|\^\s*(?:\{[^{}]*|\w)\^\s*(?:\{[^{}]*|"
    r"\w)\^|\)\s*\^\s*\{?\d{3,}|\\binom\s*\{[^{}]*\^|\d{41,}"
)
"""Formulas that are refused as too expensive: towers of powers, large exponents and factorials."""
ELLIPSIS = re.compile(r"\\(?:ldots|dots|cdots|dotsc|dotsb)|\.\.\.|…")

_ARRAY = re.compile(r"\\begin\{(?:array)\}(?:\{[^{}]*\})?")

OPEN, CLOSE = "([{", ")]}"


def tidy(formula: str) -> str:
    """Return a formula in one notation: no spacing commands, one kind of fraction, relation signs in ASCII."""
    text = formula.strip()
    if "matrix" not in text and "array" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z{}])", r"\\", text)
    text = _ARRAY.sub(r"\\begin{matrix}", text).replace(r"\end{array}", r"\end{matrix}")
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return re.sub(r"\s+", " ", text).strip(" ").rstrip(".,;:")


def unwrapped(text: str) -> str:
    """A formula without braces or parentheses around all of it (that hold no list)."""
    while len(text) > 2 and text[0] in "{(" and closing(text, 0) == len(text) - 1:
        inner = text[1:-1].strip()
        if text[0] == "(" and len(split(inner, (",", ";"))) > 1:
            break
        if text[0] == "{" and len(split(inner, (",", ";"))) > 1:
            return "\\{" + inner + "\\}"
        text = inner
    return text


def closing(text: str, start: int) -> int:
    """The position of the bracket that closes the one at `start`; -1 where none does. Kinds may differ: `[0, 1)`."""
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] in OPEN) - (text[position] in CLOSE)
        if depth == 0:
            return position
    return -1


def split(text: str, separators: Sequence[str]) -> list[str]:
    """The parts of a formula between separators that stand in no bracket or environment."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        char = text[position]
        if text.startswith("\\begin", position):
            depth += 1
        elif text.startswith("\\end", position):
            depth -= 1
        if char in OPEN or char in CLOSE:
            depth += 1 if char in OPEN else -1
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


def explicit(text: str) -> str:
    """A formula with products that the parser would take for sums written out: `2(3)` is 2 times 3."""
    text = re.sub(r"(?<![\d.}])(\d+)\s*(\\frac\s*\{\d+\}\s*\{\d+\})", r"(\1+\2)", text)
    text = re.sub(r"(?<![\^_\w\\.}{])(\d+)\s*(?=\()", r"\1 \\cdot ", text)
    return re.sub(r"(?<=\))\s*(?=\()|(?<=\))\s*(?=\d)", r" \\cdot ", text)


def safe(text: str) -> bool:
    """Whether a formula holds nothing but what the grammar is known to keep."""
    if not _ALLOWED.fullmatch(text) or _LOSSY.search(_ENVIRONMENT.sub(" \\\\ ", text)):
        return False
    if any(command not in _COMMANDS for command in re.findall(r"\\([A-Za-z]+)", text)):
        return False
    if _HUGE.search(text):
        return False
    depth = most = 0
    for char in text:
        depth += (char in OPEN) - (char in CLOSE)
        most = max(most, depth)
    return depth == 0 and most <= 20
