"""Amounts in running text: numbers in any notation, with units, and times, dates, ratios, ranges and remainders.

Every amount gets one name, and equal amounts the same one: `1 234,50` and `1,234.5` are `1234.5`, `5 1/2 metres` and
`5.5 m` are `5.5 m`, `3:30 pm` is `15:30`. An amount is named whole: what stands in one notation is never cut into a part.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd

from text_to_num import alpha2digit

from . import text as wording
from .units import DIMENSIONS, MONTHS, SCALES, UNITS, scale

MAX_DIGITS = 64
"""Longer numbers are not read."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a prompt says of the amount it asks for.

    `unit` is the unit that a bare number has (as written, such as `km`); `comma`: numbers have a decimal comma.
    """

    language: str = ""
    comma: bool = False
    percent: bool = False
    ratio: bool = False
    clock: bool = False
    unit: str | None = None


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


def canonical(value: Fraction) -> str:
    """Return one spelling of a number: an integer, a decimal that ends, or a fraction in lowest terms."""
    places = _decimal_places(value.denominator)
    if value.denominator == 1 or places is None:
        return str(value)
    sign, digits = "-" if value < 0 else "", str(abs(value.numerator) * 10**places // value.denominator)
    digits = digits.rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def _decimal_places(denominator: int) -> int | None:
    """Digits after the point of a terminating decimal with this denominator, None when it does not terminate."""
    counts = []
    for prime in (2, 5):
        count = 0
        while denominator % prime == 0:
            denominator, count = denominator // prime, count + 1
        counts.append(count)
    return max(counts) if denominator == 1 else None


def named(value: Fraction, base: str) -> str:
    """Return the name of an amount in base units, in the largest unit that leaves at least 1 and few decimals."""
    for unit, size in _SHOWN.get(base, ()):
        shown = value / size
        if abs(shown) >= 1 and (places := _decimal_places(shown.denominator)) is not None and places <= 3:
            return f"{canonical(shown)} {unit}"
    return f"{canonical(value)} {base}"


_SHOWN = {
    "s": (("days", 86400), ("h", 3600), ("min", 60)),
    "m": (("km", 1000), ("m", 1), ("cm", Fraction(1, 100)), ("mm", Fraction(1, 1000))),
    "m^2": (("km^2", 10**6), ("m^2", 1), ("cm^2", Fraction(1, 10**4)), ("mm^2", Fraction(1, 10**6))),
    "m^3": (("m^3", 1), ("cm^3", Fraction(1, 10**6))),
    "g": (("kg", 1000), ("g", 1), ("mg", Fraction(1, 1000))),
    "l": (("l", 1), ("ml", Fraction(1, 1000))),
    "in": (("miles", 63360), ("ft", 12)),
}


def parse(number: str, comma: bool = False) -> Fraction | None:
    """Return the value of a number as it is written, with points, commas, spaces or apostrophes; None when it has none.

    A single mark before exactly three digits is a decimal mark or a thousands mark by the language: `comma` says that
    the comma is the decimal mark.
    """
    if len(number) > MAX_DIGITS:
        return None
    digits = number.replace(" ", "").replace("'", "")
    spaced = len(digits) < len(number)
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        thousands, decimal = (",", ".") if digits.rfind(".") > digits.rfind(",") else (".", ",")
        if digits.count(decimal) > 1:
            return None
        digits = digits.replace(thousands, "").replace(decimal, ".")
    elif points > 1:
        digits = digits.replace(".", "")
    elif commas > 1:
        digits = digits.replace(",", "")
    elif points or commas:
        mark = "." if points else ","
        before, _, after = digits.partition(mark)
        grouped = len(after) == 3 and 0 < len(before) <= 3 and not before.startswith("0") and not spaced
        thousands_mark = "." if comma else ","
        digits = before + after if grouped and mark == thousands_mark else f"{before or '0'}.{after}"
    try:
        return Fraction(digits)
    except (ValueError, ZeroDivisionError):
        return None


_N = (
    r"(?:\d{1,3}(?:[ ']\d{3}){1,9}(?![ ']?\d)(?:[.,]\d{1,30})?|\d{1,3}(?:,\d{2,3}){0,9},\d{3}(?:\.\d{1,30})?|\d{1,3}(?:\.\d{3}){1,9}(?:,\d{1,30})?"
    r"|\d{1,60}(?:[.,]\d{1,60})?|\.\d{1,60})"
)
_END = r"(?![\d]|[.,]\d)"
_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_SCALE = "|".join(sorted((re.escape(word) for word in SCALES if len(word) > 1 or word > "\x7f"), key=len, reverse=True))
_UNIT = "|".join(sorted((re.escape(word) for word in UNITS), key=len, reverse=True))
_MONEY_SIGN = r"US\$|[$€£¥₹]|\bUSD|\bEUR|\bGBP|\bRs\.?"
_PERCENT = (
    r"%|\b(?:percent(?:age)?(?: points?)?|per cent|pct|prozent|pour ?cents?|por ciento|per cento|por cento|procent)\b"
)
_CLOCK = r"(?:a\.?\s?m\b\.?|p\.?\s?m\b\.?)"
_QUALIFIER = (
    r"\b(?:at least|at most|more than|less than|fewer than|no more than|no less than|up to|over|under|above|below|"
    r"mindestens|höchstens|mehr als|weniger als|au moins|au plus|plus de|moins de|al menos|más de|menos de)\s+|[<>≤≥]=?\s*"
)
_PERCENT, _QUALIFIER = (
    part.replace(" ?", r"\s?").replace(" ", r"\s") for part in (_PERCENT, _QUALIFIER)
)  # verbose below
_PATTERN = re.compile(
    rf"""
    (?P<date>
        \b(?P<y1>\d{{4}})(?:(?P<sep>[-/])(?P<m1>\d{{1,2}})(?P=sep)(?P<d1>\d{{1,2}})\b|\s?年\s?(?P<m2>\d{{1,2}})\s?月(?:\s?(?P<d2>\d{{1,2}})\s?日)?)
      | \b(?P<month3>{_MONTH})\.?\s+(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(?P<y3>\d{{3,4}}))?(?![\d:]|\s*(?:am|pm)\b)
      | \b(?P<d4>\d{{1,2}})(?:st|nd|rd|th|\.)?\s+(?:of\s+|de\s+|di\s+)?(?P<month4>{_MONTH})\b\.?(?:,?\s+(?:de\s+|del\s+)?(?P<y4>\d{{3,4}}))?(?!\d)
      | \b(?P<month5>{_MONTH})\.?,?\s+(?:of\s+|de\s+)?(?P<y5>\d{{4}})(?!\d)
      | \b(?P<a6>\d{{1,2}})(?P<sep6>[./])(?P<b6>\d{{1,2}})(?P=sep6)(?P<y6>\d{{4}})(?!\d)
    )
  | (?P<remainder>(?P<quotient>\d{{1,18}})\s*,?\s*(?:with\s+|and\s+|mit\s+)?(?:an?\s+|the\s+)?(?:remainder|rem\.?|rest|reste|resto|R|r)\s*(?:of\s+|is\s+|von\s+|de\s+|:\s*|=\s*)?(?P<left>\d{{1,18}})(?![\d.]))
  | (?P<clock>(?P<hour>\d{{1,2}})(?:(?::|(?<=\d)h|\.(?=\d\d\s?(?:uhr|{_CLOCK})))(?P<minute>\d{{2}})(?::(?P<second>\d{{2}}))?(?:\s?(?P<half>{_CLOCK})|\s?(?P<uhr>uhr|h)\b)?|\s?(?P<half2>{_CLOCK})|\s(?P<oclock>o'clock)|\s?(?P<uhr2>uhr)\b)(?![:\d]|\s*:\s*\d))
  | (?P<ratio>(?P<terms>{_N}(?:\s{{0,3}}:\s{{0,3}}{_N}){{1,5}})(?![\d:]))
  | (?P<range>\b(?:between\s+(?P<low1>-?{_N})\s+and\s+(?P<high1>-?{_N})|from\s+(?P<low2>-?{_N})\s+to\s+(?P<high2>-?{_N})|(?P<low3>(?<![-+*/^=(]){_N})-(?P<high3>{_N})(?!\s?[-+*/^=×)]|\d|\.\d|[a-zA-Z]){_END}))
  | (?P<qualifier>{_QUALIFIER})?
    (?:(?P<sign>[-+](?=\s?[$€£]?\s?[\d.]))\s?)?
    (?P<money>(?:{_MONEY_SIGN})\s?(?P<sign2>-)?)?
    (?:(?P<mantissa>{_N})\s*(?:×|·|x|\*|⋅)\s*10\s?(?:\^|\*\*)\s?[({{]?\s?(?P<exponent>[-+]?\d{{1,4}})[)}}]?
      |(?P<mantissa2>\d{{1,20}}(?:\.\d{{1,20}})?)[eE](?P<exponent2>[-+]?\d{{1,3}})(?!\w)
      |(?P<power>\d{{1,9}})\s?(?:\^|\*\*)\s?(?:[({{]\s?(?P<pexponent>[-+]?\d{{1,4}})\s?[)}}]|(?P<pexponent2>[-+]?\d{{1,4}}))
      |(?P<whole>\d{{1,18}})(?:\s+(?:and\s+)?|-)(?P<top>\d{{1,9}})/(?P<bottom>\d{{1,9}})(?![\d/])
      |(?P<numerator>{_N})\s?/\s?(?P<denominator>{_N})(?!/\s?\d)
      |(?P<number>{_N})
    )
    {_END}(?!\d|-[a-zA-Z]|st\b|nd\b|rd\b|th\b)
    (?:\s?(?P<percent>{_PERCENT})|\s?(?P<scale>(?:{_SCALE})(?![^\W\d_])\.?|(?-i:(?<=\d)[kMB](?![\w])))(?:\s(?:de|of)\b)?)?
    (?:[\s-]?(?P<unit>°\s?[CF]\b|degrees\s(?:celsius|fahrenheit)\b|(?:(?P<power2>square|cubic|sq\.?|cu\.?)\s)?(?:{_UNIT})(?![^\W_])(?:\s?\^\s?[{{]?(?P<unitpower>[23])\b[}}]?)?(?:\s?(?:/|per\s)\s?(?:{_UNIT})(?![^\W_]))?))?
    """,
    re.X | re.I,
)  # fmt: skip
_BEFORE = re.compile(r"(?:[\w.^](?<![\u0e00-\uffff])|\d,|[a-zA-Z]-)$")
_OPERAND = re.compile(r"[\d)\]%\u00b0]\s{0,3}$|(?<![^\W\d_])[^\W\d_]\s{0,3}$")
_GLUED = re.compile(r"[a-zA-Z_^\u00c0-\u024f]|-[a-zA-Z]|[-+](?:$|[^\w\s(.$-])")

_FRACTION_WORDS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
                   "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "seventh": 7, "sevenths": 7, "eighth": 8, "eighths": 8,
                   "ninth": 9, "ninths": 9, "tenth": 10, "tenths": 10}  # fmt: skip
_COUNTS = {
    "a": 1,
    "an": 1,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
}
_SPELLED_FRACTION = re.compile(
    rf"(?<![\w-])(?P<top>(?:{'|'.join(_COUNTS)}|\d{{1,3}})[ -])(?P<bottom>{'|'.join(_FRACTION_WORDS)})\b(?![ -]\d)",
    re.I,
)
_BARE_FRACTION = re.compile(r"^\W*half\W*$|(?<=\bis )half(?=\W*$)", re.I)
_AND_HALF = re.compile(r"(\d+) and (?:a |an |one |1 )?(?:half\b|1/2)", re.I)
_ONE = re.compile(
    r"\bone\b(?!\s*(?:[.,;!?)]|$)|[ -](?:hundred|thousand|million|billion)|\s+plus|\s+minus|\s+times)", re.I | re.M
)
_A_SCALE = re.compile(r"\b(?:a|an)\s+(?=(?:hundred|thousand|million|billion|trillion|dozen)\b)", re.I)
_A_HUNDRED_WORDS = re.compile(
    r"\b(\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|half a)\s+dozen\b", re.I
)
_SCALED = re.compile(
    rf"(?<![\w.,])({_N})\s+((?:hundred|thousand|million|millionen|billion|billions|millions|trillion|millones|millions?|milliards?|milliarden?|mrd|mio)\b\.?)",
    re.I,
)
_NEGATIVE = re.compile(
    r"(^\W*|[(=:,.]\s*|\b(?:is|was|are|were|to|of|equals|about|around|at|ist|war|sind|es|est|è|é|answer|it's|be)\s+)"
    r"(?:minus|negative|moins|menos|meno)\s+(?=[$€£]?[\d.])", re.I | re.M
)  # fmt: skip
_BELOW_ZERO = re.compile(
    r"(?<![-\d.])(\d[\d.,]*)(\s?(?:°\s?[CF]?|degrees?(?:\scelsius|\sfahrenheit)?))\s+below\s+(?:zero|0)\b", re.I
)
_TIMES = re.compile(r"(?<=\d)\s*[x\u00d7]\s*(?=\d)")
_FRACTION_SIGNS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
                   "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}  # fmt: skip
_FRACTION_SIGN = re.compile(rf"(\d?)\s?([{''.join(_FRACTION_SIGNS)}])")
_SUPERSCRIPT = re.compile(r"(?<=[\w)])([⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_LATEX = (
    (re.compile(r"\\(?:dfrac|tfrac|cfrac)"), r"\\frac"),
    (re.compile(r"(?<=\d)\s?\\frac\s*\{\s*(\d{1,12})\s*\}\s*\{\s*(\d{1,12})\s*\}"), r" \1/\2"),
    (re.compile(r"(?<=\d)\\frac(\d)(\d)(?!\d)"), r" \1/\2"),
    (re.compile(r"\\frac\s*\{\s*(-?[\d.,]{1,24})\s*\}\s*\{\s*([\d.,]{1,24})\s*\}"), r"\1/\2"),
    (re.compile(r"\\frac\s?(\d)(\d)(?!\d)"), r"\1/\2"),
    (re.compile(r"\\(?:times|cdot)\b|\\cdot"), "×"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r",\\!\s*"), ","),
    (re.compile(r"\\[,;:!]|\\quad|\\ |~(?=\d)"), " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\\$"), "$"),
    (re.compile(r"\s?\^\s?\{?\s?\\circ\s?\}?"), "°"),
    (re.compile(r"\\degree\b"), "°"),
    (re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|textnormal|operatorname)\s*\{([^{}]{0,80})\}"), r" \1 "),
    (re.compile(r"\\(?:left|right|displaystyle)\b"), ""),
    (re.compile(r"\\approx\b"), "≈"),
    (re.compile(r"\\(?:le|leq)\b"), "≤"),
    (re.compile(r"\\(?:ge|geq)\b"), "≥"),
    (re.compile(r"(?<!\\)\$([^$\n]{1,200})\$"), r" \1 "),
    (re.compile(r"\\[()\[\]]"), " "),
)
_CJK_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_CJK_SMALL = {"十": 10, "百": 100, "千": 1000}
_CJK_NUMBER = re.compile(r"[零〇一二三四五六七八九十百千两兩]{1,12}")


def _cjk(match: re.Match[str]) -> str:
    total, digit = 0, None
    for char in match[0]:
        if char in _CJK_SMALL:
            total += (1 if digit is None else digit) * _CJK_SMALL[char]
            digit = None
        else:
            if digit is not None and total == 0:
                return (
                    "".join(str(_CJK_DIGITS[c]) for c in match[0]) if not set(match[0]) & set(_CJK_SMALL) else match[0]
                )
            digit = _CJK_DIGITS[char]
    return str(total + (digit or 0))


_MYRIADS = re.compile(
    r"(?:(\d[\d,.]{0,12})\s?[億亿억]\s?)?(\d[\d,.]{0,12})\s?[万萬만]\s?(\d{1,4})?|(\d[\d,.]{0,12})\s?[億亿억]"
)


def _myriads(match: re.Match[str]) -> str:
    """Japanese, Chinese and Korean large numbers: 1億2500万 is 125,000,000."""
    sizes = (10**8, 10**4, 1, 10**8)
    total = Fraction(0)
    for part, size in zip(match.groups(), sizes, strict=True):
        if part:
            value = parse(part.rstrip(",."))
            if value is None:
                return match[0]
            total += value * size
    return canonical(total)


def _digits(text: str) -> str:
    """Decimal digits of any script as ASCII."""
    if text.isascii():
        return text
    return "".join(str(ord(c) - _zero(c)) if c.isdecimal() and c > "\x7f" else c for c in text)


def _zero(char: str) -> int:
    import unicodedata

    return ord(char) - unicodedata.decimal(char)


@lru_cache(maxsize=2048)
def prepare(text: str, language: str = "en") -> str:
    """Return a text with amounts in digits: LaTeX fractions, spelled-out numbers, other scripts' digits."""
    if "\\" in text or "$" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    text = wording.clean(text)
    if not text.isascii():
        text = _digits(text).replace("\u066b", ".").replace("\u066c", ",")
        text = _FRACTION_SIGN.sub(lambda m: f"{m[1]} {_FRACTION_SIGNS[m[2]]}" if m[1] else _FRACTION_SIGNS[m[2]], text)
        text = _SUPERSCRIPT.sub(lambda m: "^" + m[1].translate(_SUPERSCRIPTS), text)
        if language not in ("de", "fr", "es", "it", "pt", "nl"):
            text = _MYRIADS.sub(_myriads, _CJK_NUMBER.sub(_cjk, text))
    if any(char.isalpha() for char in text):
        text = _spelled(text, language)
    return _TIMES.sub(" \u00d7 ", text)


_PAST = re.compile(r"\b(half|quarter|a quarter)\s+(past|to)\s+(\w+)\b", re.I)
_HOURS = {
    word: hour
    for hour, word in enumerate(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], start=1
    )
}
_NOON = re.compile(
    r"^\W*(?:at\s+)?(?:12\s+)?(noon|midday|midnight)\W*$|\b(?:at|is)\s+(?:12\s+)?(noon|midday|midnight)\b", re.I
)


def _past(match: re.Match[str]) -> str:
    hour = _HOURS.get(match[3].casefold()) or (int(match[3]) if match[3].isdecimal() and int(match[3]) <= 12 else None)
    if not hour:
        return match[0]
    if match[2].casefold() == "past":
        return f"{hour}:{'30' if match[1].casefold() == 'half' else '15'}"
    return match[0] if match[1].casefold() == "half" else f"{hour - 1 or 12}:45"


def _spelled(text: str, language: str) -> str:
    if language in ("", "en"):
        text = _PAST.sub(_past, text)
        text = _NOON.sub(lambda m: " 12:00 pm" if (m[1] or m[2]).casefold() != "midnight" else " 12:00 am", text)
        text = _A_SCALE.sub("one ", text)
        text = _SPELLED_FRACTION.sub(
            lambda m: (
                f"{_COUNTS.get(m['top'][:-1].casefold(), m['top'][:-1])}/{_FRACTION_WORDS[m['bottom'].casefold()]}"
            ),
            text,
        )
        text = _BARE_FRACTION.sub("1/2", text)
        text = _SCALED.sub(lambda m: _scaled(m, language), text)
        text = _ONE.sub("o\u2060ne", text)
        text = alpha2digit(text, "en", 0.0).replace("o\u2060ne", "one")
        text = _AND_HALF.sub(r"\1 1/2", text)
    else:
        text = _SCALED.sub(lambda m: _scaled(m, language), text)
        text = alpha2digit(text, language, 0.0 if len(text.split()) <= 2 else 3.0)
    text = _BELOW_ZERO.sub(r"-\1\2", text)
    return _NEGATIVE.sub(r"\1-", text)


def _scaled(match: re.Match[str], language: str) -> str:
    value = parse(match[1], comma=language not in ("", "en"))
    if value is None:
        return match[0]
    return canonical(value * scale(match[2].rstrip("."), language))


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
            r"\b(?:what time|at which time|when does|when do|o'clock|uhrzeit|wie spät|um wie viel|quelle heure|qué hora|che ora|que horas)\b",
            question,
            re.I,
        )
    )
    ratio = bool(
        re.search(
            r"\b(?:ratio|odds|scale|verhältnis|rapport|proportion|razón|rapporto|proporción)\b", prompt_text, re.I
        )
    )
    return Asked(
        language, wording.decimal_comma(prompt_text), percent, ratio, clock, _asked_unit(prompt_text, question)
    )


