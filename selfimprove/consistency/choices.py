"""Reading which of the options that a question offers a text asserts.

Merely repeating the options ("a rose is an animal, a plant or an object") or naming one in passing is not an answer.
"""

import re
from collections.abc import Mapping

from . import numbers, wording

_LETTERED = re.compile(
    r"(?:^|(?<=[\s,;]))\(?([A-Ha-h])[).:]\s+(\S[^\n]{0,200}?)(?=[\s,;]+\(?[A-Ha-h][).:]\s|\n|$)", re.M
)
_CLOSED = re.compile(r"\b(yes|no|true|false)(?:,? or |/)(yes|no|true|false)\b", re.I)
_ASKS_YES_NO = re.compile(
    r"^\W*(?:is|are|was|were|am|do|does|did|can|could|will|would|should|has|have|had)\b(?!.*\bor\b)[^?]*\?$",
    re.I | re.S,
)
_OPENS_CHOICE = re.compile(
    r"^\W*(?:which|is|are|was|were|do|does|did|can|should|would|will|has|have)\b"
    r"|[,:][^,:]{1,60}(?:,[^,:?]{1,60}){0,8}?,? or ",
    re.I,
)
_NOT_AN_OPTION = re.compile(r"^(?:more|less|fewer|not|so|later|both|neither|none|worse|better)\b", re.I)
_ASKING_WORD = re.compile(r"^\W*(?:which|what|who|where|when|how)\b", re.I)
_ARTICLE = re.compile(r"\b(?:an?|the)\s+(?=\S)", re.I)

_UP = """
larger bigger greater higher more longer taller older heavier faster hotter warmer stronger later brighter wider 
deeper farther further largest biggest greatest highest most longest tallest oldest heaviest fastest
"""
_DOWN = """
smaller lesser lower less fewer shorter younger lighter slower colder cooler weaker earlier darker narrower 
shallower nearer closer smallest least lowest fewest shortest youngest lightest slowest littler
"""
_POLARITY = dict.fromkeys(_UP.split(), 1) | dict.fromkeys(_DOWN.split(), -1)
_DEGREE = re.compile(rf"\b(?:{'|'.join(_POLARITY)})\b")
_VERB = r"(?:is|are|was|were|be|being|equals|comes?|has|have|weighs?|looks?|seems?)"
_NEGATED = re.compile(r"\b(?:not|never|neither|nor|than|unlike|of|isn't|aren't)\b")
_KIND_OF = re.compile(r"\b(?:kind|type|sort|form|species|example) of\b")

Options = Mapping[str, str]
"""Name of each option -> its folded text, as it may be met in an answer; a lettered option is met as letter or text."""


def options(prompt_text: str) -> dict[str, str]:
    """Return the options that a prompt offers (at least two), or none.

    Known forms: lettered lists, "yes or no", questions that ask for yes or no, and "Which is larger, 45 or 78?" / "Is a
    rose an animal, a plant or an object?".
    """
    text = wording.clean(prompt_text)
    lettered = {letter.lower(): wording.fold(option) for letter, option in _LETTERED.findall(text)}
    if len(lettered) > 1 and "".join(sorted(lettered)) == "abcdefgh"[: len(lettered)]:
        return lettered
    if closed := _CLOSED.search(text):
        return {word.lower(): word.lower() for word in closed.groups()}
    asked = wording.question(prompt_text)
    if _ASKS_YES_NO.match(asked):
        return {"yes": "yes", "no": "no"}
    return _listed(wording.sentences(asked)[-1] if asked else "")


def _listed(sentence: str) -> dict[str, str]:
    """The options of `..., X, Y or Z?`."""
    before, separator, last = sentence.rstrip("?!. ").rpartition(" or ")
    if not separator or len(sentence) > 400 or not _OPENS_CHOICE.search(sentence) or _NOT_AN_OPTION.match(last):
        return {}
    items = [item.strip() for item in re.split(r"[,:;]", before) if item.strip()] + [last.strip()]
    if len(items) > 2 and _ASKING_WORD.match(items[0]):
        items = items[1:]
    if all(len(numbers.find(item)) == 1 for item in items):
        found = [numbers.find(item)[0][1] for item in items]
    else:
        items[0] = _parallel(items[0], items[-1])
        found = [" ".join(w for w in wording.fold(item).split() if w not in ("a", "an", "the")) for item in items]
    usable = len(set(found)) == len(found) > 1 and all(0 < len(item.split()) <= 4 for item in found)
    return {item: item for item in found} if usable else {}


def _parallel(first: str, last: str) -> str:
    """The end of `first` that is built like `last`: from its last article on, or as many words."""
    if _ARTICLE.match(last) and (articles := list(_ARTICLE.finditer(first))):
        return first[articles[-1].start() :]
    return " ".join(first.split()[-len(last.split()) :])


