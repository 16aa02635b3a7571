"""A memory as a Lance data set: what was in it, whole or not at all, and the neighbours that our own search finds."""

import json
import shutil
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from memory_story import commit, commit_vote, make_unit, unit_rows

from selfimprove.cli.main import main
from selfimprove.config_engines import RayConfig
from selfimprove.engines.ray import connect
from selfimprove.errors import UserError
from selfimprove.memory import VectorIndex
from selfimprove.memory.inspect.entries import find
from selfimprove.memory.lance import write as lance_export
from selfimprove.memory.lance.search import (
    check_embedder,
    condition,
    entries_of,
    open_set,
    search,
    search_index,
    search_on_ray,
)
from selfimprove.memory.lance.write import write_lance
from selfimprove.memory.store.reads import Filter
from selfimprove.outcomes import Reason, Selection, Verdict
from selfimprove.types import Stage

needs_lance = pytest.mark.skipif(find_spec("lance") is None, reason="needs the extra: pip install 'selfimprove[lance]'")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra: pip install 'selfimprove[ray]'")
TRAIN = ["france", "spain", "hot", "7x8", "7x9", "rose"]
K = 8


@pytest.fixture
def full(memory, monkeypatch):
    """Answers of two rounds, many the same to the letter, and a page of critiques, which have no vectors."""
    monkeypatch.setattr(lance_export, "FRAGMENT_ROWS", 25)
    first = commit(memory, [(id_, f"Answer {n % 4}") for id_ in TRAIN for n in range(10)])
    commit_vote(memory, first, lambda response: response.text)
    verdicts = [Verdict(r.id, Reason.KEPT if r.id % 2 else Reason.MINORITY) for r in first]
    kept, dropped = (tuple(v for v in verdicts if v.kept == side) for side in (True, False))
    memory.commit_selection(1, Selection(kept, dropped))
    unit, generations, _ = make_unit([("hot", "is it cold")] * 28, round=2, stage=Stage.CRITIQUE)
    memory.commit_unit(unit, generations, None, wall_s=0.0)
    commit(memory, [(id_, f"It's {n % 7}") for id_ in TRAIN for n in range(10)], round=2)
    return memory


@pytest.fixture
def data(full, tmp_path):
    write_lance(full, find(full), tmp_path / "all.lance")
    return tmp_path / "all.lance"


def queries_near(memory, rng, n=5):
    rows = memory.vectors((rng.permutation(60)[:n] + 1).tolist())
    return unit_rows(rng, n, rows.shape[1]) * 0.1 + rows


def same(found, expected):
    assert (found[0] == expected[0]).all() and (found[1] == expected[1]).all()


@needs_lance
def test_a_row_is_an_entry_with_its_vector(full, data):
    rows = open_set(data).to_table().to_pylist()
    vectors = [row.pop("vector") for row in rows]
    assert rows == [asdict(entry) for entry in find(full)]
    assert [row["id"] for row, vector in zip(rows, vectors, strict=True) if vector is None] == list(range(61, 89))
    assert (np.array(vectors[88:], dtype=np.float32) == full.vectors(range(89, 149))).all()
    assert [entry.id for entry in entries_of(data, [99, 3])] == [99, 3]


@needs_lance
def test_a_round_begins_a_fragment_and_one_manifest_names_all(data):
    fragments = open_set(data).get_fragments()
    assert [fragment.count_rows() for fragment in fragments] == [25, 25, 10, 25, 25, 25, 13]
    assert len(list((data / "_versions").glob("*.manifest"))) == 1


@needs_lance
def test_an_export_that_breaks_leaves_nothing_and_none_of_something_is_a_data_set(full, tmp_path):
    def breaking():
        yield from find(full, Filter(round=1))
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="gone"):
        write_lance(full, breaking(), tmp_path / "all.lance")
    assert [path.name for path in tmp_path.iterdir() if "lance" in path.name] == []
    write_lance(full, find(full, ids=[]), tmp_path / "none.lance")
    assert open_set(tmp_path / "none.lance").count_rows() == 0
    ids, scores = search(tmp_path / "none.lance", full.vectors([1]), 2)
    assert ids.tolist() == [[-1, -1]] and (scores == -np.inf).all()


@needs_lance
@pytest.mark.parametrize("k", [1, K, 500])
def test_the_scan_finds_what_our_index_finds(full, data, k):
    queries = queries_near(full, np.random.default_rng(k))
    same(search(data, queries, k), VectorIndex(full).search(queries, k))


@needs_lance
def test_a_search_can_be_limited_to_verdicts_a_round_or_a_prompt(full, data):
    queries = queries_near(full, np.random.default_rng(1))
    index = VectorIndex(full)
    for where, wanted in (
        (condition(reasons=[Reason.KEPT]), Filter(kept=True)),
        (condition(round=2, prompt_id="hot"), Filter(round=2, prompt_id="hot")),
    ):
        same(search(data, queries, K, where), index.search(queries, K, full.ids(wanted)))
    assert (search(data, queries, K, condition(prompt_id="it's' OR 'a'='a"))[0] == -1).all()


