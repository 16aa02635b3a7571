"""Classes of the answers in a file, before anything is spent on them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from ..answers import Reader, load_reader
from ..config import VoteConfig
from ..config_file import expanded
from ..errors import UserError
from ..prompts import Unusable, parse_json


def read_file(file: Path, kind: str = "auto", own: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield prompt, response, kind and class of each answer in a JSONL file, in its order; kinds are a prompt's.

    Raises:
        UserError: the file cannot be read, a row has no prompt and response, or there is no such kind or reader.
    """
    kinds = get_args(VoteConfig.model_fields["kind"].annotation)
    if kind not in kinds:
        raise UserError(f"no kind {kind!r}; there are {', '.join(kinds)}")
    reader = Reader(setting=kind, own=None if own is None else load_reader(own))
    groups: dict[str, list[str]] = {}
    for prompt, response in _rows(file):
        groups.setdefault(prompt, []).append(response)
    for prompt, responses in groups.items():
        settled = reader.kind(prompt, responses)
        for response, name in zip(responses, reader.classes(prompt, responses, settled), strict=True):
            yield {"prompt": prompt, "response": response, "kind": str(settled), "class": name}


def _rows(file: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = expanded(file).read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except Unusable as fault:
            raise UserError(f"{file}, line {number}: {fault}") from None
        responses = row.get("responses", [row.get("response")])
        if not isinstance(row.get("prompt"), str) or not _texts(responses):
            raise UserError(f'{file}, line {number}: a row is {{"prompt": "...", "response": "..."}}')
        yield from ((row["prompt"], response) for response in responses)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
