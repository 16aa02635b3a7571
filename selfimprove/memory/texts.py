"""Full-text search over prompts and responses: an FTS5 index up to the last round, a plain scan of what came after."""

from .database import Database

_INDEXED = "(SELECT coalesce(max(id), 0) FROM texts_docsize)"
_UNINDEXED = f"FROM responses r JOIN prompts p ON p.id = r.prompt_id WHERE r.id > {_INDEXED}"


def extend(db: Database) -> None:
    """Add all responses that the index does not hold yet, in the transaction under way."""
    db.write(f"INSERT INTO texts (rowid, prompt, response) SELECT r.id, p.text, r.text {_UNINDEXED}")


def search(db: Database, query: str, limit: int = 20) -> list[int]:
    """Return ids of responses in which, prompt included, every word of `query` occurs; the best match first.

    Words are plain words: FTS5's operators and quotes in a query have no meaning. The responses of a round under way
    are not in the index yet: they are read one by one, match parts of words too, and come last.
    """
    words = query.replace('"', " ").replace("\0", " ").split()
    if not words:
        return []
    match = " ".join(f'"{word}"' for word in words)
    found = db.rows("SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank, rowid LIMIT ?", (match, limit))
    folded = [word.casefold() for word in words]
    recent = (
        id_
        for id_, prompt, response in db.stream(f"SELECT r.id, p.text, r.text {_UNINDEXED} ORDER BY r.id")
        if all(word in f"{prompt}\n{response}".casefold() for word in folded)
    )
    return [*(row[0] for row in found), *recent][:limit]
