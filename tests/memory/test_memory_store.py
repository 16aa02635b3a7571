"""The memory keeps what it was given, once, whole, and says so when it cannot."""

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_story import EMBEDDER, PROMPTS, commit, commit_vote, make_unit, prompt

from selfimprove.errors import MemoryError_
from selfimprove.memory import ResponseMemory
from selfimprove.memory.store import database
from selfimprove.memory.store.rows import storable
from selfimprove.outcomes import Check, Decision, GuardVerdict, Judgement, Reason, Selection, Tally, Verdict
from selfimprove.types import BASE, Finish, Generation, Message, Origin, Prompt, Request, Split, Stage, Unit

KEEP = GuardVerdict(Decision.KEEP, (Check("agreement", 0.5, 0.4, True),))
REJECT = GuardVerdict(Decision.REJECT, (Check("agreement", 0.3, 0.4, False),))
STOP = GuardVerdict(Decision.STOP, REJECT.checks)


def test_a_unit_comes_back_as_it_was_committed(memory):
    first = commit(memory, [("france", "Paris"), ("france", "Lyon"), ("hot", "cold")])
    stitched = commit(memory, [("france", "Paris.")], stage=Stage.STITCH, parents=(1, 2), finish=Finish.LENGTH)
    assert [r.id for r in first + stitched] == [1, 2, 3, 4]
    assert [r.text for r in first] == ["Paris", "Lyon", "cold"]
    again = memory.responses()
    assert again == first + stitched
    assert again[3].parents == (1, 2)
    assert again[3].origin is Origin.STITCH
    assert again[3].finish is Finish.LENGTH
    assert again[3].unit == "r0001/stitch/0000"
    assert np.array_equal(memory.vectors([3, 1]), make_unit([("hot", "cold"), ("france", "Paris")])[2])
    unit = memory.units()[0]
    assert (unit.id, unit.stage, unit.sampling.temperature, unit.policy) == (
        "r0001/sample/0000",
        Stage.SAMPLE,
        0.7,
        BASE,
    )


def test_filters_meet(memory):
    commit(memory, [("france", "Paris"), ("hot", "cold")])
    commit(memory, [("france", "Paris again")], round=2)
    commit(memory, [("france", "Paris, revised")], round=2, stage=Stage.REVISE, parents=(1,))

    def ids(**filters):
        return [r.id for r in memory.responses(**filters)]

    assert ids(prompt_ids=["france"]) == [1, 3, 4]
    assert ids(rounds=[2]) == [3, 4]
    assert ids(rounds=[2], origins=[Origin.SAMPLE]) == [3]
    assert ids(stages=[Stage.REVISE]) == [4]
    assert ids(ids=[4, 2]) == [2, 4]
    assert ids(unit_ids=["r0002/sample/0000"]) == [3]
    assert ids(ids=[]) == []


def test_committing_again_changes_nothing(memory):
    unit, generations, vectors = make_unit([("france", "Paris")])
    first = memory.commit_unit(unit, generations, vectors, wall_s=1)
    digest = memory.digest()
    other = [replace(generations[0], text="Lyon")]
    assert memory.commit_unit(unit, other, vectors, wall_s=2) == first
    memory.commit_result(1, Stage.TRAIN, {"loss": 1.5})
    memory.commit_result(1, Stage.TRAIN, {"loss": 9.9})
    assert memory.result(1, Stage.TRAIN) == {"loss": 1.5}
    assert memory.result(2, Stage.TRAIN) is None
    assert memory.digest() != digest
    memory.add_prompts(PROMPTS, EMBEDDER.encode([p.text for p in PROMPTS]))
    assert memory.prompts() == PROMPTS
    assert memory.prompts(Split.HELDOUT) == PROMPTS[-2:]


