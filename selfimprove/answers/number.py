"""Reading the amount that a text ends up asserting.

Numbers that only restate the question ("to find 8 times 8, we ...") are not answers: the text must mark the number as
its answer, assert it (`=`, is, equals, costs ...), or hold one that the question does not.
"""

import re
from collections import Counter
from functools import lru_cache
from itertools import pairwise

from . import quantity
from . import text as wording
from .final import marked
from .quantity import Asked, Quantity, in_asked_unit, prepare

_OPERATION = re.compile(
    r"\s*(?:[-+*\u00d7\u00f7/^]|x\s*\d|(?:times|plus|minus|divided|multiplied|more|less|is|are|equals)\b|=)", re.I
)
_MARKER = re.compile(
    r"\b(?:(?:the|my|our|final|correct)\s+(?:final\s+|correct\s+)?(?:answer|solution|result)|"
    r"answer)\s*(?:to\b[^.\n]*)?$",
    re.I,
)
_ABOUT_ANSWER = re.compile(r"\b(?:answer|solution)\b|答案|答え|答:", re.I)
_IS_ANSWER = re.compile(
    r"\s+is\s+(?:therefore\s+|thus\s+)?(?:the|my|our)\s+(?:\w+\s+)?(?:answer|result|solution)\b", re.I
)
_ASSERTION = re.compile(
    r"[=≈:]|\banswer\b(?=\s+\d)|\b(?:is|are|was|be|equal to|equals?|becomes?|makes?|gives?|"
    r"gets?|leaves?|has|have|had|costs?|earns?|pays?|"
    r"needs?|takes?|spends?|remains?|totals?|arrives?|leaves|departs|ended|began|ist|sind|hat|macht|kostet|beträgt|est|"
    r"sont|co\u00fbte|fait|es|son|cuesta|hay|sono|costa|são|custa|was|were|is)\b|是|(?<![因以认認])[为為]|等于|等於|は|"
    r"[还還总總共只就]?有|共(?:计|計|需要?)?|[合总總]计|[合総總]計|剩(?:下|余|餘|了)?|得(?:到|出)?|残り|全部で",
    re.I,
)
_HAS = re.compile(r"(?<![还還总總共只就])有\s*$|(?<!残り)(?<!答え)は\s*$")
"""Verbs that tell premises as well as results, in scripts without spaces: `小明有5个苹果`."""
_REASON = re.compile(r"(?:因[为為]|由[于於]|已知)[^,.;=\n]{0,20}[有是]\s*$|每[^,.;=\n]{0,20}有\s*$")
_FILLER = re.compile(
    r"(?:\s+|[=≈:(]|\b(?:is|are|be|equal to|equals?|actually|simply|just|indeed|exactly|approximately|about|now|then|"
    r"only|therefore|thus|also|clearly|a total of|the number|the answer|called|at|in|on|"
    r"around|roughly|a|um|à|the|year)\b){0,12}",
    re.I,
)
_SENTENCE_END = re.compile(r"\n|[.!?]\s")
_LEAD = 160
"""Characters before an assertion that count as what it is about."""
_AFTER = re.compile(r"\W*[^\W\d]{0,14}\W*")
_AROUND = re.compile(
    r"[^\w+-]*(?:(?:約|大约|大約|about|approximately|approx|around|roughly|circa|ca|etwa|ungefähr|"
    r"environ|unos|unas|circa)[\s.]*)?[^\w+-]*",
    re.I,
)
_LIST = re.compile(r":\s*(?:\d[\d.,]*\s*(?:,|;|and)\s*){2,}\d[\d.]*")
_COUNTED = re.compile(
    r"(?:how many|number of|wie ?viele|combien d[e']\s?|cu[aá]nt[oa]s|quant[ie]|quant[oa]s|"
    r"hoeveel)\s+(?:\w+\s+){0,2}?(\w{3,})",
    re.I,
)
_BRIEF = 20
"""Words: in longer texts, amounts of the prompt are told again."""
_ORDERED = re.compile(r"\d+\s*[.)]\s")
_UNSURE = re.compile(
    r"^\W*(?:i(?:'m| am) not (?:sure|certain)|i (?:do not|don't|cannot|can't) (?:know|tell|answer|determine)|unknown|"
    r"not enough information|cannot be determined|it is (?:impossible|not possible) to)\b", re.I
)  # fmt: skip


@lru_cache(maxsize=4096)
def _asked_numbers(prompt_text: str) -> Counter[str]:
    about = quantity.asked(prompt_text)
    return Counter(q.name for q in quantity.scan(prepare(wording.question(prompt_text), about.language), _bare(about)))


def _bare(about: Asked) -> Asked:
    return Asked(about.language, about.comma)


def find(prepared: str) -> list[tuple[int, str]]:
    """Return (position, name) of every amount in a prepared text."""
    return [(q.start, q.name) for q in quantity.scan(prepared)]


