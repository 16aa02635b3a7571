"""Reading the number that a text ends up asserting.

Numbers that only restate the question ("to find 8 times 8, we ...") are not answers: the text must mark the number as
its answer, assert it (`=`, is, equals, costs ...), or hold one that the question does not.
"""

import re
from collections import Counter
from fractions import Fraction

from . import wording

_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?(?:/\d+(?:\.\d+)?)?|[-+]?\.\d+"
_TOKEN = re.compile(rf"(?<![\w.])(?<![a-zA-Z]-)({_NUMBER})(?!\d|\.\d|-[a-zA-Z]|st\b|nd\b|rd\b|th\b|x\b)")
_OPERATION = re.compile(
    r"\s*(?:[-+*\u00d7\u00f7/^]|x\s*\d|(?:times|plus|minus|divided|multiplied|more|less|is|are|equals)\b|=)", re.I
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]{1,40})\}\s*\{([^{}]{1,40})\}")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]{1,200})\}|####[ \t]*([^\n]{1,200})")
_MARKER = re.compile(r"\b(?:answer|solution|result)\b", re.I)
_IS_ANSWER = re.compile(
    rf"(?<![\w.])({_NUMBER})\s+is\s+(?:therefore\s+|thus\s+)?(?:the|my|our)\s+(?:\w+\s+)?(?:answer|result)\b",
    re.I,
)
_TIMES = re.compile(r"(?<=\d)\s*[x\u00d7]\s*(?=\d)")
_ASSERTION = re.compile(
    r"[=≈:]|\b(?:is|are|was|be|equal to|equals?|becomes?|makes?|gives?|gets?|leaves?|has|have|had|costs?|earns?|pays?|"
    r"needs?|takes?|spends?|remains?|totals?)\b",
    re.I,
)
_FILLER = re.compile(
    r"(?:\s+|[=≈:(£€]|\b(?:is|are|be|equal to|equals?|actually|simply|just|indeed|exactly|approximately|about|now|then|"
    r"only|therefore|thus|also|clearly|a total of|the number|the answer|called)\b){0,12}",
    re.I,
)
_SENTENCE_END = re.compile(r"\n|[.!?]\s")
_LEAD = 160
"""Characters before an assertion that count as what it is about."""
_BARE = re.compile(rf"[^\w+-]*({_NUMBER})(?!x\b)\W*[^\W\d]{{0,12}}\W*")

_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    "ten",
    "eleven",
    "twelve",
    *(f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven", "eigh", "nine")),
)
_TENS = tuple(f"{stem}ty" for stem in ("twen", "thir", "for", "fif", "six", "seven", "eigh", "nine"))
_SCALE = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_VALUE = (
    {"zero": 0, "a": 1}
    | {word: 1 + i for i, word in enumerate(_ONES)}
    | {word: 10 + i for i, word in enumerate(_TEENS)}
    | {word: 20 + 10 * i for i, word in enumerate(_TENS)}
)
_SMALL = rf"(?:(?:{'|'.join(_TENS)})(?:[ -](?:{'|'.join(_ONES)})\b)?|{'|'.join(['zero', *_TEENS, *_ONES])})"
_SCALES = rf"(?:[ -](?:{'|'.join(_SCALE)})\b)"
_SPELLED = re.compile(rf"\b(?:(?:{_SMALL}|a){_SCALES}+(?:[ -](?:and )?{_SMALL}\b{_SCALES}*)*|{_SMALL})\b", re.I)
_CLAUSE_END = re.compile(r"\s*(?:[.,;!?)]|$)", re.M)


def canonical(number: str) -> str | None:
    """Return one spelling for equal numbers (`3,000.0` -> `3000`, `2/4` -> `0.5`, `1/3` -> `1/3`), None for none."""
    if len(number) > 64:
        return None
    top, _, bottom = number.replace(",", "").lstrip("+").partition("/")
    try:
        value = Fraction(top) / Fraction(bottom or "1")
    except (ValueError, ZeroDivisionError):
        return None
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


def prepare(text: str) -> str:
    """Return a cleaned text with LaTeX fractions and spelled-out numbers as digits."""
    return _TIMES.sub(" \u00d7 ", _SPELLED.sub(_spelled, _FRACTION.sub(r"\1/\2", wording.clean(text))))


def _spelled(match: re.Match[str]) -> str:
    """The digits of a spelled-out number; a lone `one` is a number only where a clause ends with it."""
    found = re.findall(r"[a-z]+", match[0].lower())
    if found == ["one"] and not _CLAUSE_END.match(match.string, match.end()):
        return match[0]
    total = group = 0
    for word in found:
        if word == "and":
            continue
        if word == "hundred":
            group = max(group, 1) * 100
        elif word in _SCALE:
            total, group = total + max(group, 1) * _SCALE[word], 0
        else:
            group += _VALUE[word]
    return str(total + group)


def find(prepared: str) -> list[tuple[int, str]]:
    """Return (position, canonical number) of every number in a prepared text, operators not taken for signs."""
    found = []
    for match in _TOKEN.finditer(prepared):
        token = match[1]
        if token[0] in "+-" and prepared[: match.start()].rstrip()[-1:].isalnum():
            token = token[1:]
        if (number := canonical(token)) is not None:
            found.append((match.start(), number))
    return found


def read(text: str, prompt_text: str) -> str | None:
    """Return the number that `text` gives as its answer, canonical, or None.

    The first of these that there is: a boxed or `####` number; the text itself when it is a number; the last number
    asserted in a sentence that speaks of the answer (solution, result); the last asserted of the question's own
    expression; the last asserted; a first line that is a number; the last in digits that the question does not hold.
    """
    prepared = prepare(text)
    if boxed := find(" ".join(group for match in _BOXED.finditer(prepared) for group in match.groups("")).strip()):
        return boxed[-1][1]
    if bare := _BARE.fullmatch(prepared[:100]):
        return canonical(bare[1])
    asserted = _asserted(prepared)
    if marked := [number for lead, number in asserted if _MARKER.search(lead)]:
        return marked[-1]
    if named := _IS_ANSWER.findall(prepared):
        return canonical(named[-1])
    asked = Counter(number for _, number in find(prepare(wording.question(prompt_text))))
    restated = [number for lead, number in asserted if asked <= Counter(number for _, number in find(lead))]
    if asked.total() > 1 and restated:
        return restated[-1]
    if asserted:
        return asserted[-1][1]
    if first := _BARE.fullmatch(prepared[:1000].partition("\n")[0]):
        return canonical(first[1])
    digits = find(wording.clean(text))  # "two numbers" and "that one" are seldom answers
    return next((number for _, number in reversed(digits) if number not in asked), None)


def _asserted(prepared: str) -> list[tuple[str, str]]:
    """(what its sentence says before it, number) of every number that is asserted and not itself an operand."""
    found = []
    for match in _ASSERTION.finditer(prepared):
        start = _FILLER.match(prepared, match.end())
        token = _TOKEN.match(prepared, start.end() if start else match.end())
        if token and not _OPERATION.match(prepared, token.end()) and (number := canonical(token[1])) is not None:
            lead = prepared[max(0, match.start() - _LEAD) : match.start()]
            found.append((_SENTENCE_END.split(lead)[-1], number))
    return found
