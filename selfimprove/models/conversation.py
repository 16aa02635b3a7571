"""Edits of a conversation that keep its system messages: demonstrations, another last user turn."""

from collections.abc import Sequence
from dataclasses import replace

from ..types import Message, Prompt


def after_system(messages: Sequence[Message], shown: Sequence[Message]) -> tuple[Message, ...]:
    """Return the conversation with `shown` turns inserted behind its leading system messages."""
    start = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    return (*messages[:start], *shown, *messages[start:])


def ask(prompt: Prompt, text: str) -> tuple[Message, ...]:
    """Return the prompt's conversation up to its last user turn, with `text` in that turn's place."""
    turns = [i for i, message in enumerate(prompt.messages) if message.role == "user"]
    if not turns:
        return (*prompt.messages, Message("user", text))
    return (*prompt.messages[: turns[-1]], replace(prompt.messages[turns[-1]], content=text))
