"""Text with its amounts in digits: spelled-out numbers, LaTeX fractions, other scripts, numbers with scale words."""

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from text_to_num import alpha2digit

from . import text as wording
from .amount import canonical, parse
from .grammar import N
from .units import scale

_FRACTION_WORDS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    word + plural: number
    for number, word in enumerate(["third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], start=3)
    for plural in ("", "s")
}
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
_HALF_A = re.compile(r"\bhalf an?\s+(?=[a-z])", re.I)
_AND_HALF = re.compile(r"(\d+) and (?:a |an |one |1 )?(?:half\b|1/2)", re.I)
_ONE = re.compile(
    r"\bone\b(?!\s*(?:[.,;!?)]|$)|[ -](?:hundred|thousand|million|billion)|\s+plus|\s+minus|\s+times)", re.I | re.M
)
_A_SCALE = re.compile(r"\b(?:a|an)\s+(?=(?:hundred|thousand|million|billion|trillion|dozen)\b)", re.I)
_A_HUNDRED_WORDS = re.compile(
    r"\b(\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|half a)\s+dozen\b", re.I
)
_SCALED = re.compile(
    rf"(?<![\w.,])({N})\s+((?:hundred|thousand|million|millionen|billion|billions|millions|"
    rf"trillion|millones|millions?|milliards?|milliarden?|mrd|mio)\b\.?)",
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
_FRACTION_SIGNS = {
    sign: f"{top}/{bottom}"
    for sign, top, bottom in zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "112131234151357"[:15], "233445555668888", strict=True)
}
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
        text = _BARE_FRACTION.sub("1/2", _HALF_A.sub("1/2 ", text))
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