_HOW_MANY = re.compile(
    rf"(?:how many|how much|number of|wie ?viele?|combien d[e']\s?|cu[aá]nt[oa]s|quant[ieoa]s?|hoeveel)\s*(?:\w+\s+){{0,1}}?"
    rf"(?P<unit>(?:square |cubic )?(?:{_UNIT})(?![^\W_]))|\b(?:in|en|auf)\s+(?P<unit2>(?:square |cubic )?(?:{_UNIT})(?![^\W_]))\s*[?.,)]|\((?:in )?(?P<unit3>(?:{_UNIT}))\)",
    re.I,
)  # fmt: skip


def _asked_unit(prompt_text: str, question: str) -> str | None:
    """The unit of a bare number: the one that the question names, or the only one of what it asks for in the prompt."""
    if match := _HOW_MANY.search(question):
        return match["unit"] or match["unit2"] or match["unit3"]
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


def scan(prepared: str, about: Asked = Asked()) -> list[Quantity]:
    """Return the amounts in a prepared text, in order; operators are not taken for signs."""
    found: list[Quantity] = []
    if not _DIGIT.search(prepared):
        return found
    if about.ratio:
        prepared = _TO.sub(lambda m: ":".center(len(m[0])) if len(m[0]) < 5 else m[0], prepared)
    position = 0
    while match := _PATTERN.search(prepared, position):
        start, end = match.span()
        lead = len(match[0]) - len(match[0].lstrip())
        before = prepared[max(0, start + lead - 3) : start + lead]
        position = max(end, start + 1)
        if (_BEFORE.search(before) and not match["sign"]) or _GLUED.match(prepared, end):
            # inside a word, or the rest of a notation that was not understood
            position = _beyond(prepared, start + lead)
            continue
        if quantity := _named(match, prepared, about):
            found.append(quantity)
        position = max(position, start + 1)
    return _summed(found, prepared)


