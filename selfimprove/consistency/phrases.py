"""Reading a short textual answer out of a word or a sentence, by what it adds to the question.

A sentence such as "The capital of France is Paris" falls into segments at its verbs of being, colons, commas and
dashes. A segment made of the question's own words is an *echo*; the answer stands beside the best echo: after it where
a verb of being or a colon leads on ("... is Paris"), before it otherwise ("Paris is the capital of France", "Paris,
the capital").
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from . import wording
from .wording import FUNCTION_WORDS

_SEPARATOR = re.compile(
    r"\s*(?P<lead>\b(?:is|are|was|were|equals|means|becomes|would be|will be|has been)\b|[:=])\s*"
    r"|\s*[,;()]+\s*|\s+-+\s+",
    re.I,
)
_MARKED = re.compile(r"\b(?:final\s+)?(?:answer|solution)(?:\s+(?:is|would be)\b\s*:?|\s*:)\s*([^\n]{1,200})", re.I)
_BOXED = re.compile(r"\\boxed\s*\{([^{}]{1,200})\}|####[ \t]*([^\n]{1,200})")
_TAIL = re.compile(
    r"\s+(?:which|that|who|where|because|since|but|although|though|while|when|or|in|known|located|meaning|so|due)\b",
    re.I,
)
_PASSIVE = re.compile(r"^(?:\w+\s+){0,2}by\s+(?=\S)", re.I)
_FILLER = """
called named known actually simply just indeed typically usually often commonly generally currently now
officially considered basically probably certainly sure well ok okay hello hi great awesome answer word one
followed always therefore thus hence course term
"""
_FILLERS = frozenset(_FILLER.split())
_EMPTY = FUNCTION_WORDS | _FILLERS
_DENIED = re.compile(r"not\b|never\b", re.I)
_MOST_WORDS = 12
"""A longer phrase is compared by its beginning."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of a sentence; `leads` when a verb of being or a colon follows it, pointing at the next piece."""

    text: str
    leads: bool
    words: tuple[str, ...]
    """Its content words, folded."""


def read(text: str, prompt_text: str) -> str | None:
    """Return the folded short answer, or None when there is nothing to read."""
    cleaned = wording.clean(text)
    asked = frozenset(wording.content(wording.question(prompt_text))) if prompt_text else frozenset()
    marked = [group for match in _BOXED.findall(cleaned) for group in match if group] or _MARKED.findall(cleaned)
    if marked and (answer := _from_sentence(wording.sentences(marked[-1])[:1], asked)):
        return answer
    return _from_sentence(wording.sentences(cleaned), asked)


def _from_sentence(sentences: list[str], asked: frozenset[str]) -> str | None:
    """The answer in the sentence that repeats most of the question; the first of those that do so equally."""
    parted = [segments for sentence in sentences if (segments := _segments(sentence))]
    if not parted:
        return None
    segments = max(parted, key=lambda found: len(asked & {word for segment in found for word in segment.words}))
    return _beside_echo(segments, asked) or _without_echo(segments, asked)


def _segments(sentence: str) -> list[_Segment]:
    """The non-empty pieces of a sentence, in order."""
    found, start = [], 0
    sentence = sentence.strip(" .!?")
    for match in [*_SEPARATOR.finditer(sentence), None]:
        piece = sentence[start : match.start() if match else len(sentence)].strip(" .!?")
        if words := wording.content(piece):
            found.append(_Segment(piece, bool(match and match["lead"]), tuple(words)))
        start = match.end() if match else start
    return found


def _beside_echo(segments: list[_Segment], asked: frozenset[str]) -> str | None:
    """The answer next to the piece that repeats most of the question."""

    def echo(index: int) -> tuple[float, int, int]:
        repeated = sum(word in asked for word in segments[index].words)
        return repeated / len(segments[index].words), repeated, -index

    def new(index: int) -> bool:
        return 0 <= index < len(segments) and any(word not in asked for word in segments[index].words)

    def answer(index: int, beside: int) -> str | None:
        whole = len(asked & set(segments[beside].words)) * 2 <= len(asked)  # "Spain is a country in ..." answers else
        return _phrase(segments[index].text, asked, cut=not whole)

    echoes = [index for index in sorted(range(len(segments)), key=echo, reverse=True) if echo(index)[0] >= 0.5]
    for index in echoes:
        if segments[index].leads and new(index + 1):
            return answer(index + 1, index)
        if new(index - 1) and not _DENIED.match(segments[index].text):
            return answer(index - 1, index)
    for index in echoes:
        residue = [word for word in segments[index].words if word not in asked and word not in _FILLERS]
        if residue and echo(index)[1] > 1:
            return " ".join(residue[:_MOST_WORDS])
    following = next((index + 1 for index in echoes if segments[index].leads and index + 1 < len(segments)), None)
    return None if following is None else _phrase(segments[following].text, asked)


def _without_echo(segments: list[_Segment], asked: frozenset[str]) -> str | None:
    """The answer of a sentence that does not repeat the question: what its first verb leads to, or its first piece."""
    for segment, following in pairwise(segments):
        if segment.leads and (answer := _phrase(following.text, asked)):
            return answer
    return next((answer for segment in segments if (answer := _phrase(segment.text, asked))), None)


def _phrase(text: str, asked: frozenset[str], *, cut: bool = True) -> str | None:
    """The folded core of a piece: no articles, fillers or lower-case question words first, no clause that explains.

    Without `cut`, or where nothing new would be left, the explaining clause stays, so that descriptions differ.
    """
    text = _PASSIVE.sub("", text)
    core = _TAIL.split(" " + text, maxsplit=1)[0].strip() if cut else text
    if not any(word not in asked and word not in _EMPTY for word in wording.fold(core).split()):
        core = text
    left = wording.words(core)
    while len(left) > 1 and ((first := wording.fold(left[0])) in _EMPTY or (first in asked and left[0].islower())):
        left.pop(0)
    while len(left) > 1 and wording.fold(left[-1]) in FUNCTION_WORDS:
        left.pop()
    answer = wording.fold(" ".join(left[:_MOST_WORDS]))
    return None if not answer or answer in _FILLERS else answer
