"""Names of the columns of a prompt file: which hold the prompt, what joins it, and which hold answers.

Names are compared without case and punctuation where it says *plain name*: `answerKey` and `answer_key` are one.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

COLUMNS = ("prompt", "messages", "conversations", "question", "instruction", "text")
"""Main column: the first of these that holds something, unless a setting names one."""

WHOLE = ("prompt", "messages", "conversations")
"""Main columns that hold a whole prompt by convention: others of `COLUMNS` beside them are not used."""

SYSTEM = ("system", "system_prompt", "system_message")
"""System message."""

MATERIAL = ("input", "context", "passage")
"""Text that a question is about, as in Alpaca (`input`), SQuAD and Dolly (`context`) and BoolQ (`passage`)."""

OPTIONS = ("choices", "options")
"""Options of a multiple-choice question, in one column."""

_ANSWERS = """
    answer answers answerkey answeridx answerindex answertext answerletter correctanswer correctanswers bestanswer
    expectedanswer finalanswer goldanswer modelanswer shortanswer longanswer correct correctoption correctchoice
    incorrectanswer incorrectanswers wronganswer wronganswers distractor distractors rival rivals
    output outputs expectedoutput response responses expectedresponse modelresponse completion completions
    generation generations target targets targettext label labels labeltext solution solutions generatedsolution
    canonicalsolution chosen rejected gold goldlabel golden groundtruth truth reference references reward rewards
    rewardmodel score scores rating ratings rationale rationales explanation explanations reasoning
    chainofthought cot thought thoughts assistant
"""

_IDS = """
    id ids idx index uid uuid guid qid hash sha row rowid url link datasource dataset split date
    created createdat updatedat timestamp version license meta metadata extrainfo unnamed
"""

_FACETS = """
    subject category categories level difficulty type questiontype domain ability language lang locale tags tag source
"""

_ANSWER_NAMES, _ID_NAMES, _FACET_NAMES = (frozenset(names.split()) for names in (_ANSWERS, _IDS, _FACETS))
_OPTION = re.compile(r"(?:option|opt|op|choice)_?([a-h1-8])", re.IGNORECASE)


@lru_cache(maxsize=4096)  # a file has few columns and many rows
def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def is_answer(name: str) -> bool:
    """Return whether a column holds answers, by its plain name without a number at its end."""
    return _plain(name).rstrip("0123456789") in _ANSWER_NAMES


def is_id(name: str) -> bool:
    """Return whether a column tells rows apart without telling questions apart: ids, addresses, dates."""
    return _plain(name) in _ID_NAMES or name.casefold().endswith("_id") or not _plain(name)


def is_facet(name: str) -> bool:
    """Return whether a column describes a question without being part of it: subject, level, source."""
    return _plain(name) in _FACET_NAMES


def option_columns(names: Iterable[str]) -> dict[str, str]:
    """Return label -> column where a row has a column an option: `A` to `H`, `option_a`, `opa`, `choice1`; or none.

    Labels count from A (or 1) without a gap, at least two of them.
    """
    found: dict[str, str] = {}
    for name in names:
        match = _OPTION.fullmatch(name)
        if match or (len(name) == 1 and name in "ABCDEFGH"):
            found[(match[1] if match else name).upper()] = name
    labels = "".join(sorted(found))
    complete = len(labels) > 1 and labels in ("ABCDEFGH"[: len(labels)], "12345678"[: len(labels)])
    return dict(sorted(found.items())) if complete else {}
