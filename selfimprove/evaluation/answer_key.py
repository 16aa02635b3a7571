"""Answer keys from the audit, and the match of a response with its key. For reports; only `accuracy` imports this.

The match shares no code with the vote's answer parsing, so that an error there cannot raise the accuracy here.
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
_SENTENCE_END = re.compile(r"(?<=\.)\s+|(?<![!?:\n])\n+")  # "Sure!" and "Let us see:" belong to the next sentence
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
_LETTER = re.compile(r"\W*(?:(?:option|choice) )?\(?([A-Z])(?:\W*$|[).:])")
_NOT_CLAIMED = re.compile(r"\b(?:not|nor|neither|than|compared to)(?: an?| the)? \w+")


Key = Reference
"""The key of a prompt: accepted forms, wrong options that the question offers, letter of the right option."""


def load_audit(path: str | Path, prompts: PromptsConfig | None = None) -> dict[str, Key]:
    """Return the answer key of each prompt id, from rows such as `{"prompt": ..., "answers": [...], "rivals": [...]}`.

    `path` is a file in any format of prompt files, or `hf:ID[:CONFIG]`. `prompts` sets the columns of the prompt and
    the split and column of the answer. The prompt must equal that of the run; `rivals` is optional.

    Raises:
        PromptError: the source cannot be read, or a row is malformed. No row is skipped: a partial audit would mislead.
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
    r"""Return whether the final answer of a response is an accepted one.

    The text after the last marker ("answer is", "####", "\boxed{") is read, the whole text without one; of it the first
    sentence, since small models go on after a short answer:

    - a key with a letter, if the sentence begins with one ("B", "(B) iron"): the letters must be equal;
    - a key with rivals: every option named after the last "is" must be right (if none is, the last option before it);
      an option that is negated ("not a plant") or compared with ("than 45") does not count as named;
    - a numeric key: the first number after the last "="; without "=", the first number of the sentence after a marker,
      else its last number;
    - any other key: an accepted form occurs as whole words; case, accents and punctuation are ignored.
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
    """Return whether a normalised sentence names accepted options only, and at least one."""
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
