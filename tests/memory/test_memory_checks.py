"""`verify` finds what is wrong with a file; migrations go forward with a backup."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from memory_story import EMBEDDER, PROMPTS, SAMPLING, commit, commit_vote, make_unit

from selfimprove.errors import MemoryError_
from selfimprove.memory import Embedder, ResponseMemory, VectorIndex
from selfimprove.memory.reembed import reembed
from selfimprove.memory.store import database, schema
from selfimprove.outcomes import Decision, GuardVerdict, Reason, Selection, Verdict
from selfimprove.types import Finish, Generation, Message, Origin, Prompt, Request, Split, Stage, Unit


@pytest.fixture
def filled(memory, path):
    responses = commit(memory, [("france", "Paris in spring"), ("france", "Lyon"), ("hot", "cold")])
    commit(memory, [("hot", "cold again")], index=1, parents=(3,))
    commit_vote(memory, responses, lambda r: r.text)
    memory.commit_selection(1, Selection((Verdict(1, Reason.KEPT),), (Verdict(2, Reason.MINORITY),)))
    assert memory.verify() == []
    memory.close()
    return path


def tamper(path, *statements):
    with closing(sqlite3.connect(path)) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        for sql, *values in statements:
            raw.execute(sql, values)
        raw.commit()


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE responses SET text = 'Rome' WHERE id = 1", "unit r0001/sample/0000: its rows"),
        ("UPDATE parents SET parent_id = 2", "unit r0001/sample/0001: its rows"),
        ("UPDATE judgements SET share = 0.9 WHERE response_id = 1", "unit r0001/vote/0000: its rows"),
        ("UPDATE verdicts SET reason = 'kept'", "unit r0001/select/0000: its rows"),
        ("UPDATE prompts SET split = 'heldout' WHERE id = 'france'", "prompt france"),
        ("UPDATE response_vectors SET vector = zeroblob(256) WHERE id = 2", "response 2: its vector"),
        ("DELETE FROM response_vectors WHERE id = 2", "unit r0001/sample/0000: 2 of its 3 vectors are there"),
        ("DELETE FROM prompt_vectors WHERE seq = 1", "prompt france: its vector is missing"),
        ("UPDATE prompt_vectors SET vector = zeroblob(256) WHERE seq = 1", "prompt 1: its vector"),
        ("UPDATE units SET payload = '{}' WHERE seq = 3", "unit r0001/vote/0000: its rows"),
        ("DELETE FROM tallies", "unit r0001/vote/0000: its rows"),
        ("UPDATE prompts SET text = 'What is the capital of Rome?' WHERE id = 'france'", "prompt france: its text"),
        ("UPDATE units SET round = 3 WHERE seq = 1", "unit r0001/sample/0000: its round, stage or idx"),
        ("UPDATE units SET stage = 'probe' WHERE seq = 1", "unit r0001/sample/0000: its round, stage or idx"),
        ("UPDATE units SET idx = 7 WHERE seq = 1", "unit r0001/sample/0000: its round, stage or idx"),
    ],
)
def test_a_changed_row_is_found_and_named(filled, statement, fault):
    tamper(filled, (statement,))
    with ResponseMemory.open(filled) as memory:
        faults = memory.verify()
    assert any(line.startswith(fault) for line in faults), faults


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE moves SET policy = 'r0002' WHERE seq = 2", "move 2: its round, policy or reason"),
        ("UPDATE moves SET round = 2 WHERE seq = 2", "move 2: its round, policy or reason"),
        ("UPDATE moves SET because = 'cheated' WHERE seq = 1", "move 1: its round, policy or reason"),
        ("UPDATE moves SET policy = 'r0001' WHERE seq = 4", "move 4: its round, policy or reason"),
        ("UPDATE moves SET seq = 9 WHERE seq = 1", "move 3: its round, policy or reason"),
        ("DELETE FROM moves WHERE seq = 2", "round 3: it was kept, and the move to it is missing"),
    ],
)
def test_a_changed_move_of_current_is_found(filled, statement, fault):
    """A flipped bit in `moves` changed the current policy, and `verify` said that all is right."""
    with ResponseMemory.open(filled, write=True) as memory:
        for round_, decision in ((1, Decision.KEEP), (2, Decision.REJECT), (3, Decision.KEEP)):
            memory.commit_round(round_, GuardVerdict(decision, ()), "as measured", f"r{round_:04d}")
        memory.rollback(1)
        memory.rollback(0)
        assert memory.verify() == []
    tamper(filled, (statement,))
    with ResponseMemory.open(filled) as memory:
        assert any(line.startswith(fault) for line in memory.verify()), memory.verify()


def test_a_missing_unit_breaks_the_chain(filled):
    tamper(
        filled, ("DELETE FROM parents",), ("DELETE FROM responses WHERE id = 4",), ("DELETE FROM units WHERE seq = 2",)
    )
    with ResponseMemory.open(filled) as memory:
        assert "unit r0001/vote/0000: the unit before it is missing or another one" in memory.verify()


def test_a_flipped_byte_on_disk_is_found(filled):
    data = bytearray(filled.read_bytes())
    at = data.index(b"Paris in spring")
    data[at] ^= 0x01
    filled.write_bytes(data)
    with ResponseMemory.open(filled) as memory:
        assert memory.verify() == ["unit r0001/sample/0000: its rows are not what was committed"]


def test_a_torn_page_is_reported_with_a_way_out(filled):
    data = bytearray(filled.read_bytes())
    for page in range(schema.PAGE_BYTES, len(data), schema.PAGE_BYTES):
        data[page : page + 64] = b"\xff" * 64
    filled.write_bytes(data)
    with ResponseMemory.open(filled) as memory, pytest.raises(MemoryError_, match=r"is damaged .* backup"):
        memory.verify()


def test_an_older_file_is_backed_up_then_migrated(filled, monkeypatch):
    with ResponseMemory.open(filled) as memory:
        before = memory.responses()
    now = len(schema.MIGRATIONS)
    newer = (*schema.MIGRATIONS, "CREATE TABLE notes (id INTEGER PRIMARY KEY) STRICT;")
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    with ResponseMemory.open(filled) as memory:
        assert memory.responses() == before, "a reader needs no migration"
    monkeypatch.setattr(database, "OLDEST_READABLE", now + 1)
    with pytest.raises(MemoryError_, match=f"has schema version {now}, this program reads {now + 1} and later: resume"):
        ResponseMemory.open(filled)
    with ResponseMemory.open(filled, write=True) as memory:
        assert memory.responses() == before
        assert memory.verify() == []
        assert memory.db.rows("SELECT * FROM notes") == []
    monkeypatch.undo()
    with ResponseMemory.open(filled.with_name(f"memory.v{now}.bak.db")) as backup:
        assert backup.responses() == before
    with pytest.raises(MemoryError_, match=f"has schema version {now + 1}, this program knows {now}: update"):
        ResponseMemory.open(filled, write=True)


def test_a_failed_migration_leaves_the_file_as_it_was(filled, monkeypatch):
    monkeypatch.setattr(
        database, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE notes (id); CREATE TABLE notes (id);")
    )
    with pytest.raises(sqlite3.OperationalError, match="notes already exists"):
        ResponseMemory.open(filled, write=True)
    monkeypatch.undo()
    with ResponseMemory.open(filled, write=True) as memory:
        assert memory.verify() == []
        assert memory.db.one("SELECT 1 FROM sqlite_master WHERE name = 'notes'") is None


def test_the_file_reads_well_in_sql(filled):
    with ResponseMemory.open(filled) as memory:
        assert memory.db.rows("SELECT round, response_id, prompt, response, written_in FROM kept") == [
            (1, 1, "What is the capital of France?", "Paris in spring", 1)
        ]
        assert memory.db.rows("SELECT response, reason FROM dropped") == [("Lyon", "minority")]
        assert memory.db.rows("SELECT response, parent_response FROM lineage") == [("cold again", "cold")]
        assert memory.db.rows("SELECT round, responses, kept, dropped, decision FROM rounds") == [(1, 4, 1, 1, None)]
        assert memory.db.rows("SELECT vote, agreement FROM votes WHERE prompt_id = 'hot'") == [(0, 1.0)]


def test_text_search_knows_every_commit_and_plain_words_only(memory):
    commit(memory, [("france", "Paris"), ("hot", "cold")])
    assert memory.search_text("paris") == [1]
    commit(memory, [("france", "Paris, of course")], index=1)
    assert memory.search_text("paris") == [1, 3], "the shorter text is the better match"
    assert memory.search_text("capital PARIS", limit=1) == [1]
    assert memory.search_text("opposite cold") == [2]
    assert memory.search_text("par") == []
    assert memory.search_text('"paris" OR (NEAR') == [], "operators have no meaning"
    assert memory.search_text("  ") == memory.search_text('" ( *') == []


UNSPACED = [
    (
        "zh",
        "法国的首都是哪里。",
        "法国的首都是巴黎。",
        ["首都", "巴", "法国 巴黎", "的首都是巴"],
        ["都首", "首都 伦敦"],
    ),
    ("ja", "フランスの首都はどこですか", "パリです", ["首都", "フランス", "パリ"], ["ロンドン"]),
    ("ko", "프랑스의 수도는 어디입니까?", "파리입니다", ["수도", "파리", "프랑스"], ["런던"]),
    ("th", "เมืองหลวงของฝรั่งเศสคือที่ไหน", "ปารีส", ["เมืองหลวง", "ปารีส"], ["ลอนดอน"]),
    ("hi", "फ्रांस की राजधानी क्या है?", "पेरिस", ["राजधानी", "पेरिस की"], ["पेरास"]),
]


@pytest.mark.parametrize(("id_", "question", "answer", "there", "missing"), UNSPACED, ids=[row[0] for row in UNSPACED])
def test_text_search_in_every_script(path, id_, question, answer, there, missing):
    """Chinese, Japanese, Thai and the like have no spaces, Korean's words carry particles, Hindi's vowel signs."""
    asked = Prompt(id_, (Message("user", question),), Split.TRAIN)
    with ResponseMemory.create(path) as memory:
        memory.add_prompts([asked], EMBEDDER.encode([question]))
        unit = Unit(1, Stage.SAMPLE, 0, (Request(id_, Origin.SAMPLE, asked.messages, 1),), SAMPLING, "base")
        memory.commit_unit(unit, [Generation(answer, Finish.STOP, 1, 1)], EMBEDDER.encode([answer]), wall_s=0)
        assert [memory.search_text(query) for query in there] == [[1]] * len(there)
        assert [memory.search_text(query) for query in missing] == [[]] * len(missing)


def test_vectors_survive_a_round_trip_to_the_last_bit(memory):
    vectors = EMBEDDER.encode([p.text for p in PROMPTS])
    assert np.array_equal(memory.prompt_vectors([p.id for p in reversed(PROMPTS)]), vectors[::-1])
    with pytest.raises(KeyError):
        memory.prompt_vectors(["nobody"])


def test_a_memory_can_change_its_embedder(memory):
    memory.check_fingerprint("embedder", EMBEDDER.fingerprint)
    commit(memory, [("france", "Paris"), ("hot", "cold")])
    unit, generations, _ = make_unit([("italy", "Rome")], stage=Stage.PROBE)
    memory.commit_unit(unit, generations, None, wall_s=1)
    other = Embedder.load("hash:32")
    reembed(memory, other)
    memory.check_fingerprint("embedder", "hash:32")
    assert np.array_equal(memory.vectors([2]), other.encode(["What is the opposite of hot?\ncold"]))
    assert np.array_equal(memory.prompt_vectors(["italy"]), other.encode(["What is the capital of Italy?"]))
    assert memory.verify() == []
    assert VectorIndex(memory).search(other.encode(["What is the opposite of hot?\ncold"]), 1)[0].tolist() == [[2]]
    with pytest.raises(KeyError):
        memory.vectors([3])


def test_another_embedder_embeds_answers_without_their_reasoning(memory):
    commit(memory, [("france", "<think>Lyon?</think>Paris")])
    other = Embedder.load("hash:32")
    reembed(memory, other, lambda text: text.split("</think>")[-1])
    assert np.array_equal(memory.vectors([1]), other.encode(["What is the capital of France?\nParis"]))
