"""Amounts in running text: numbers in any notation, with units, and times, dates, ratios, ranges and remainders.

Every amount gets one name, and equal amounts the same one: `1 234,50` and `1,234.5` are `1234.5`, `5 1/2 metres` and
`5.5 m` are `5.5 m`, `3:30 pm` is `15:30`. What stands in one notation is never cut into a part.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from . import notation
from . import text as wording
from .amount import UNASKED, Asked, canonical, named, parse
from .forms import clock, date, range_, ratio, remainder
from .grammar import BEFORE, GLUED, OPERAND, PATTERN, UNIT
from .units import DIMENSIONS, UNITS, base_of, scale, written_unit

__all__ = ["Asked", "Quantity", "asked", "dollars", "in_asked_unit", "prepare", "scan", "whole"]


_DOLLAR = re.compile(r"\b(?:US|AU?|CA?|HK|MX|NT|NZ|R|S)\s?\$(?=\s?\d)")
_DOLLAR_RANGE = re.compile(r"\$\s?(\d[\d.,]*)\s?-\s?\$?(?=\d[\d.,]*(?![\d.,$]))")


def dollars(text: str) -> str:
    """Return a text with `$` for `US$`, `R$` and the like, and `5-10` for `$5-$10`: the dollar goes without saying."""
    return _DOLLAR_RANGE.sub(r"\1-", _DOLLAR.sub("$", text)) if "$" in text else text


def prepare(text: str, language: str = "en") -> str:
    """Return a text with its amounts in digits, ready for `scan`."""
    return notation.prepare(dollars(text), language)


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount in a text: where it stands, its name, and whether it is a plain number without anything beside it."""

    start: int
    end: int
    name: str
    value: Fraction | None = None
    base: str | None = None
    """Its base unit, when it has one that is not the one asked for."""
    size: Fraction = Fraction(1)
    """Base units in its unit."""


@lru_cache(maxsize=4096)
def asked(prompt_text: str) -> Asked:
    """Return what a prompt says of the amount it asks for."""
    question = wording.question(prompt_text)
    language = wording.language(prompt_text)
    percent = bool(
        re.search(
            r"\bpercent(?:age)?s?\b|%\s*(?:is|are|of it)|\bprozent|\bpourcentage|\bporcentaje|\bpercentuale|\bpct\b",
            question,
            re.I,
        )
    )
    clock = bool(
        re.search(
            r"\b(?:what time|at which time|when does|when do|o'clock|uhrzeit|wie spät|um wie viel|"
            r"quelle heure|qué hora|che ora|que horas)\b",
            question,
            re.I,
        )
    )
    ratio = bool(
        re.search(
            r"\b(?:ratio|odds|scale|verhältnis|rapport|proportion|razón|rapporto|proporción)\b", prompt_text, re.I
        )
    )
    unit = _asked_unit(prompt_text, question)
    money, verbatim = bool(_MONEY_ASKED.search(question)), bool(_VERBATIM.search(question))
    return Asked(language, wording.decimal_comma(prompt_text), percent, ratio, clock, unit, money, verbatim)


_MONEY_ASKED = re.compile(
    r"\b(?:costs?|prices?|pa(?:y|id)|earn\w*|spen[dt]\w*|money|owe|expensive|fee|rent|salary)\b", re.I
)
_VERBATIM = re.compile(
    r"\b(?:versions?|prefix|area code|zip code|post(?:al)? code|country code|dialling code|(?:tele)?phone number|"
    r"serial number|isbn|ip address|password|pin code|flight number|licen[cs]e plate|"
    r"postleitzahl|vorwahl|telefonnummer)\b",
    re.I,
)
_HOW_MANY = re.compile(
    rf"(?:how many|how much|number of|wie ?viele?|combien d[e']\s?|cu[aá]nt[oa]s|quant[ieoa]s?|"
rf"hoeveel)\s*(?:\w+\s+){{0,1}}?"
    rf"(?P<unit>(?:square |cubic )?(?:{UNIT})(?![^\W_]))|\b(?:in|en|auf)\s+(?P<unit2>(?:square "
rf"|cubic )?(?:{UNIT})(?![^\W_]))\s*[?.,)]|\((?:in )?(?P<unit3>(?:{UNIT}))\)",
    re.I,
)  # fmt: skip


def _asked_unit(prompt_text: str, question: str) -> str | None:
    """The unit of a bare number: the one that the question names, or the only one of what it asks for in the prompt."""
    if match := _HOW_MANY.search(question):
        return match["unit"] or match["unit2"] or match["unit3"]
    if re.search(r"\bhow old\b|\bwhat age\b|\bwie alt\b|\bquel âge\b", question, re.I):
        return "years"
    met = [q for q in scan(prepare(prompt_text), Asked(comma=wording.decimal_comma(prompt_text))) if q.base is not None]
    for asks, bases in DIMENSIONS:
        if asks.search(question):
            fitting = {(q.base, q.size) for q in met if q.base in bases}
            if len(fitting) == 1:
                base, size = fitting.pop()
                return next(name for name, (b, s) in UNITS.items() if b == base and s == size)
            if fitting:
                return None
    return None


