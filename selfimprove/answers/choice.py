"""Reading which of the options that a question offers a text asserts.

Merely repeating the options ("a rose is an animal, a plant or an object") or naming one in passing is not an answer.
Several options that are chosen together are one answer, in alphabetical order: `a, c`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from . import quantity
from . import text as wording
from .final import marked

_MARK = r"(?:\(?(?P<letter>[A-Za-z]|\d{1,2}|[ivx]{1,4})[).:\]]|\[(?P<letter2>[A-Za-z])\])"
_LETTERED = re.compile(
    rf"(?:^|(?<=[\s,;?]))[*\-\u2022]?[ \t]*{_MARK}\s+(?P<option>\S[^\n]{{0,300}}?)"
    r"(?=[\s,;]+[(\[]?(?:[A-Za-z]|\d{1,2}|[ivx]{1,4})[).:\]]\s|\s*\n|\s*$)",
    re.M,
)
_CLOSED = re.compile(r"\b(true|false)(?:,? or |/)(true|false)\b", re.I)
_OPENS_CHOICE = re.compile(
    r"^\W*(?:which|what|who|is|are|was|were|do|does|did|can|should|would|will|has|have|in which)\b"
    r"|[,:][^,:]{1,60}(?:,[^,:?]{1,60}){0,8}?,? or ",
    re.I,
)
_NOT_AN_OPTION = re.compile(r"^(?:more|less|fewer|not|so|later|both|neither|none|worse|better|no|why not|over)\b", re.I)
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
_NONE = re.compile(
    r"\b(?:none of (?:the|these|them)(?:\s+\w+)?|neither|no option|keine? (?:davon|der)|aucune?|ninguna?)\b", re.I
)
_ALL = re.compile(r"\ball of (?:the above|these|them)|\ball (?:four|three|five|the above)\b", re.I)
_RULED_OUT = re.compile(
    r"\b(?:option|choice|answer|statement)?\s*\(?(?P<letter>[A-Za-z])\)?(?:\)|\b)\s*(?:and\s+\(?(?P<second>[A-Za-z])\)?\s+)?(?:is|"
    r"are|was|cannot|can't|isn't|aren't|would be|fails?)\s*"
    r"(?:not|n't|be|both|all|also|clearly|obviously)*\s*(?:wrong|incorrect|false|not|ruled "
    r"out|eliminated|out\b|be|impossible|excluded|right|correct|composite)?",
    re.I,
)

Options = Mapping[str, str]
"""Name of each option -> its folded text, as it may be met in an answer; a lettered option is met as letter or text."""


@lru_cache(maxsize=4096)
def _options(prompt_text: str) -> tuple[tuple[str, str], ...]:
    text = wording.clean(prompt_text)
    if lettered := _lettered(text):
        return tuple(lettered.items())
    if closed := _CLOSED.search(text):
        return tuple((word.lower(), word.lower()) for word in closed.groups())
    asked = wording.question(prompt_text)
    parts = wording.sentences(asked)
    return tuple(_listed(parts[-1] if parts else "").items())


def options(prompt_text: str) -> dict[str, str]:
    """Return the options that a prompt offers (at least two), or none.

    Known forms: lettered and numbered lists, "true or false", "Which is larger, 45 or 78?" and "Is a rose an animal, a
    plant or an object?".
    """
    return dict(_options(prompt_text))


def offers_options(prompt_text: str) -> bool:
    """Return whether a prompt offers options, so that its answer has to repeat one of them."""
    return bool(options(prompt_text))


def _lettered(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _LETTERED.finditer(text):
        letter = (match["letter"] or match["letter2"]).lower()
        if letter in found:
            if letter not in ("a", "1", "i"):
                return {}
            found = {}
        found[letter] = wording.fold(match["option"])
    names = list(found)
    if len(names) < 2:
        return {}
    for alphabet in (
        "abcdefghijklmnopqrstuvwxyz",
        [str(n) for n in range(1, 30)],
        ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"],
    ):
        if names == list(alphabet[: len(names)]):
            if names[0] != "a" and not re.search(
                r"\b(?:which|choose|select|pick|options?|welche|quel|cu[aá]l)\b", text, re.I
            ):
                return {}
            return found
    return {}


def _listed(sentence: str) -> dict[str, str]:
    """The options of `..., X, Y or Z?`."""
    before, separator, last = sentence.rstrip("?!. ").rpartition(" or ")
    if not separator or len(sentence) > 400 or not _OPENS_CHOICE.search(sentence) or _NOT_AN_OPTION.match(last):
        return {}
    items = [item.strip() for item in re.split(r"[,:;]", before) if item.strip()] + [last.strip()]
    if len(items) < 3 and re.match(r"^\W*(?:what|who)\b", sentence, re.I) and not re.search(r"[,:]", before):
        return {}
    if len(items) > 2 and _ASKING_WORD.match(items[0]):
        items = items[1:]
    numbers = [quantity.scan(quantity.prepare(item)) for item in items]
    if all(len(found) == 1 for found in numbers):
        names = [found[0].name for found in numbers]
    else:
        items[0] = _parallel(items[0], items[-1])
        names = [" ".join(w for w in wording.fold(item).split() if w not in ("a", "an", "the")) for item in items]
    usable = len(set(names)) == len(names) > 1 and all(0 < len(name.split()) <= 4 for name in names)
    return {name: name for name in names} if usable else {}


def _parallel(first: str, last: str) -> str:
    """The end of `first` that is built like `last`: from its last article on, or as many words."""
    if _ARTICLE.match(last) and (articles := list(_ARTICLE.finditer(first))):
        return first[articles[-1].start() :]
    return " ".join(first.split()[-len(last.split()) :])


def read(text: str, offered: Options, prompt_text: str) -> str | None:
    """Return the name of the option that `text` asserts (several joined by ", "), or None."""
    final = marked(text)
    if final is not None and (chosen := _chosen(final, offered)):
        return chosen
    cleaned = wording.clean(re.sub(r"\\f?boxed\s*\{|\\text\w{0,2}\s*\{", " ", text).replace("}", " "))
    if set(offered) != set(offered.values()):
        if chosen := _chosen(cleaned, offered):
            return chosen
        if letters := _read_letters(cleaned, offered):
            return letters
    names = {option: name for name, option in offered.items()}
    if len(names) < len(offered):
        return None
    mention = "|".join(re.escape(option) for option in sorted(names, key=len, reverse=True) if option)
    if not mention:
        return None
    if found := _mentioned(cleaned, mention):
        return names[found]
    asked = _DEGREE.search(wording.question(prompt_text).casefold())
    for sentence in _claims(cleaned, mention):
        found = _compared(sentence, list(names), mention, _POLARITY[asked[0]]) if asked else None
        if found := found or _asserted(sentence, mention):
            return names[found]
    return None


def _mentioned(cleaned: str, mention: str) -> str | None:
    """The only option in a text of a few words, such as "Turn left."."""
    folded = wording.fold(cleaned)
    found = re.findall(rf"(?<!\w)({mention})(?!\w)", folded)
    brief = len(folded.split()) <= 2 + len(found[0].split()) if found else False
    return found[0] if brief and len(set(found)) == 1 and not _NEGATED.search(folded) else None


def _chosen(text: str, offered: Options) -> str | None:
    """The options that a text names as a whole: letters, option texts, `(A) and (C)`, `none of the above`."""
    plain = re.sub(
        r"\\text\w{0,2}\s*\{([^{}]*)\}|\\(?:mathrm|mathbf)\s*\{([^{}]*)\}", lambda m: m[1] or m[2] or "", text
    )
    plain = wording.clean(plain.replace("$", " ").replace("\\", " ")).strip(" .\n:;")
    if len(plain) > 300:
        return None
    lettered = set(offered) != set(offered.values())
    if not (lettered and plain.lower() in offered) and (named := _by_text(plain, offered)):
        return named
    return _by_letter(plain, offered) if lettered else None


def _by_text(plain: str, offered: Options) -> str | None:
    """The options whose texts, or equal amounts, an answer consists of."""
    names = {option: name for name, option in offered.items() if option}
    folded = wording.fold(plain)
    if folded in names:
        return names[folded]
    amount = quantity.whole(plain, quantity.Asked())
    if amount is not None:
        same = [name for option, name in names.items() if quantity.whole(option, quantity.Asked()) == amount]
        if len(same) == 1:
            return same[0]
    parts = [wording.fold(part) for part in re.split(r"\s*(?:,|;|\band\b|&)\s*", plain) if part.strip()]
    if len(parts) > 1 and all(part in names for part in parts):
        return ", ".join(sorted({names[part] for part in parts}))
    return None


def _by_letter(plain: str, offered: Options) -> str | None:
    """The options whose letters an answer consists of; behind one, the option's text may stand."""
    letters = _letter_class(offered)
    if match := re.fullmatch(
        rf"(?:the\s+)?(?:(?:correct\s+)?(?:answer|option|choice)s?\s*(?:is|are)?\s*:?\s*)?[(\[]?({letters})[)\]]?",
        plain,
        re.I,
    ):
        return match[1].lower()
    if match := re.fullmatch(
        rf"(?:(?:option|choice|answer)\s*:?\s*)?[(\[]?({letters})(?:[)\].:]|\s-|,)\s*(\S[^\n]*)", plain, re.I
    ):
        rest = wording.fold(match[2])
        named = match[1].lower()
        if rest == offered[named] or _inside(offered[named], rest):
            return named
        others = [name for name, option in offered.items() if option and _inside(option, rest)]
        if not _several(plain, letters) and not others and "\n" not in plain:
            return named
    if several := _several(plain, letters):
        return several
    if re.fullmatch(r"[A-Z]{2,}", plain) and set(plain.lower()) <= set(offered):
        return ", ".join(sorted(set(plain.lower())))
    return _none_of(plain, offered)


