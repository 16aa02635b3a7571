"""Reading which of the options that a question offers a text asserts.

Merely repeating the options ("a rose is an animal, a plant or an object") or naming one in passing is not an answer.
Several options that are chosen together are one answer, in alphabetical order: `a, c`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from . import letters, quantity, unspaced
from . import text as wording
from .final import marked
from .letters import Options

_MARK = r"(?:\(?(?P<letter>[A-Za-z]|\d{1,2}|[ivx]{1,4})[).:\]、]|\[(?P<letter2>[A-Za-z])\])"
_GAP = rf"(?:\s|(?<=、)|(?={unspaced.CJK.pattern}))"
"""The gap between a mark and its option; Chinese and Japanese need none."""
_LETTERED = re.compile(
    rf"(?:^|(?<=[\s,;?]))[*\-\u2022]?[ \t]*{_MARK}{_GAP}\s*(?![(\[]?[Aa][).:\]、])(?P<option>\S[^\n]{{0,300}}?)"
    rf"(?=[\s,;]+[(\[]?(?:[A-Za-z]|\d{{1,2}}|[ivx]{{1,4}})[).:\]、]{_GAP}|\s*\n|\s*$)",
    re.M,
)
_PICKS = re.compile(
    r"(?<!, )\bwhich\b|\b(?:choose|select|pick|guess|identify|options?|choices?|odd one|(?:correct|right|best|one) "
    r"(?:answer|letter)|welche[rsnm]?|quel(?:le)?s?|cu[aá]l(?:es)?|qual[ei]?|welke)\b|[选選哪]|下列|どれ|どの",
    re.I,
)
_TASK = re.compile(
    r"^\W*(?:please\s+|now\s+|then\s+)*(?:add|answer|calculate|complete|compute|convert|define|describe|determine|"
    r"differentiate|divide|do|draw|estimate|evaluate|expand|explain|express|factor\w*|fill|find|give|graph|how|"
    r"integrate|list|mark|match|multiply|name|prove|rewrite|round|show|simplify|sketch|solve|state|subtract|tell|"
    r"translate|what|when|where|who|why|work out|write)\b",
    re.I,
)
_TASKS_FOLLOW = re.compile(r":\W*$|\b(?:following|these|both|each)(?:\s+\w+){0,3}\W*$", re.I)
_LEADS_ON = re.compile(r"\b(?:to|should|must|can|will|would|could|may|is|are|be|by)\W*$", re.I)
_ALPHABETS = (
    list("abcdefghijklmnopqrstuvwxyz"),
    [str(n) for n in range(1, 30)],
    ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"],
)
_BLANK = re.compile(r"_{2,}|\.{3}|…|\(\s*\)")
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


def _list(text: str) -> tuple[dict[str, str], str, str]:
    """The items of a text's lettered or numbered list by their names, if any, and the text before and behind it."""
    found: dict[str, str] = {}
    begin = end = 0
    for match in _LETTERED.finditer(text):
        letter = (match["letter"] or match["letter2"]).lower()
        if letter in found and letter not in ("a", "1", "i"):
            return {}, text, ""
        if letter in found or letter == "a":  # before it stood another list, or "... = 5."
            found = {}
        begin, end = begin if found else match.start(), match.end()
        found[letter] = match["option"].rstrip()
    names = list(found)
    listed = len(names) > 1 and any(names == list(alphabet[: len(names)]) for alphabet in _ALPHABETS)
    return (found, text[:begin].strip(), text[end:].strip()) if listed else ({}, text, "")


def _lettered(text: str) -> dict[str, str]:
    items, stem, after = _list(text)
    if not items or ("a" not in items and not _PICKS.search(text)) or not _asks_for_one(stem, after, items):
        return {}
    return {name: wording.fold(option) for name, option in items.items()}


def asks_several(prompt_text: str) -> bool:
    """Return whether a prompt's lettered list is one of questions or tasks, so that its answer has several parts."""
    items, stem, after = _list(wording.clean(prompt_text))
    if "a" not in items or _asks_for_one(stem, after, items):
        return False
    return all(_asks(item) for item in items.values()) or bool(_TASKS_FOLLOW.search(_last(stem)))