def read(text: str, prompt_text: str) -> str | None:
    """Return the amount that `text` gives as its answer, named as in `quantity`, or None.

    The first of these that there is: what is marked as final (a box, `####`); the text itself when it is an amount;
    the last amount asserted in a sentence that speaks of the answer; the last asserted of the question's own
    expression; the last asserted; a first line that is an amount; the last that the question does not hold.
    """
    about = quantity.asked(prompt_text)
    text = quantity.dollars(text)
    final = marked(text)
    if final is not None:
        name = _several(final, about) if _COMMA_LIST.search(final) and not about.comma else None
        if name := name or one(final, about) or _several(final, about) or _formula(final, about):
            return name
    elif len(text) < 200 and (name := _formula(text.strip(), about) or _listed(text.strip(), about)):
        return name
    if (name := quantity.whole(text, about)) is not None:
        return name
    prepared = _LIST.sub(" ", prepare(text, about.language))
    found = quantity.scan(prepared, about)
    if not found or _UNSURE.match(prepared):
        return None
    if name := _whole(prepared[:200], found):
        return name
    if name := _alternatives(prepared, found):
        return name
    return _asserted_last(prepared, found, prompt_text) or _unasserted(text, prepared, found, prompt_text)


def _asserted_last(prepared: str, found: list[Quantity], prompt_text: str) -> str | None:
    """The last amount that is asserted: of the answer, of the question's own expression, of what is counted, at all."""
    about = quantity.asked(prompt_text)
    asserted = _asserted(prepared, found)
    others = _of_others(asserted, wording.question(prompt_text))
    told = {q.name for q in quantity.scan(prepare(prompt_text, about.language), about)}
    new = max((q.start for q in found if q.name not in told), default=-1)
    asserted = [pair for pair in asserted if pair[1].name not in told or not _is_premise(prepared, pair[1].start, new)]
    if len(prepared.split()) > _BRIEF:  # "The shirt costs $40, and ..." tells the question again
        others += [q for lead, q in asserted if q.name in told and not _ABOUT_ANSWER.search(lead)]
        if asserted and all(q in others for _, q in asserted):
            return None
    asserted = [pair for pair in asserted if pair[1] not in others] or asserted
    if marked_ := [q for lead, q in asserted if _MARKER.search(lead) or _ABOUT_ANSWER.search(lead)]:
        return in_asked_unit(marked_, about)[-1].name
    if named := [q for q in found if _IS_ANSWER.match(prepared, q.end)]:
        return named[-1].name
    asked = _asked_numbers(prompt_text)
    bare = _bare(about)
    if asked.total() > 1:
        restated = [q for lead, q in asserted if asked <= Counter(r.name for r in quantity.scan(lead, bare))]
        if restated:
            return restated[-1].name
    counted = [q for q in _counted(prepared, found, prompt_text) if q not in others]
    if asserted or counted:
        return max(in_asked_unit([q for _, q in asserted] + counted, about), key=lambda q: q.start).name
    return None


def _is_premise(prepared: str, at: int, new: int) -> bool:
    """Whether an amount of the prompt is told again, before the last new one (at `new`) or as the reason of one."""
    lead = prepared[max(0, at - _LEAD) : at]
    return bool(new > at and _HAS.search(lead)) or bool(new >= 0 and _REASON.search(lead))


_SUBJECT = re.compile(r"\b([A-Z][a-z]+)\s*$")


def _of_others(asserted: list[tuple[str, Quantity]], question: str) -> list[Quantity]:
    """The amounts of somebody whom the question does not name, where it names another: `... and Ann has 5`."""
    if not re.search(r"(?<=\s)[A-Z][a-z]+\b", question):
        return []
    return [
        q
        for lead, q in asserted
        if (subject := _SUBJECT.search(lead))
        and subject[1] not in question
        and subject[1].casefold() not in wording.FUNCTION_WORDS
    ]


def _unasserted(text: str, prepared: str, found: list[Quantity], prompt_text: str) -> str | None:
    """An amount that no verb asserts: the first line's, or the last in digits that the question does not hold."""
    about, asked = quantity.asked(prompt_text), _asked_numbers(prompt_text)
    line = prepared.lstrip()[:1000].partition("\n")[0]
    if name := _whole(line, quantity.scan(line, about)):
        return name
    if (
        len(line.split()) <= 6
        and len(opening := quantity.scan(line, about)) == 1
        and not line[: opening[0].start].strip(" (")
    ):
        return opening[0].name
    spelled = {q.name for q in found} - {q.name for q in quantity.scan(wording.clean(text), about)}
    novel = [
        q
        for q in found
        if q.name not in asked
        and q.name not in spelled
        and not (q.value is not None and _ORDERED.match(prepared, q.start))
    ]
    return in_asked_unit(novel, about)[-1].name if novel else None


