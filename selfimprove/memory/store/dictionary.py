"""Descriptions of tables, views and columns, read from the comments of the schema, for Datasette and the docs."""

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache

from .schema import MIGRATIONS, migrate

_RELATIONS = (
    "SELECT s.type, s.name, l.type = 'virtual' FROM sqlite_schema s JOIN pragma_table_list l USING (name) "
    "WHERE l.type <> 'shadow' AND name NOT LIKE 'sqlite_%' ORDER BY s.type, s.rowid"
)
_COLUMNS = "SELECT name FROM pragma_table_info(?)"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view: `about` is one line, `columns` maps the names, in order, to one line each."""

    name: str
    kind: str
    about: str
    columns: dict[str, str]


@cache
def relations() -> tuple[Relation, ...]:
    """Return the tables, then the views, of a memory of this version.

    Raises:
        KeyError: a table, view or column has no description.
    """
    words = _words("".join(MIGRATIONS))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, MIGRATIONS)
        named = [
            (kind, name, [] if hidden else [row[0] for row in db.execute(_COLUMNS, (name,))])
            for kind, name, hidden in db.execute(_RELATIONS)
        ]
    first: dict[str, str] = {}
    for _, name, _ in named:
        first = words[name][1] | first
    return tuple(
        Relation(name, kind, words[name][0], {c: words[name][1].get(c) or first[c] for c in columns})
        for kind, name, columns in named
    )


def markdown() -> str:
    """Return the relations as Markdown: a heading each and, where it can be read, a table of its columns."""
    return "\n".join(
        f"### `{r.name}` ({r.kind})\n\n{r.about[0].upper()}{r.about[1:]}.\n{_table(r)}" for r in relations()
    )


def _table(relation: Relation) -> str:
    rows = "".join(f"| `{name}` | {words} |\n" for name, words in relation.columns.items())
    return f"\n| column | meaning |\n|---|---|\n{rows}" if rows else ""


def _words(sql: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Return by table or view what `-- words` say of it and of its columns.

    They follow the column's definition: its name is the first in a table's line, and the last in a view's.
    """
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for statement in re.split(r"^CREATE ", sql, flags=re.MULTILINE):
        if head := re.match(r"(?:VIRTUAL )?(TABLE|VIEW) (\w+).*?-- (.*)", statement):
            kind, name, about = head.groups()
            column = r"  (\w+) .*-- (.*)" if kind == "TABLE" else r".*?(\w+),? +-- (.*)"
            lines = (re.fullmatch(column, line) for line in statement.splitlines()[1:])
            found[name] = about, {line[1]: line[2] for line in lines if line}
    return found
