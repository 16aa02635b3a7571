"""Reading yes or no: the word itself, in several languages, or the question's own statement, affirmed or denied."""

import re
from collections.abc import Set

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
_CLEAR = r"(?=\s*[.,;:!]|\s*$|\s+(?:because|since|as|for)\b)"
_AFTER_NO = re.compile(r"not|way|chance|indeed|sir|thanks?|lo|es|se|ya|est[aáoe]\w*|\w+ly", re.I)
_OF_COURSE = re.compile(
    r"^\W*(?:(?:of course|sure|affirmative|exactly|that(?:'s| is) (?:right|correct|true))\b|"
    rf"(?:it|this) is (?:right|correct|true){_CLEAR})",
    re.I,
)
_THAT_IS_WRONG = re.compile(
    r"^\W*(?:(?:negative|that(?:'s| is) (?:not|wrong|false|incorrect))\b|"
    rf"(?:it|this) is (?:wrong|false|incorrect|not (?:right|correct|true)){_CLEAR})",
    re.I,
)
_NO_DOUBT = re.compile(
    r"\b(?:(?:there is|there's|i have|without)\s+)?(?:no|any|a) (?:doubt|problem|question|worries)\b"
    r"(?:\s+about (?:it|that))?(?:\s+that\b)?[\s,.!:;-]*(?=\w)|\bnot only\b",
    re.I,
)
"""Denials that affirm: "no doubt, yes", "not only"."""
_CLAUSE = re.compile(
    r"\s*[,;:()]\s*|\s+-+\s+|\s+(?:because|since|although|though|while|whereas|unless|but|weil|denn|sondern|car|"
    r"parce que|puisque|porque|perch[eé])\s+|\s+(?:as|for|and|that|which|who)\s+(?=(?:it|they|he|she|there|has|have|"
    r"is|are|was|can|cannot|does|do|no|not)\b)|\s+(?:with|leaves|leaving)\s+(?=no\b)",
    re.I,
)


def read(text: str, prompt_text: str) -> str | None:
    """Return "yes", "no", or None where a text says neither, or both."""
    final = marked(text)
    cleaned = wording.clean(final if final is not None else text).replace("\\text{", " ").replace("}", " ")
    cleaned = _NO_DOUBT.sub("", cleaned)
    asked = _stems(wording.question(prompt_text))
    if found := _opening(cleaned, asked):
        return None if found == "both" else found
    concluded = _concluded(cleaned, asked)
    if concluded:
        return concluded[-1]
    if _UNSURE.search(cleaned):
        return None
    return _stated(cleaned, prompt_text, asked)


def _opening(cleaned: str, asked: Set[str]) -> str | None:
    for pattern, name in ((_ONLY_NEGATED, "no"), (_THAT_IS_WRONG, "no"), (_OF_COURSE, "yes")):
        if pattern.match(cleaned):
            return name
    match = _WORD.match(cleaned)
    if not match:
        return None
    if match["rest"]:
        return "both"
    said, other = ("yes", "no") if match["yes"] else ("no", "yes")
    if _is_article(match, cleaned, asked):
        return None
    return "both" if other in _concluded(cleaned[match.end() :], asked) else said


def _concluded(cleaned: str, asked: Set[str]) -> list[str]:
    """What a text concludes with "so yes", "the answer is no", in order."""
    found = [match for match in _CONCLUDED.finditer(cleaned) if not _is_article(match, cleaned, asked)]
    return ["yes" if match["yes"] else "no" for match in found]


def _is_article(match: re.Match[str], cleaned: str, asked: Set[str]) -> bool:
    """Whether a "no" belongs to a word that the question does not hold, as in "no divisors"."""
    following = re.match(r"\s+([a-z]+)\b", cleaned[match.end() :])
    if not following or not re.search(r"\bno$", match[0].rstrip(), re.I):
        return False
    word = following[1]
    if word in ("one", "longer", "more", "number"):
        return True
    return not (word in wording.FUNCTION_WORDS or _stem(word) in asked or _AFTER_NO.match(word))


def _stated(cleaned: str, prompt_text: str, asked: Set[str]) -> str | None:
    question = wording.question(prompt_text)
    asked_denied = bool(_DENIED.search(question))
    for sentence in wording.sentences(cleaned):
        if "?" in sentence:
            continue
        if match := _IT_IS.match(sentence):
            return "no" if match["denied"] else "yes"
        whole = sentence, bool(_DENIED.search(sentence)) != asked_denied
        clause, denied = _claim(sentence, question) if whole[1] and not asked_denied else whole
        claim = _stems(clause)
        shared = asked & claim
        pronoun = re.match(r"^\W*(?:so\s+)?(?:it|this|that|they|he|she)\b", clause, re.I)
        if len(asked & _stems(sentence)) * 2 > len(asked) or (pronoun and shared and len(claim - asked) <= 1):
            if denied is None:
                return None
            extra = claim - asked
            if not denied and len(extra) > len(shared) + 2:
                return None
            if not denied and not pronoun and len(asked - claim) and extra and not _same_predicate(question, sentence):
                return None
            return "no" if denied else "yes"
    return None


def _claim(sentence: str, question: str) -> tuple[str, bool | None]:
    """The clause of a sentence that repeats most of the question, and whether it denies it; None where that is unsure.

    In "7 is prime, not composite" and "7 is prime because it has no divisors" the denial is of something else. Where
    clauses share the question ("21 has divisors, so it is not prime"), the one that holds its last word may deny it.
    """
    order = list(dict.fromkeys(map(_stem, wording.content(question))))

    def repeated(clause: str) -> tuple[int, int]:
        found = [index for index, word in enumerate(order) if word in _stems(clause)]
        return len(found), max(found, default=-1)

    clauses = [clause for clause in _CLAUSE.split(sentence) if clause.strip()]
    told = max(clauses, key=repeated, default=sentence)
    if _DENIED.search(told):
        return told, True
    rivals = [clause for clause in clauses if repeated(clause)[0] == repeated(told)[0]]
    about = repeated(told)[1] > 0 or len(order) == 1
    whole = _stems(told) <= set(order) or set(order) <= _stems(told)
    return told, False if about and whole and not any(map(_DENIED.search, rivals)) else None


def _stems(text: str) -> set[str]:
    return {_stem(word) for word in wording.content(text)}


def _same_predicate(question: str, sentence: str) -> bool:
    """Whether the last word of meaning of the question occurs in the sentence."""
    words = wording.content(question)
    return bool(words) and _stem(words[-1]) in _stems(sentence)


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word