_DIGIT = re.compile(r"\d")
_REST = re.compile(r"[\w.,]*")


def _beyond(text: str, position: int) -> int:
    match = _REST.match(text, position)
    return max(position + 1, match.end() if match else 0)


def _named(match: re.Match[str], text: str, about: Asked) -> Quantity | None:
    start, end = match.span()
    start += len(match[0]) - len(match[0].lstrip())
    for kind, name in (
        ("date", _date),
        ("remainder", _remainder),
        ("clock", _clock),
        ("ratio", _ratio),
        ("range", _range),
    ):
        if match[kind]:
            found = name(match, about)
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
    if base == "$" and about.unit is None:
        base = None  # the currency of a number without any
    end = match.end()
    qualifier = _qualified(match["qualifier"])
    if base is None and about.percent:
        return Quantity(start, end, f"{qualifier}{canonical(value * 100)}%", value)
    if base is None:
        return Quantity(start, end, qualifier + canonical(value), value)
    wanted, wanted_size = _base(about.unit) if about.unit else (None, Fraction(1))
    if base == "cent" and wanted in ("$", "€", "£"):
        base, size = wanted, Fraction(1, 100)
    if base == wanted:
        return Quantity(start, end, qualifier + canonical(value * size / wanted_size), value, base, size)
    return Quantity(start, end, qualifier + named(value * size, base), value, base, size)


