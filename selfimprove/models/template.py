"""Chat templates: the plain one for base models, fixed dates, the end of a turn and the left context of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import Any

from ..errors import ModelError

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ m['content'] }}\n\n"
    "{% elif m['role'] == 'user' %}Question: {{ m['content'] }}\n"
    "{% else %}Answer: {{ m['content'] }}{{ eos_token }}\n\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)
"""Used when a tokenizer brings no chat template (base models)."""

PLAIN_STOPS = ("\nQuestion:",)
"""Stop strings of the plain template: a base model that does not end its turn asks itself the next question."""

_DATE_CALL = re.compile(r"""strftime_now\(\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\)""")
_ANSWER = "selfimprove"
"""Content of the assistant turn that is looked for in a rendering."""
_MARKERS = "\U000f0000\U000f0001"
"""Characters that transformers puts around control tokens, and drops where they stand already."""
_NEUTRAL = ("\n", ":", "0")
"""Contexts to try where an answer merges with the text before it."""


def tells_date(template: str) -> bool:
    """Return whether a chat template renders today's date."""
    return "strftime_now(" in template


def with_date(template: str, day: date) -> str:
    """Return a chat template that renders `day` where it rendered today's date, `strftime_now("%d %B %Y")`.

    Raises:
        ModelError: a date format is computed, so the date cannot be fixed.
    """

    def literal(call: re.Match[str]) -> str:
        return json.dumps(day.strftime(call[1] if call[1] is not None else call[2]), ensure_ascii=False)

    fixed = _DATE_CALL.sub(literal, template)
    if tells_date(fixed):
        raise ModelError(
            "the chat template computes the format of today's date, so prompts would differ from day to day; "
            "write the format into the template as a literal"
        )
    return fixed


def end_of_turn(tokenizer: Any, arguments: Mapping[str, Any]) -> int:
    """Return the token that the chat template closes an assistant turn with; the EOS token where it has none.

    Raises:
        ModelError: the tokenizer has neither.
    """
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    closed = tokenizer.apply_chat_template(turns, tokenize=True, **arguments)["input_ids"]
    special = set(tokenizer.all_special_ids)
    control = special | {id_ for id_, token in tokenizer.added_tokens_decoder.items() if not token.content.isspace()}
    tail = []
    for token in reversed(closed):
        if token not in control and tokenizer.decode([token]).strip():
            break
        tail.append(token)
    unknown = tokenizer.unk_token_id  # white space, to some tokenizers
    ends = [token for token in reversed(tail) if token in control and token != unknown]
    if ends:
        return next((token for token in ends if token in special), ends[0])
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end-of-sequence token; set eos_token in its tokenizer_config.json")
    return tokenizer.eos_token_id


class ControlTokens:
    """Search for a tokenizer's added tokens (control tokens, HTML tags) in what a chat template is given.

    `apply_chat_template(sanitize_control_tokens=True)` turns control tokens into plain text, and collects and sorts all
    added tokens in each call: 42 ms a prompt with Gemma 3, which has 6,384. Where no added token is found, the plain
    call gives the same ids in 0.05 ms.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Collect the added tokens; of those that are white space only special and listed ones are control tokens."""
        listed = set(tokenizer.chat_control_tokens or ())
        added = (t for t in tokenizer.added_tokens_decoder.values() if t.content)
        self._tokens = {t.content for t in added if t.special or t.content in listed or not t.content.isspace()}
        self._lengths = sorted(set(map(len, self._tokens)))
        first = "".join(sorted({re.escape(token[0]) for token in self._tokens}))
        self._begins = re.compile(f"[{first}{_MARKERS}]")

    def within(self, value: Any) -> bool:
        """Return whether one, or one of `_MARKERS`, is in a string or in the values of a list or mapping."""
        if isinstance(value, str):
            return any(self._at(value, match.start()) for match in self._begins.finditer(value))
        if isinstance(value, Mapping):
            return any(map(self.within, value.values()))
        return isinstance(value, list | tuple) and any(map(self.within, value))

    def _at(self, text: str, start: int) -> bool:
        return text[start] in _MARKERS or any(text[start : start + n] in self._tokens for n in self._lengths)


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of `text` with control tokens as plain characters and nothing added."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


class LeftContext:
    """Encodes text as it follows the start of the assistant's turn.

    Alone, a text is encoded as the start of a sequence: SentencePiece-like tokenizers then put a space before it, and
    training would see other tokens than were sampled. So it is encoded behind the text that the template ends the
    prompt with, and that text's tokens are removed again (as transformers does for marked pieces of a conversation).
    """

    def __init__(self, tokenizer: Any, arguments: Mapping[str, Any]) -> None:
        """Find the text before an answer, and the white space that the template puts in between, by rendering.

        `arguments` are keyword arguments of the chat template.
        """
        self._tokenizer = tokenizer
        render = partial(tokenizer.apply_chat_template, **arguments)
        asked = [{"role": "user", "content": "a"}]
        opened = render(asked, add_generation_prompt=True, tokenize=False)
        closed = render([*asked, {"role": "assistant", "content": _ANSWER}], tokenize=False)
        between, found, _ = closed.removeprefix(opened).partition(_ANSWER)
        lead = found and closed.startswith(opened) and (not between or between.isspace())
        self.lead: str = between if lead else ""
        """White space between prompt and answer, which the model writes: " " after "Answer:"."""
        ids = render(asked, add_generation_prompt=True, tokenize=True)["input_ids"]
        contexts = [*self._endings(ids), *_NEUTRAL]
        self._contexts = [(context, plain_ids(tokenizer, context)) for context in contexts]

    def encode(self, text: str) -> list[int]:
        """Return the ids of the beginning of an assistant turn; control tokens in it become plain text."""
        for context, before in self._contexts:
            whole = plain_ids(self._tokenizer, context + self.lead + text)
            if whole[: len(before)] == before:  # else the two merge
                return whole[len(before) :]
        return plain_ids(self._tokenizer, self.lead + text)

    def _endings(self, ids: list[int]) -> list[str]:
        """Return the text after the prompt's last added token; [] where text after that token begins no sequence."""
        tokenizer = self._tokenizer
        added = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids} - {tokenizer.unk_token_id}
        last = max((place for place, token in enumerate(ids) if token in added), default=-1)
        if last + 1 < len(ids):
            return [tokenizer.decode(ids[last + 1 :], clean_up_tokenization_spaces=False)]
        after = tokenizer(tokenizer.decode(ids[last:]) + "a", add_special_tokens=False)["input_ids"]
        return [""] if after == [*ids[last:], *plain_ids(tokenizer, "a")] else []
