"""Reading yes or no: the word itself, in several languages, or the question's own statement, affirmed or denied."""

import re

from . import text as wording
from .final import marked

_YES = (
    "yes|yeah|yep|true|correct|right|indeed|certainly|absolutely|definitely|ja|doch|oui|"
    "si|sí|sì|sim|да|是的|是|对|对的|はい|네|예|haan|हाँ|हां|نعم|evet|tak|ano"
)
_NO = "no|nope|false|incorrect|wrong|nein|non|não|nao|nee|nej|не|нет|"
_NO += "不是|不|否|不对|いいえ|아니요|아니오|नहीं|لا|hayır|nie|ne"
_WORD = re.compile(rf"^\W*(?:(?P<yes>{_YES})|(?P<no>{_NO}))(?!\w)(?P<rest>\s*(?:and|or|,\s*and)\s+(?:yes|no)\b)?", re.I)
_CONCLUDED = re.compile(
    r"(?:\b(?:answer|conclusion)(?:\s+(?:is|would be|must be))?\W{1,6}|\b(?:so|therefore|"
r"thus|hence|conclude)\b[\s,:]*(?:the answer is|that)?\W{0,3})"
    r"(?:(?P<yes>yes|true|ja|oui|sí)|(?P<no>no|false|nein|non))(?!\w)(?!\s+(?:one|longer|number|more))", re.I
)  # fmt: skip
_UNSURE = re.compile(
    r"\b(?:maybe|perhaps|it depends|depends on|not sure|don't know|do not know|cannot "
    r"(?:say|tell|determine)|unclear|unsure|vielleicht|peut-être|quizás|forse|talvez)\b",
    re.I,
)
_DENIED = re.compile(r"\b(?:not|never|no|cannot|nicht|kein\w*|pas|nunca)\b|n't\b|isnt\b", re.I)
_IT_IS = re.compile(
    r"^\W*(?:it|this|that|they|he|she|you|one|there|we|i|these|those)\s+(?:really\s+|certainly\s+|"
    r"definitely\s+|probably\s+)?(?:is|are|was|were|does|do|did|can|could|will|would|has|"
    r"have|had|should)\b(?P<denied>\s*(?:not|n't)|n't)?\W*$",
    re.I,
)
_ONLY_NEGATED = re.compile(
    r"^\W*(?:not really|not at all|of course not|certainly not|absolutely not|never|by no means|definitely not)\W*",
    re.I,
)
_OF_COURSE = re.compile(r"^\W*(?:of course|sure|affirmative|exactly|that(?:'s| is) (?:right|correct|true))\b", re.I)
_THAT_IS_WRONG = re.compile(r"^\W*(?:negative|that(?:'s| is) (?:not|wrong|false|incorrect))\b", re.I)


def read(text: str, prompt_text: str) -> str | None:
    """Return "yes", "no", or None where a text says neither, or both."""
    final = marked(text)
    cleaned = wording.clean(final if final is not None else text).replace("\\text{", " ").replace("}", " ")
    if found := _opening(cleaned):
        return None if found == "both" else found
    concluded = [("yes" if match["yes"] else "no") for match in _CONCLUDED.finditer(cleaned)]
    if concluded:
        return concluded[-1]
    if _UNSURE.search(cleaned):
        return None
    return _stated(cleaned, prompt_text)


def _opening(cleaned: str) -> str | None:
    for pattern, name in ((_ONLY_NEGATED, "no"), (_THAT_IS_WRONG, "no"), (_OF_COURSE, "yes")):
        if pattern.match(cleaned):
            return name
    match = _WORD.match(cleaned)
    if not match:
        return None
    if match["rest"]:
        return "both"
    said, other = ("yes", "no") if match["yes"] else ("no", "yes")
    turned = [("yes" if m["yes"] else "no") for m in _CONCLUDED.finditer(cleaned, match.end())]
    if (
        re.match(r"\s+(?:one|longer|more|number)\b", cleaned[match.end() :], re.I)
        and match[0].strip().casefold() == "no"
    ):
        return None
    return "both" if other in turned else said


def _stated(cleaned: str, prompt_text: str) -> str | None:
    question = wording.question(prompt_text)
    asked = {_stem(word) for word in wording.content(question)}
    asked_denied = bool(_DENIED.search(question))
    for sentence in wording.sentences(cleaned):
        if "?" in sentence:
            continue
        if match := _IT_IS.match(sentence):
            return "no" if match["denied"] else "yes"
        claim = {_stem(word) for word in wording.content(sentence)}
        shared = asked & claim
        pronoun = re.match(r"^\W*(?:it|this|that|they|he|she)\b", sentence, re.I)
        if len(shared) * 2 > len(asked) or (pronoun and shared and len(claim - asked) <= 1):
            denied = bool(_DENIED.search(sentence)) != asked_denied
            extra = claim - asked
            if not denied and len(extra) > len(shared) + 2:
                return None
            if not denied and not pronoun and len(asked - claim) and extra and not _same_predicate(question, sentence):
                return None
            return "no" if denied else "yes"
    return None


def _same_predicate(question: str, sentence: str) -> bool:
    """Whether the last word of meaning of the question occurs in the sentence."""
    words = [_stem(word) for word in wording.content(question)]
    return bool(words) and words[-1] in {_stem(word) for word in wording.content(sentence)}


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word
