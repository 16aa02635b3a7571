"""The user's own answers, for reporting alone: only `accuracy` imports this module, and no decision reads it.

The match is written apart from the vote's way of reading answers, so that a fault there cannot flatter itself here.
"""

import re
import unicodedata
from pathlib import Path

from ..answers.final import final_text
from ..config import PromptsConfig
from ..errors import PromptError
from ..prompts import Layout, Unusable, prompt_id, read_rows, unit_of
from .reference import Reference, read_reference

_MARKER = re.compile(r"(?:####|\\boxed\{|\banswer(?: is:?+|:))\s*+(?=\S)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=\.)\s+|(?<![!?:\n])\n+")  # "Sure!" and "Let us see:" go with what follows
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
_LETTER = re.compile(r"\W*(?:(?:option|choice) )?\(?([A-Z])(?:\W*$|[).:])")
_NOT_CLAIMED = re.compile(r"\b(?:not|nor|neither|than|compared to)(?: an?| the)? \w+")


Key = Reference
"""Accepted forms of an answer, the wrong options that the question itself names, and the letter of the right one."""


def load_audit(path: str | Path, prompts: PromptsConfig | None = None) -> dict[str, Key]:
    """Return the key of each prompt id, from rows such as `{"prompt": ..., "answers": [...], "rivals": [...]}`.

    Any file that prompts are read from, or `hf:ID[:CONFIG]`; `prompts` says which columns ask (as for the prompts) and
    which split and column answer. The prompt must equal the prompt as it is asked; `rivals` may be left out.

    Raises:
        PromptError: the source cannot be read, or a row is malformed; an audit with gaps would report half truths.
    """
    path = str(path)
    layout = Layout() if prompts is None else Layout.of(prompts)
    split, column = ("train", None) if prompts is None else (prompts.audit_split or prompts.split, prompts.audit_column)
    keys: dict[str, Key] = {}
    for number, row in read_rows(path, split, answers=True):
        try:
            if isinstance(row, Unusable):
                raise row
            asked = layout if layout.fits(row) else Layout()
            keys[prompt_id(asked.read(row).messages)] = read_reference(row, column)
        except Unusable as fault:
            raise PromptError(f"{path}, {unit_of(path)} {number}: {fault}") from None
    return keys


def is_right(text: str, key: Key) -> bool:
    r"""Return whether a response commits itself to a right answer.

    What counts is the sentence behind the last "answer is", "####" or "\boxed{"; without one, the first sentence,
    since short answers come first and small models ramble on. There,

    - a number is right when it follows the last "=" (of the whole text), or the marker, or is the last one;
    - with rivals, all options named behind the last "is" must be right (with none there, the last one before it); an
      option that is denied ("not a plant") or compared with ("than 45") does not count as named;
    - a claim that begins with the letter of an option ("B", "(B) iron") is right when the letter is;
    - other answers are right when they occur as whole words, accents and case aside.
    """
    text = final_text(text) or ""
    marked = [match.end() for match in _MARKER.finditer(text)]
    rest = text[marked[-1] :] if marked else text
    claim = next((part for part in _SENTENCE_END.split(rest) if _words(part)), "")
    if key.letter and (letter := _LETTER.match(claim)):
        return letter[1] == key.letter
    if key.rivals:
        return _chooses(_words(claim), key)
    if all(_NUMBER.fullmatch(answer) for answer in key.answers):
        _, equals, result = rest.rpartition("=")
        numbers = _NUMBER.findall(result if equals else claim)
        said = numbers[:1] if equals or marked else numbers[-1:]
        return any(_value(number) == _value(answer) for number in said for answer in key.answers)
    return any(f" {_words(answer)} " in f" {_words(claim)} " for answer in key.answers)


def _chooses(claim: str, key: Key) -> bool:
    """Return whether a normalised sentence names right options only."""
    options = {_words(option): option in key.answers for option in key.answers | key.rivals}
    option = re.compile(rf"\b(?:{'|'.join(map(re.escape, options))})\b")
    before, _, after = _NOT_CLAIMED.sub(" ", claim).rpartition(" is ")
    named = option.findall(after) or option.findall(before)[-1:]
    return bool(named) and all(options[name] for name in named)


def _words(text: str) -> str:
    """Return lower-case words joined by single spaces, without accents or punctuation."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", plain))


def _value(number: str) -> float:
    return float(number.replace(",", ""))
