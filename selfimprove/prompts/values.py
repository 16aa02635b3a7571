"""Texts and options from the values of columns."""

import json
from collections.abc import Mapping
from typing import Any

from .columns import OPTIONS, option_columns
from .files import Row, Unusable

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Unclear(Unusable):
    """A column may be part of the question, and no setting says whether it is."""


def holds(value: Any) -> bool:
    """Return whether a value is neither null nor empty."""
    return value not in (None, [], {}) and not (isinstance(value, str) and not value.strip())


def may_ask(value: Any) -> bool:
    """Return whether a value could be part of a question: text with letters, a list of texts or turns, a picture."""
    if isinstance(value, str):
        return any(c.isalpha() for c in value)
    if isinstance(value, bytes) or (isinstance(value, dict) and isinstance(value.get("bytes"), bytes)):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(x, str | dict) and x for x in value)


def text_of(value: Any, column: str) -> str:
    """Return a value as text: numbers as in JSON, a list of texts as lines, options as lettered lines.

    Raises:
        Unusable: it is none of them.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if column in OPTIONS:
        return option_lines(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    raise Unusable(f"{column} is {type(value).__name__}, expected text; prompts.columns names the columns to use")


def option_lines(value: Any) -> str:
    """Return the options as lines such as `A) iron`, numbered ones too; a text is left as it is.

    Raises:
        Unusable: it is nothing that `label_options` reads.
    """
    if value is None:
        return ""
    value = _from_json(value)
    if isinstance(value, str):
        return value.strip()
    options = label_options(value)
    letters = _LETTERS if list(options) == [str(n + 1) for n in range(len(options))] else options
    return "\n".join(f"{label}) {option}" for label, option in zip(letters, options.values(), strict=False))


def _from_json(value: Any) -> Any:
    """Return what a text that looks like a list or an object holds, as CSV has them; other values as they are."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise Unusable("the options are text that looks like a list and is not valid JSON") from None


def label_options(value: Any) -> dict[str, str]:
    """Return label -> option, from a list, `{"text": [...], "label": [...]}` or `{"A": ..., "B": ...}`.

    Raises:
        Unusable: it is none of them, or labels and texts differ in number.
    """
    labels: Any = _LETTERS
    if isinstance(value, dict) and "text" in value:
        texts = value["text"]
        labels = value.get("label") or labels
    elif isinstance(value, dict):
        labels, texts = list(value), list(value.values())
    else:
        texts = value
    if not isinstance(labels, list | str):
        raise Unusable(f"the labels of the options are {type(labels).__name__}, expected a list of texts")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str | int | float) for text in texts):
        raise Unusable(f"the options are {type(value).__name__}, expected a list of texts")
    found = {str(label): text_of(text, "option").strip() for label, text in zip(labels, texts, strict=False)}
    if len(found) != len(texts):
        raise Unusable(f"{len(texts)} options, but {len(found)} labels for them")
    return found


def offered_options(row: Mapping[str, Any]) -> dict[str, str]:
    """Return label -> option of a row that has options in columns of their own; none where they are a text."""
    for name in OPTIONS:
        value = _from_json(row.get(name)) if holds(row.get(name)) else None
        if value is not None and not isinstance(value, str):
            return label_options(value)
    single = option_columns(name for name, value in row.items() if holds(value))
    return {label: text_of(row[name], name).strip() for label, name in single.items()}


def choices_of(row: Row) -> tuple[list[str], str]:
    """Return the columns of a row that hold options, and the options as lines.

    Raises:
        Unclear: they are in two places.
    """
    whole = [name for name in OPTIONS if holds(row.get(name))]
    single = option_columns(name for name, value in row.items() if holds(value))
    if len(whole) + bool(single) > 1:
        raise Unclear(f"has options in {', '.join([*whole, *single.values()])}: prompts.columns names those to use")
    if whole:
        return whole, option_lines(row[whole[0]])
    return list(single.values()), option_lines({label: row[name] for label, name in single.items()} or None)
