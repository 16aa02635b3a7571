"""Prompts from JSONL, plain text, stdin or a `datasets` id: ids by content hash, split by hash of the id.

Only the prompt is read. Answer columns are never opened, and assistant turns after the last user turn are cut off,
so no later stage can learn from them, not even by mistake.
"""

import hashlib
import json
import re
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from .config import PromptsConfig
from .errors import PromptError
from .seeds import seed_for
from .types import Message, Prompt, Role, Split

COLUMNS = ("prompt", "messages", "question", "instruction", "text")
"""Where the prompt is looked for when `prompts.column` is not set, in this order."""

MAX_LINE = 1 << 20
"""Longest line, in bytes."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that holds no usable prompt, and why; lines count from 1."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class PromptSet:
    """What was read, in order, and what was left out."""

    prompts: tuple[Prompt, ...]
    duplicates: int
    skipped: tuple[Skipped, ...]


def gist(text: str) -> str:
    """Return a text without what changes nothing of what it asks: case, white space, what it ends with."""
    return re.sub(r"\s+", "", text.casefold()).rstrip(".!?")


def twins(prompts: Sequence[Prompt]) -> frozenset[str]:
    """Return the ids of the prompts to learn from that ask what a held-out one asks, each turn of it."""
    asked = {prompt.id: tuple((m.role, gist(m.content)) for m in prompt.messages) for prompt in prompts}
    heldout = {asked[prompt.id] for prompt in prompts if prompt.split is Split.HELDOUT}
    return frozenset(p.id for p in prompts if p.split is Split.TRAIN and asked[p.id] in heldout)


class Unusable(ValueError):
    """Why a line holds no prompt."""


def load_prompts(config: PromptsConfig) -> PromptSet:
    """Read `config.path`: JSONL, `.txt` (one prompt a line), `-` (stdin, either), `hf:ID` or `hf:ID:SUBSET`.

    Exact duplicates are removed and counted. A prompt's split depends on its own hash alone, so adding prompts never
    moves another one. Reading stops at `limit`.

    Raises:
        PromptError: the source cannot be read, or nothing in it can be used; when strict, at the first bad line.
    """
    prompts: dict[str, Prompt] = {}
    skipped: list[Skipped] = []
    duplicates = 0
    with closing(_lines(config)) as lines:
        for number, line in enumerate(lines, start=1):
            if config.limit and len(prompts) == config.limit:
                break
            if not line.strip():
                continue
            try:
                messages = _parse(line, config)
            except Unusable as fault:
                if config.strict:
                    raise PromptError(f"{config.path}, line {number}: {fault}") from None
                skipped.append(Skipped(number, str(fault)))
                continue
            prompt = make_prompt(messages, config.heldout)
            duplicates += prompt.id in prompts
            prompts.setdefault(prompt.id, prompt)
    if not prompts:
        why = f"all {len(skipped)} lines are unusable; line {skipped[0].line}: {skipped[0].why}" if skipped else "empty"
        raise PromptError(f"no prompts in {config.path}: {why}")
    if all(prompt.split is Split.HELDOUT for prompt in prompts.values()):
        raise PromptError(
            f"all {len(prompts)} prompts of {config.path} are held out (prompts.heldout is {config.heldout:g}): "
            "lower it, or add prompts"
        )
    return PromptSet(tuple(prompts.values()), duplicates, tuple(skipped))


def make_prompt(messages: Iterable[Message], heldout: float) -> Prompt:
    """Return the prompt with its id and its split; a share of about `heldout` of all prompts is held out."""
    messages = tuple(messages)
    name = prompt_id(messages)
    position = seed_for("split", name) / 2**63  # uniform in [0, 1)
    return Prompt(name, messages, Split.HELDOUT if position < heldout else Split.TRAIN)


def prompt_id(messages: Iterable[Message]) -> str:
    """Return 16 hex digits: the 64-bit BLAKE2b of the messages as canonical JSON."""
    canonical = json.dumps([[m.role, m.content] for m in messages], ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def parse_json(line: bytes) -> dict[str, Any]:
    """Return the JSON object that a line holds.

    Raises:
        Unusable: it is not UTF-8, not JSON, not an object, longer than `MAX_LINE` or nested too deeply.
    """
    try:
        row = json.loads(_decode(line))
    except RecursionError:
        raise Unusable("nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, or an integer of more than 4300 digits
        raise error if isinstance(error, Unusable) else Unusable(f"not valid JSON ({error})") from None
    if not isinstance(row, dict):
        raise Unusable(f'a JSON {type(row).__name__}, expected an object such as {{"prompt": "..."}}')
    return row


def read_messages(row: dict[str, Any], column: str | None = None) -> tuple[Message, ...]:
    """Return the conversation up to its last user turn, from `column` or from the first of `COLUMNS` there is.

    Raises:
        Unusable: the column is missing, or its value is neither text nor a list of messages.
    """
    column = _pick_column(list(row), column)
    value = row[column]
    turns = [{"role": "user", "content": value}] if isinstance(value, str) else value
    if not isinstance(turns, list):
        raise Unusable(f"{column} is {type(value).__name__}, expected text or a list of messages")
    messages = [_message(turn) for turn in turns]
    while messages and messages[-1].role != "user":
        messages.pop()
    if not messages:
        raise Unusable(f"{column} has no user turn")
    return tuple(messages)


def _pick_column(found: list[str], wanted: str | None) -> str:
    names = [wanted] if wanted else list(COLUMNS)
    column = next((name for name in names if name in found), None)
    if column is None:
        raise Unusable(
            f"has {', '.join(found[:12]) or 'no columns'} but not {' or '.join(names)}; "
            "set prompts.column to the one that holds the prompt"
        )
    return column


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict) or turn.get("role") not in get_args(Role):
        raise Unusable(f"a message needs a role out of {', '.join(get_args(Role))}")
    content = turn.get("content")
    if not isinstance(content, str):
        raise Unusable(f"the {turn['role']} message's content is {type(content).__name__}, expected text")
    if turn["role"] == "user" and not content.strip():
        raise Unusable("the user message is empty")
    return Message(turn["role"], _clean(content))


def _clean(text: str) -> str:
    """Return `text` when every tokenizer and SQLite can hold it."""
    if "\0" in text:
        raise Unusable("holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unusable("holds half of a surrogate pair") from None
    return text


def _parse(line: bytes, config: PromptsConfig) -> tuple[Message, ...]:
    is_text = config.path.endswith(".txt") or (config.path == "-" and not line.lstrip().startswith(b"{"))
    if is_text:
        return read_messages({"prompt": _decode(line).strip()})
    return read_messages(parse_json(line), config.column)


def _decode(line: bytes) -> str:
    if len(line) > MAX_LINE:
        raise Unusable(f"{len(line)} bytes long, the limit is {MAX_LINE}")
    try:
        return line.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Unusable(f"not UTF-8 (byte {error.start})") from None


def _lines(config: PromptsConfig) -> Generator[bytes]:
    if config.path.startswith("hf:"):
        yield from _dataset_lines(config)
    elif config.path == "-":
        yield from sys.stdin.buffer
    else:
        try:
            with open(Path(config.path).expanduser(), "rb") as file:
                yield from file
        except OSError as error:
            raise PromptError(f"cannot read the prompts in {config.path}: {error.strerror}") from None


def _dataset_lines(config: PromptsConfig) -> Iterator[bytes]:
    """Yield the prompt column of a dataset as JSONL; no other column leaves the Arrow table."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    name, _, subset = config.path.removeprefix("hf:").partition(":")
    try:
        dataset = load_dataset(name, subset or None, split=config.split)
    except (DatasetsError, OSError, ValueError) as error:
        raise PromptError(f"cannot load the dataset {name}: {' '.join(str(error).split())}") from None
    try:
        column = _pick_column(dataset.column_names, config.column)
    except Unusable as fault:
        raise PromptError(f"{config.path} {fault}") from None
    for row in dataset.select_columns([column]):
        yield json.dumps(row).encode()
