"""Plain text out of model text: cleaning, sentences, words, folding and language. Bounded input, linear patterns."""

import itertools
import re
import unicodedata
from functools import lru_cache

MAX_CHARS = 8_000
"""Longer texts are read by their two halves of this, so that reading time is bounded."""

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys('"\u201c\u201d\u201e\u00ab\u00bb\u200b\u200e\u200f\ufeff\u2060', ""),  # quotes, invisible marks
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u2212\u2013\u2010\u2011", "-"),
        "\u2014": " - ",
        **{chr(0x2080 + digit): str(digit) for digit in range(10)},  # H\u2082O
        "\r": "\n",
        **dict.fromkeys("\u00a0\u202f\u2009\u2007\u3000", " "),
        "\u3002": ". ",
        "\uff61": ". ",
        "\u0964": ". ",
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width forms
    }
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]{1,400}?)(?<=[^\s*])\1(?![\w*])")
_UNDERLINE = re.compile(r"(?<!\w)(_{1,2})(?=[^\s_])([^_\n]{1,400}?)(?<=[^\s_])\1(?!\w)")
_TICKS = re.compile(r"`+([^`\n]{1,400}?)`+")
_HEADING = re.compile(r"^\s{0,3}(?:#{1,6}|>|[-*\u2022])\s+(?=\S)", re.M)
_PRODUCT = re.compile(r"(?<=[\d)])\s*\*\s*(?=[\d(])")
_CONTRACTION = re.compile(r"\b(it|that|what|there|here|answer|capital|opposite|he|she)'s\b", re.I)
_ABBREVIATION = re.compile(r"\b(St|Mt|Ft|Mr|Mrs|Ms|Dr|vs|etc|e\.g|i\.e|approx)\.", re.I)
_SENTENCE = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!^\d\.)\s+|\n+")
_EDGES = ".,;:!?\"'()[]{}\u2026\u00a1\u00bf\u3001\u300c\u300d\u300e\u300f\u201a`\u060c\u061b\u061f\u104a\u104b"
_POSSESSIVE = re.compile(r"(?<=\w)'s?$")
_WORD = re.compile(r"\S+")
_ALNUM = re.compile(r"\w")
_PLUS = re.compile(r"(?<=\w)\s+\+\s+(?=\w)")
_BREAK = re.compile(r"(?<=[^\W\d_])[,;:!?()\[\]{}/\u3001](?=[^\W\d_])|(?<=\w)[,;](?=\s)")
_INSTRUCTION = re.compile(
    r"^\W*(?:please\s+)?(?:answer|respond|reply|give|write|use|explain|think|show|say|keep|put|return|be|do not|don't)"
    r"\b",
    re.I,
)
_POWERS = str.maketrans(
    {mark: f"^{digit}" for digit, mark in enumerate("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")}
)

