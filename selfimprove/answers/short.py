"""Reading a short textual answer out of a word or a sentence, by what it adds to the question.

A sentence such as "The capital of France is Paris" falls into segments at its verbs of being, colons, commas and
dashes. A segment made of the question's own words is an *echo*; the answer stands beside the best echo: after it where
a verb of being or a colon leads on ("... is Paris"), before it otherwise ("Paris is the capital of France", "Paris,
the capital").
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from . import quantity, unspaced
from . import text as wording
from .final import marked
from .text import FUNCTION_WORDS

_BEING = {
    "en": "is|are|was|were|equals|means|becomes|would be|will be|has been|returns",
    "de": "ist|sind|war|waren|heißt|lautet|bedeutet",
    "fr": "est|sont|était|étaient|s'appelle",
    "es": "es|son|era|fue|eran|fueron|se llama",
    "it": "è|sono|era|fu|erano|si chiama",
    "pt": "é|são|era|foi|eram|chama-se",
    "nl": "is|zijn|was|waren|heet",
}


@lru_cache(maxsize=8)
def _separator(language: str) -> re.Pattern[str]:
    """Separators of a sentence: a verb of being of its language, a colon, a comma, a bracket, a dash."""
    verbs = _BEING.get(language, _BEING["en"])
    return re.compile(rf"\s*(?P<lead>\b(?:{verbs})\b|[:=](?=\s))\s*|\s*(?P<mark>[,;()])+\s*|\s+-+\s+", re.I)


_MARKED = re.compile(r"\b(?:final\s+)?(?:answer|solution)(?:\s+(?:is|would be)\b\s*:?|\s*:)\s*([^\n]{1,400})", re.I)
_TAIL = re.compile(
    r"\s+(?:which|that|who|because|since|but|although|though|while|known|located|situated|meaning|so|due)\b",
    re.I,
)
_ASIDE = re.compile(
    r"^(?:an?|the|which|that|who|whose|where|when|because|since|but|although|though|while|as|so|also|not|known|located|"
    r"situated|founded|written|famous|meaning|one of|with|near|eine?|der|die|das|une?|la|le|una?|el|il|known)\b",
    re.I,
)
_PASSIVE = {
    language: re.compile(rf"^(?:\w+\s+){{0,2}}{word}\s+(?=\S)", re.I)
    for language, word in {"": "by", "en": "by", "de": "von", "fr": "par", "es": "por", "it": "da", "pt": "por"}.items()
}
_FILLER = """
called named known actually simply just indeed typically usually often commonly generally currently now
officially considered basically probably certainly sure well ok okay hello hi great awesome answer word one
followed always therefore thus hence course term
"""
_FILLERS = frozenset(_FILLER.split())
_NOTHING = frozenset(
    [
        "well",
        "ok",
        "okay",
        "sure",
        "certainly",
        "probably",
        "actually",
        "simply",
        "just",
        "indeed",
        "answer",
        "followed",
    ]
)
_KEPT = frozenset(["not", "no", "never", "none", "nor", "yes"])
"""Function words that change an answer, or are one."""
_LOOSE = (FUNCTION_WORDS | _FILLERS) - _KEPT
_OTHER_FUNCTION = {
    "de": "der die das den dem des ein eine einen einem einer und ist sind war im in von vom zu auf es wird heißt",
    "fr": "le la les l de du des un une et est sont était à au aux en c'est il elle",
    "es": "el la los las de del un una y es son fue en al lo se",
    "it": "il lo la gli le i di del della dei un una e è sono era in al si",
    "pt": "o a os as de do da dos das um uma e é são foi em no na se",
    "nl": "de het een van en is zijn was in op te",
}
_DENIED = re.compile(r"not\b|never\b", re.I)
_MOST_WORDS = 40
"""A longer phrase is no short answer: its whole text is its class."""
_LEAD_IN = re.compile(
    r"^\W*(?:(?:not at all|yes|yeah|sure(?: thing)?|certainly|of course|absolutely|okay|ok|great "
    r"question|good question|well|no problem|ah|hmm|right|"
    r"alright|i (?:think|believe|guess|would say|know)(?: that)?|as far as i know|to my "
    r"knowledge|here(?: it is| you go)|"
    r"ja|klar|natürlich|gerne|oui|bien sûr|sí|si|claro(?: que sí)?|por supuesto|certo|"
    r"sim|好的|当然|是的|はい)\s*(?:[,.!:\u3001\uff0c]+\s*|\s+-\s+|(?<=think)\s+|(?<=believe)\s+|"
    r"(?<=that)\s+|(?<=guess)\s+|(?<=say)\s+))+",
    re.I,
)
_UNSURE = re.compile(
    r"^\W*(?:(?:sorry|unfortunately|i'm sorry|i am sorry|i apologi[sz]e|hmm)[,.!]?\s*(?:but\s+)?)?(?:i(?:'m|"
r" am)\s+(?:really\s+|honestly\s+)?(?:not (?:sure|certain|able|aware)|unsure|unable|"
r"afraid)|i (?:honestly |really )?(?:do not|don't|cannot|can't|could not|couldn't|"
r"am unable to)\s+"
    r"(?:know|tell|answer|determine|say|find|remember|recall|provide|have)|(?:it(?:'s|"
r" is) )?(?:unknown|unclear)|no idea|not sure|as an ai\b|"
    r"there is not enough|not enough information|(?:it )?(?:cannot|can't) be (?:determined|"
r"answered|known)|nobody knows|who knows|dunno|"
    r"(?:das )?wei(?:ß|ss) ich nicht|ich wei(?:ß|ss)(?: es)? nicht|keine ahnung|ich bin "
r"(?:mir )?nicht sicher|je ne sais pas|je ne suis pas s[ûu]re?|aucune idée|no (?:lo "
r")?s[ée]|no estoy segur[oa]|"
    r"non (?:lo )?so\b|não sei|не знаю|я не знаю|我不知道|不知道|不清楚"
    r"|わかりません|分かりません|知りません|모르겠|잘 모르)", re.I
)  # fmt: skip
_PRONOUN = re.compile(r"^\W*(?:she|he|they|it|we|i|you)\s+(?!is\b|are\b|was\b|were\b)[a-z]+\s+(?=\S)", re.I)
_DOES = re.compile(
    r"\b(?:do|does|did)\s+(?:(?:an?|the)\s+)?(?P<subject>\w[\w'.-]*(?:\s+\w[\w'.-]*){0,3}?)\s+\w+"
    r"(?:\s+(?:in|on|at|from|to|for|with|of|like|about))?\W*$",
    re.I,
)
"""A question such as "Where does Noah live?"; an answer that repeats it inflects the verb: "Noah lives in Bern"."""
_ORDERED = re.compile(
    r"\b(?:order|sequence|steps?|first to|rank|sorted|ascending|descending|list of|returns?|"
    r"return|output|reihenfolge|ordre|orden)\b",
    re.I,
)
_SIGNS = re.compile(r"\b(?:sign|symbol|operator|mark|character|punctuation|zeichen|symbole|signe|signo|letter)\b", re.I)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of a sentence; `leads` when a verb of being or a colon follows it, pointing at the next piece."""

    text: str
    leads: bool
    words: tuple[str, ...]
    """Its content words, folded."""
    comma: bool = False
    """A comma, and nothing else, follows it."""