def _is_operator(text: str, at: int) -> bool:
    """Whether the + or - at a position stands between two operands: behind a digit, a bracket or a variable."""
    before, after = text[max(0, at - 5) : at], text[at + 1 : at + 2]
    return bool(_OPERAND.search(before)) or (after == " " and before[-1:] == " " and before.strip()[-1:].isalnum())


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


def _base(unit: str) -> tuple[str | None, Fraction]:
    """The base unit, with its power, of a unit as written, and its size; an unknown one has none."""
    words = unit.split()
    power = ""
    if words and words[0].casefold().rstrip(".") in ("square", "sq"):
        power, words = "2", words[1:]
    elif words and words[0].casefold().rstrip(".") in ("cubic", "cu"):
        power, words = "3", words[1:]
    name = " ".join(words)
    name, _, raised = re.sub(r"[\s{}]", "", name).partition("^")
    power = raised or power
    if "/" not in name or name in UNITS or name.casefold() in UNITS:
        known = UNITS.get(name) or UNITS.get(name.casefold())
        if known is None:
            return None, Fraction(1)
        base, size = known
        return (f"{base}^{power}", size ** int(power)) if power else (base, size)
    return None, Fraction(1)


_PER = re.compile(r"\s?/\s?|\sper\s")


def _unit(match: re.Match[str], about: Asked) -> tuple[str | None, Fraction]:
    """The base unit of a quantity and its size in it."""
    written = match["unit"]
    if match["money"]:
        sign = re.sub(r"[\s-]", "", match["money"])
        base, size = UNITS.get(sign, ("$", Fraction(1)))
        return base, size
    if not written:
        return None, Fraction(1)
    written = re.sub(r"°\s?", "°", written)
    if written.casefold().startswith("degrees "):
        written = written.split()[1]
    if (
        written.casefold() in ("in", "a", "h", "s", "t", "m", "k", "n", "j", "v", "w", "mes", "ore", "min")
        and written not in UNITS
        and written.lower() not in UNITS
    ):
        return None, Fraction(1)
    if written in UNITS or (written.casefold() in UNITS and len(written) > 1):
        return UNITS.get(written) or UNITS[written.casefold()]
    parts = _PER.split(written)
    if len(parts) == 2:
        (top, size), (below, size2) = _base(parts[0]), _base(parts[1])
        if top and below:
            return f"{top}/{below}", size / size2
        return written, Fraction(1)
    return _base(written) if _base(written)[0] else (written, Fraction(1))


