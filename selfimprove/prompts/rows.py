"""Messages of a prompt, from the columns of one row.

Without a setting, the main column is the first of `COLUMNS` that holds something, and these join it:

| columns beside it | what becomes of them |
|---|---|
| `system`, `system_prompt`, `system_message` | the system message |
| `input` | after the prompt, an empty line between |
| `context`, `passage` | before a `prompt`, `question` or `text`, after an `instruction`, an empty line between |
| `choices`, `options`; `A`, `B`, ...; `option_a`, ...; `choice1`, ... | lettered lines at the end: `A) iron` |
| answers (`answer`, `output`, `label`, `chosen`, ...) | never opened, named |
| ids, sources, subjects, levels, numbers | not used, named |
| any other text | an error that names the settings: it may be part of the question |

Conversations are lists of `role` and `content`, or of `from` and `value`; what follows the last user turn is cut off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from ..config import PromptsConfig
from ..errors import PromptError
from ..types import Message
from .columns import COLUMNS, MATERIAL, OPTIONS, SYSTEM, WHOLE, is_answer, is_facet, is_id
from .files import Row, Unusable
from .turns import finish, turns_of, user_turn, with_system
from .values import Unclear, choices_of, holds, may_ask, text_of

_SHOWN = 12
"""Columns that an error names at most."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Messages of a row, the columns they come from, those not used, and whether a final answer was cut off."""

    messages: tuple[Message, ...]
    used: tuple[str, ...]
    unused: tuple[str, ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns that make the prompt, as `prompts.column`, `prompts.columns` and `prompts.template` say."""

    names: tuple[str, ...] | None = None
    renamed: Mapping[str, str] | None = None
    template: str | None = None

    @classmethod
    def of(cls, config: PromptsConfig) -> "Layout":
        """Return the layout that the configuration asks for.

        Raises:
            PromptError: two settings at once, an answer column, an unknown name or a malformed template.
        """
        given = [key for key in ("column", "columns", "template") if getattr(config, key)]
        if len(given) > 1:
            raise PromptError(f"prompts.{' and prompts.'.join(given)} are both set; keep one of them")
        columns, names = config.columns, (config.column,) if config.column else None
        if isinstance(columns, Mapping):
            _check_standard(columns)
        layout = cls(
            names=names if columns is None or isinstance(columns, Mapping) else tuple(columns),
            renamed=columns if isinstance(columns, Mapping) else None,
            template=config.template,
        )
        for name in layout._named():
            if is_answer(name):
                raise PromptError(
                    f"prompts.{given[0]} names {name}, which holds answers by its name, and no answer is ever shown; "
                    "rename the column if it is part of the question"
                )
        return layout

    def _named(self) -> tuple[str, ...]:
        if self.template is not None:
            return template_columns(self.template)
        return tuple(self.renamed.values()) if self.renamed is not None else self.names or ()

    def fits(self, row: Row) -> bool:
        """Return whether a row has all columns that the settings name."""
        return all(name in row for name in self._named())

    def read(self, row: Row) -> Reading:
        """Return what a row says.

        Raises:
            Unclear: a further text column may be part of the question.
            Unusable: a column is missing, or its value is none that can be asked.
        """
        chosen = dict.fromkeys(self._named())
        if absent := [name for name in chosen if name not in row]:
            raise Unusable(_lacks(row, absent))
        if self.template is not None:
            if empty := [name for name in chosen if row[name] is None]:
                raise Unusable(f"{' and '.join(empty)} is null, and prompts.template needs it")
            text = "".join(
                literal + (text_of(row[name], name) if name is not None else "")
                for literal, name, _, _ in Formatter().parse(self.template)
            )
            messages, cut = finish([user_turn(text)], "prompts.template")
        elif self.renamed is not None:
            messages, cut, _ = _join({known: row[name] for known, name in self.renamed.items()})
        elif self.names is not None:
            messages, cut = _in_order(row, self.names)
        else:
            messages, cut, used = _join(row)
            chosen = dict.fromkeys(used)
            _refuse_unclear(row, used)
        unused = tuple(name for name in row if name not in chosen)
        return Reading(messages, tuple(chosen), unused, cut)


def read_messages(row: Row, column: str | None = None) -> tuple[Message, ...]:
    """Return the conversation of a row up to its last user turn, from `column` alone or joined as the table says.

    Raises:
        Unusable: no column holds a prompt, or a further text column may be part of it.
    """
    return Layout(names=(column,) if column else None).read(row).messages


def template_columns(template: str) -> tuple[str, ...]:
    """Return the columns that a template names as `{column}`; `{{` and `}}` are braces.

    A name is looked up as it stands: no attributes, no items, no conversions.

    Raises:
        PromptError: it is malformed, names no column, or has more than a name between its braces.
    """
    try:
        fields = [(name, spec, kind) for _, name, spec, kind in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise PromptError(f"prompts.template {template!r}: {error}; write {{{{ for a brace") from None
    if not fields or any(not name or spec or kind for name, spec, kind in fields):
        raise PromptError(f"prompts.template {template!r}: name columns as {{question}}, and nothing else in braces")
    return tuple(name for name, _, _ in fields)


def _check_standard(columns: Mapping[str, str]) -> None:
    known = (*COLUMNS, SYSTEM[0], *MATERIAL, OPTIONS[0])
    if unknown := [name for name in columns if name not in known]:
        raise PromptError(f"prompts.columns maps {', '.join(unknown)}; the names to map are {', '.join(known)}")
    if sum(name in COLUMNS for name in columns) != 1:
        raise PromptError(f"prompts.columns must map exactly one of {', '.join(COLUMNS)}")


def _lacks(row: Row, names: Sequence[str]) -> str:
    there = ", ".join(list(row)[:_SHOWN]) or "no columns"
    return f"has {there} but not {' or '.join(names)}; set prompts.column to the one that holds the prompt"


def _join(row: Row) -> tuple[tuple[Message, ...], bool, tuple[str, ...]]:
    """Return the messages by the table above, whether an answer was cut off, and the columns used."""
    present = [name for name in COLUMNS if name in row]
    if not present:
        raise Unusable(_lacks(row, COLUMNS))
    main = next((name for name in present if row[name] not in (None, "", [])), present[0])
    system, material = ([name for name in names if holds(row.get(name))] for names in (SYSTEM, MATERIAL))
    options, lines = choices_of(row)
    if len(system) > 1:
        raise Unclear(f"has {' and '.join(system)}: {_settings(main)}")
    value = turns_of(row[main], main)
    if isinstance(value, list) and (material or options):
        raise Unclear(f"has turns in {main}, and {', '.join([*material, *options])} beside it: {_settings(main)}")
    if isinstance(value, str):
        before = [name for name in material if name != "input" and main != "instruction"]
        after = [name for name in material if name not in before]
        used = [*before, main, *after]
        value = [user_turn(_compose([text_of(row[name], name) for name in used], lines))]
    else:
        used = [main]
    if system:
        value = with_system(value, text_of(row[system[0]], system[0]))
    messages, cut = finish(value, main)
    return messages, cut, (*system, *used, *options)


def _in_order(row: Row, names: Sequence[str]) -> tuple[tuple[Message, ...], bool]:
    """Return the messages of the named columns: system first, texts in the order given, options at the end."""
    system = [name for name in names if name in SYSTEM and len(names) > 1]
    options, lines = choices_of({name: row[name] for name in names if len(names) > 1})
    texts = [name for name in names if name not in (*system, *options)]
    alone = turns_of(row[texts[0]], texts[0]) if len(texts) == 1 else None
    if isinstance(alone, list):
        if options:
            raise Unusable(f"{texts[0]} holds turns, which {', '.join(options)} cannot be joined to")
        turns = alone
    else:
        turns = [user_turn(_compose([text_of(row[name], name) for name in texts], lines))]
    if text := "\n\n".join(filter(None, (text_of(row[name], name) for name in system))):
        turns = with_system(turns, text)
    return finish(turns, ", ".join(names))


def _refuse_unclear(row: Row, used: Sequence[str]) -> None:
    """Raise where a column that is not used may be part of the question."""
    main = next(name for name in used if name in COLUMNS)
    for name, value in row.items():
        if name in used or is_answer(name) or is_id(name) or is_facet(name) or not may_ask(value):
            continue
        if name in COLUMNS and (main in WHOLE or (isinstance(value, str) and str(row[main]) in value)):
            continue  # the same prompt in another form, such as Alpaca's text, which ends with the answer
        if name == "title" and any(n in MATERIAL for n in used):
            continue  # of the passage, as in SQuAD
        there = ", ".join(list(row)[:_SHOWN])
        raise Unclear(f"has {there}: is {name} part of the question? {_settings(main, name)}")


def _settings(main: str, further: str | None = None) -> str:
    joins = f"prompts.columns=[{main}, {further}] joins it, " if further else ""
    return f"{joins}prompts.columns=[{main}] leaves the others out, prompts.template writes it as you like"


def _compose(texts: Sequence[str], options: str) -> str:
    """Return the texts that are not empty, an empty line between two, and the options on lines of their own."""
    texts = [text for text in texts if text.strip()]
    if len(texts) == 1 and not options:
        return texts[0]
    return "\n".join(filter(None, ("\n\n".join(text.strip() for text in texts), options)))