@dataclass(frozen=True, slots=True)
class _Prompt:
    """Words of a prompt that short answers are compared with, and the words without meaning in its language."""

    asked: frozenset[str]
    loose: frozenset[str]
    text: str
    language: str
    plain: frozenset[str]
    """The question's words in lower case: names in it stay part of an answer (Mexico City)."""
    told: re.Pattern[str]
    """The beginning of a sentence before its answer: a pronoun, or the subject of `_DOES`, and a verb."""


@lru_cache(maxsize=4096)
def _prompt(prompt_text: str) -> _Prompt:
    asked = frozenset(wording.content(wording.question(prompt_text))) if prompt_text else frozenset()
    language = wording.language(prompt_text)
    other = frozenset(wording.fold(_OTHER_FUNCTION.get(language, "")).split())
    does = _DOES.search(wording.question(prompt_text)) if language in ("", "en") else None
    return _Prompt(
        asked - other,
        _LOOSE | other,
        wording.question(prompt_text),
        language,
        frozenset(wording.fold(word) for word in wording.words(wording.question(prompt_text)) if word[:1].islower()),
        _PRONOUN if does is None else _subject(does["subject"]),
    )


def _subject(name: str) -> re.Pattern[str]:
    """Return the pattern of a pronoun or a name, and the verb behind it."""
    return re.compile(
        rf"^\W*(?:she|he|they|it|we|i|you|(?:(?:an?|the)\s+)?{re.escape(name)})\s+"
        r"(?!(?:is|are|was|were|do|does|did)\b)[a-z]+\s+(?=\S)",
        re.I,
    )


