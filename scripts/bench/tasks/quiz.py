"""A question with its right answers, and the prompt and audit files of a run."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from selfimprove.fsio import write_text


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, the accepted forms of its answer, the wrong options that it offers, and the name of its family."""

    text: str
    answers: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    family: str = ""


def write_questions(
    folder: Path, rows: Iterable[Question], prompts: str = "prompts.jsonl", audit: str = "audit.jsonl"
) -> tuple[Path, Path]:
    """Write the prompts to one file, their answers to the other, and return both paths."""
    rows = list(rows)
    asked = [{"prompt": row.text} for row in rows]
    keys = [
        {"prompt": row.text, "answers": row.answers}
        | ({"rivals": row.rivals} if row.rivals else {})
        | ({"category": row.family} if row.family else {})
        for row in rows
    ]
    for name, lines in ((prompts, asked), (audit, keys)):
        write_text(folder / name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return folder / prompts, folder / audit