@needs_lance
def test_an_index_that_lance_made_is_used_and_its_scores_are_exact(full, data):
    queries = queries_near(full, np.random.default_rng(2))
    open_set(data).create_index("vector", "IVF_SQ", metric="dot", num_partitions=2)
    where = condition(round=2)
    ids, scores = search_index(data, queries, K, where, cells=2)
    exact_ids, exact_scores = search(data, queries, K, where)
    assert (scores[:, 0] == exact_scores[:, 0]).all()
    for query, row_ids, row_scores in zip(queries, ids, scores, strict=True):
        assert {entry.round for entry in entries_of(data, row_ids.tolist())} == {2}
        expected = (query.astype(np.float64) * full.vectors(row_ids.tolist())).sum(axis=1)
        assert (row_scores == expected).all()
    assert (np.sort(exact_ids) != np.sort(ids)).mean() < 0.3  # equal texts: any of them may be among the 8


@pytest.fixture(scope="module")
def cluster():
    import ray

    assert connect(RayConfig())
    yield
    ray.shutdown()


@needs_lance
@needs_ray
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_finds_the_same(full, data, cluster):
    for k, where in ((K, condition()), (100, condition(round=2))):
        queries = queries_near(full, np.random.default_rng(k))
        same(search_on_ray(data, queries, k, where), search(data, queries, k, where))
    write_lance(full, find(full, ids=[]), data.with_name("none.lance"))
    assert (search_on_ray(data.with_name("none.lance"), queries, 2)[0] == -1).all()
    next((data / "data").iterdir()).unlink()
    with pytest.raises(UserError, match=f"a worker says: cannot read {data}"):
        search_on_ray(data, queries, K)


@needs_lance
def test_vectors_of_another_embedder_and_what_is_no_sound_data_set_are_refused(full, data, tmp_path):
    check_embedder(data, None)
    with pytest.raises(UserError, match="are of embedder unknown, this memory's of hash:64"):
        check_embedder(data, "hash:64")
    with pytest.raises(UserError, match="is no Lance data set"):
        search(tmp_path / "nothing.lance", full.vectors([1]), 1)
    next((data / "data").iterdir()).unlink()
    with pytest.raises(UserError, match=f"cannot read {data}"):
        search(data, full.vectors([1]), 1)


@pytest.fixture
def cli(undisturbed, tmp_path, monkeypatch):
    """Run `selfimprove memory tiny ...` in a folder in which `runs/tiny` is a finished run."""
    shutil.copytree(undisturbed[0], tmp_path / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)

    def invoke(*words, code=0):
        result = CliRunner().invoke(main, ["memory", "tiny", *map(str, words)])
        assert result.exit_code == code, f"{result.output}\n{result.stderr}"
        return result.stdout if code == 0 else result.stderr

    return invoke


@needs_lance
def test_the_commands(cli):
    assert cli("export", "all", "--to", "lance") == "wrote all\n"
    cli("export", "all.lance")

    def rows(*words):
        return [json.loads(line) for line in cli(*words, "--json").splitlines()]

    first, *_, other = rows("list", "--kept", "-n", 0)
    near = {row["id"]: row["score"] for row in rows("nearest", first["id"], "all.lance", "-n", 20)}
    similar = {row["id"]: row["score"] for row in rows("similar", first["id"], "-n", 19)}
    assert near.pop(first["id"], 1) == pytest.approx(1)
    assert all(near[id_] == score for id_, score in similar.items() if id_ in near) and near.keys() & similar.keys()
    of_other = ("--prompt", other["prompt_id"], "--reason", other["reason"], "--round", other["round"])
    found = rows("nearest", first["id"], "all", *of_other)
    assert other["id"] in [row["id"] for row in found]
    told = ("prompt_id", "reason", "round")
    assert {tuple(row[name] for name in told) for row in found} == {tuple(other[name] for name in told)}
    assert rows("nearest", first["id"], "all", "--round", 99) == []
    assert "there is kept" in cli("nearest", first["id"], "all", "--reason", "good", code=2)
    assert "is no Lance data set" in cli("nearest", first["id"], "runs", code=2)


@needs_lance
@needs_ray
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_the_command_asks_the_cluster(cli, cluster):
    cli("export", "all.lance", "--kept")
    some = json.loads(cli("list", "--kept", "-n", 1, "--json"))["id"]
    assert cli("nearest", some, "all.lance", "--ray", "--json") == cli("nearest", some, "all.lance", "--json") != ""


def test_without_lance_one_line_says_how_to_get_it(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "lance", None)
    assert "pip install 'selfimprove[lance]'" in cli("export", "all.lance", code=2)
    assert not Path("all.lance").exists()