_COMMA_LIST = re.compile(r"\d,\s*-?\d{1,2}(?!\d)|\d,\s+-?\d|;|\d,-")
_COMMAND = re.compile(r"\\[a-zA-Z]+|[\^√π]|\bpi\b|\bsqrt\b")


def _formula(text: str, about: Asked) -> str | None:
    """The name of what only mathematics can read, such as a root; a lone `$` is money."""
    if not _COMMAND.search(prepare(text, about.language)) and "$$" not in text:
        return None
    from . import formula

    return None if formula.is_prose(text) else formula.name(text, about)


def one(text: str, about: Asked) -> str | None:
    """Return the name of the only amount in a marked answer; the last one behind `=`; None when there are others."""
    prepared = prepare(text, about.language)
    found = quantity.scan(prepared, about)
    if len(found) > 1 and (equals := prepared.rfind("=")) >= 0 and " or " not in prepared and prepared.count("=") == 1:
        found = [q for q in found if q.start > equals]
    if len(found) != 1:
        return None
    before, after = prepared[: found[0].start], prepared[found[0].end :]
    plain = (
        not re.search(r"[a-zA-Z]\{$", before)
        and re.fullmatch(r"[^\d\\^]{0,80}", before.rpartition("=")[2])
        and re.fullmatch(r"[^\d\\^+*/=<>]{0,80}", after)
    )
    letters = re.search(r"(?:^|[\s(*/+-])[a-zA-Z](?:$|[\s)*/+^-])", before.rpartition("=")[2] + " " + after)
    return found[0].name if plain and not letters else None


_OR = re.compile(r"\s*(?:,?\s*\b(?:or|and|oder|und|ou|et|o|y|e)\b\s*|[,;]\s*)(?:[a-z](?:_?\w)?\s*=\s*)?", re.I)
_ASSIGNED = re.compile(r"(?:^|[\s:(])[a-z](?:_?\w)?\s*=\s*$", re.I)


def _listed(text: str, about: Asked) -> str | None:
    """The amounts of a text that is a list; `1,08` is none."""
    return None if re.fullmatch(r"\W*\d+,\d+\D*", text) else _several(text, about)


def _several(text: str, about: Asked) -> str | None:
    """The amounts of a list, in order of their names: `2 and 3`."""
    prepared = prepare(text, about.language).replace("\\{", "{").replace("\\}", "}").strip(" .")
    if not about.comma:
        prepared = re.sub(r"(?<=\d),(?=-?\d{1,2}(?!\d)|-)", ", ", prepared)
    found = quantity.scan(prepared, about)
    if len(found) < 2 or prepared[: found[0].start].strip(" ({[=") not in ("", "x", "y", "n"):
        return None
    gaps = [prepared[a.end : b.start] for a, b in pairwise(found)]
    if all(_OR.fullmatch(gap) for gap in gaps) and not prepared[found[-1].end :].strip(" )}].,$"):
        return ", ".join(sorted({q.name for q in found}))
    return None


def _alternatives(prepared: str, found: list[Quantity]) -> str | None:
    """The answers of `x = 5 or x = -2`: a set."""
    for first, start in enumerate(found):
        if not _ASSIGNED.search(prepared, 0, start.start):
            continue
        names = [start.name]
        for before, after in zip(found[first:], found[first + 1 :], strict=False):
            gap = prepared[before.end : after.start]
            if not _OR.fullmatch(gap) or ("=" not in gap and not re.search(r"[a-z]", gap)):
                break
            names.append(after.name)
        if len(names) > 1:
            return ", ".join(sorted(set(names)))
    return None


def _whole(prepared: str, found: list[Quantity]) -> str | None:
    """The amount that a text is, at most one word beside it."""
    if not found or not _AROUND.fullmatch(prepared[: found[0].start]):
        return None
    return found[0].name if len(found) == 1 and _AFTER.fullmatch(prepared, found[0].end) else None


def _counted(prepared: str, found: list[Quantity], prompt_text: str) -> list[Quantity]:
    """The amounts of what the question counts: `12 eggs`, where it asks how many eggs."""
    match = _COUNTED.search(wording.question(prompt_text))
    if match is None:
        return []
    noun = match[1].casefold()
    stem = noun[:-1] if noun.endswith("s") and len(noun) > 3 else noun
    return [q for q in found if re.match(rf"\s+(?:\w+\s+)?{re.escape(stem)}", prepared[q.end : q.end + 40], re.I)]


def _asserted(prepared: str, found: list[Quantity]) -> list[tuple[str, Quantity]]:
    """(what its sentence says before it, amount) of every amount that is asserted and not itself an operand."""
    at = {q.start: q for q in found}
    result = []
    for match in _ASSERTION.finditer(prepared):
        start = _FILLER.match(prepared, match.end())
        position = start.end() if start else match.end()
        token = at.get(position)
        if token and not _OPERATION.match(prepared, token.end):
            lead = prepared[max(0, match.start() - _LEAD) : match.start()]
            result.append((_SENTENCE_END.split(lead)[-1], token))
    return result
