"""Recompute all vectors of a memory with another embedder, in one transaction."""

from collections.abc import Callable

from .embedding import CHUNK, text_of
from .search.embedder import Embedder
from .store.memory import ResponseMemory
from .store.rows import vector_rows

QUERIES = {
    "prompt_vectors": "SELECT seq, id, NULL FROM prompts WHERE seq > ? ORDER BY seq LIMIT ?",
    "response_vectors": "SELECT r.id, r.prompt_id, r.text FROM response_vectors v JOIN responses r USING (id) "
    "WHERE r.id > ? ORDER BY r.id LIMIT ?",
}
"""Query per table of vectors, for the rows after a key: key, prompt id, text of a response."""


def reembed(memory: ResponseMemory, embedder: Embedder, shown: Callable[[str], str] = str) -> None:
    """Replace every vector in the memory by `embedder`'s, and its fingerprint with them; `digest` changes.

    `shown` cuts a response to what follows its reasoning, as in `embed_rest`. Indexes that are open on the memory hold
    the old vectors: open them anew.
    """
    db = memory.db
    prompts = {prompt.id: prompt for prompt in memory.prompts()}
    with db.transaction():
        for table, query in QUERIES.items():
            last = 0
            while rows := db.rows(query, (last, CHUNK)):
                texts = [
                    prompts[id_].conversation if text is None else text_of(prompts[id_], shown(text))
                    for _, id_, text in rows
                ]
                keys = [key for key, _, _ in rows]
                db.insert(table, vector_rows(keys, embedder.encode(texts)), replace=True)
                last = keys[-1]
        db.write("DELETE FROM segments")
        db.write("REPLACE INTO meta VALUES ('embedder', ?)", (embedder.fingerprint,))
