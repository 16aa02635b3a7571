"""Names of dates, times, ratios, ranges and remainders, from matches of the grammar."""

import re
from fractions import Fraction
from math import gcd

from .amount import Asked, canonical, parse, parse_signed
from .units import MONTHS


def date(match: re.Match[str], _: Asked) -> str | None:
    """Return `1945-05-08`; month and year, or day and month, where no more is said; None for no date."""
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


def remainder(match: re.Match[str], _: Asked) -> str:
    """Return `3 R 2`."""
    return f"{int(match['quotient'])} R {int(match['left'])}"


def clock(match: re.Match[str], about: Asked) -> str | None:
    """Return the time on 24 hours where it is certain (`15:30`, `3:30 am`), else as it is written (`3:30`)."""
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


def ratio(match: re.Match[str], about: Asked) -> str | None:
    """Return a ratio in its lowest terms, `3:2`."""
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


def range_(match: re.Match[str], about: Asked) -> str | None:
    """Return `5 to 10`; None where the first is not below the second."""
    low = parse_signed(match["low1"] or match["low2"] or match["low3"], about.comma)
    high = parse_signed(match["high1"] or match["high2"] or match["high3"], about.comma)
    if low is None or high is None or low >= high:
        return None
    return f"{canonical(low)} to {canonical(high)}"