_FUNCTION = """
a an the of to in on at for by with from and or nor but so as than then is are was were be been being am do does
did has have had can could will would shall should might must it its it's this that these those there here he
she they we i you your my our their his her them us me what which who whom whose when where why how if because
while not no yes into about between also very either both
"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())


def bounded(text: str) -> str:
    """Return `text`, or its two ends where it is longer than `MAX_CHARS`; halves of characters are replaced."""
    short = text if len(text) <= MAX_CHARS else text[: MAX_CHARS // 2] + "\n" + text[-MAX_CHARS // 2 :]
    return short if short.isascii() else _SURROGATE.sub("\ufffd", short)


@lru_cache(maxsize=2048)
def clean(text: str) -> str:
    """Return `text` bounded in length, without emphasis and quotes, with full words for `it's` and the like."""
    text = unicodedata.normalize("NFC", _PRODUCT.sub(" \u00d7 ", bounded(text)).translate(_CHARACTERS))
    text = _TICKS.sub(r"\1", _UNDERLINE.sub(r"\2", _EMPHASIS.sub(r"\2", _EMPHASIS.sub(r"\2", text))))
    return _CONTRACTION.sub(r"\1 is", _HEADING.sub("", text))


def sentences(text: str) -> list[str]:
    """Return the sentences and lines of a cleaned text, without empty ones."""
    whole = _ABBREVIATION.sub(r"\1", text)
    return [part.strip() for part in _SENTENCE.split(whole) if part.strip()]


def _asks(sentence: str) -> bool:
    return sentence.rstrip().endswith(("?", "\u061f"))


@lru_cache(maxsize=4096)
def question(prompt_text: str) -> str:
    """Return the part of a prompt that asks: its sentences with a question mark, else all but the instructions."""
    parts = sentences(clean(prompt_text))
    asking = [part for part in parts if _asks(part)]
    return " ".join(asking or [part for part in parts if not _INSTRUCTION.match(part)] or parts)


@lru_cache(maxsize=4096)
def request(prompt_text: str) -> str:
    """Return what a prompt asks without the material it asks about: its question, else the last sentence to a colon.

    A premise no longer than the question belongs to it: "Today is Monday. What day is it in 3 days?"
    """
    asked, cleaned = question(prompt_text), clean(prompt_text)
    if not _asks(asked):
        return next(reversed(sentences(re.split(r":\s|\n", cleaned, maxsplit=1)[0])), "")
    parts = sentences(cleaned)
    premise = " ".join(itertools.takewhile(lambda part: not _asks(part), parts))
    return f"{premise} {asked}".strip() if len(premise.split()) <= len(asked.split()) else asked


def words(text: str) -> list[str]:
    """Return the words of a text as written: outer punctuation and possessive endings dropped, symbols kept.

    Symbols tell answers apart (C and C++, O- and O+, < and >), so whatever is not punctuation is part of a word.
    """
    found = []
    for match in _WORD.finditer(_BREAK.sub(" ", text)):
        word = _POSSESSIVE.sub("", match[0].strip(_EDGES))
        if word and not _ALNUM.search(word):
            word = match[0].strip(".,;\"'`")  # != is not =
        if (word and word.strip("-*_")) or word in ("-", "*"):
            found.append(word)
    return found if len(found) > 1 or not found or found[0] != "-" else []


def fold(text: str) -> str:
    """Return a text for comparison: casefolded, single spaces, punctuation and the accents of Latin letters dropped.

    Marks on other scripts are vowels or consonants of their own (Devanagari, Thai, kana) and stay.
    """
    kept: list[str] = []
    latin = False
    text = _PLUS.sub("+", text)
    for char in unicodedata.normalize("NFD", text.casefold().translate(_POWERS)):
        if unicodedata.combining(char):
            if not latin:
                kept.append(char)
            continue
        latin = "LATIN" in unicodedata.name(char, "") if char > "\x7f" else char.isalpha()
        kept.append(char)
    return unicodedata.normalize("NFC", " ".join(words("".join(kept))))


def content(text: str) -> list[str]:
    """Return the folded words that carry meaning; all of them when only function words are there."""
    folded = fold(text).split()
    return [word for word in folded if word not in FUNCTION_WORDS] or folded


_LANGUAGES = {
    "en": "the is are of what how many much which and does did in to when where who it was has",
    "de": "der die das und ist sind wie wieviel viele wer was welche welcher welches ein eine nicht es wann wo im den",
    "fr": "le la les des est sont combien quel quelle quels quelles qui que et un une du il au quand dans pour",
    "es": "el la los las es son cuanto cuantos cuantas cual que quien y un una del en donde cuando hay por",
    "it": "il lo la gli le sono quanto quanti quante quale che chi e un una di del dove quando per con",
    "pt": "o a os as sao quanto quantos quantas qual que quem e um uma do da em onde quando por com",
    "nl": "de het een is zijn hoeveel wat wie welke en van in op waar wanneer niet dat",
}
_BY_WORD: dict[str, list[str]] = {}
for _name, _common in _LANGUAGES.items():
    for _word in _common.split():
        _BY_WORD.setdefault(_word, []).append(_name)
_OTHER_COMMA = re.compile(r"[\u0400-\u04ff]|[\u0105\u0119\u0142\u015b\u017a\u017c\u0107\u011b\u0161\u010d\u0159\u017e]")


@lru_cache(maxsize=8192)
def language(text: str) -> str:
    """Return the language of a text by its commonest words: en, de, fr, es, it, pt, nl; "" where none is ahead."""
    counts = dict.fromkeys(_LANGUAGES, 0)
    for word in fold(text[:1000]).split():
        for name in _BY_WORD.get(word, ()):
            counts[name] += 1
    best = max(counts, key=lambda name: counts[name])
    ahead = counts[best] and sum(count == counts[best] for count in counts.values()) == 1
    return best if ahead else ""


@lru_cache(maxsize=4096)
def decimal_comma(prompt_text: str) -> bool:
    """Return whether numbers beside this prompt have a decimal comma: most of Europe and Latin America, not English."""
    return language(prompt_text) not in ("", "en") or bool(_OTHER_COMMA.search(prompt_text))
