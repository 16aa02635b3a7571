"""Full-text search over prompts and responses (FTS5). The index costs about an eighth of a commit.

Scripts that do not separate words by spaces are indexed character by character and searched by phrases of characters,
so any substring is found. (FTS5's trigram tokenizer cannot find words of two characters, the usual length in Chinese.)
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ..store.database import Database

UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Japanese syllables and marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
    "\u1100-\u11ff\uac00-\ud7af"  # Korean: has spaces, but particles cling to its words
    "]"
)

SPLIT_SINCE = 2
"""First schema version whose index holds these scripts by character."""


def spaced(text: str) -> str:
    """Return `text` with a space around each character of a script without spaces."""
    return UNSPACED.sub(r" \g<0> ", text)


def add(db: Database, unit: str) -> None:
    """Index the responses of a unit, in the transaction that commits it."""
    found = db.rows(
        "SELECT r.id, p.text, r.text FROM responses r JOIN prompts p ON p.id = r.prompt_id WHERE r.unit = ?", (unit,)
    )
    for id_, prompt, response in found:
        db.write(
            "INSERT INTO texts (rowid, prompt, response) VALUES (?, ?, ?)", (id_, spaced(prompt), spaced(response))
        )


def search(db: Database, query: str, limit: int = 20, allowed: np.ndarray | None = None) -> list[int]:
    """Return ids of responses that contain every word of `query`, in the prompt or the text; best match first.

    Words are plain words: FTS5's operators and quotes have no meaning in a query. In scripts without spaces a word
    is any run of characters. `allowed` restricts the answer to these ids.
    """
    words = query.replace('"', " ").replace("\0", " ").split()
    if not words:
        return []
    scanned = [word for word in words if UNSPACED.search(word)] if db.version < SPLIT_SINCE else []
    conditions: list[tuple[str, Any]] = [("instr(p.text || char(10) || r.text, ?)", word) for word in scanned]
    match = " ".join(f'"{spaced(word)}"' for word in words if word not in scanned)
    if allowed is not None:  # +: one match, not one for each id
        conditions.append(("+r.id IN (SELECT value FROM json_each(?))", json.dumps(allowed.tolist())))
    source, order = "responses r JOIN prompts p ON p.id = r.prompt_id", "r.id"
    if match:
        source, order = (
            "texts t CROSS JOIN responses r ON r.id = t.rowid JOIN prompts p ON p.id = r.prompt_id",
            "rank, r.id",
        )
        conditions.insert(0, ("texts MATCH ?", match))
    where = " AND ".join(condition for condition, _ in conditions)
    values = [value for _, value in conditions]
    return [
        id_ for (id_,) in db.rows(f"SELECT r.id FROM {source} WHERE {where} ORDER BY {order} LIMIT ?", [*values, limit])
    ]
