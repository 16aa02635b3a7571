"""Prompts for a next round: what the endpoint was asked, in a file of the run's folder."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..prompts import Unusable, parse_json, prompt_id, read_messages
from ..prompts.files import Row
from ..types import Message

ASKED = "asked.jsonl"
"""Name of the file in the run's folder."""


class Asked:
    """Appends each conversation once: `{"prompt": ...}`, or `{"messages": [...]}` where it has several turns."""

    def __init__(self, file: Path, known: Iterable[str]) -> None:
        """`known` are the ids of the run's own prompts; those that are in the file already are known too."""
        self.file = file
        self._known = {*known, *_ids(file)}
        written = file.read_bytes() if file.is_file() else b""
        self._break = "\n" if written and not written.endswith(b"\n") else ""  # ends a line that a crash cut off

    def add(self, messages: Sequence[Message]) -> bool:
        """Append a conversation that is not known yet, and return whether it was new."""
        if len(messages) == 1:
            row: Row = {"prompt": messages[0].content}
        else:
            row = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
        try:
            id_ = prompt_id(read_messages(row))  # as it will be read
        except Unusable:
            return False
        if id_ in self._known:
            return False
        self._known.add(id_)
        with self.file.open("a", encoding="utf-8") as out:  # not synced: a lost line costs a prompt, a sync some tokens
            out.write(f"{self._break}{json.dumps(row, ensure_ascii=False)}\n")
        self._break = ""
        return True


def _ids(file: Path) -> Iterator[str]:
    """Yield the ids of the prompts in a file; lines that cannot be read have none."""
    lines = file.read_bytes().splitlines() if file.is_file() else []
    for line in lines:
        with suppress(Unusable):
            yield prompt_id(read_messages(parse_json(line)))