def test_a_unit_is_stored_whole_or_not_at_all(memory):
    unit, generations, vectors = make_unit([("france", "Paris"), ("hot", "cold")])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        memory.commit_unit(unit, generations[:1], vectors, wall_s=1)
    with pytest.raises(ValueError, match="shape"):
        memory.commit_unit(unit, generations, vectors[:, :32], wall_s=1)
    with pytest.raises(ValueError, match="finite unit vectors"):
        memory.commit_unit(unit, generations, vectors * np.nan, wall_s=1)
    unknown = replace(unit, requests=(unit.requests[0], replace(unit.requests[1], parents=(99,))))
    with pytest.raises(sqlite3.IntegrityError):
        memory.commit_unit(unknown, generations, vectors, wall_s=1)
    assert (memory.count(), memory.units(), memory.verify()) == (0, [], [])
    memory.commit_unit(unit, generations, vectors, wall_s=1)
    assert memory.count() == 2


def test_votes_verdicts_and_the_round(memory):
    responses = commit(memory, [("france", "Paris"), ("france", "Paris"), ("france", "Lyon"), ("hot", "?")])
    commit_vote(memory, responses, lambda r: None if r.text == "?" else r.text.casefold())
    assert memory.tallies(1, 0)["france"] == Tally("france", "paris", 2 / 3, 2 / 3 - 1 / 3, 3.0, 3, 0)
    assert memory.tallies(1, 0)["hot"].abstained == 1
    assert memory.judgements(1, 0)[3] == Judgement(3, "lyon", 1.0, 1 / 3)
    assert memory.judgements(1, 0)[4].answer is None
    assert memory.tallies(1, 1) == {}

    kept = (Verdict(1, Reason.KEPT, 0.67, 0.5, 0.33),)
    dropped = (Verdict(3, Reason.MINORITY), Verdict(2, Reason.DUPLICATE, 1.0, 0.98))
    memory.commit_selection(1, Selection(kept, dropped))
    assert memory.verdicts(1) == {v.response_id: v for v in kept + dropped}

    memory.commit_round(1, KEEP, "all checks passed", "r0001")
    (record,) = memory.rounds()
    assert (record.decision, record.policy, record.responses, record.kept, record.dropped) == (
        Decision.KEEP, "r0001", 4, 1, 2,
    )  # fmt: skip
    assert memory.result(1, Stage.GUARD)["checks"][0]["name"] == "agreement"


def test_current_moves_only_when_a_round_is_kept_and_can_go_back(memory):
    assert memory.current == BASE
    memory.commit_round(1, KEEP, "fine", "r0001")
    assert memory.current == "r0001"
    memory.commit_round(2, REJECT, "agreement 0.3", "r0002")
    assert memory.current == "r0001"
    memory.commit_round(3, KEEP, "fine", "r0003")
    assert memory.rollback(1) == memory.current == "r0001"
    assert memory.rollback(0) == memory.current == BASE
    with pytest.raises(MemoryError_, match="round 2 was not kept; rounds to go back to: 0, 1, 3"):
        memory.rollback(2)
    assert [r.decision for r in memory.rounds()] == [Decision.KEEP, Decision.REJECT, Decision.KEEP]


def test_current_stands_on_the_rounds_that_led_to_it(memory):
    def keep(round_):
        memory.commit_round(round_, KEEP, "fine", f"r{round_:04d}")
        return memory.standing

    def back(round_):
        memory.rollback(round_)
        return memory.standing

    assert memory.standing == (0,)
    assert [keep(1), keep(2)] == [(0, 1), (0, 1, 2)]
    memory.commit_round(3, REJECT, "agreement 0.3", "r0003")
    assert memory.standing == (0, 1, 2)
    assert [back(1), keep(4), back(2), back(4), back(0)] == [(0, 1), (0, 1, 4), (0, 1, 2), (0, 1, 4), (0,)]
    memory.commit_round(5, KEEP, "fine", "r0005", back_to=1)
    assert memory.standing == (0, 1)


def test_the_round_that_stops_a_run_moves_current_back_in_the_same_commit(memory):
    memory.commit_round(1, KEEP, "fine", "r0001")
    memory.commit_round(2, KEEP, "fine", "r0002")
    with pytest.raises(MemoryError_, match="round 3 was not kept"):
        memory.commit_round(3, STOP, "agreement 0.3", "r0003", back_to=3)
    assert (len(memory.rounds()), memory.current) == (2, "r0002"), "all or nothing"
    memory.commit_round(3, STOP, "agreement 0.3", "r0003", back_to=1)
    assert (len(memory.rounds()), memory.current) == (3, "r0001")


