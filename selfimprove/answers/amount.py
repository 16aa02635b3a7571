"""Values and names of amounts: one spelling for equal numbers, one unit for equal sizes."""

from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 64
"""Longer numbers are not read."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Properties of the amount that a prompt asks for.

    `unit` is the unit that a bare number has (as written, such as `km`); `comma`: numbers have a decimal comma;
    `verbatim`: digits are a name, such as a version or a prefix, where 3.10 is not 3.1.
    """

    language: str = ""
    comma: bool = False
    percent: bool = False
    ratio: bool = False
    clock: bool = False
    unit: str | None = None
    money: bool = False
    verbatim: bool = False


UNASKED = Asked()
"""Nothing is known of the prompt."""


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
    "m/s": (("km/h", Fraction(5, 18)),),
    "in/s": (("mph", Fraction(88, 5)),),
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


def parse_signed(number: str, comma: bool) -> Fraction | None:
    """Return the value of a number that may have a minus sign."""
    value = parse(number.lstrip("-"), comma)
    return -value if value is not None and number.startswith("-") else value
