r"""Reading the mathematical answer of a response: LaTeX and plain formulas; `formula` names them."""

import re

from . import number, quantity, short
from . import text as wording
from .amount import Asked
from .final import marked
from .formula import is_prose, name
from .latex import tidy

__all__ = ["name", "read"]

_NOTHING = re.compile(
    r"^\W*(?:(?:there (?:is|are)|the equation has|it has|has)\s+)?no\s+(?:real\s+|such\s+|"
    r"integer\s+)?(?:solutions?|roots?)\b[^.]{0,30}\W*$",
    re.I,
)
_EQUATION_ASKED = re.compile(r"\bequations?\b|\bline\b|\binequalit(?:y|ies)\b|\brelation\b", re.I)

_SPAN = re.compile(
    r"\$\$(.{1,1000}?)\$\$|\\\[(.{1,1000}?)\\\]|(?<!\\)\$([^$\n]{1,400}?)(?<!\\)\$|\\\((.{1,400}?)\\\)", re.S
)
_JOIN = re.compile(r"^\s*(?:,?\s*(?:and|or|und|oder)|,)\s*$")
_SAID = re.compile(r"\b(?:answer|solution|result|value)s?\s*(?:is|are|=|:)+\s*:?\s*([^\n]{1,300})", re.I)


def read(text: str, prompt_text: str) -> str | None:
    """Return the name of the mathematical answer of a response, or None.

    What is marked as final; the text itself where it is a formula; what it says the answer is; its last formula; the
    amount or the words that it asserts.
    """
    about = quantity.asked(prompt_text)
    equation = bool(_EQUATION_ASKED.search(prompt_text))
    final = marked(text)
    if final is not None:
        if not _SPAN.search(final) or not is_prose(_SPAN.sub(" ", final)):
            return _answer(final, about, equation)
        text = final
    stripped = text.strip()
    if len(stripped) <= 300 and not is_prose(re.sub(r"\\text\w*\{[^{}]*\}", " ", stripped)):
        return _answer(stripped, about, equation)
    if _NOTHING.match(stripped):
        return "no solution"
    if re.fullmatch(r"-?\d+,\d{1,2}", stripped):
        return quantity.whole(stripped, about)
    cleaned = wording.bounded(text)
    if span := _last_span(cleaned):
        found = _answer(span, about, equation)
        return None if _restates(span, found, prompt_text, equation) else found
    if said := _SAID.findall(cleaned):
        rest = wording.sentences(said[-1])[:1]
        if rest and not is_prose(rest[0]):
            return _answer(rest[0], about, equation)
    if plain := _plain_relation(cleaned):
        return _answer(plain, about, equation)
    tail = cleaned[list(_SPAN.finditer(cleaned))[-1].end() :] if _SPAN.search(cleaned) else cleaned
    found = number.read(tail, prompt_text)
    if found is None and tail is not cleaned:
        found = number.read(text, prompt_text)
    return found or (short.read(text, prompt_text) if len(text.split()) <= _BRIEF else None)


_BRIEF = 15
"""Words: a longer text without a formula or an amount gives no mathematical answer."""


def _restates(span: str, found: str | None, prompt_text: str, equation: bool) -> bool:
    """Whether an unmarked formula is the prompt's own, or an equation that is still to be solved."""
    asked = {"".join(tidy(next(body for body in m.groups() if body)).split()) for m in _SPAN.finditer(prompt_text)}
    unsolved = not equation and found is not None and found.endswith(" = 0")
    return unsolved or "".join(tidy(span).split()) in asked


def _answer(final: str, about: Asked, equation: bool) -> str | None:
    money = final.count("$") == 1
    if not re.search(r"[\\^_=<>]", final) and (money or is_prose(final)):
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
    r"(?:^|[\s(])((?:[a-z]|[a-z]\([a-z]\))\s*(?:=|<=?|>=?|≤|≥|≠)\s*[^\n.;,:]{1,80}(?:\.\d+)?(?:(?:\s+or\s+|"
    r"\s+and\s+|,\s*)[a-z]\s*=\s*[^\n.;,:]{1,40})*)",
    re.I,
)


def _plain_relation(text: str) -> str | None:
    """The last `x = ...` in prose, words behind it cut."""
    found = _PLAIN_RELATION.findall(text)
    if not found:
        return None
    plain = re.split(r"\s+(?=[A-Za-z]{3,})(?!sqrt|sin|cos|tan|log|and\b)", found[-1])[0].strip()
    return plain if not is_prose(plain) else None
