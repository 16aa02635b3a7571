"""Messages from turns: roles by the names that formats give them, contents as text, final answers cut off."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..types import Message, Role
from .files import MAX_LINE, Unusable

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
"""Role of a turn, by the names that OpenAI, ShareGPT and Gemini give it."""


def turns_of(value: Any, column: str) -> Any:
    """Return the text or the list of turns in a main column; CSV has lists as JSON."""
    if isinstance(value, str) and column in ("messages", "conversations") and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unusable(f"{column} is text that looks like a list of messages and is not valid JSON") from None
    if not isinstance(value, str | list):
        raise Unusable(f"{column} is {type(value).__name__}, expected text or a list of messages")
    return value


def user_turn(text: str) -> dict[str, Any]:
    """Return a turn of the user."""
    return {"role": "user", "content": text}


def with_system(turns: list[Any], text: str) -> list[Any]:
    """Return the turns behind a system turn of their own.

    Raises:
        Unusable: they have one.
    """
    if turns and isinstance(turns[0], dict) and turns[0].get("role", turns[0].get("from")) in ("system", "developer"):
        raise Unusable("has a system column and a system turn; prompts.columns names the one to use")
    return [{"role": "system", "content": text}, *turns]


def finish(turns: list[Any], where: str) -> tuple[tuple[Message, ...], bool]:
    """Return the messages up to the last user turn, and whether an assistant's turn behind it was cut off."""
    messages = messages_of(turns)
    cut = False
    while messages and messages[-1].role != "user":
        cut |= messages.pop().role == "assistant"
    if not messages:
        raise Unusable(f"{where} has no user turn")
    return tuple(messages), cut


def messages_of(turns: Sequence[Any]) -> list[Message]:
    """Return the messages of turns, each an object with `role` and `content`, or with `from` and `value`.

    Raises:
        Unusable: a turn is none of these, has another role, or holds anything but text.
    """
    return [_message(turn) for turn in turns]


def _message(turn: Any) -> Message:
    name = (turn.get("role") or turn.get("from")) if isinstance(turn, dict) else None
    role = ROLES.get(name) if isinstance(name, str) else None
    if role is None or not isinstance(name, str):
        raise Unusable(f"a message needs a role out of {', '.join(ROLES)}; here it is {str(name)[:40]}")
    content = turn["content"] if "content" in turn else turn.get("value")
    if isinstance(content, list):
        content = "\n".join(_part(part, name) for part in content)
    if not isinstance(content, str):
        raise Unusable(f"the {name} message's content is {type(content).__name__}, expected text")
    if role == "user" and not content.strip():
        raise Unusable("the user message is empty")
    return Message(role, _clean(content))


def _part(part: Any, role: str) -> str:
    """Return the text of one of OpenAI's content parts."""
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if isinstance(part, dict) and kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
        return part["text"]
    raise Unusable(f"the {role} message's content is list with a part of type {str(kind)[:40]}; only text can be asked")


def _clean(text: str) -> str:
    """Return `text` when every tokenizer and SQLite can hold it."""
    if "\0" in text:
        raise Unusable("holds a NUL character")
    if len(text) > MAX_LINE:
        raise Unusable(f"a message of {len(text)} characters, the limit is {MAX_LINE}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unusable("holds half of a surrogate pair") from None
    return text
