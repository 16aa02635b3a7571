"""Prompts from files, stdin or a dataset: ids by content hash, split by hash of the id.

Only the prompt is read. Answer columns are never opened, and assistant turns after the last user turn are cut off,
so no later stage can learn from them, not even by mistake. `files` and `hub` read rows, `rows` makes messages of them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from ..config import PromptsConfig
from ..errors import PromptError
from ..seeds import seed_for
from ..types import Message, Prompt, Split
from .columns import COLUMNS, is_answer, is_id
from .files import MAX_LINE, Row, Unusable, dataset_hint, parse_json, read_rows, unit_of
from .rows import Layout, Reading, read_messages
from .turns import messages_of
from .values import Unclear, offered_options

__all__ = [
    "COLUMNS",
    "MAX_LINE",
    "Layout",
    "PromptSet",
    "Skipped",
    "Unusable",
    "dataset_hint",
    "load_prompts",
    "make_prompt",
    "messages_of",
    "offered_options",
    "parse_json",
    "prompt_id",
    "read_messages",
    "read_rows",
    "unit_of",
]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line (or row) that holds no usable prompt, and why; counted from 1."""

    line: int
    why: str
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.unit} {self.line}: {self.why}"


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts in the order of the source, and what was left out.

    `used` and `unused` are columns; `cut` counts prompts whose conversation had a final answer, `differing` the
    duplicates that differ in a column that is not used, by column.
    """

    prompts: tuple[Prompt, ...]
    duplicates: int
    skipped: tuple[Skipped, ...]
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    cut: int = 0
    differing: Mapping[str, int] = field(default_factory=dict)

    def columns(self) -> str:
        """Return which columns are asked and which are not used, where there is more than one; else nothing."""
        parts = [" + ".join(self.used)] if len(self.used) > 1 or self.unused else []
        if self.unused:
            more = f" and {len(self.unused) - 12} more" if len(self.unused) > 12 else ""
            parts.append(f"not used: {', '.join(self.unused[:12])}{more}")
        if self.cut:
            parts.append(f"{self.cut} final answers cut off")
        if self.differing:
            parts.append("duplicates that differ: " + ", ".join(f"{n} in {name}" for name, n in self.differing.items()))
        return "; ".join(parts)


def load_prompts(config: PromptsConfig, *, further: bool = False) -> PromptSet:
    """Read `config.path`: a file (JSON lines, JSON array, CSV, Parquet, text), `-` (stdin) or `hf:ID[:CONFIG]`.

    Exact duplicates are removed and counted. A prompt's split depends on its own hash alone, so adding prompts never
    moves another one. Reading stops at `limit`. Prompts `further` to others may all be held out.

    Raises:
        PromptError: the source cannot be read, nothing in it can be used, it is unclear what belongs to the question,
            or more rows are lost to columns that are not used than remain; when strict, at the first bad line.
    """
    found = _Found()
    skipped: list[Skipped] = []
    with closing(_readings(config)) as readings:
        for reading in readings:
            if isinstance(reading, Skipped):
                skipped.append(reading)
            else:
                found.add(make_prompt(reading[1].messages, config.heldout), *reading)
            if config.limit and len(found.prompts) == config.limit:
                break
    prompts = tuple(found.prompts.values())
    if not prompts:
        why = f"all {len(skipped)} {skipped[0].unit}s are unusable; {skipped[0]}" if skipped else "empty"
        raise PromptError(f"no prompts in {config.path}: {why}")
    if found.lost > len(prompts) and not (config.column or config.columns or config.template):
        used, differing = ", ".join(found.used), ", ".join(found.differing)
        raise PromptError(
            f"{found.lost} rows of {config.path} ask the same as one of its {len(prompts)} prompts but differ in "
            f"{differing}: prompts.columns=[{used}, {differing}] joins that, prompts.columns=[{used}] leaves it out"
        )
    if not further and all(prompt.split is Split.HELDOUT for prompt in prompts):
        raise PromptError(
            f"all {len(prompts)} prompts of {config.path} are held out (prompts.heldout is {config.heldout:g}): "
            "lower it, or add prompts"
        )
    unused = tuple(name for name in found.unused if name not in found.used)
    return PromptSet(
        prompts, found.duplicates, tuple(skipped), tuple(found.used), unused, found.cut, dict(found.differing)
    )


def _readings(config: PromptsConfig) -> Generator[tuple[Row, Reading] | Skipped]:
    """Yield each row with what it asks, or why it is skipped."""
    layout, unit = Layout.of(config), unit_of(config.path)
    with closing(read_rows(config.path, config.split)) as rows:
        for number, row in rows:
            try:
                if isinstance(row, Unusable):
                    raise row
                reading = layout.read(row)
            except Unusable as fault:
                if config.strict or isinstance(fault, Unclear):
                    raise PromptError(f"{config.path}, {unit} {number}: {fault}") from None
                yield Skipped(number, str(fault), unit)
            else:
                yield row, reading


@dataclass(slots=True)
class _Found:
    """Distinct prompts so far, and what was left out to get them; `lost` rows differ only in unused columns."""

    prompts: dict[str, Prompt] = field(default_factory=dict)
    spare: dict[str, Row] = field(default_factory=dict)  # prompt id -> unused columns of its first row, ids aside
    used: dict[str, None] = field(default_factory=dict)
    unused: dict[str, None] = field(default_factory=dict)
    differing: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    lost: int = 0
    cut: int = 0

    def add(self, prompt: Prompt, row: Row, reading: Reading) -> None:
        self.used |= dict.fromkeys(reading.used)
        self.unused |= dict.fromkeys(reading.unused)
        self.cut += reading.cut
        spare = {name: row[name] for name in reading.unused if not is_answer(name) and not is_id(name)}
        if prompt.id not in self.prompts:
            self.prompts[prompt.id], self.spare[prompt.id] = prompt, spare
            return
        first = self.spare[prompt.id]
        differing = [name for name in spare if repr(spare[name]) != repr(first.get(name))]
        self.differing.update(differing)
        self.duplicates += 1
        self.lost += bool(differing)


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