def _none_of(text: str, offered: Options) -> str | None:
    for pattern, name in ((_NONE, "none"), (_ALL, "all")):
        if pattern.match(text.strip(" .\"'(")) or (pattern.search(text) and len(text.split()) <= 8):
            return next((letter for letter, option in offered.items() if pattern.search(option)), name)
    return None


def _inside(option: str, text: str) -> bool:
    return bool(option) and f" {option} " in f" {text} "


def _letter_class(offered: Options) -> str:
    return "|".join(sorted(map(re.escape, offered), key=len, reverse=True))


def _several(text: str, letters: str) -> str | None:
    """The letters of a list: `(A) and (C)`, `A, C`, `both A & C`."""
    item = rf"(?:options?\s+)?[(\[]?(?:{letters})[)\]]?"
    lead = r"(?:(?:the\s+)?(?:correct\s+)?(?:answers?|options?|choices?)\s*(?:is|are)?\s*:?\s*)?(?:both\s+)?"
    if re.fullmatch(
        rf"{lead}{item}(?:\s*(?:,\s*and|,|and|&|\+|/|;|und|et|y)\s*{item})+\W*(?:are (?:correct|right|even|true))?",
        text,
        re.I,
    ):
        lead_end = re.match(lead, text, re.I)
        body = text[lead_end.end() if lead_end else 0 :]
        found = re.findall(rf"(?<![^\W_])({letters})(?![^\W_])", body, re.I)
        return ", ".join(sorted({letter.lower() for letter in found}))
    return None


