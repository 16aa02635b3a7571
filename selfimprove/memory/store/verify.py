"""Integrity of a memory file (`verify`), and a hash of its logical content (`digest`)."""

import hashlib
import json
import zlib
from collections.abc import Iterator

from ...types import BASE
from ...types import unit_id as name_of
from .database import Database
from .rows import SINCE, TABLES_OF_A_UNIT, chain_sha, prompt_of, prompt_sha, rows_sha, storable


def digest(db: Database) -> str:
    """Return a sha256 over the logical content; times, caches and the order of commits are left out.

    It uses the hashes stored with the units, which `verify` recomputes.
    """
    whole = hashlib.sha256()
    with db.snapshot():
        for sql in (
            "SELECT key, value FROM meta ORDER BY key",
            "SELECT sha FROM prompts ORDER BY id",
            "SELECT p.id, v.crc FROM prompt_vectors v JOIN prompts p USING (seq) ORDER BY p.id",
            "SELECT id, rows_sha FROM units ORDER BY id",
            "SELECT id, crc FROM response_vectors ORDER BY id",
            "SELECT round, policy, because FROM moves ORDER BY seq",
        ):
            for row in db.stream(sql):
                whole.update(json.dumps(row).encode())
            whole.update(b"\n")
    return whole.hexdigest()


def verify(db: Database) -> list[str]:
    """Return every fault found: broken pages and references, rows that changed, units that are missing.

    Not checked are times, `meta`, and the derived `texts` and `segments`.
    """
    with db.snapshot():
        faults = [f"integrity: {row[0]}" for row in db.rows("PRAGMA integrity_check") if row[0] != "ok"]
        faults += [
            f"reference: row {rowid} of {table} names a missing row of {parent}"
            for table, rowid, parent, _ in db.rows("PRAGMA foreign_key_check")
        ]
        return [*faults, *_prompts(db), *_units(db), *_moves(db), *_vectors(db)]


def _prompts(db: Database) -> Iterator[str]:
    sql = "SELECT id, split, messages, sha, text FROM prompts ORDER BY seq"
    for id_, split, messages, sha, text in db.stream(sql):
        if prompt_sha(id_, split, messages) != sha or storable(prompt_of(id_, split, messages).text) != text:
            yield f"prompt {id_}: its text or split is not what was stored"


def _units(db: Database) -> Iterator[str]:
    previous = ""
    queries = {name: query for name, query in TABLES_OF_A_UNIT.items() if SINCE.get(name, 0) <= db.version}
    for id_, round_, stage, index, policy, sampling, payload, vectors, rows, chain in db.stream(
        "SELECT id, round, stage, idx, policy, sampling, payload, vectors, rows_sha, chain_sha FROM units ORDER BY seq"
    ):
        if name_of(round_, stage, index) != id_:
            yield f"unit {id_}: its round, stage or idx is not what was committed"
        tables = {name: db.rows(query, (id_,)) for name, query in queries.items()}
        if rows_sha(id_, policy, sampling, payload, vectors, tables) != rows:
            yield f"unit {id_}: its rows are not what was committed"
        found = db.rows("SELECT count(*) FROM response_vectors v JOIN responses r USING (id) WHERE r.unit = ?", (id_,))
        if found[0][0] < vectors:
            yield f"unit {id_}: {found[0][0]} of its {vectors} vectors are there"
        if chain_sha(previous, rows) != chain:
            yield f"unit {id_}: the unit before it is missing or another one"
        previous = chain


def _moves(db: Database) -> Iterator[str]:
    """Compare the moves of `current` with the decisions, which are hashed: the first move to a round is the guard's."""
    kept = dict(db.rows("SELECT round, policy FROM decisions WHERE decision = 'keep' ORDER BY round")) | {0: BASE}
    why = dict(db.rows("SELECT round, because FROM decisions"))
    there: set[int] = {0}
    for position, (seq, round_, policy, because) in enumerate(
        db.rows("SELECT seq, round, policy, because FROM moves ORDER BY seq"), start=1
    ):
        first = round_ not in there
        if seq != position or kept.get(round_) != policy or (first and because != why[round_]):
            yield f"move {seq}: its round, policy or reason is not what the guard decided"
        there.add(round_)
    for round_ in sorted(kept.keys() - there):
        yield f"round {round_}: it was kept, and the move to it is missing"


def _vectors(db: Database) -> Iterator[str]:
    for (id_,) in db.rows("SELECT id FROM prompts WHERE seq NOT IN (SELECT seq FROM prompt_vectors) ORDER BY seq"):
        yield f"prompt {id_}: its vector is missing"
    for what, table in (("response", "response_vectors"), ("prompt", "prompt_vectors")):
        for id_, crc, blob in db.stream(f"SELECT * FROM {table}"):
            if zlib.crc32(blob) != crc:
                yield f"{what} {id_}: its vector is not what was stored"