def _asks(item: str) -> bool:
    return item.endswith("?") or bool(_TASK.match(item))


def _last(stem: str) -> str:
    """The last sentence of the text before a list."""
    return next(reversed(wording.sentences(stem)), "")


def _asks_for_one(stem: str, after: str, items: Mapping[str, str]) -> bool:
    """Return whether the text around a list asks to choose from it, and its items are not the questions themselves."""
    if _PICKS.search(f"{stem}\n{after}"):
        return True
    if "?" in stem or "?" in after:
        return not all(item.endswith("?") for item in items.values())
    lead = _last(stem)
    if any(item.endswith("?") for item in list(items.values())[:-1]):
        return False
    if all(map(_asks, items.values())) and not _LEADS_ON.search(lead):
        return False
    if _TASK.match(lead):
        return not _TASKS_FOLLOW.search(lead)
    return bool(lead) and (not lead.endswith((".", "!")) or bool(_BLANK.search(lead)))


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
    if final is not None and (chosen := _chosen(final, offered, prompt_text)):
        return chosen
    cleaned = wording.clean(re.sub(r"\\f?boxed\s*\{|\\text\w{0,2}\s*\{", " ", text).replace("}", " "))
    told = cleaned
    if set(offered) != set(offered.values()):
        if chosen := _chosen(cleaned, offered, prompt_text):
            return chosen
        if chosen := letters.read(cleaned, offered, prompt_text):
            return chosen
        cleaned = letters.around(cleaned, offered)
        if chosen := _concluded(cleaned, offered, prompt_text):
            return chosen
    names = {option: name for name, option in offered.items()}
    if len(names) < len(offered):
        return None
    mention = "|".join(re.escape(option) for option in sorted(names, key=len, reverse=True) if option)
    if not mention:
        return None
    if cleaned == told and (found := _mentioned(cleaned, mention)):
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


def _concluded(cleaned: str, offered: Options, prompt_text: str) -> str | None:
    """The option of "So copper is used.": alone in a conclusion that is else made of the question's words."""
    asked = set(wording.content(prompt_text))
    for sentence in reversed(wording.sentences(cleaned)):
        if said := re.match(r"(?:so|therefore|thus|hence)\b,?\s+(.+)", sentence, re.I):
            folded = f" {wording.fold(said[1])} "
            named = [name for name, option in offered.items() if letters.inside(option, folded)]
            if len(named) == 1:
                claim = set(wording.content(folded.replace(f" {offered[named[0]]} ", " ")))
                return named[0] if claim and claim <= asked else None
    return None


def _chosen(text: str, offered: Options, prompt_text: str) -> str | None:
    """The options that a text names as a whole: letters, option texts, `(A) and (C)`, `none of the above`."""
    plain = re.sub(
        r"\\text\w{0,2}\s*\{([^{}]*)\}|\\(?:mathrm|mathbf)\s*\{([^{}]*)\}", lambda m: m[1] or m[2] or "", text
    )
    plain = wording.clean(plain.replace("$", " ").replace("\\", " ")).strip(" .\n:;")
    plain = unspaced.ANSWER.sub("", plain)
    if len(plain) > 300:
        return None
    lettered = set(offered) != set(offered.values())
    if not (lettered and plain.lower() in offered) and (named := _by_text(plain, offered)):
        return named
    return letters.whole(plain, offered, prompt_text) if lettered else None


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


def _claims(cleaned: str, mention: str) -> list[str]:
    """The folded sentences, those that name their answer first, without lists that only repeat the options."""
    item = rf"(?:(?:an?|the|both|either|neither|between)\s+)*(?:{mention})s?"
    listing = re.compile(rf"\b{item}(?:\s*,\s*{item})*\s*,?\s+(?:or|and|nor|vs|versus)\s+{item}\b")
    folded = [letters.folded_parts(sentence) for sentence in wording.sentences(cleaned)]
    return sorted((listing.sub(" ", sentence) for sentence in folded), key=lambda s: "answer" not in s)


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
