"""Answer keys from the audit, and the match of a response with its key. For reports; only `accuracy` imports this.

The match shares no code with the vote's answer parsing, so that an error there cannot raise the accuracy here.
"""

import re
import unicodedata
from fractions import Fraction
from pathlib import Path

from ..answers.final import final_text
from ..config import PromptsConfig
from ..errors import PromptError
from ..prompts import Layout, Unusable, prompt_id, read_rows, unit_of
from .reference import Reference, read_reference

_MARKER = re.compile(r"(?:####|\\boxed\{|\banswer(?: is:?+|:)|答案[是为為:]+)\s*+(?=\S)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=\.)\s+|(?<=。)|(?<![!?:\n])\n+")  # "Sure!", "Let us see:" belong to the next sentence
_LETTER = re.compile(
    r"\W*+(?:(?i:(?:the )?(?:correct )?(?:option|choice)(?: is)?)\W++)?([A-Z](?=\W*$|[).:])|[a-z](?=\W*$))"
)
_NOT_CLAIMED = re.compile(r"\b(?:not|nor|neither|than|compared to)(?: an?| the)? \S+")

_NOTATION = [
    (r"[\u2010-\u2013\u2212]", "-"),
    (r"([¹²³⁰⁴-⁹]+)", r"^\1"),
    (r"\^\{(\w+)\}", r"^\1"),
    (r"\\(?:left|right)(?![a-z])|\\[!,; ]|(?<=-)\\?\$", ""),
    (r"\\?[$%]|\\[()\[\]]", " "),
    (r"\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}", r" \1 "),
    (r"\\[dt]frac", r"\\frac"),
    (r"\\frac(\d)(\d)", r"\\frac{\1}{\2}"),
    (r"(?<!\d)\\frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2"),
]
"""Ways to write the same (signs, units, LaTeX), replaced in this order."""

_UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # Thai, kana, Chinese, Hangul: no spaces needed
_ALPHA = rf"[^\W{_UNSPACED}]"  # a letter or digit of any other script
_NUMBER = re.compile(rf"(?<!{_ALPHA})(?<![.^])[-+]?(?:\d+ ?/ ?\d+|\d+(?:,\d\d\d?(?!\d))*(?:\.\d+)?|\.\d+)")
_WORD = re.compile(rf"{_NUMBER.pattern}{_ALPHA}*|{_ALPHA}+|[{_UNSPACED}]+")
_WHOLE_WORDS = rf"(?<![^ {_UNSPACED}])(?:%s)(?![^ {_UNSPACED}])"

_OPERATOR = re.compile(r"[-+*/^=<>\\]|[(\[].*,")
_PROSE = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{3}")  # a word, and no command of LaTeX
_SPACE = re.compile(r"(?<![a-z]{2}) (?=[^\w ])|(?<=[^\w ]) (?![a-z]{2})")  # beside a symbol, not beside a word
_WHOLE_FORMULA = r"(?<![-+*/^.\w\\({\[])(?:%s)(?!\.?\w|[-+*/^){\[]|\((?![a-z]{2}))"


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

    - a key with a letter, if the sentence begins with one ("B", "(B) iron", "The correct option is B"), unless an
      option has it as its text: the letters must be equal;
    - a key with rivals: every option named after the last "is" must be right (if none is, the last option before it);
      an option that is negated ("not a plant") or compared with ("than 45") does not count as named;
    - a numeric key ("-5", "$18", "3/4"): the first number after the last "="; without "=", the first number of the
      sentence after a marker, else its last number;
    - any other key: an accepted form occurs, as whole words or as a whole formula (`_words`, `_symbols`).
    """
    text = _plain(final_text(text) or "")
    marked = [match.end() for match in _MARKER.finditer(text)]
    rest = text[marked[-1] :] if marked else text
    claim = next((part for part in _SENTENCE_END.split(rest) if re.search(r"\w", part)), "")
    options = dict.fromkeys(map(_plain, key.rivals), False) | dict.fromkeys(map(_plain, key.answers), True)
    if key.letter and (letter := _LETTER.match(claim)) and letter[1].casefold() not in map(str.casefold, options):
        return letter[1].upper() == key.letter
    values = [_value(option) for option in options]
    if not key.rivals and None not in values:
        _, equals, result = rest.rpartition("=")
        numbers = _NUMBER.findall(result if equals else claim)
        said = numbers[:1] if equals or marked else numbers[-1:]
        return any(_value(number) in values for number in said)
    return _chooses(claim, options)


def _chooses(claim: str, options: dict[str, bool]) -> bool:
    """Return whether a sentence names accepted options only, and at least one."""
    formula = any(_OPERATOR.search(o) and not _PROSE.search(o) and _value(o) is None for o in options)
    read, whole = (_symbols, _WHOLE_FORMULA) if formula else (_words, _WHOLE_WORDS)
    claim, forms = read(claim), {form: right for option, right in options.items() if (form := read(option))}
    forms |= {f"({form})": right for form, right in forms.items()}  # "y = (x+3)"
    longest_first = map(re.escape, sorted(forms, key=len, reverse=True))
    option = re.compile(whole % ("|".join(longest_first) or "(?!)"))
    if all(options.values()):
        return bool(option.search(claim))
    before, _, after = _NOT_CLAIMED.sub(" ", claim).rpartition(" is ")
    named = option.findall(after) or option.findall(before)[-1:]
    return bool(named) and all(forms[name] for name in named)


def _plain(text: str) -> str:
    """Return a text in one notation, from `_NOTATION`."""
    for pattern, replacement in _NOTATION:
        text = re.sub(pattern, replacement, text)
    return unicodedata.normalize("NFKC", text).strip()


def _value(text: str) -> Fraction | None:
    """Return the value of a number; None for any other text, and for a quotient that is not worked out ("6/8")."""
    digits = re.sub("[ ,]", "", text)
    try:
        value = Fraction(digits) if _NUMBER.fullmatch(text) else None
    except (ValueError, ZeroDivisionError):  # ValueError: thousands of digits
        return None
    return value if "/" not in digits or digits.endswith(f"/{value and value.denominator}") else None


def _symbols(text: str) -> str:
    """Return a formula, or a sentence with one, in lower case without the spaces that do not separate words."""
    return _SPACE.sub("", " ".join(text.casefold().split()))


def _words(text: str) -> str:
    """Return lower-case words and values of numbers joined by single spaces, without accents or punctuation."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in letters if unicodedata.combining(c) in (0, 8))  # 8: kana that are letters of their own
    return " ".join(str(_value(word) or word) for word in _WORD.findall(unicodedata.normalize("NFC", plain)))