def _date(match: re.Match[str], about: Asked) -> str | None:
    if match["y1"]:
        year, month, day = match["y1"], match["m1"] or match["m2"], match["d1"] or match["d2"]
    elif match["month3"]:
        year, month, day = match["y3"], MONTHS[match["month3"].casefold()], match["d3"]
    elif match["month4"]:
        year, month, day = match["y4"], MONTHS[match["month4"].casefold()], match["d4"]
    elif match["month5"]:
        year, month, day = match["y5"], MONTHS[match["month5"].casefold()], None
    else:
        first, second, year = int(match["a6"]), int(match["b6"]), match["y6"]
        if match["sep6"] == "." or first > 12 or first == second:
            day, month = first, second
        elif second > 12:
            month, day = first, second
        else:
            return match["date"]  # month first or day first: kept as it is written
    month = int(month)
    if not 1 <= month <= 12 or (day is not None and not 1 <= int(day) <= 31):
        return None
    return "-".join(
        ([str(int(year)).rjust(4, "0")] if year else [""]) + [f"{month:02d}"] + ([f"{int(day):02d}"] if day else [])
    )


def _remainder(match: re.Match[str], about: Asked) -> str:
    return f"{int(match['quotient'])} R {int(match['left'])}"


def _clock(match: re.Match[str], about: Asked) -> str | None:
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    half = (match["half"] or match["half2"] or "").casefold()[:1]
    whole_day = bool(
        match["uhr"] or match["uhr2"] or "h" in match[0].casefold().partition(str(minute).rjust(2, "0"))[0]
    )
    if about.ratio and match["minute"] and not half and not whole_day:
        return _reduced([Fraction(hour), Fraction(minute)])
    if minute > 59 or hour > 24 or (half and not 1 <= hour <= 12):
        return f"{hour}:{match['minute']}" if match["minute"] and not half else None
    seconds = f":{match['second']}" if match["second"] and match["second"] != "00" else ""
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    certain = bool(half) or hour > 12 or hour == 0 or whole_day or match["hour"].startswith("0")
    if not certain or hour > 12:
        return f"{hour}:{minute:02d}{seconds}"
    return f"{hour}:{minute:02d}{seconds} {'am' if hour < 12 else 'pm'}"


