"""Edits of a conversation that keep its system messages: demonstrations, another last user turn; the run's own."""

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


def shared_system(prompts: Sequence[Prompt]) -> tuple[Message, ...]:
    """Return the system messages that all prompts begin with; none where they differ."""
    found = {prompt.system for prompt in prompts}
    return found.pop() if len(found) == 1 else ()


def with_system(messages: Sequence[Message], system: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return a conversation with `system` before it, unless it has a system message of its own."""
    return tuple(messages) if any(m.role == "system" for m in messages) else (*system, *messages)
