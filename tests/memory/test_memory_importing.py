"""Responses of another run come in through a file, stay in quarantine, and say where they are from."""

import json

import numpy as np
import pytest
from memory_story import EMBEDDER, PROMPTS, commit, commit_vote

from selfimprove.errors import UserError
from selfimprove.memory import ResponseMemory, VectorIndex
from selfimprove.memory.importing import import_file
from selfimprove.memory.inspect.entries import find, write_jsonl, write_parquet
from selfimprove.memory.inspect.overview import overview
from selfimprove.memory.retrieval import own_past, trust
from selfimprove.memory.store.memory import Arrival
from selfimprove.outcomes import Decision, GuardVerdict
from selfimprove.prompts import make_prompt
from selfimprove.types import VOTERS, Message, Origin, Source


@pytest.fixture
def export(tmp_path):
    """What another run wrote, exported as JSONL and as Parquet: three responses, one to a prompt of its own."""
    with ResponseMemory.create(tmp_path / "other.db") as other:
        other.add_prompts(PROMPTS, EMBEDDER.encode([p.text for p in PROMPTS]))
        commit(other, [("france", "Paris"), ("hot", "cold\nindeed"), ("spain", "Madrid")], round=3)
        write_jsonl(find(other), tmp_path / "other.jsonl")
        write_parquet(find(other), tmp_path / "other.parquet")
    return tmp_path


@pytest.fixture
def mine(tmp_path):
    """A memory that does not have the prompt `spain`."""
    with ResponseMemory.create(tmp_path / "mine.db") as memory:
        prompts = [p for p in PROMPTS if p.id != "spain"]
        memory.add_prompts(prompts, EMBEDDER.encode([p.text for p in prompts]))
        yield memory


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_an_import_keeps_its_provenance_and_takes_no_part(mine, export, suffix):
    own = commit(mine, [("france", "Paris"), ("france", "Paris!")])
    commit_vote(mine, own, lambda r: "paris")
    before = trust(mine, EMBEDDER.encode, round=1, vote_index=0, min_support=0.5)
    done = import_file(mine, export / f"other.{suffix}", EMBEDDER.encode)
    assert (done.unit, done.responses, done.unknown) == ("r0000/import/0000", 2, 1)
    imported = mine.responses(origins=[Origin.IMPORTED])
    assert [(r.id, r.prompt_id, r.text, r.round, r.policy) for r in imported] == [
        (3, "france", "Paris", 0, ""),
        (4, "hot", "cold\nindeed", 0, ""),
    ]
    (unit,) = mine.units(round=0)
    assert unit.payload["file"] == f"other.{suffix}"
    assert [dict(zip(unit.payload["columns"], row, strict=True)) for row in unit.payload["rows"]] == [
        {"id": 1, "round": 3, "origin": "sample", "policy": "base", "unit": "r0003/sample/0000"},
        {"id": 2, "round": 3, "origin": "sample", "policy": "base", "unit": "r0003/sample/0000"},
    ]
    assert mine.verify() == []
    assert mine.search_text("indeed") == [4], "people find it"
    assert not {3, 4} & set(VectorIndex(mine).search(EMBEDDER.encode(["cold"]), 9)[0].ravel().tolist())
    assert [r.id for r in own_past(mine, ["france", "hot"], 9)["france"]] == [1, 2]
    assert mine.responses(rounds=range(9), origins=VOTERS) == own
    assert trust(mine, EMBEDDER.encode, round=1, vote_index=0, min_support=0.5) == before
    mine.commit_vote(1, [], [], index=1)
    assert mine.verify() == []


def test_a_file_comes_in_once(mine, export):
    import_file(mine, export / "other.jsonl", EMBEDDER.encode)
    with pytest.raises(UserError, match=r"in this memory already: r0000/import/0000"):
        import_file(mine, export / "other.jsonl", EMBEDDER.encode)
    assert import_file(mine, export / "other.parquet", EMBEDDER.encode).unit == "r0000/import/0001"


