"""Reading which lettered options a text asserts: named alone, concluded with, or judged where it goes through them.

What only stands first or last in a list of options is no answer, nor is an option that the text rules out.
"""

import re
from collections.abc import Mapping
from itertools import pairwise

from . import quantity, unspaced
from . import text as wording

Options = Mapping[str, str]
"""Name of each option -> its folded text, as it may be met in an answer; a lettered option is met as letter or text."""

_WORD = r"[^\W_\u3040-\u30ff\u3400-\u9fff]"
"""A character of a word; Chinese and Japanese ones may follow a letter without a space."""
_NONE = re.compile(
    r"\b(?:none of (?:the|these|them)(?:\s+\w+)?|neither|no option|keine? (?:davon|der)|aucune?|ninguna?)\b", re.I
)
_ALL = re.compile(r"\ball of (?:the above|these|them)|\ball (?:four|three|five|the above)\b", re.I)
_DENIAL = (
    r"\b(?:not|never|no|nor|neither|cannot|incorrect|wrong|false|too|ruled out|eliminated?|excluded?|unlike|nicht|"
    r"kein\w*|falsch|pas|faux)\b|n't\b|[不错錯✗✘❌]"
)
_VERDICT = re.compile(
    rf"(?P<denied>{_DENIAL})|\b(?:correct|right|true|the (?:\w+ )?answer|richtig)\b|正确|正確|[✓✔✅]", re.I
)
_DENIED = re.compile(_DENIAL, re.I)
_CLAUSE = re.compile(r"[,;:.!?\n]|\b(?:because|since|but|so|therefore|thus|hence)\b", re.I)
_ALTERNATIVE = re.compile(r"[)\]]?\s*(?:\bor\b|\boder\b|\bou\b|或)", re.I)
_EXPLAINED = re.compile(r"\W*(?:explanation|reason\w*|because|erklärung|explication|解析|解释|理由)", re.I)


def whole(plain: str, offered: Options, prompt_text: str) -> str | None:
    """Return the options whose letters an answer consists of; behind one, the option's text may stand."""
    letters = _letter_class(offered)
    if match := re.fullmatch(
        rf"(?:the\s+)?(?:(?:correct\s+)?(?:answer|option|choice)s?\s*(?:is|are)?\s*:?\s*)?[(\[]?({letters})[)\]]?",
        plain,
        re.I,
    ):
        return match[1].lower()
    several = _several(plain, letters)
    if match := re.fullmatch(
        rf"(?:(?:option|choice|answer)\s*:?\s*)?[(\[]?({letters})(?:[)\].:、]|\s-|,)\s*(\S[^\n]*)", plain, re.I
    ):
        named = match[1].lower()
        if wording.fold(match[2]) == offered[named]:
            return named
        alone = not several and {name for name, _ in _marked(plain, offered)} <= {named}
        if alone and _stands(named, match[2], offered, prompt_text):
            return named
    if several:
        return several
    if re.fullmatch(r"[A-Z]{2,}", plain) and set(plain.lower()) <= set(offered):
        return ", ".join(sorted(set(plain.lower())))
    return _none_of(plain, offered)