def in_asked_unit(found: list[Quantity], about: Asked) -> list[Quantity]:
    """The amounts without those in another unit than the asked one, where some are in it: not 212 °F of 100 °C."""
    wanted = base_of(about.unit)[0] if about.unit else None
    fits = wanted is not None and any(quantity.base == wanted for quantity in found)
    return [quantity for quantity in found if quantity.base in (None, wanted)] if fits else found


def scan(prepared: str, about: Asked = UNASKED) -> list[Quantity]:
    """Return the amounts in a prepared text, in order; operators are not taken for signs."""
    return list(_scan(prepared, about))


@lru_cache(maxsize=512)
def _scan(prepared: str, about: Asked) -> tuple[Quantity, ...]:
    found: list[Quantity] = []
    if not _DIGIT.search(prepared):
        return ()
    if about.ratio:
        prepared = _TO.sub(lambda m: ":".center(len(m[0])) if len(m[0]) < 5 else m[0], prepared)
    position = 0
    while match := PATTERN.search(prepared, position):
        start, end = match.span()
        lead = len(match[0]) - len(match[0].lstrip())
        before = prepared[max(0, start + lead - 3) : start + lead]
        position = max(end, start + 1)
        if (
            (BEFORE.search(before) and not match["sign"])
            or GLUED.match(prepared, end)
            or _FACTOR.match(prepared, end)
            or _UNDER.search(prepared, max(0, start + lead - 40), start + lead)
        ):
            # inside a word, or the rest of a notation that was not understood
            position = _beyond(prepared, start + lead)
            continue
        if quantity := _named(match, prepared, about):
            found.append(quantity)
        position = max(position, start + 1)
    return tuple(_summed(found, prepared))


_FACTOR = re.compile(r"\s?(?:[π√]|\\?(?:pi|sqrt)(?![a-zA-Z]))")
_UNDER = re.compile(
    r"(?:√\s?\(?|\bsqrt\s?\(|(?:π|\bpi)\s?/|\^\s?\{|"
    r"\\(?:sqrt|frac|log|binom)\s?(?:\[\d+\])?\s?(?:\{(?:[^{}]|\{[^{}]*\})*\}\s?)?\{)\s?$"
)
"""Factors and functions that make another amount of the one before or behind them: `3√2`, `16π`, `π/2`."""
_DIGIT = re.compile(r"\d")
_REST = re.compile(r"[\w.,]*")


_FORMS = (("date", date), ("remainder", remainder), ("clock", clock), ("ratio", ratio), ("range", range_))


def _beyond(text: str, position: int) -> int:
    match = _REST.match(text, position)
    return max(position + 1, match.end() if match else 0)


def _named(match: re.Match[str], text: str, about: Asked) -> Quantity | None:
    start, end = match.span()
    start += len(match[0]) - len(match[0].lstrip())
    for kind, name in _FORMS:
        if match[kind]:
            found = name(match, about)
            if found is not None and kind == "range":
                return _range_with_unit(Quantity(start, end, found), text, about)
            return None if found is None else Quantity(start, end, found)
    value = _value(match, about)
    if value is None:
        return None
    negative = (match["sign"] or match["sign2"] or "")[:1] == "-"
    if match["sign"] and _is_operator(text, match.start("sign")):
        negative = False  # an operator
        start = match.end("sign")
    value = -value if negative else value
    if match["scale"]:
        value *= scale(match["scale"].rstrip("."), about.language)
    if match["percent"] or (about.percent and not match["unit"] and not match["money"] and abs(value) >= 1):
        value /= 100
    base, size = _unit(match, about)
    end = match.end()
    qualifier = _qualified(match["qualifier"])
    if base is None and about.percent:
        return Quantity(start, end, f"{qualifier}{canonical(value * 100)}%", value)
    if base is None:
        return Quantity(start, end, qualifier + canonical(value), value)
    wanted, wanted_size = base_of(about.unit) if about.unit else (None, Fraction(1))
    if base == "cent" and wanted in ("$", "€", "£"):
        base, size = wanted, Fraction(1, 100)
    if base == wanted:
        return Quantity(start, end, qualifier + canonical(value * size / wanted_size), value, base, size)
    return Quantity(start, end, qualifier + named(value * size, base), value, base, size)


_UNIT_BEHIND = re.compile(rf"\s?({UNIT})(?![^\W_])", re.I)


def _range_with_unit(found: Quantity, text: str, about: Asked) -> Quantity:
    """A range with the unit behind it, where that is not the one asked for: `2 to 3 days`."""
    unit = _UNIT_BEHIND.match(text, found.end)
    if unit is None:
        return found
    base, size = base_of(unit[1])
    if about.unit is not None and (base, size) == base_of(about.unit):
        return Quantity(found.start, unit.end(), found.name)
    return Quantity(found.start, unit.end(), f"{found.name} {named(size, base) if base else unit[1]}")