def test_a_file_with_nothing_to_import_changes_nothing(mine, tmp_path, export):
    row = json.loads((export / "other.jsonl").read_text().splitlines()[0])
    faults = {
        "a.jsonl": ("{", "line 1: not valid JSON"),
        "b.jsonl": ("[1]", "line 1: a JSON list"),
        "c.jsonl": (json.dumps(row | {"response": None}), "line 1: response should be str"),
        "d.jsonl": (json.dumps(row | {"finish": "tired"}), "finish should be stop or length, it is 'tired'"),
        "e.jsonl": (json.dumps(row | {"prompt_id": "spain"}), "none of the 1 responses"),
        "f.jsonl": (json.dumps(row | {"round": True}), "round should be int, it is True"),
        "j.jsonl": (json.dumps(row | {"new_tokens": 2**62}), "new_tokens should be a count below 2..31, it is 461"),
        "k.jsonl": (json.dumps(row | {"prompt_id": "?", "prompt": "\ud800"}), "line 1: holds half of a surrogate pair"),
        "l.jsonl": (json.dumps(row | {"prompt_id": "?", "prompt": None}), "none of the 1 responses"),
        "g.parquet": ("PAR0", "cannot read"),
        "h.csv": ("id\n1", "has id but neither messages nor a prompt"),
        "i.xlsx": ("id", "are not read"),
    }
    for name, (text, says) in faults.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=says):
            import_file(mine, tmp_path / name, EMBEDDER.encode)
    with pytest.raises(UserError, match="no file"):
        import_file(mine, tmp_path / "nowhere.jsonl", EMBEDDER.encode)
    assert mine.count() == 0
    assert mine.units() == []
    assert np.array_equal(VectorIndex(mine).search(EMBEDDER.encode(["cold"]), 1)[0], [[-1]])


def test_a_row_that_cannot_be_read_is_counted_and_the_others_come_in(mine, tmp_path, export):
    lines = (export / "other.jsonl").read_text().splitlines()
    (tmp_path / "some.jsonl").write_text("\n".join([lines[0], "{", lines[1]]))
    done = import_file(mine, tmp_path / "some.jsonl", EMBEDDER.encode)
    assert done.responses == 2
    (fault,) = done.faults
    assert fault.startswith("line 2: not valid JSON")


def test_a_memory_opens_whose_imported_counts_add_up_to_more_than_an_integer(mine):
    """Older versions imported counts up to 2**63: `status`, `stats`, `report` and `--resume` ended in an overflow."""
    commit(mine, [("france", "Paris")])
    rows = [("france", "imported", "stop", 0, 1, 2**62, "Paris")] * 3
    mine.commit_import(Arrival(rows, [Source(2 + n, "old.jsonl", f"#{n}") for n in range(3)], {"file": "old.jsonl"}))
    mine.commit_round(1, GuardVerdict(Decision.KEEP, ()), "fine", "r0001")
    (record,) = mine.rounds()
    assert (record.responses, record.new_tokens) == (1, 3)
    assert {line.origin: line.responses for line in overview(mine).operators} == {"imported": 3, "sample": 1}


def test_trusted_answers_are_recalled_and_those_to_held_out_prompts_are_not_even_stored(mine, tmp_path):
    rows = [
        {"prompt": "What is the capital of Spain?", "response": "Madrid"},
        {"prompt": "What is the capital of Italy?", "response": "Rome"},  # held out by its text below
    ]
    held = make_prompt([Message("user", rows[1]["prompt"])], heldout=1.0)
    mine.add_prompts([held], EMBEDDER.encode([held.text]))
    (tmp_path / "logs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    quarantined = import_file(mine, tmp_path / "logs.jsonl", EMBEDDER.encode)
    assert (quarantined.responses, quarantined.unfit) == (2, 0)
    done = import_file(mine, tmp_path / "logs.jsonl", EMBEDDER.encode, trust=True)
    assert (done.responses, done.unfit, done.begins) == (1, 1, 1)
    with pytest.raises(UserError, match="in this memory already"):
        import_file(mine, tmp_path / "logs.jsonl", EMBEDDER.encode, trust=True)
    (past,) = mine.candidates()
    assert (past.text, past.origin, mine.sources([past.id])[past.id].weight) == ("Madrid", Origin.PAST, 0.5)
    (found,) = find(mine, ids=[past.id])
    assert found.source == "logs.jsonl line 1"
    assert mine.verify() == []