def read(text: str, prompt_text: str) -> str | None:
    """Return the folded short answer, or None when there is nothing to read, or the text says that it does not know."""
    prompt = _prompt(prompt_text)
    if (code := _code_span(text)) is not None:
        return code
    final = marked(text)
    if final is not None:
        final = re.sub(r"\\text\w{0,2}\s*\{([^{}]*)\}", r"\1", final).replace("$", "").strip()
        amount = quantity.whole(final, quantity.asked(prompt_text))
        return _phrase(final, prompt, cut=False) if amount is None else amount
    cleaned = wording.clean(text)
    if _UNSURE.match(cleaned):
        return None
    stripped = _LEAD_IN.sub("", cleaned, count=1)
    cleaned = stripped if re.search(r"\w", stripped) else cleaned
    if _UNSURE.match(cleaned):
        return None
    if (amount := quantity.whole(cleaned, quantity.asked(prompt_text))) is not None:
        return amount
    said = _MARKED.findall(cleaned)
    if said and (answer := _from_sentence(wording.sentences(said[-1])[:1], prompt)):
        amount = quantity.whole(said[-1], quantity.asked(prompt_text))
        return answer if amount is None else amount
    if unspaced.CJK.search(cleaned) and not re.search(r"[a-zA-Z]{3}", cleaned):
        return unspaced.chinese_japanese(cleaned, prompt.text)
    if unspaced.KOREAN.search(cleaned):
        return unspaced.korean(cleaned, prompt.text)
    if not re.search(r"\w", cleaned):
        return _sign(cleaned, prompt)
    sentences = wording.sentences(cleaned)
    brief = prompt.told.sub("", first := next(iter(sentences), ""), count=1)
    if brief != first and len(brief.split()) <= 4 and re.search(r"\w", brief):
        sentences = [brief]
    answer = _from_sentence(sentences, prompt)
    if answer is None:
        return _sign(cleaned, prompt)
    amount = quantity.whole(answer, quantity.asked(prompt_text))
    return answer if amount is None else amount


_SPAN = re.compile(r"(?<!`)`([^`\n]{1,300})`(?!`)")


def _code_span(text: str) -> str | None:
    """The only code in a text (`[1, 2]`), as it is written: case, order and symbols all matter."""
    spans = {span.strip() for span in _SPAN.findall(text)}
    if len(spans) != 1 or "```" in text:
        return None
    span = spans.pop()
    simple = re.fullmatch(r"[\w .'+#-]+", span)
    return (wording.fold(span) or span) if simple else re.sub(r"\s+", " ", span)


def _sign(cleaned: str, prompt: _Prompt) -> str | None:
    """A text without any word: itself, where the question asks for a sign."""
    bare = "".join(cleaned.split())
    if not bare or len(bare) > 3 or (set(bare) <= {".", "…", "-", "*", "_"} and not _SIGNS.search(prompt.text)):
        return None
    return bare


def _from_sentence(sentences: list[str], prompt: _Prompt) -> str | None:
    """The answer in the sentence that repeats most of the question; the first of those that do so equally."""
    parted = [segments for sentence in sentences if (segments := _segments(sentence, prompt.language))]
    if not parted:
        return None
    segments = max(parted, key=lambda found: len(prompt.asked & {word for segment in found for word in segment.words}))
    return _beside_echo(segments, prompt) or _without_echo(segments, prompt)


def _segments(sentence: str, language: str) -> list[_Segment]:
    """The non-empty pieces of a sentence, in order."""
    found: list[_Segment] = []
    start = 0
    sentence = sentence.strip(" .!?")
    for match in [*_separator(language).finditer(sentence), None]:
        piece = sentence[start : match.start() if match else len(sentence)].strip(" .!?")
        if words := wording.content(piece):
            comma = bool(match and match["mark"] == "," and match[0].strip() == ",")
            leads = bool(match and (match["lead"] or (match[0].strip() == "-" and not found)))
            found.append(_Segment(piece, leads, tuple(words), comma))
        start = match.end() if match else start
    return found


