"""Another embedder for an old memory: all vectors are made again, in one transaction."""

from .search.embedder import Embedder
from .store.memory import ResponseMemory
from .store.rows import vector_rows

CHUNK = 4096
"""Texts embedded between two writes."""

TEXTS = {
    "prompt_vectors": "SELECT seq, text FROM prompts WHERE seq > ? ORDER BY seq LIMIT ?",
    "response_vectors": "SELECT r.id, p.text || char(10) || r.text FROM response_vectors v JOIN responses r USING (id) "
    "JOIN prompts p ON p.id = r.prompt_id WHERE r.id > ? ORDER BY r.id LIMIT ?",
}
"""Where the texts of a table of vectors come from, after a key and up to a number."""


def reembed(memory: ResponseMemory, embedder: Embedder) -> None:
    """Replace every vector in the memory by `embedder`'s, and its fingerprint with them; `digest` changes.

    A response is embedded as its prompt, a line break and its text, as when it was committed. Indexes that are open
    on the memory hold the old vectors: open them anew.
    """
    db = memory.db
    with db.transaction():
        for table, texts_after in TEXTS.items():
            last = 0
            while rows := db.rows(texts_after, (last, CHUNK)):
                keys, texts = zip(*rows, strict=True)
                db.insert(table, vector_rows(keys, embedder.encode(texts)), replace=True)
                last = keys[-1]
        db.write("DELETE FROM segments")
        db.write("REPLACE INTO meta VALUES ('embedder', ?)", (embedder.fingerprint,))
