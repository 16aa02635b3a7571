"""Responses are embedded when something compares them: stored by a writer, alike for readers, found by every search."""

import numpy as np
import pytest
from memory_story import EMBEDDER, PROMPTS, commit_vote, make_unit, unit_rows

from selfimprove.memory import Embedder, ResponseMemory, VectorIndex, embedding
from selfimprove.memory.embedding import embed_rest, embeddable, text_of, vectors_of
from selfimprove.memory.retrieval import neighbours, pool_index, trust
from selfimprove.memory.search import segments
from selfimprove.types import Finish, Generation, Origin, Request, Stage, Unit

ANSWERS = [("france", "Paris"), ("france", "Paris."), ("hot", "cold"), ("spain", "Madrid"), ("7x8", "56")]


@pytest.fixture
def plain(memory):
    """Responses 1 to 5 without vectors, and one to a held-out prompt."""
    for answers, stage, index in ((ANSWERS[:3], Stage.SAMPLE, 0), (ANSWERS[3:], Stage.SAMPLE, 1)):
        unit, generations, _ = make_unit(answers, stage=stage, index=index)
        memory.commit_unit(unit, generations, None, wall_s=0)
    unit, generations, _ = make_unit([("italy", "Rome")], stage=Stage.PROBE)
    memory.commit_unit(unit, generations, None, wall_s=0)
    return memory


def texts(memory, ids):
    prompts = {p.id: p for p in PROMPTS}
    return {r.id: text_of(prompts[r.prompt_id], r.text) for r in memory.responses(ids=ids)}


def test_a_writer_stores_what_it_computes_and_a_reader_computes_the_same(plain, path):
    wanted = texts(plain, [1, 3, 4])
    with ResponseMemory.open(path) as reader:
        ids, vectors = vectors_of(reader, wanted, EMBEDDER.encode)
        assert len(reader.embedded([1, 3, 4])[0]) == 0
    assert ids.tolist() == [1, 3, 4]
    assert np.array_equal(vectors, EMBEDDER.encode([wanted[id_] for id_ in (1, 3, 4)]))
    assert np.array_equal(vectors_of(plain, wanted, EMBEDDER.encode)[1], vectors)
    assert np.array_equal(plain.vectors([1, 3, 4]), vectors)

    def encode(_):
        raise AssertionError("stored vectors are not computed again")

    assert np.array_equal(vectors_of(plain, wanted, encode)[1], vectors)
    assert plain.verify() == []


def test_the_rest_is_embedded_in_parts_and_a_stopped_command_goes_on(plain, path, monkeypatch):
    monkeypatch.setattr(embedding, "CHUNK", 2)
    vectors_of(plain, texts(plain, [2]), EMBEDDER.encode)
    rest = embed_rest(plain, EMBEDDER.encode, str)
    assert next(rest) == 2
    rest.close()  # killed here
    assert plain.embedded(range(1, 7))[0].tolist() == [1, 2, 3]
    assert list(embed_rest(plain, EMBEDDER.encode, str)) == [2]
    assert list(embed_rest(plain, EMBEDDER.encode, str)) == []
    assert plain.embedded(range(1, 7))[0].tolist() == [1, 2, 3, 4, 5], "answers to held-out prompts are not compared"
    assert embeddable(plain) == 5
    assert np.array_equal(plain.vectors([4]), EMBEDDER.encode(["What is the capital of Spain?\nMadrid"]))
    index = VectorIndex(plain)
    assert index.search(plain.vectors([4]), 1)[0].tolist() == [[4]]
    assert len(index) == 5
    assert plain.verify() == []


def test_a_pool_is_searched_by_a_reader_as_by_the_run(plain, path):
    commit_vote(plain, plain.responses(origins=[Origin.SAMPLE]), lambda r: r.text.strip("."))
    pool = trust(plain, EMBEDDER.encode, round=1, vote_index=0, min_support=0.5)
    assert pool.shown.keys() == {1, 3, 4, 5}, "without vectors they are trusted all the same"
    with ResponseMemory.open(path) as reader:
        read_only = neighbours(reader, pool_index(reader, pool, EMBEDDER.encode), pool, PROMPTS)
    found = neighbours(plain, pool_index(plain, pool, EMBEDDER.encode), pool, PROMPTS)
    assert found == read_only
    assert found == neighbours(plain, VectorIndex(plain), pool, PROMPTS), "as by the index of the whole memory"
    assert plain.embedded(range(1, 7))[0].tolist() == [1, 3, 4, 5]


def test_vectors_that_come_late_are_found_beside_sealed_files(path, monkeypatch):
    monkeypatch.setattr(segments, "ROWS_A_CELL", 16)
    vectors = unit_rows(np.random.default_rng(7), 800, d=32)
    requests = tuple(Request("france", Origin.SAMPLE, PROMPTS[0].messages, slot) for slot in range(800))
    with ResponseMemory.create(path) as memory:
        memory.add_prompts(PROMPTS[:1], vectors[:1])
        unit = Unit(1, Stage.SAMPLE, 0, requests, make_unit([])[0].sampling, "base")
        memory.commit_unit(unit, [Generation("x", Finish.STOP, 1, 1)] * 800, None, wall_s=0)
        first, late = np.arange(1, 801, 2), np.arange(300, 801, 2)
        for ids in (first, late):
            memory.commit_vectors(ids.tolist(), vectors[ids - 1])
            index = VectorIndex(memory, segment_rows=96)
            index.refresh()
            there = np.union1d(first, ids)
            assert len(index) == len(there)
            found, _ = index.search(vectors[::40], 5)
            scores = vectors[::40].astype(np.float64) @ vectors[there - 1].T
            assert np.array_equal(found, there[np.argsort(-scores, axis=1, kind="stable")[:, :5]])
            assert memory.db.rows("SELECT count(*) FROM segments") != [(0,)]
        assert memory.verify() == []


def test_another_width_is_refused(plain):
    with pytest.raises(ValueError, match=r"have shape \(1, 16\), expected \(1, 64\)"):
        plain.commit_vectors([1], Embedder.load("hash:16").encode(["Paris"]))
    assert len(plain.embedded([1])[0]) == 0
