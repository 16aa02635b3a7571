"""Ancestors and descendants of responses, and the votes on a prompt over time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...types import Stage
from ..store.reads import MemoryReader
from .entries import Entry, in_order


@dataclass(frozen=True, slots=True)
class Node:
    """A response in a tree; `near` are its parents (or children), empty where `repeated`: it occurred before."""

    entry: Entry
    near: tuple["Node", ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One vote on a prompt. `flipped`: its winner differs from that of the vote before."""

    round: int
    vote: int
    answer: str | None
    agreement: float
    margin: float
    flipped: bool


@dataclass(frozen=True, slots=True)
class Echo:
    """Ancestor concentration: survivors of a round that descend from one response, and their fraction of all."""

    response_id: int
    survivors: int
    share: float


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A response shown to (or continued by) another, and its cosine to that one's prompt; None without a vector."""

    id: int
    round: int
    prompt_id: str
    prompt: str
    response: str
    cosine: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """One answer to a prompt in two rounds: how many responses gave it, and one text of each round (None: nobody)."""

    answer: str | None
    before: int
    after: int
    text_before: str | None
    text_after: str | None


def trace(memory: MemoryReader, response_id: int) -> Node:
    """Return a response with its parents, their parents and so on. KeyError for an unknown id."""
    return _tree(memory, response_id, memory.ancestors(response_id), "response_id", "parent_id")


def offspring(memory: MemoryReader, response_id: int) -> Node:
    """Return a response with its children, their children and so on."""
    return _tree(memory, response_id, memory.descendants(response_id), "parent_id", "response_id")


def _tree(memory: MemoryReader, root: int, family: list[int], here: str, there: str) -> Node:
    entries = {entry.id: entry for entry in in_order(memory, [root, *family])}
    links: dict[int, list[int]] = {id_: [] for id_ in entries}
    order = "response_id, position" if here == "response_id" else "response_id"
    sql = f"SELECT {here}, {there} FROM parents WHERE {here} IN (SELECT value FROM json_each(?)) ORDER BY {order}"
    for one, other in memory.db.rows(sql, (str(list(entries)),)):
        links[one].append(other)
    shown: set[int] = set()

    def node(id_: int) -> Node:
        if id_ in shown:
            return Node(entries[id_], (), repeated=bool(links[id_]))
        shown.add(id_)
        return Node(entries[id_], tuple(node(other) for other in links[id_]))

    return node(root)


def lines(node: Node, width: int = 100) -> Iterator[str]:
    """Yield a drawing of the tree, one response a line: id, round, origin, answer, share, verdict, text."""
    yield _label(node, width)
    for number, child in enumerate(node.near, start=1):
        head, rest = ("└─ ", "   ") if number == len(node.near) else ("├─ ", "│  ")
        for row, line in enumerate(lines(child, width - 3)):
            yield (rest if row else head) + line


def _label(node: Node, width: int) -> str:
    entry = node.entry
    share = "" if entry.share is None else f" {entry.share:.2f}"
    parts = [f"#{entry.id} r{entry.round} {entry.origin}"]
    parts += [f"-> {entry.answer}{share}"] if entry.answer is not None else []
    parts += [entry.reason] if entry.reason else []
    parts += [entry.curation] if entry.curation else []
    parts += [f"from {entry.source}"] if entry.source else []
    parts.append("(above)" if node.repeated else " ".join(entry.response.split()))
    text = " · ".join(parts)
    return text if len(text) <= width else text[: width - 1] + "…"


def turns(memory: MemoryReader, prompt_id: str) -> list[Turn]:
    """Return all votes on a prompt, oldest first."""
    rows = memory.db.rows(
        "SELECT u.round, u.idx, t.answer, t.agreement, t.margin FROM tallies t JOIN units u ON u.id = t.unit "
        "WHERE t.prompt_id = ? ORDER BY u.seq",
        (prompt_id,),
    )
    before = [row[2] for row in (*rows[:1], *rows)]
    return [
        Turn(round_, vote, answer, agreement, margin, flipped=answer != old)
        for (round_, vote, answer, agreement, margin), old in zip(rows, before, strict=False)
    ]


