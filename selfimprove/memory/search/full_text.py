"""Full-text search over prompts and responses (FTS5). The index costs about an eighth of a commit."""

import json

import numpy as np

from ..store.database import Database


def add(db: Database, unit: str) -> None:
    """Index the responses of a unit, in the transaction that commits it."""
    db.write(
        "INSERT INTO texts (rowid, prompt, response) SELECT r.id, p.text, r.text "
        "FROM responses r JOIN prompts p ON p.id = r.prompt_id WHERE r.unit = ?",
        (unit,),
    )


def search(db: Database, query: str, limit: int = 20, allowed: np.ndarray | None = None) -> list[int]:
    """Return ids of responses in which, prompt included, every word of `query` occurs; the best match first.

    Words are plain words: FTS5's operators and quotes have no meaning in a query. `allowed` restricts the answer to
    these ids.
    """
    words = query.replace('"', " ").replace("\0", " ").split()
    if not words:
        return []
    match = " ".join(f'"{word}"' for word in words)
    some = "" if allowed is None else "AND +rowid IN (SELECT value FROM json_each(?))"  # +: one match, not one an id
    values = [match, *([] if allowed is None else [json.dumps(allowed.tolist())]), limit]
    found = db.rows(f"SELECT rowid FROM texts WHERE texts MATCH ? {some} ORDER BY rank, rowid LIMIT ?", values)
    return [row[0] for row in found]