def read(text: str, offered: Options, prompt_text: str) -> str | None:
    """Return the name of the option that `text` asserts, or None."""
    cleaned = wording.clean(text)
    if set(offered) <= {"yes", "no", "true", "false"}:
        return _read_closed(cleaned, offered, prompt_text)
    letters = set(offered) != set(offered.values())
    if letters and (letter := _read_letter(cleaned, offered)):
        return letter
    names = {option: name for name, option in offered.items()}
    mention = "|".join(re.escape(option) for option in sorted(names, key=len, reverse=True))
    asked = _DEGREE.search(wording.question(prompt_text).casefold())
    for sentence in _claims(cleaned, mention):
        found = _compared(sentence, list(names), mention, _POLARITY[asked[0]]) if asked else None
        if found := found or _asserted(sentence, mention):
            return names[found]
    return None


def _claims(cleaned: str, mention: str) -> list[str]:
    """The folded sentences, those that name their answer first, without lists that only repeat the options."""
    item = rf"(?:(?:an?|the|both|either|neither|between)\s+)*(?:{mention})s?"
    listing = re.compile(rf"\b{item}(?:\s*,\s*{item})*\s*,?\s+(?:or|and|nor|vs|versus)\s+{item}\b")
    folded = [_fold_keeping_commas(sentence) for sentence in wording.sentences(cleaned)]
    return sorted((listing.sub(" ", sentence) for sentence in folded), key=lambda s: "answer" not in s)


def _fold_keeping_commas(sentence: str) -> str:
    parts = re.split(r"\s*[,;:()]\s*|\s-\s", numbers.prepare(sentence).rstrip(".!? "))
    return " , ".join(wording.fold(part) for part in parts)


def _asserted(sentence: str, mention: str) -> str | None:
    """The first option that the sentence opens with, says that something else is, or chooses."""
    opening = re.match(rf"\W*(?:(?:an?|the)\s+)?({mention})s?(?:\s*$|\s*,|\s+(?:because|since|as)\b)", sentence)
    if opening:
        return opening[1]
    said = rf"\b{_VERB}|\bchoose|\bpick|\bsay|\banswer\s*,"
    claim = rf"(?:{said})((?:\s+\w+){{0,4}}?)\s+({mention})s?\b(?!\s+(?:\d|times|{_VERB}))"
    about_an_option = re.compile(rf"\b(?:{mention})\s*$")
    for match in re.finditer(claim, sentence):
        aside = _KIND_OF.sub(" ", match[1])
        if not _NEGATED.search(aside) and not about_an_option.search(sentence, 0, match.start()):
            return match[2]
    naming = re.search(rf"\b({mention})\s+is\s+(?:the|my)\s+(?:\w+\s+)?(?:answer|one)\b", sentence)
    return naming[1] if naming else None


def _compared(sentence: str, offered: list[str], mention: str, asked: int) -> str | None:
    """The option that a comparison puts on the side that was asked for (`asked` +1: larger, -1: smaller)."""
    subject = re.search(rf"\b({mention})s?\s+{_VERB}\b(?:(?!\b(?:{mention})\b).){{0,40}}?({_DEGREE.pattern})", sentence)
    if subject:
        if _POLARITY[subject[2]] == asked:
            return subject[1]
        others = [option for option in offered if option != subject[1]]
        return others[0] if len(others) == 1 else None
    named = re.search(rf"({_DEGREE.pattern})[^,]{{0,40}}?\b{_VERB}\s+(?:\w+\s+){{0,2}}?({mention})\b", sentence)
    return named[2] if named and _POLARITY[named[1]] == asked else None


def _read_letter(cleaned: str, offered: Options) -> str | None:
    """The letter that is the whole text, opens it as `(b)`, or follows "answer is" or "option"."""
    letters = "".join(offered)
    for pattern in (
        rf"^\W*([{letters}])\W*$",
        rf"\b(?:answer|choice|option)(?:\s+is)?\s*:?\s*\(?([{letters}])\b(?!\s+\w)",
        rf"^\W*\(?([{letters}])[).:](?:\s|$)",
        rf"\\boxed\{{\W*([{letters}])\W*\}}",
        rf"\(([{letters}])\)",
    ):
        if found := re.findall(pattern, cleaned, re.I):
            return found[-1].lower()
    return None


def _read_closed(cleaned: str, offered: Options, prompt_text: str) -> str | None:
    """Yes or no (true or false): the word itself, or the question's own statement, affirmed or denied."""
    said = re.search(rf"^\W*({'|'.join(offered)})\b|\banswer(?:\s+is)?\W+({'|'.join(offered)})\b", cleaned, re.I)
    if said:
        return (said[1] or said[2]).lower()
    positive, negative = ("yes", "no") if "yes" in offered else ("true", "false")
    asked = set(wording.content(wording.question(prompt_text)))
    for sentence in wording.sentences(cleaned):
        claim = set(wording.content(sentence))
        if len(asked & claim) * 2 > len(asked) and "?" not in sentence:
            denied = re.search(r"\b(?:not|never|no)\b|n't\b", sentence, re.I)
            return negative if denied else positive
    return None
