"""Plain words out of model text: what number, choice and phrase reading share. Bounded input, linear patterns."""

import re
import unicodedata

MAX_CHARS = 8_000
"""Longer texts are read by their two halves of this, so that reading time is bounded."""

_MARKUP = str.maketrans(
    {
        **dict.fromkeys('*_`"$\u201c\u201d\u201e\u00ab\u00bb\u200b', ""),  # emphasis and double quotes
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u2212\u2013", "-"),
        "\u2014": " - ",
        "\u00a0": " ",
        "\r": "\n",
    }
)
_PRODUCT = re.compile(r"(?<=[\d)])\s*\*\s*(?=[\d(])")
_CONTRACTION = re.compile(r"\b(it|that|what|there|here|answer|capital|opposite|he|she)'s\b", re.I)
_ABBREVIATION = re.compile(r"\b(St|Mt|Ft|Mr|Mrs|Ms|Dr|vs|etc|e\.g|i\.e)\.", re.I)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"\w+(?:'\w+)*(?:-\w+)*")
_POSSESSIVE = re.compile(r"'s?$")
_INSTRUCTION = re.compile(
    r"^\W*(?:please\s+)?(?:answer|respond|reply|give|write|use|explain|think|show|say|keep|put|return|be|do not|don't)"
    r"\b",
    re.I,
)

_FUNCTION = """
a an the of to in on at for by with from and or nor but so as than then is are was were be been being am do does
did has have had can could will would shall should might must it its it's this that these those there here he
she they we i you your my our their his her them me us what which who whom whose when where why how if because
while not no yes into about between also very either both
"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())


def clean(text: str) -> str:
    """Return `text` bounded in length, without markup, with straight quotes and full words for `it's` and the like."""
    if len(text) > MAX_CHARS:
        text = text[: MAX_CHARS // 2] + "\n" + text[-MAX_CHARS // 2 :]
    text = unicodedata.normalize("NFC", _PRODUCT.sub(" \u00d7 ", text).translate(_MARKUP))
    return _CONTRACTION.sub(r"\1 is", text)


def sentences(text: str) -> list[str]:
    """Return the sentences and lines of a cleaned text, without empty ones."""
    whole = _ABBREVIATION.sub(r"\1", text)
    return [part.strip() for part in _SENTENCE.split(whole) if part.strip()]


def question(prompt_text: str) -> str:
    """Return the part of a prompt that asks: its sentences with a question mark, else all but the instructions."""
    parts = sentences(clean(prompt_text))
    asking = [part for part in parts if part.rstrip().endswith("?")]
    return " ".join(asking or [part for part in parts if not _INSTRUCTION.match(part)] or parts)


def words(text: str) -> list[str]:
    """Return the words of a text as written, possessive endings dropped."""
    return [_POSSESSIVE.sub("", word) for word in _WORD.findall(text)]


def fold(text: str) -> str:
    """Return a text for comparison: casefolded, accents and punctuation dropped, single spaces."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(words(plain))


def content(text: str) -> list[str]:
    """Return the folded words that carry meaning; all of them when only function words are there."""
    folded = fold(text).split()
    return [word for word in folded if word not in FUNCTION_WORDS] or folded
