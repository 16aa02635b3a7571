"""Recompute all vectors of a memory with another embedder, in one transaction."""

from .search.embedder import Embedder
from .store.memory import ResponseMemory
from .store.rows import vector_rows

CHUNK = 4096
"""Texts embedded per write."""

ROWS = {
    "prompt_vectors": "SELECT seq, id, '' FROM prompts WHERE seq > ? ORDER BY seq LIMIT ?",
    "response_vectors": "SELECT r.id, r.prompt_id, char(10) || r.text FROM response_vectors v JOIN responses r "
    "USING (id) WHERE r.id > ? ORDER BY r.id LIMIT ?",
}
"""Query per table of vectors, for the rows after a key: key, prompt id, text behind the prompt's conversation."""


def reembed(memory: ResponseMemory, embedder: Embedder) -> None:
    """Replace every vector in the memory by `embedder`'s, and its fingerprint with them; `digest` changes.

    A response is embedded as its prompt's conversation, a line break and its text, as when it was committed. Indexes
    that are open on the memory hold the old vectors: open them anew.
    """
    db = memory.db
    conversations = {prompt.id: prompt.conversation for prompt in memory.prompts()}
    with db.transaction():
        for table, rows_after in ROWS.items():
            last = 0
            while rows := db.rows(rows_after, (last, CHUNK)):
                keys = [key for key, _, _ in rows]
                texts = [conversations[prompt_id] + rest for _, prompt_id, rest in rows]
                db.insert(table, vector_rows(keys, embedder.encode(texts)), replace=True)
                last = keys[-1]
        db.write("DELETE FROM segments")
        db.write("REPLACE INTO meta VALUES ('embedder', ?)", (embedder.fingerprint,))
