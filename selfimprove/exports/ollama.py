"""Modelfile for Ollama: the GGUF file, the chat template as a Go template, and stop strings.

Ollama does not read the model's Jinja template. That is parsed by rendering conversations with marked contents, and
written as a Go template; an error unless both render the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..errors import ModelError
from ..types import Message

Render = Callable[[Sequence[Message], bool], str]
"""A chat template: (messages, whether the assistant's turn is opened) -> text."""

SYSTEM, FIRST = Message("system", "MARK1SYSTEM"), Message("user", "MARK2USER")
ANSWER, LAST = Message("assistant", "MARK3ASSISTANT"), Message("user", "MARK4USER")
"""A conversation whose contents are found again in its rendering."""


@dataclass(frozen=True, slots=True)
class Turns:
    """A chat template whose turns follow each other independently: (before, after) the content of each role.

    `lead` is what stands before the first user turn where there is no system turn: often a default system turn.
    """

    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    lead: str
    opening: str

    def render(self, messages: Sequence[Message]) -> str:
        """Return the text of a conversation that the assistant is to continue, as the Go template gives it."""
        texts = [self.lead] if messages[0].role != "system" else []
        for message in messages:
            before, after = getattr(self, message.role)
            texts += [before, message.content, after]
        return "".join([*texts, self.opening])

    @property
    def go(self) -> str:
        """The same as a Go template, over `.System` and `.Messages`."""
        system, user, assistant = (
            f"{before}{{{{ {content} }}}}{after}"
            for (before, after), content in (
                (self.system, ".System"),
                (self.user, ".Content"),
                (self.assistant, ".Content"),
            )
        )
        return (
            f"{{{{ if .System }}}}{system}{{{{ else }}}}{self.lead}{{{{ end }}}}"
            f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{user}'
            f'{{{{ else if eq .Role "assistant" }}}}{assistant}{{{{ end }}}}{{{{ end }}}}{self.opening}'
        )


def parse_template(render: Render) -> Turns:
    """Return the turns of a chat template.

    Raises:
        ModelError: it is not made of turns that follow each other independently.
    """
    whole = render([SYSTEM, FIRST, ANSWER, LAST], False)
    before_system, system_user, user_answer, answer_user, after_user = _cut(whole, SYSTEM, FIRST, ANSWER, LAST)
    after_answer = _cut(render([SYSTEM, FIRST, ANSWER], False), ANSWER)[-1]
    before_user = _without(answer_user, after_answer, "")
    turns = Turns(
        system=(before_system, _without(system_user, "", before_user)),
        user=(before_user, after_user),
        assistant=(_without(user_answer, after_user, ""), after_answer),
        lead=_without(_cut(render([LAST], False), LAST)[0], "", before_user),
        opening=_without(render([LAST], True), render([LAST], False), ""),
    )
    for messages in ([LAST], [SYSTEM, LAST], [FIRST, ANSWER, LAST], [SYSTEM, FIRST, ANSWER, FIRST, ANSWER, LAST]):
        if turns.render(messages) != render(messages, True):
            raise _refusal()
    return turns


def modelfile(file: str, turns: Turns, stops: Iterable[str]) -> str:
    """Return the Modelfile for a GGUF file beside it.

    Raises:
        ModelError: the template holds what a Modelfile cannot quote.
    """
    pieces = (*turns.system, *turns.user, *turns.assistant, turns.lead, turns.opening)
    if any("{{" in piece or '"""' in piece for piece in pieces):
        raise _refusal()
    lines = [f"FROM ./{file}", f'TEMPLATE """{turns.go}"""', *(f"PARAMETER stop {_quoted(stop)}" for stop in stops)]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return f'"""{text}"""' if "\n" in text else f'"{text}"'


def _cut(text: str, *marks: Message) -> list[str]:
    """Return what stands before, between and behind the contents of `marks`."""
    parts = []
    for mark in marks:
        part, found, text = text.partition(mark.content)
        if not found:
            raise _refusal()
        parts.append(part)
    return [*parts, text]


def _without(text: str, head: str, tail: str) -> str:
    if not (text.startswith(head) and text.endswith(tail) and len(head) + len(tail) <= len(text)):
        raise _refusal()
    return text[len(head) : len(text) - len(tail)]


def _refusal() -> ModelError:
    return ModelError(
        "this chat template cannot be written as an Ollama template; export gguf: llama.cpp reads the template itself"
    )
