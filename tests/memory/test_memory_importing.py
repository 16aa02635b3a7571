"""Responses of another run come in through a file, stay in quarantine, and say where they are from."""

import json

import numpy as np
import pytest
from memory_story import EMBEDDER, PROMPTS, commit, commit_vote

from selfimprove.errors import UserError
from selfimprove.memory import ResponseMemory, VectorIndex
from selfimprove.memory.importing import import_file
from selfimprove.memory.inspect.entries import find, write_jsonl, write_parquet
from selfimprove.memory.retrieval import own_past, trust
from selfimprove.types import VOTERS, Origin


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
    done = import_file(mine, export / f"other.{suffix}")
    assert (done.unit, done.responses, done.left_out) == ("r0000/import/0000", 2, 1)
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
    import_file(mine, export / "other.jsonl")
    with pytest.raises(UserError, match=r"in this memory already: r0000/import/0000"):
        import_file(mine, export / "other.jsonl")
    assert import_file(mine, export / "other.parquet").unit == "r0000/import/0001"


def test_a_file_that_is_no_export_changes_nothing(mine, tmp_path, export):
    row = json.loads((export / "other.jsonl").read_text().splitlines()[0])
    faults = {
        "a.jsonl": ("{", "line 1 is no JSON"),
        "b.jsonl": ("[1]", "row 1 is no object"),
        "c.jsonl": (json.dumps(row) + "\n" + json.dumps(row | {"response": None}), "row 2: response should be str"),
        "d.jsonl": (json.dumps(row | {"finish": "tired"}), "finish should be stop or length, it is 'tired'"),
        "e.jsonl": (json.dumps(row | {"prompt_id": "spain"}), "none of the 1 responses"),
        "f.jsonl": (json.dumps(row | {"round": True}), "round should be int, it is True"),
        "g.parquet": ("PAR0", "is no Parquet file"),
        "h.csv": ("id", "name it .jsonl or .parquet"),
    }
    for name, (text, says) in faults.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=says):
            import_file(mine, tmp_path / name)
    with pytest.raises(UserError, match="no file"):
        import_file(mine, tmp_path / "nowhere.jsonl")
    assert mine.count() == 0
    assert mine.units() == []
    assert np.array_equal(VectorIndex(mine).search(EMBEDDER.encode(["cold"]), 1)[0], [[-1]])