def _read_letters(cleaned: str, offered: Options) -> str | None:
    """The letters that follow "answer is", open the text as `(b)`, or are left when others are ruled out."""
    letters = _letter_class(offered)
    item = rf"[(\[]?(?:{letters})(?:[)\]]|(?![^\W_]|'))"
    many = rf"{item}(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*){item})*"
    for pattern in (
        rf"\b(?:answers?|choices?)(?:\s+(?:is|are|would be|must be|should be))\s*:?\s*(?:options?\s+)?({many})",
        rf"\b(?:answers?|choices?|antwort|réponse|respuesta|risposta|resposta)\s*(?:ist|est|"
        rf"es|è|é)?\s*:?\s*({many})(?!\s+\w+\s+(?:is|are))",
        rf"(?:\b(?:so|therefore|thus|hence|choose|pick|select)\b|答案是|选)\s*,?\s*(?:it\s+is\s+|"
        rf"it's\s+|the answer is\s+|i choose\s+|i pick\s+)?(?:options?\s+)?({many})(?=\W*$|"
        rf"[.,;:]|\s+(?:is|are)\s+(?:correct|right|the))",
        rf"\b(?:options?)\s+({many})\s+(?:is|are)\s+(?:the\s+)?(?:correct|right|answer|best)",
        rf"^\W*({many})\s+(?:is|are)\s+(?:the\s+)?(?:correct|right|answer|best|true|only|even|prime)",
        rf"^\W*([(\[]?(?:{letters})[).:\]])(?:\s|$)",
        rf"^\W*({many})\s*$",
        rf"\b(?:option|choice)\s+({many})\s*[.:]?\s*$",
        rf"\b(?:is|are)\s*:?\s*([(\[]?(?:{letters})[)\].:])(?:\s|$)",
    ):
        found = list(re.finditer(pattern, cleaned, re.I | re.M))
        if found:
            chosen = re.findall(rf"(?<![^\W_])({letters})(?![^\W_])", found[-1][1], re.I)
            if (
                any(c == "a" or c == "i" for c in chosen)
                and not re.search(rf"[(\[]|{letters}\)", found[-1][1])
                and re.match(r"\s+\w", cleaned[found[-1].end(1) :])
                and not re.match(r"\s+(?:is|are|because|since|as)\b", cleaned[found[-1].end(1) :])
            ):
                continue  # an article
            return ", ".join(sorted({letter.lower() for letter in chosen}))
    bracketed = re.findall(rf"\(({letters})\)", cleaned, re.I)
    if len({letter.lower() for letter in bracketed}) == 1:
        return bracketed[-1].lower()
    return _none_of(cleaned, offered) if _NONE.search(cleaned[:80]) or _ALL.search(cleaned[:80]) else None


def _claims(cleaned: str, mention: str) -> list[str]:
    """The folded sentences, those that name their answer first, without lists that only repeat the options."""
    item = rf"(?:(?:an?|the|both|either|neither|between)\s+)*(?:{mention})s?"
    listing = re.compile(rf"\b{item}(?:\s*,\s*{item})*\s*,?\s+(?:or|and|nor|vs|versus)\s+{item}\b")
    folded = [_fold_keeping_commas(sentence) for sentence in wording.sentences(cleaned)]
    return sorted((listing.sub(" ", sentence) for sentence in folded), key=lambda s: "answer" not in s)


def _fold_keeping_commas(sentence: str) -> str:
    parts = re.split(r"\s*[,;:()]\s*|\s-\s", quantity.prepare(sentence).rstrip(".!? "))
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