def _beside_echo(segments: list[_Segment], prompt: _Prompt) -> str | None:
    """The answer next to the piece that repeats most of the question."""
    asked = prompt.asked

    def echo(index: int) -> tuple[float, int, int]:
        repeated = sum(word in asked for word in segments[index].words)
        return repeated / len(segments[index].words), repeated, -index

    def new(index: int) -> bool:
        return 0 <= index < len(segments) and any(
            word not in asked and (word not in prompt.loose or word in _FILLERS) for word in segments[index].words
        )

    def answer(index: int, beside: int) -> str | None:
        whole = len(asked & set(segments[beside].words)) * 2 <= len(asked)  # "Spain is a country in ..." answers else
        return _extended(segments, index, prompt, cut=not whole)

    echoes = [index for index in sorted(range(len(segments)), key=echo, reverse=True) if echo(index)[0] >= 0.5]
    for index in echoes:
        if segments[index].leads and new(index + 1):
            return answer(index + 1, index)
        if new(index - 1) and not _DENIED.match(segments[index].text):
            return answer(index - 1, index)
    for index in echoes:
        if echo(index)[1] > 1 and (residue := _residue(segments[index], prompt)):
            return residue
    following = next((index + 1 for index in echoes if segments[index].leads and index + 1 < len(segments)), None)
    return None if following is None else _phrase(segments[following].text, prompt)


def _residue(segment: _Segment, prompt: _Prompt) -> str:
    """Return the words that a piece adds to the question it repeats; words joined by "and" in alphabetical order."""
    kept: list[list[str]] = [[]]
    for word in wording.fold(segment.text).split():
        if word in ("and", "&") and kept[-1]:
            kept.append([])
        elif word not in prompt.asked and word not in prompt.loose and word not in _FILLERS:
            kept[-1].append(word)
    parts = [" ".join(words) for words in kept if words]
    return " and ".join(parts if _ORDERED.search(prompt.text) else sorted(parts))


def _without_echo(segments: list[_Segment], prompt: _Prompt) -> str | None:
    """The answer of a sentence that does not repeat the question: what its first verb leads to, or its first piece."""
    for index, (segment, _) in enumerate(pairwise(segments)):
        if segment.leads and (answer := _extended(segments, index + 1, prompt, cut=True)):
            return answer
    return next((answer for i in range(len(segments)) if (answer := _extended(segments, i, prompt, cut=True))), None)


def _extended(segments: list[_Segment], index: int, prompt: _Prompt, *, cut: bool) -> str | None:
    """The answer in one piece, with the pieces behind its commas that belong to it: a list, or "Portland, Oregon"."""
    pieces = [segments[index].text]
    while segments[index].comma and index + 1 < len(segments):
        index += 1
        following = segments[index]
        listed = re.match(r"(?:and|or|und|oder|et|ou|y|o|e)\s", following.text, re.I)
        repeated = sum(word in prompt.asked for word in following.words)
        first = wording.fold(following.text).partition(" ")[0]
        if (
            (_ASIDE.match(following.text) and not listed)
            or first in prompt.asked
            or repeated * 2 >= len(following.words)
            or following.leads
        ):
            break
        pieces.append(following.text)
    if len(pieces) == 1 and not re.search(r"\s(?:and|&)\s", pieces[0]):
        return _phrase(pieces[0], prompt, cut=cut)
    joined = re.split(r"\s*,?\s*\b(?:and|und|et|y|e)\s+|,\s*", ", ".join(pieces))
    folded = [phrase for piece in joined if piece.strip() and (phrase := _phrase(piece, prompt, cut=cut))]
    several = len(folded) > 2 or re.search(r"\b(?:and|und|et|y)\b", ", ".join(pieces))
    if several and not _ORDERED.search(prompt.text):
        return " and ".join(sorted(folded)) or None
    return (" and " if several else ", ").join(folded) or None


def _phrase(text: str, prompt: _Prompt, *, cut: bool = True) -> str | None:
    """The folded core of a piece: no articles, fillers or words of the question around it, no clause that explains.

    Without `cut`, or where nothing new would be left, the explaining clause stays, so that descriptions differ.
    """
    asked, loose = prompt.asked, prompt.loose
    text = _PASSIVE.get(prompt.language, _PASSIVE[""]).sub("", text)
    core = _TAIL.split(" " + text, maxsplit=1)[0].strip() if cut else text
    if not any(word not in asked and word not in loose for word in wording.fold(core).split()):
        core = text
    left = wording.words(core)
    while len(left) > 1 and (
        (first := wording.fold(left[0])) in loose or (first in asked and (left[0].islower() or first in prompt.plain))
    ):
        left.pop(0)
    while len(left) > 1 and (
        (last := wording.fold(left[-1])) in loose - _FILLERS
        or (
            last in asked
            and any(wording.fold(word) not in asked and wording.fold(word) not in loose for word in left[:-1])
        )
    ):
        left.pop()
    if len(left) > _MOST_WORDS:
        left = wording.words(text)
    answer = wording.fold(" ".join(left))
    return None if not answer or answer in _NOTHING else answer