def read(cleaned: str, offered: Options, prompt_text: str) -> str | None:
    """Return the letters that a text concludes with or calls right, or the only ones that it names, unless denied."""
    letters = _letter_class(offered)
    item = rf"[(\[]?(?:{letters})(?:[)\]]|(?!{_WORD}|'))"
    many = rf"{item}(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s*[&、和与及]\s*){item})*"
    for pattern in (
        rf"\b(?:answers?|choices?)(?:\s+(?:is|are|would be|must be|should be))\s*:?\s*(?:options?\s+)?({many})",
        rf"\b(?:answers?|choices?|antwort|réponse|respuesta|risposta|resposta)\s*(?:ist|est|"
        rf"es|è|é)?\s*:?\s*({many})(?!\s+\w+\s+(?:is|are))",
        rf"(?:(?:答案|正[确確]的?[选選][项項])(?:应该?|應該?)?[是为為]?|[选選][择擇]?|答えは?|正解は?)\s*:?\s*({many})",
        rf"\b(?:so|therefore|thus|hence|choose|pick|select)\b\s*,?\s*(?:it\s+is\s+|"
        rf"it's\s+|the answer is\s+|i choose\s+|i pick\s+)?(?:options?\s+)?({many})(?=\W*$|"
        rf"[.,;:]|\s+(?:is|are)\s+(?:correct|right|the))",
    ):
        if found := _named(pattern, cleaned, offered, prompt_text):
            return found[-1]
    called = "correct|right|answer|best" if _negative(prompt_text) else "correct|right|answer|best|true|only|even|prime"
    for pattern in (
        rf"\boptions?\s+({many})\s+(?:is|are)\s+(?:the\s+)?(?:correct|right|answer|best)\b",
        rf"(?:^\W*|[.!?;,]\s+)({many})\s+(?:is|are)\s+(?:the\s+)?(?:{called})\b",
        rf"(?:^\W*|[.!?;,]\s*|选项)({many})(?:选项|项)?是?(?:正[确確]|对)",
    ):
        if found := _named(pattern, cleaned, offered, prompt_text):
            return ", ".join(sorted({letter for names in found for letter in names.split(", ")}))
    items = _marked(cleaned, offered)
    if len({name for name, _ in items}) > 1:
        return _gone_through(cleaned, items, offered, prompt_text)
    if items and re.match(rf"\W*{items[0][0]}\W", cleaned, re.I):
        return items[0][0] if _stands(*items[0], offered, prompt_text) else None
    for pattern in (
        rf"^\W*({many})\s*$",
        rf"\b(?:option|choice)\s+({many})\s*[.:]?\s*$",
        rf"\b(?:is|are)\s*:?\s*([(\[]?(?:{letters})[)\].:])(?:\s|$)",
        rf"^\W*([(\[]?(?:{letters})[).:\]、])(?:\s|$)",
        rf"(\((?:{letters})\))",
    ):
        found = _named(pattern, cleaned, offered, prompt_text)
        if len(set(found)) == 1:
            return found[0]
    return _none_of(cleaned, offered) if _NONE.search(cleaned[:80]) or _ALL.search(cleaned[:80]) else None


def around(cleaned: str, offered: Options) -> str:
    """Return what a text says before and below the options that it marks: a list of them asserts none by its words."""
    found = list(_mark(offered).finditer(cleaned))
    if not found:
        return cleaned
    before = cleaned[: found[0].start()].rstrip(" (*")
    below = cleaned[found[-1].end() :].split("\n")[1:]
    own = [line for line in below if not re.match(r"\W*\w{1,2}[).:、]", line)]
    return "\n".join([before if before.endswith((".", "!", "?", "\n")) else "", *own])


def _named(pattern: str, cleaned: str, offered: Options, prompt_text: str) -> list[str]:
    """The letters of each place that fits a pattern, but no article, alternative ("A or B"), list or denied one."""
    letters = _letter_class(offered)
    found = []
    for match in re.finditer(pattern, cleaned, re.I | re.M):
        chosen = re.findall(rf"(?<!{_WORD})({letters})(?!{_WORD})", match[1], re.I)
        after = cleaned[match.end(1) :]
        article = (
            any(c in ("a", "i") for c in chosen)
            and not re.search(rf"[(\[]|{letters}\)", match[1])
            and re.match(r"\s+\w", after)
            and not re.match(r"\s+(?:is|are|because|since|as)\b", after)
        )
        before = _CLAUSE.split(cleaned[: match.start(1)])[-1]
        denied = bool(_DENIED.search(before)) and not _negative(prompt_text)
        denied = denied or _verdict(chosen[-1], after, offered, prompt_text) < 0
        if article or denied or _ALTERNATIVE.match(after) or _lists_on(chosen[-1].lower(), after, offered):
            continue
        found.append(", ".join(sorted({letter.lower() for letter in chosen})))
    return found


def _lists_on(letter: str, after: str, offered: Options) -> bool:
    """Return whether the option behind a letter is followed by the next one: "Answer: A) gold B) copper"."""
    following = dict(pairwise(offered)).get(letter)
    option = re.escape(offered[letter])
    return bool(following and re.match(rf"[)\].:]*\s*{option}[\s,;]+[(\[]?{following}[)\].:]", after, re.I))


def _mark(offered: Options) -> re.Pattern[str]:
    """The letter of an option as options are marked: `B)`, `(b)`, `B.`, `B、`."""
    return re.compile(
        rf"(?<![^\s(\[*,;])({_letter_class(offered)})(?:[)\]]|[.:、](?=\s|$|{unspaced.CJK.pattern}))", re.I
    )


