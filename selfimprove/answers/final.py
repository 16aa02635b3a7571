r"""The final answer of a response: what follows its reasoning, and what it marks as its answer (`\boxed{}`, `####`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

MARKS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("Here is my thought process:", "Here is my response:"),
)
"""Marks at the beginning and end of reasoning, of the reasoning models known in 2026."""

_PLAIN_CHANNEL = re.compile(r"^\s*analysis(?=\S)(?:.*?)(?:assistant\s*final|\Z)", re.S)
"""The channels of gpt-oss when its control tokens were left out in decoding: `analysis...assistantfinal...`."""
_PLAIN_FINAL = re.compile(r"assistant\s*final")
_TAGGED = re.compile(r"<answer>(.{0,8000}?)(?:</answer>|\Z)", re.S | re.I)


@dataclass(frozen=True, slots=True)
class Thinking:
    """The (opening, closing) marks of a model's reasoning, and whether its chat template opens the block already."""

    marks: Sequence[tuple[str, str]] = MARKS
    opened: bool = False


PLAIN = Thinking()


@lru_cache(maxsize=16)
def _any_mark(marks: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    every = sorted({mark for pair in marks for mark in pair}, key=len, reverse=True)
    return re.compile("|".join([*map(re.escape, every), r"^\s*analysis(?=\S)"]))


def final_text(text: str, thinking: Thinking = PLAIN) -> str | None:
    """Return what follows the reasoning of a response; all of it where there is none, None where it is unfinished.

    The last closing mark counts, with or without an opening one (templates that open the block in the prompt). A block
    that is opened and not closed again is unfinished: nothing in it is an answer.
    """
    if not _any_mark(tuple(thinking.marks)).search(text):
        return None if thinking.opened else text
    end = 0
    for _, closing in thinking.marks:
        if (found := text.rfind(closing)) >= 0:
            end = max(end, found + len(closing))
    if end == 0 and thinking.opened:
        return None
    rest = text[end:]
    if any(opening in rest for opening, _ in thinking.marks):
        return None
    if end == 0 and rest.lstrip().startswith("analysis") and _PLAIN_CHANNEL.match(rest):
        parts = _PLAIN_FINAL.split(rest)
        if len(parts) > 1:
            return parts[-1].strip()
        if not re.match(r"\s*analysis[\s.,:;]", rest):
            return None
    return rest.strip() if end else rest


def shown(text: str, thinking: Thinking = PLAIN) -> str:
    """Return what of a response is shown, measured and embedded: its final text, nothing where it has none."""
    return final_text(text, thinking) or ""


_MOST_BOXES = 12
_BOX = re.compile(r"\\f?boxed\s*|\\fbox\s*")
_HASHES = re.compile(r"####[ \t]*([^\n]{1,400})")
_FINAL = re.compile(
    r"\b(?:(?:the\s+|my\s+|our\s+)?final\s+answer)\b(?:\s+is\b|\s*[:=])+\s*(?:is\b\s*:?\s*)?([^\n]{1,400})", re.I
)
_AGAIN = re.compile(r"^(?:.{0,200}?\b)?(?:the\s+)?final\s+answer(?:\s+is\b|\s*:)\s*:?\s*", re.I)
_HOPE = re.compile(r"\.?\s*I hope (?:it|this) is correct.*$", re.I | re.S)
_BETWEEN = re.compile(
    r"^[\s,;.$\\()\]\[]*(?:\b(?:and|or|und|et|y|e)\b|\\text\{\s*(?:and|or)\s*\}|,|;|\\quad)[\s,;.$\\()\]\[]*", re.I
)


def boxed(text: str) -> list[tuple[int, int, str]]:
    r"""Return (start, end, content) of every `\boxed{...}`, braces balanced; one that is cut off ends with the text."""
    found = []
    for match in list(_BOX.finditer(text))[-_MOST_BOXES:]:
        start = match.end()
        if start >= len(text):
            continue
        if text[start] != "{":
            if token := re.match(r"[\w.+-]+", text[start:]):
                found.append((match.start(), start + token.end(), token[0]))
            continue
        depth = 0
        for end in range(start, min(len(text), start + 2000)):
            depth += {"{": 1, "}": -1}.get(text[end], 0) if text[end - 1] != "\\" else 0
            if depth == 0:
                found.append((match.start(), end + 1, text[start + 1 : end]))
                break
    return found


def marked(text: str) -> str | None:
    r"""Return what a response marks as its final answer: `\boxed{}`, `####`, `<answer>`, "final answer:", the last one.

    Neighbouring boxes ("\boxed{1} and \boxed{-2}") are one list, joined by commas. A percent sign behind a box belongs
    to it.
    """
    found: list[tuple[int, str]] = []
    boxes = boxed(text)
    if boxes:
        group = [boxes[-1]]
        for box in reversed(boxes[:-1]):
            between = text[box[1] : group[0][0]]
            joined = _BETWEEN.match(between)
            words = re.findall(r"[^\W\d_]+", between)
            if (
                (len(between) < 60 and joined and not re.search(r"[=]", between[: joined.end()]) and len(words) <= 8)
                or (not between.strip(" ,;$.\\()[]"))
                or (len(between) < 40 and re.search(r"\b(?:and|or)\b", between) and not re.search(r"[.!?]\s", between))
            ):
                group.insert(0, box)
            else:
                break
            if len(group) >= _MOST_BOXES:
                break
        contents = list(dict.fromkeys(box[2].strip() for box in group))
        after = re.match(r"[\s$]*(?:\\?%|percent\b|pct\b)", text[group[-1][1] :])
        found.append((boxes[-1][0], ", ".join(contents) + (r"\%" if after else "")))
    if hashes := list(_HASHES.finditer(text)):
        found.append((hashes[-1].start(), hashes[-1][1]))
    if tags := list(_TAGGED.finditer(text)):
        found.append((tags[-1].start(), tags[-1][1]))
    for match in _FINAL.finditer(text):
        rest = _AGAIN.sub("", _HOPE.sub("", match[1]))
        if not boxes or match.start() > boxes[-1][1]:
            found.append((match.start(), rest))
    return max(found)[1].strip() if found else None