def _ratio(match: re.Match[str], about: Asked) -> str | None:
    terms = [parse(part.strip(), about.comma) for part in match["terms"].split(":")]
    if any(term is None for term in terms):
        return None
    return _reduced([term for term in terms if term is not None])


def _reduced(terms: list[Fraction]) -> str:
    common = 1
    for term in terms:
        common = common * term.denominator // gcd(common, term.denominator)
    whole = [int(term * common) for term in terms]
    divisor = gcd(*whole) or 1
    return ":".join(str(term // divisor) for term in whole)


def _range(match: re.Match[str], about: Asked) -> str | None:
    low = parse_signed(match["low1"] or match["low2"] or match["low3"], about.comma)
    high = parse_signed(match["high1"] or match["high2"] or match["high3"], about.comma)
    if low is None or high is None or low >= high:
        return None
    return f"{canonical(low)} to {canonical(high)}"


def parse_signed(number: str, comma: bool) -> Fraction | None:
    """Return the value of a number that may have a minus sign."""
    value = parse(number.lstrip("-"), comma)
    return -value if value is not None and number.startswith("-") else value


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


_TO = re.compile(r"(?<=\d)\s+(?:to|zu|à|a|su|para)\s+(?=\d)")


def whole(text: str, about: Asked) -> str | None:
    """Return the name of the amount that a text is as a whole, or None: nothing but punctuation may stand beside it."""
    if not re.search(r"\d|half|third|quarter|[^\W\d_]{2}", text):
        return None
    prepared = prepare(text, about.language).strip(" !?:;*\n").rstrip(". ")
    if about.ratio:
        prepared = _TO.sub(":", prepared)
    found = scan(prepared, about)
    if len(found) == 1 and not prepared[: found[0].start].strip(" (") and not prepared[found[0].end :].strip(" ).,!"):
        return found[0].name
    return None