def echo(memory: MemoryReader, round: int, limit: int = 20) -> list[Echo]:
    """Return the responses with the most descendants among the survivors of a round, most first, ties by id."""
    survivors = [id_ for id_, verdict in memory.verdicts(round).items() if verdict.kept]
    reach = memory.db.rows(
        """WITH RECURSIVE family (survivor, id) AS (
             SELECT response_id, parent_id FROM parents WHERE response_id IN (SELECT value FROM json_each(?))
             UNION SELECT f.survivor, p.parent_id FROM parents p JOIN family f ON p.response_id = f.id)
           SELECT id, count(*) AS reach FROM family GROUP BY id ORDER BY reach DESC, id LIMIT ?""",
        (str(survivors), limit),
    )
    return [Echo(id_, count, count / len(survivors)) for id_, count in reach]


def shown(memory: MemoryReader, response_id: int) -> list[Demonstration]:
    """Return the responses that were shown to a response, in the order of the prompt."""
    (response,) = memory.responses(ids=[response_id])
    query = memory.prompt_vectors([response.prompt_id])[0].astype(np.float64)
    ids, vectors = memory.embedded(response.parents)
    cosines = {int(id_): float(query @ vector) for id_, vector in zip(ids, vectors, strict=True)}
    entries = {entry.id: entry for entry in in_order(memory, response.parents)}
    return [
        Demonstration(e.id, e.round, e.prompt_id, e.prompt, e.response, cosines.get(e.id))
        for e in (entries[id_] for id_ in response.parents)
    ]


def recalled_for(memory: MemoryReader, response_id: int) -> list[int]:
    """Return the ids of the survivors of all rounds that have this response as a parent, ascending."""
    return [
        row[0]
        for row in memory.db.rows(
            "SELECT DISTINCT response_id FROM parents JOIN verdicts USING (response_id) "
            "WHERE parent_id = ? AND reason = 'kept' ORDER BY response_id",
            (response_id,),
        )
    ]


def trained_in(memory: MemoryReader) -> dict[int, list[int]]:
    """Return the rounds that trained on each response, by response id: those whose survivor it was, ascending."""
    found: dict[int, list[int]] = {}
    for response_id, round_ in memory.db.rows(
        "SELECT v.response_id, u.round FROM verdicts v JOIN units u ON u.id = v.unit WHERE v.reason = 'kept' "
        "AND u.round IN (SELECT round FROM units WHERE stage = 'train') ORDER BY v.response_id, u.round"
    ):
        found.setdefault(response_id, []).append(round_)
    return found


def taught_revisions(memory: MemoryReader, response_id: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return the training examples in revise format whose target is this response: round, and the answers in view."""
    return [
        (unit.round, tuple(shown))
        for unit in memory.units(stage=Stage.TRAIN)
        for survivor, shown in (unit.payload or {}).get("revisions", ())
        if survivor == response_id
    ]


def diff(memory: MemoryReader, prompt_id: str, before: int, after: int) -> list[Change]:
    """Return how the run's answers to a prompt changed from one round to another, the most given later first.

    A response counts for the answer that its last vote read in it; None collects those in which none was found.
    """
    rows = memory.db.rows(
        "SELECT round, answer, response FROM history WHERE prompt_id = ? AND round IN (?, ?) "
        "AND origin <> 'critique' AND stage <> 'import' ORDER BY id",
        (prompt_id, before, after),
    )
    texts: dict[str | None, tuple[list[str], list[str]]] = {}
    for round_, answer, text in rows:
        sides = texts.setdefault(answer, ([], []))
        for side, wanted in zip(sides, (before, after), strict=True):
            if round_ == wanted:
                side.append(text)
    changes = [
        Change(answer, len(old), len(new), old[0] if old else None, new[0] if new else None)
        for answer, (old, new) in texts.items()
    ]
    return sorted(changes, key=lambda c: (-c.after, -c.before, c.answer or ""))
