"""Memories that older versions wrote, kept as they were: each opens, is sound, says the same and goes forward.

`golden/v1.db.gz` is `story` below, written by the first code that wrote version 1. Such a file is never made again.
"""

import gzip
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from memory_story import EMBEDDER

from selfimprove.memory import ResponseMemory, VectorIndex
from selfimprove.memory.inspect.lineage import lines, trace
from selfimprove.memory.retrieval import nearest, trust
from selfimprove.memory.store import database, schema
from selfimprove.outcomes import Decision, Reason
from selfimprove.prompts import make_prompt
from selfimprove.types import Message

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "v1" / "memory.db"
    path.parent.mkdir()
    path.write_bytes(gzip.decompress((GOLDEN / "v1.db.gz").read_bytes()))
    return path


def test_an_old_memory_opens_and_says_what_it_said(old):
    with ResponseMemory.open(old) as memory:
        assert memory.verify() == []
        assert memory.digest() == json.loads((GOLDEN / "v1.json").read_text())["digest"]
        assert [r.text for r in memory.responses()] == [
            "Paris",
            "Paris, of course",
            "Lyon",
            "cold",
            "which is wrong",
            "Paris.",
        ]
        assert {id_: v.reason for id_, v in memory.verdicts(1).items()} == {
            1: Reason.KEPT, 2: Reason.DUPLICATE, 3: Reason.MINORITY, 4: Reason.KEPT, 6: Reason.KEPT,
        }  # fmt: skip
        assert [line.split(" · ")[0] for line in lines(trace(memory, 6))] == [
            "#6 r1 revise", "├─ #1 r1 sample", "├─ #3 r1 sample", "└─ #5 r1 critique",
            "   ├─ #1 r1 sample", "   └─ #3 r1 sample",
        ]  # fmt: skip
        assert [(r.round, r.decision, r.kept) for r in memory.rounds()] == [(1, Decision.KEEP, 3)]
        assert (memory.current, memory.meta("embedder")) == ("r0001", "hash:64")
        assert memory.search_text("course") == [2]
        trusted = trust(memory, EMBEDDER.encode, round=1, vote_index=0, min_support=0.6)
        asked = make_prompt([Message("user", "hot?")], heldout=0.0)
        (found,) = nearest(VectorIndex(memory), trusted, [asked], EMBEDDER.encode([asked.text]), 1)
        assert [r.text for r in found] == ["cold"]


def test_an_old_memory_goes_forward_and_stays_sound(old, monkeypatch):
    with ResponseMemory.open(old) as memory:
        before = memory.vectors([1, 4])
    monkeypatch.setattr(
        database, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE notes (id INTEGER PRIMARY KEY) STRICT;")
    )
    with ResponseMemory.open(old, write=True) as memory:
        assert memory.verify() == []
        assert np.array_equal(memory.vectors([1, 4]), before)
        assert memory.search_text("course") == [2]
    monkeypatch.undo()
    with ResponseMemory.open(old.with_name("memory.v1.bak.db")) as backup:
        assert backup.digest() == json.loads((GOLDEN / "v1.json").read_text())["digest"]


def made(db):
    """What SQLite made of the schema, words and white space aside."""
    rows = db.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")
    return [(kind, name, re.sub(r"--[^\n]*|\s+", "", sql or "")) for kind, name, sql in rows]


def test_a_released_migration_is_never_edited(old):
    """Words may change; what SQLite makes of the schema may not."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as first, closing(sqlite3.connect(old)) as golden:
        schema.migrate(first, schema.MIGRATIONS[:1])
        assert made(first) == made(golden)


def test_an_old_memory_is_searched_as_it_is_and_better_once_it_is_written(old):
    """Version 1 indexed a run of Chinese as one word: a reader scans the texts, a writer indexes them anew."""
    with closing(sqlite3.connect(old)) as db, db:
        db.execute("DROP TRIGGER responses_no_update")
        db.execute("UPDATE responses SET text = '法国的首都是巴黎 Paris' WHERE id = 2")
        db.execute("INSERT INTO texts (rowid, prompt, response) VALUES (2, '', '法国的首都是巴黎 Paris')")
    allowed = np.array([2])
    for write in (False, True):
        with ResponseMemory.open(old, write=write) as memory:
            for query, limits, found in (
                ("首都", None, [2]), ("首都 paris", None, [2]), ("首都", allowed, [2]), ("首都", allowed - 1, []),
                ("首都 London", None, []),
            ):  # fmt: skip
                assert memory.search_text(query, 5, limits) == found, (query, write)


def test_a_migrated_memory_has_the_schema_of_a_new_one(old, memory):
    with ResponseMemory.open(old, write=True):
        pass
    with closing(sqlite3.connect(old)) as migrated, closing(sqlite3.connect(memory.db.path)) as new:
        assert made(migrated) == made(new)