def _marked(text: str, offered: Options) -> list[tuple[str, str]]:
    """The letters that a text marks, each with what follows up to the next one."""
    found = list(_mark(offered).finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(match[1].lower(), text[match.end() : end]) for match, end in zip(found, ends, strict=False)]


def _gone_through(cleaned: str, items: list[tuple[str, str]], offered: Options, prompt_text: str) -> str | None:
    """The options that a text which goes through several of them calls right, or the one that it opens with alone."""
    verdicts = [(name, _verdict(name, said, offered, prompt_text)) for name, said in items]
    right = {name for name, verdict in verdicts if verdict > 0} - {name for name, verdict in verdicts if verdict < 0}
    if right:
        return ", ".join(sorted(right))
    first, said = items[0]
    line, _, rest = said.partition("\n")
    bare = {name for name, said in items[1:] if wording.fold(said.split("\n")[0]) in ("", offered[name])}
    names = list(offered)
    if (
        re.match(rf"\W*{first}\W", cleaned, re.I)
        and wording.fold(line) in ("", offered[first])
        and not bare - {first}
        and (_EXPLAINED.match(rest) or (rest and names.index(items[1][0]) < names.index(first)))
    ):
        return first
    return None


def _negative(prompt_text: str) -> bool:
    """Return whether a question asks for what is not so; then a denial may be the answer."""
    return bool(_DENIED.search(wording.question(prompt_text)))


def _verdict(letter: str, said: str, offered: Options, prompt_text: str) -> int:
    """The verdict of the sentence behind a letter on its option: right (1), wrong (-1) or neither (0)."""
    parts = wording.sentences(said.lstrip(" )]").partition("\n")[0])
    if _negative(prompt_text) or not parts:
        return 0
    own = set(offered[letter.lower()].split())
    clause = re.split(r"\b(?:because|since|but|so)\b", parts[0], maxsplit=1, flags=re.I)[0]
    verdict = _VERDICT.search(" ".join(word for word in clause.split() if wording.fold(word) not in own))
    return 0 if not verdict else -1 if verdict["denied"] else 1


def _stands(letter: str, said: str, offered: Options, prompt_text: str) -> bool:
    """Return whether a letter stays the answer: what follows does not deny it and puts no other option in its place."""
    if _verdict(letter, said, offered, prompt_text) < 0:
        return False
    sentence = folded_parts(next(iter(wording.sentences(said)), ""))
    others = [name for name, option in offered.items() if name != letter and inside(option, sentence)]
    own = re.escape(offered[letter])
    return not others or bool(re.match(rf"{own}(?:$| ,| (?:because|since|as)\b)", sentence))


def folded_parts(sentence: str) -> str:
    """Return a sentence folded, with " , " where punctuation parts it."""
    parts = re.split(r"\s*[,;:()]\s*|\s-\s", quantity.prepare(sentence).rstrip(".!? "))
    return " , ".join(wording.fold(part) for part in parts)


def _none_of(text: str, offered: Options) -> str | None:
    for pattern, name in ((_NONE, "none"), (_ALL, "all")):
        if pattern.match(text.strip(" .\"'(")) or (pattern.search(text) and len(text.split()) <= 8):
            return next((letter for letter, option in offered.items() if pattern.search(option)), name)
    return None


def inside(option: str, text: str) -> bool:
    """Return whether an option stands in a folded text, as whole words."""
    return bool(option) and f" {option} " in f" {text} "


def _letter_class(offered: Options) -> str:
    return "|".join(sorted(map(re.escape, offered), key=len, reverse=True))


def _several(text: str, letters: str) -> str | None:
    """The letters of a list: `(A) and (C)`, `A, C`, `both A & C`."""
    item = rf"(?:options?\s+)?[(\[]?(?:{letters})[)\]]?"
    lead = r"(?:(?:the\s+)?(?:correct\s+)?(?:answers?|options?|choices?)\s*(?:is|are)?\s*:?\s*)?(?:both\s+)?"
    if re.fullmatch(
        rf"{lead}{item}(?:\s*(?:,\s*and|,|and|&|\+|/|;|、|和|与|及|und|et|y)\s*{item})+\W*"
        r"(?:are (?:correct|right|even|true))?",
        text,
        re.I,
    ):
        lead_end = re.match(lead, text, re.I)
        body = text[lead_end.end() if lead_end else 0 :]
        found = re.findall(rf"(?<!{_WORD})({letters})(?!{_WORD})", body, re.I)
        return ", ".join(sorted({letter.lower() for letter in found}))
    return None