def test_a_prompt_never_changes_sides(memory):
    moved = replace(PROMPTS[0], split=Split.HELDOUT)
    with pytest.raises(MemoryError_, match="prompt france is train"):
        memory.add_prompts([moved], EMBEDDER.encode([moved.text]))


@pytest.mark.parametrize("table", ["prompts", "units", "responses", "parents", "judgements", "tallies", "verdicts"])
def test_what_is_written_stays_written(memory, path, table):
    responses = commit(memory, [("france", "Paris")])
    commit(memory, [("france", "Paris!")], stage=Stage.REVISE, parents=(1,))
    commit_vote(memory, responses, lambda r: r.text)
    memory.commit_selection(1, Selection((Verdict(1, Reason.KEPT),), ()))
    memory.close()
    with closing(sqlite3.connect(path)) as raw:
        column = raw.execute(f"PRAGMA table_info({table})").fetchone()[1]
        for sql in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                raw.execute(sql)


def test_the_digest_ignores_times_and_nothing_else(tmp_path):
    def build(name, wall_s, text="Paris", policy="r0001"):
        with ResponseMemory.create(tmp_path / name) as memory:
            memory.set_meta("model", "abc")
            memory.add_prompts(PROMPTS, EMBEDDER.encode([p.text for p in PROMPTS]))
            unit, generations, vectors = make_unit([("france", text)])
            memory.commit_unit(unit, generations, vectors, wall_s=wall_s)
            memory.commit_round(1, KEEP, "fine", policy)
            return memory.digest()

    same = build("a", 1.0)
    assert build("b", 99.0) == same
    assert build("c", 1.0, text="Lyon") != same
    assert build("d", 1.0, policy="r0009") != same


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=40))
def test_any_text_is_stored_and_ordinary_text_untouched(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "memory.db"
    asked = Prompt("p", (Message("user", text),), Split.TRAIN)
    with ResponseMemory.create(path) as memory:
        memory.add_prompts([asked], EMBEDDER.encode([text]))
        request = Request("p", Origin.SAMPLE, asked.messages, 1)
        unit = Unit(1, Stage.SAMPLE, 0, (request,), make_unit([])[0].sampling, BASE)
        generation = Generation(text, Finish.STOP, 1, 1)
        (response,) = memory.commit_unit(unit, [generation], EMBEDDER.encode([text]), wall_s=0)
        assert memory.prompts() == [asked], "a prompt's id is a hash of its messages: they must come back exactly"
        assert memory.responses() == [response]
        assert memory.verify() == []
    if "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text):
        assert response.text == text
    else:
        assert "\ufffd" in response.text or "\0" not in text


def test_unstorable_characters_become_the_replacement_character():
    assert storable("a\0b\ud800c") == "a\ufffdb\ufffdc"
    assert storable("naïve 日本 🙂") == "naïve 日本 🙂"


# --- who may open it ------------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_and_told_who_is_first(memory, path):
    owner = json.loads((path.parent / "memory.db.owner.json").read_text())
    for attempt in (lambda: ResponseMemory.open(path, write=True), lambda: ResponseMemory.create(path)):
        with pytest.raises(MemoryError_) as refusal:
            attempt()
        for value in (str(owner["pid"]), owner["host"], owner["since"]):
            assert value in str(refusal.value)
    memory.close()
    with ResponseMemory.open(path, write=True) as second:
        assert second.prompts() == PROMPTS


def test_a_reader_sees_commits_as_they_come_and_cannot_write(memory, path):
    with ResponseMemory.open(path) as reader:
        assert reader.count() == 0
        commit(memory, [("france", "Paris")])
        assert reader.count() == 1
        with pytest.raises(MemoryError_, match="opened for reading"):
            reader.commit_result(1, Stage.TRAIN, {})


def test_a_reader_polls_while_the_writer_writes(memory, path):
    counts, faults, done = [], [], threading.Event()

    def poll():
        with ResponseMemory.open(path) as reader:
            while not done.is_set():
                try:
                    counts.append(reader.count())
                    faults.extend(f for f in reader.verify())
                except MemoryError_ as error:
                    faults.append(str(error))

    thread = threading.Thread(target=poll)
    thread.start()
    for index in range(25):
        commit(memory, [("france", "Paris"), ("hot", "cold")], index=index)
    done.set()
    thread.join()
    assert faults == []
    assert counts == sorted(counts)
    assert set(counts) <= {2 * n for n in range(26)}, "a reader never sees half a unit"


def test_files_that_are_no_memory_are_refused(tmp_path):
    missing, foreign, junk, empty = (tmp_path / name for name in ("missing.db", "foreign.db", "junk.db", "empty.db"))
    with closing(sqlite3.connect(foreign)) as raw:
        raw.execute("CREATE TABLE t (x)")
    junk.write_bytes(b"this is no database at all, but it is long enough to look" * 100)
    empty.touch()
    for path, why in (
        (missing, "no response memory at"),
        (foreign, "not a response memory"),
        (junk, "not a database"),
        (empty, "not a response memory"),
    ):
        for write in (False, True):
            with pytest.raises(MemoryError_, match=why):
                ResponseMemory.open(path, write=write)
    with pytest.raises(MemoryError_, match="exists already"):
        ResponseMemory.create(foreign)
    assert not missing.exists()


def test_another_model_is_refused_and_another_embedder_told_the_way_out(memory, path):
    memory.check_fingerprint("model", "sha-1")
    memory.check_fingerprint("embedder", "sha-2")
    memory.close()
    with ResponseMemory.open(path, write=True) as again:
        again.check_fingerprint("model", "sha-1")
        with pytest.raises(MemoryError_, match="made with model sha-1, this is sha-9: use the model"):
            again.check_fingerprint("model", "sha-9")
        with pytest.raises(MemoryError_, match="memory reembed"):
            again.check_fingerprint("embedder", "sha-9")


CRASH = """
import os, sys
sys.path.insert(0, sys.argv[2])
from memory_story import commit
from selfimprove.memory import ResponseMemory
memory = ResponseMemory.open(sys.argv[1], write=True)
for index in range(10_000):
    commit(memory, [("france", f"Paris {index}")] * 50, index=index)
    print(index, flush=True)
"""


def test_kill_in_the_middle_of_appending_loses_no_committed_unit(memory, path, request):
    memory.close()
    here = str(request.path.parent)
    command = [sys.executable, "-c", CRASH, str(path), here]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = -1
        while acknowledged < 5:
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        # what it said before it died; a last line may be cut
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout.read().split("\n")[:-1])])
    with ResponseMemory.open(path, write=True) as survivor:
        assert survivor.verify() == []
        assert len(survivor.units()) >= acknowledged + 1
        assert survivor.count() == 50 * len(survivor.units())
        commit(survivor, [("hot", "cold")], index=99_999)
        assert survivor.verify() == []
        assert prompt("france", "What is the capital of France?") in survivor.prompts()


def test_a_memory_can_be_read_from_the_moment_it_appears(path, monkeypatch):
    publish, journal = database.publish, []

    def published(temporary, path):
        publish(temporary, path)
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as reader:
            journal.append(reader.execute("PRAGMA journal_mode").fetchone()[0])

    monkeypatch.setattr(database, "publish", published)
    ResponseMemory.create(path).close()
    assert journal == ["wal"], "what a killed writer leaves of a later switch, only a writer can undo"


def test_a_memory_in_a_folder_that_cannot_be_written_is_read(memory, path):
    """Read-only media are played by a folder in the place of the file that SQLite would make for readers."""
    commit(memory, [("france", "Paris")])
    memory.close()
    path.with_name("memory.db-wal").mkdir()
    with ResponseMemory.open(path) as reader:
        assert (reader.count(), reader.verify()) == (1, [])
