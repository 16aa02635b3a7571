r"""Reference answers in the rows of an audit: `answers` in the user's own file, or columns of public data sets.

| data set | column | accepted answer |
|---|---|---|
| own file | `answers`, `rivals` | lists of texts |
| GSM8K | `answer` | the text after the last `####` |
| MATH | `solution` | the content of the last `\boxed{}` |
| ARC, MMLU, MedMCQA | `answerKey`, `answer`, `cop` | the option with that label or index (from 0) |
| SQuAD, TriviaQA | `answers`, `answer` | each of the texts, or the value and its aliases |
| BoolQ | `answer` | yes or no |

Any other text or number is the accepted answer itself. Options that are not accepted are rivals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..prompts import Unusable, offered_options

COLUMNS = (
    *("answers", "answer", "answerKey", "answer_idx", "cop", "correct_answer", "final_answer", "expected_answer"),
    *("solution", "target", "label"),
)
"""Columns of the answer, in order of precedence, if `prompts.audit_column` is not set."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Accepted forms of an answer, the wrong options (`rivals`), and the letter of the right option, if any."""

    answers: frozenset[str]
    rivals: frozenset[str] = frozenset()
    letter: str | None = None


def read_reference(row: Mapping[str, Any], column: str | None = None) -> Reference:
    """Return the reference answer of a row, from `column` or else from the first of `COLUMNS` that it has.

    Raises:
        Unusable: the row has no answer, or none of a known form.
    """
    found = column or next((name for name in COLUMNS if row.get(name) is not None), "answers")
    if column is not None and column not in row:
        raise Unusable(f"has {', '.join(list(row)[:12])} but not {column}; set prompts.audit_column")
    value, rivals = row.get(found), row.get("rivals", [])
    options = offered_options(row)
    if found != "answers" and options:
        return _option(value, options)
    if isinstance(value, bool):
        said = ({"yes", "true"}, {"no", "false"})
        return Reference(frozenset(said[not value]), frozenset(said[value]))
    answers = _forms(value, found)
    if not _texts(answers) or not answers or not _texts(rivals):
        raise Unusable(f'{found} must be a list such as ["Paris"], rivals one such as ["Lyon"]')
    return Reference(frozenset(answers), frozenset(rivals))


def _forms(value: Any, column: str) -> Any:
    """Return the accepted forms as a list; None or another type for a value of an unknown form."""
    if isinstance(value, dict):
        named = value.get("text", value.get("aliases"))
        texts = named if isinstance(named, list) else [named]
        return [text for text in [value.get("value"), *texts] if text is not None]
    if column == "answers" or isinstance(value, list):
        return value
    return [_final(str(value))] if isinstance(value, str | int | float) else None


def _final(text: str) -> str:
    r"""Return the text after the last `####`, or the content of the last `\boxed{}`, or the whole text."""
    _, marked, rest = text.rpartition("####")
    if marked:
        return rest.strip()
    _, boxed, rest = text.rpartition("\\boxed{")
    depth = 1
    for place, c in enumerate(rest if boxed else ""):
        depth += (c == "{") - (c == "}")
        if depth == 0:
            return rest[:place].strip()
    return text.strip()


def _option(value: Any, options: Mapping[str, str]) -> Reference:
    """Return the option with the label, index (from 0) or text `value`, with the others as rivals."""
    labels, texts = list(options), list(options.values())
    if isinstance(value, str) and value.strip() in options:
        place = labels.index(value.strip())
    elif (
        isinstance(value, int | str)
        and not isinstance(value, bool)
        and str(value).strip() in map(str, range(len(texts)))
    ):
        place = int(value)
    elif isinstance(value, str) and value.strip() in texts:
        place = texts.index(value.strip())
    else:
        raise Unusable(f"the answer {str(value)[:40]!r} is none of the options {', '.join(labels)}")
    letter = labels[place] if not labels[place].isdigit() else chr(ord("A") + place)
    rivals = frozenset(texts) - {texts[place]}
    return Reference(frozenset({texts[place]}), rivals, letter if len(letter) == 1 else None)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
