"""The index finds what brute force finds, in the same order, however the rows came in."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_story import PROMPTS, SAMPLING, unit_rows

from selfimprove.memory import ResponseMemory, VectorIndex
from selfimprove.memory.search import segments
from selfimprove.types import Finish, Generation, Origin, Request, Stage, Unit


def fill(path, vectors, sizes):
    """A memory whose responses 1..n have these vectors, committed in units of the given sizes."""
    memory = ResponseMemory.create(path)
    memory.add_prompts(PROMPTS[:1], vectors[:1])
    start = 0
    for index, size in enumerate(sizes):
        rows = vectors[start : start + size]
        requests = tuple(Request("france", Origin.SAMPLE, PROMPTS[0].messages, slot) for slot in range(len(rows)))
        generations = [Generation("x", Finish.STOP, 1, 1)] * len(rows)
        memory.commit_unit(Unit(1, Stage.SAMPLE, index, requests, SAMPLING, "base"), generations, rows, wall_s=0)
        start += size
    return memory


def brute_force(vectors, queries, k, allowed=None):
    ids = np.arange(1, len(vectors) + 1) if allowed is None else np.unique(allowed)
    scores = (queries[:, None].astype(np.float64) * vectors[None, ids - 1]).sum(axis=2)
    order = np.array([np.lexsort((ids, -row)) for row in scores]).reshape(len(queries), -1)[:, :k]
    return ids[order], np.take_along_axis(scores, order, axis=1)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 300),
    k=st.integers(1, 20),
    repeats=st.booleans(),
    share=st.sampled_from([None, 0.02, 0.3, 0.9]),
)
def test_search_equals_brute_force_with_filters_and_ties(tmp_path_factory, seed, n, k, repeats, share):
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng, n)
    if repeats:
        vectors = vectors[rng.integers(0, max(1, n // 10), n)]  # many exact ties
    queries = np.concatenate([unit_rows(rng, 3), vectors[:2]])
    allowed = None if share is None else 1 + np.flatnonzero(rng.random(n) < share)
    with fill(tmp_path_factory.mktemp("index") / "memory.db", vectors, [n // 2, n - n // 2]) as memory:
        ids, scores = VectorIndex(memory).search(queries, k, allowed)
    expected_ids, expected_scores = brute_force(vectors, queries, k, allowed)
    width = expected_ids.shape[1]
    assert np.array_equal(ids[:, :width], expected_ids)
    assert np.array_equal(scores[:, :width], expected_scores)
    assert (ids[:, width:] == -1).all()
    assert np.isneginf(scores[:, width:]).all()


def test_how_rows_came_in_changes_nothing(tmp_path):
    rng = np.random.default_rng(3)
    vectors = unit_rows(rng, 1000, d=384)
    queries = unit_rows(rng, 7, d=384)
    answers = []
    for name, sizes in (("a", [1000]), ("b", [1, 9, 90, 900]), ("c", [500, 500])):
        with fill(tmp_path / name, vectors, sizes) as memory:
            answers.append(VectorIndex(memory).search(queries, 8))
            one_by_one = [VectorIndex(memory).search(query[None], 8) for query in queries]
        assert np.array_equal(answers[-1][0], np.concatenate([ids for ids, _ in one_by_one]))
        assert np.array_equal(answers[-1][1], np.concatenate([scores for _, scores in one_by_one]))
    assert all(np.array_equal(answers[0][0], ids) and np.array_equal(answers[0][1], s) for ids, s in answers[1:])


def test_near_ties_that_half_precision_cannot_order_are_all_found(tmp_path):
    """Hundreds of rows closer together than half precision resolves, and as many that are equal to the bit."""
    rng = np.random.default_rng(4)
    close = unit_rows(rng, 1, d=32) + 1e-5 * rng.standard_normal((300, 32)).astype(np.float32)
    close /= np.linalg.norm(close, axis=1, keepdims=True)
    vectors = np.concatenate([unit_rows(rng, 200, d=32), close, np.repeat(close[:1], 300, axis=0)])
    vectors = vectors[rng.permutation(len(vectors))]
    queries = np.concatenate([close[:3], unit_rows(rng, 2, d=32)])
    with fill(tmp_path / "memory.db", vectors, [800]) as memory:
        for allowed in (None, 1 + np.flatnonzero(rng.random(800) < 0.6), 1 + np.flatnonzero(rng.random(800) < 0.1)):
            found, expected = VectorIndex(memory).search(queries, 8, allowed), brute_force(vectors, queries, 8, allowed)
            assert np.array_equal(found[0], expected[0])
            assert np.array_equal(found[1], expected[1])


def test_new_commits_are_found_at_the_next_search(tmp_path):
    vectors = unit_rows(np.random.default_rng(0), 30)
    with fill(tmp_path / "memory.db", vectors[:20], [20]) as memory:
        index = VectorIndex(memory)
        frozen = vectors[25:26].copy()
        frozen.setflags(write=False)
        assert index.search(frozen, 1)[0].max() <= 20
        unit = Unit(
            2, Stage.SAMPLE, 0, tuple(Request("france", Origin.SAMPLE, (), i) for i in range(10)), SAMPLING, "r"
        )
        memory.commit_unit(unit, [Generation("x", Finish.STOP, 1, 1)] * 10, vectors[20:], wall_s=0)
        assert index.search(vectors[25:26], 1)[0].tolist() == [[26]]


@pytest.mark.parametrize("k", [0, 3])
def test_nothing_to_find(tmp_path, k):
    with fill(tmp_path / "memory.db", unit_rows(np.random.default_rng(0), 5), [0]) as memory:
        ids, scores = VectorIndex(memory).search(unit_rows(np.random.default_rng(1), 2), k)
        assert ids.shape == scores.shape == (2, k)
        assert (ids == -1).all()


# --- sealed segments ------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path, monkeypatch):
    """1,000 rows around 20 centres, 4 segments of 192 rows sealed, the rest exact."""
    monkeypatch.setattr(segments, "ROWS_A_CELL", 16)
    monkeypatch.setattr(segments, "FEW", 10)
    rng = np.random.default_rng(5)
    centres = unit_rows(rng, 20, d=32)
    vectors = centres[rng.integers(0, 20, 1000)] + 0.05 * rng.standard_normal((1000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = tmp_path / "memory.db"
    with fill(path, vectors, [600, 400]) as memory:
        VectorIndex(memory, segment_rows=192).refresh()
    return path, vectors, sorted(path.with_name("memory.db.index").iterdir())


def answer(path, vectors, allowed=None, *, write=False):
    with ResponseMemory.open(path, write=write) as memory:
        return VectorIndex(memory, segment_rows=192).search(vectors[::50], 8, allowed)


@pytest.mark.parametrize("share", [None, 0.02, 0.5])
def test_segments_find_what_brute_force_finds(sealed, share):
    path, vectors, files = sealed
    assert [file.name for file in files] == ["1-192.faiss", "193-384.faiss", "385-576.faiss", "577-768.faiss"]
    allowed = None if share is None else 1 + np.flatnonzero(np.random.default_rng(0).random(1000) < share)
    ids, scores = answer(path, vectors, allowed)
    expected_ids, expected_scores = brute_force(vectors, vectors[::50], 8, allowed)
    assert np.array_equal(ids, expected_ids), "all cells are probed at this size"
    assert np.array_equal(scores, expected_scores)


def test_a_search_of_segments_does_not_depend_on_the_batch(sealed, monkeypatch):
    monkeypatch.setattr(segments, "PROBES", 3)
    path, vectors, _ = sealed
    with ResponseMemory.open(path) as memory:
        index = VectorIndex(memory, segment_rows=192)
        together = index.search(vectors[::5], 8)
        one_by_one = [index.search(query[None], 8) for query in vectors[::5]]
    for part in (0, 1):
        assert np.array_equal(together[part], np.concatenate([found[part] for found in one_by_one]))


@pytest.mark.parametrize("fault", ["missing", "torn", "foreign", "flipped"])
def test_a_bad_index_file_is_never_read_and_made_again(sealed, fault):
    path, vectors, files = sealed
    expected = answer(path, vectors)
    good = files[1].read_bytes()
    bad = {"torn": good[: len(good) // 2], "foreign": files[2].read_bytes(), "flipped": good[:-9] + b"!" + good[-8:]}
    files[1].unlink() if fault == "missing" else files[1].write_bytes(bad[fault])
    for write in (False, True, False):  # a reader does without it, the writer makes it again
        ids, scores = answer(path, vectors, write=write)
        assert np.array_equal(ids, expected[0])
        assert np.array_equal(scores, expected[1])
    assert files[1].read_bytes() == good


def test_a_missing_segment_is_made_again_whatever_the_size_of_new_ones(sealed):
    """A larger segment began with the rows of the missing one, reached over the three others, and mixed up all rows."""
    path, vectors, files = sealed
    good = files[0].read_bytes()
    files[0].unlink()
    with ResponseMemory.open(path, write=True) as memory:
        VectorIndex(memory, segment_rows=200).refresh()
        ranges = memory.db.rows("SELECT first_id, last_id FROM segments ORDER BY first_id")
    assert ranges == [(1, 192), (193, 384), (385, 576), (577, 768)]
    assert files[0].read_bytes() == good
    with ResponseMemory.open(path) as memory:
        found = VectorIndex(memory).search(vectors[::7], 1)[0][:, 0]
    assert found.tolist() == list(range(1, 1001, 7)), "each is its own nearest neighbour"


def test_a_few_rows_in_a_missing_segment_are_sealed_again(sealed):
    """Fewer rows than the flat index may hold are no reason to leave the file out: `embed` builds it again."""
    path, _, files = sealed
    files[3].unlink()
    with ResponseMemory.open(path, write=True) as memory:
        VectorIndex(memory, segment_rows=400).refresh()
    assert files[3].is_file()


def test_segments_that_overlap_are_not_read(sealed):
    path, vectors, _ = sealed
    expected = answer(path, vectors)
    with ResponseMemory.open(path, write=True) as memory, memory.db.transaction():
        memory.db.write("UPDATE segments SET last_id = 776 WHERE first_id = 1")
    for write in (False, True, False):
        assert np.array_equal(answer(path, vectors, write=write)[0], expected[0])
    with ResponseMemory.open(path) as memory:
        assert memory.db.rows("SELECT first_id, last_id FROM segments LIMIT 2") == [(1, 192), (193, 384)]


def test_the_index_is_a_cache(sealed):
    path, vectors, files = sealed
    expected = answer(path, vectors)
    with ResponseMemory.open(path) as memory:
        digest = memory.digest()
    for file in files:
        file.unlink()
    assert np.array_equal(answer(path, vectors, write=True)[0], expected[0])
    with ResponseMemory.open(path) as memory:
        assert memory.digest() == digest
        assert memory.verify() == []
