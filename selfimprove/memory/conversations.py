"""A prompt and its response from a row of a file, in the forms in which people have conversations.

| row | prompt | response |
|---|---|---|
| `messages` (OpenAI, TRL), `conversations` (ShareGPT) | turns before the last assistant turn | that turn |
| `prompt`, `question`, `instruction` + `input`, ... as in a prompt file | these | `response`, `output`, ... |
| `request` and `response` of an OpenAI-compatible server; `messages` beside `choices` | the request | each choice |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..prompts import Unusable, messages_of, read_messages
from ..prompts.columns import COLUMNS, MATERIAL, OPTIONS, SYSTEM
from ..types import Finish, Message

ANSWERS = ("response", "completion", "output", "answer", "reply", "generation", "assistant", "chosen", "responses")
"""Columns of the response to a prompt in a column of its own: the first of these that the row has."""

_ASKED = frozenset((*COLUMNS, *SYSTEM, *MATERIAL, *OPTIONS))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A prompt, which ends with a user turn, and a response. Numbers of tokens are 0 where they are not known."""

    messages: tuple[Message, ...]
    text: str
    finish: Finish = Finish.STOP
    prompt_tokens: int = 0
    new_tokens: int = 0
    model: str | None = None


def exchanges(row: Mapping[str, Any]) -> list[Exchange]:
    """Return what a row says: one exchange, or one for each choice of a server's reply.

    Raises:
        Unusable: it holds no prompt with a response that is text.
    """
    reply = _body(row.get("response"))
    if reply is None and _replies(row):
        reply = row
    if isinstance(reply, Mapping) and ("choices" in reply or "output" in reply):
        return _logged(_body(row.get("request")) or _body(row) or row, reply)
    turns = row.get("messages") or row.get("conversations")
    if isinstance(turns, list) and not any(row.get(name) for name in ANSWERS):
        return [_of_turns(turns)]
    prompt = row.get("prompt")
    if isinstance(prompt, list) and not any(row.get(name) for name in ANSWERS):
        return [_of_turns(prompt)]
    question = {name: value for name, value in row.items() if name in _ASKED}
    if not question.keys() & set(COLUMNS):
        raise Unusable(f"has {', '.join(list(row)[:12]) or 'no columns'} but neither messages nor a prompt")
    asked = read_messages(question)
    name = next((name for name in ANSWERS if row.get(name)), None)
    if name is None:
        raise Unusable(f"has {', '.join(list(row)[:12])} but no response; one of {', '.join(ANSWERS)} should hold it")
    value = row[name]
    texts = value if isinstance(value, list) and all(isinstance(x, str) for x in value) else [value]
    model = row.get("model")
    return [Exchange(asked, _text(text, name), model=model if isinstance(model, str) else None) for text in texts]


def _replies(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a server's reply: `choices` are the options of a question unless a server wrote them."""
    for name, signs in (("choices", {"message", "finish_reason", "index"}), ("output", {"type"})):
        answered = any(row.get(other) for other in ANSWERS if other != name)
        items = row.get(name)
        if isinstance(items, list) and not answered and any(isinstance(x, Mapping) and x.keys() & signs for x in items):
            return True
    return False


def _body(value: Any) -> Mapping[str, Any] | None:
    """Return the object in a request or reply, which batch files wrap in `body`."""
    if isinstance(value, Mapping) and isinstance(value.get("body"), Mapping):
        return value["body"]
    return value if isinstance(value, Mapping) else None


def _of_turns(turns: Sequence[Any]) -> Exchange:
    messages = messages_of(turns)
    last = max((n for n, message in enumerate(messages) if message.role == "assistant"), default=None)
    if last is None:
        raise Unusable("the conversation has no assistant turn")
    return Exchange(_asked(messages[:last]), _text(messages[last].content, "the last assistant turn"))


def _logged(request: Mapping[str, Any], reply: Mapping[str, Any]) -> list[Exchange]:
    asked = request.get("messages") or request.get("prompt") or request.get("input")
    turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(turns, list):
        raise Unusable("the request has neither messages nor a prompt")
    if isinstance(request.get("instructions"), str):
        turns = [{"role": "system", "content": request["instructions"]}, *turns]
    messages = _asked(messages_of(turns))
    usage = reply.get("usage")
    used = usage if isinstance(usage, Mapping) else {}
    choices, output = reply.get("choices"), reply.get("output")
    if choices is None and isinstance(output, list):
        choices = [item for item in output if isinstance(item, Mapping) and item.get("type") == "message"]
    if not isinstance(choices, list) or not choices:
        raise Unusable("the reply has no choices")
    alone = len(choices) == 1
    model = reply.get("model") or request.get("model")
    return [
        Exchange(
            messages,
            _text(_content(choice), "a choice of the reply"),
            Finish.LENGTH if isinstance(choice, Mapping) and choice.get("finish_reason") == "length" else Finish.STOP,
            _count(used.get("prompt_tokens", used.get("input_tokens"))),
            _count(used.get("completion_tokens", used.get("output_tokens"))) if alone else 0,
            model if isinstance(model, str) else None,
        )
        for choice in choices
    ]


def _content(choice: Any) -> Any:
    if not isinstance(choice, Mapping):
        raise Unusable(f"a choice of the reply is {type(choice).__name__}, expected an object")
    message = choice.get("message")
    return message.get("content") if isinstance(message, Mapping) else choice.get("text", choice.get("content"))


def _asked(messages: Sequence[Message]) -> tuple[Message, ...]:
    if not messages or messages[-1].role != "user":
        raise Unusable("no user turn comes right before the response")
    return tuple(messages)


def _text(value: Any, where: str) -> str:
    """Return the text of a response: a text, a turn, a list of one turn, or of parts of text."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping) and "role" in value[0]:
        value = value[0]
    if isinstance(value, Mapping):
        value = value.get("content", value.get("value"))
    if isinstance(value, list):
        (message,) = messages_of([{"role": "assistant", "content": value}])
        value = message.content
    if not isinstance(value, str):
        raise Unusable(f"{where} is {type(value).__name__}, expected text")
    (message,) = messages_of([{"role": "assistant", "content": value}])
    if not message.content.strip():
        raise Unusable(f"{where} is empty")
    return message.content.strip()


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**31 else 0