_VERB = re.compile(
    r"(?:\b(?:is|are|was|were|be|becomes?|equals?|gives?|gets?|makes?|leaves?|to|at|about|approximately|ist|sind|war|macht|"
    r"ergibt|est|sont|fait|à|es|son|hace|è|sono|fa|é|são|dá)|是|为|為|等于|等於|得)\s?$",
    re.I,
)
"""The verbs and words that a sign may stand behind."""


def _is_operator(text: str, at: int) -> bool:
    """Whether the + or - at a position stands between two operands: behind a digit, a bracket, a variable or a noun."""
    before, after = text[max(0, at - 15) : at], text[at + 1 : at + 2]
    if _VERB.search(before):
        return False
    return bool(OPERAND.search(before)) or (after == " " and before[-1:] == " " and before.strip()[-1:].isalnum())


def _qualified(words: str | None) -> str:
    if not words:
        return ""
    folded = words.strip().casefold()
    table = {
        ">=": "at least,no less than,mindestens,au moins,al menos,>=,≥",
        "<=": "at most,no more than,up to,höchstens,au plus,<=,≤",
        ">": "more than,over,above,mehr als,plus de,más de,>",
        "<": "less than,fewer than,under,below,weniger als,moins de,menos de,<",
    }
    return next((f"{sign} " for sign, names in table.items() if folded in names.split(",")), "")


def _value(match: re.Match[str], about: Asked) -> Fraction | None:
    if mantissa := match["mantissa"] or match["mantissa2"]:
        value, exponent = parse(mantissa, about.comma), int(match["exponent"] or match["exponent2"])
        return None if value is None or abs(exponent) > 400 else value * Fraction(10) ** exponent
    if match["power"]:
        base, exponent = int(match["power"]), int(match["pexponent"] or match["pexponent2"])
        if abs(exponent) * len(match["power"]) > 400 or (base == 0 and exponent <= 0):
            return None
        return Fraction(base) ** exponent
    if match["whole"]:
        bottom = int(match["bottom"])
        if bottom == 0 or int(match["top"]) >= bottom:
            return None
        return int(match["whole"]) + Fraction(int(match["top"]), bottom)
    if match["numerator"]:
        top, below = parse(match["numerator"], about.comma), parse(match["denominator"], about.comma)
        return None if top is None or not below else top / below
    value = parse(match["number"], about.comma)
    return value if value is None or value.denominator < 10**11 else _rounded(value)


def _rounded(value: Fraction) -> Fraction:
    """The small fraction that a long decimal is a rounding of (0.0833333333333 is 1/12), else the decimal."""
    near = value.limit_denominator(1000)
    return near if abs(near - value) * value.denominator <= 1 else value


def _unit(match: re.Match[str], about: Asked) -> tuple[str | None, Fraction]:
    """The base unit of a quantity and its size in it, seen from what is asked."""
    base, size = written_unit(match)
    if base == "pound" and about.money:
        return "£", size
    if base == "$" and about.unit is None:
        return None, size  # the currency of a number without any
    return base, size


def _summed(found: list[Quantity], text: str) -> list[Quantity]:
    """Join `1 hour 30 minutes` and `5 ft 10 in`: neighbours of one base in falling units are one amount."""
    joined: list[Quantity] = []
    for quantity in found:
        before = joined[-1] if joined else None
        if (
            before is not None
            and before.base is not None
            and quantity.base == before.base
            and quantity.size < before.size
            and quantity.value is not None
            and before.value is not None
            and quantity.value >= 0
            and re.fullmatch(r"\s*(?:,|and|und|et|y|e)?\s*", text[before.end : quantity.start])
        ):
            size = before.value * before.size + quantity.value * quantity.size
            joined[-1] = Quantity(before.start, quantity.end, named(size, before.base), size, before.base, Fraction(1))
        else:
            joined.append(quantity)
    return joined


_FROM = re.compile(r"^(\W*(?:(?:about|around|roughly|approximately|some)\s+)?)(\d[\d.,]*\s+to\s+\d)", re.I)
"""A range that a text begins with: `2 to 3 days`."""
_TO = re.compile(r"(?<=\d)\s+(?:to|zu|à|a|su|para)\s+(?=\d)")


def whole(text: str, about: Asked) -> str | None:
    """Return the name of the amount that a text is as a whole, or None: nothing but punctuation may stand beside it."""
    if not re.search(r"\d|half|third|quarter|[^\W\d_]{2}", text):
        return None
    if about.verbatim:
        return None
    prepared = _FROM.sub(r"\1from \2", prepare(text, about.language).strip(" !?:;*\n").rstrip(". "))
    if about.ratio:
        prepared = _TO.sub(":", prepared)
    found = scan(prepared, about)
    if len(found) == 1 and not prepared[: found[0].start].strip(" (") and not prepared[found[0].end :].strip(" ).,!"):
        return found[0].name
    return None
