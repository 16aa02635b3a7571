"""The memory's commands on a finished run that change it, or tell how far one response reaches."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from selfimprove.cli.main import main
from selfimprove.memory import Embedder, ResponseMemory
from selfimprove.outcomes import Reason, Selection, Verdict
from selfimprove.run.folder import saved_config
from selfimprove.types import BASE, Finish, Generation, Origin, Request, Sampling, Split, Stage, Unit


@pytest.fixture
def cli(undisturbed, tmp_path, monkeypatch):
    """Run `selfimprove memory tiny ...` in a folder in which `runs/tiny` is a finished run."""
    shutil.copytree(undisturbed[0], tmp_path / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)

    def invoke(*words, code=0):
        result = CliRunner().invoke(main, ["memory", "tiny", *map(str, words)])
        assert result.exit_code == code, f"{result.output}\n{result.stderr}"
        return result.output if code == 0 else result.stderr

    return invoke


def test_echo_names_who_reaches_far_and_show_whom_for(cli):
    with ResponseMemory.open(Path("runs/tiny/memory.db"), write=True) as memory:
        first, second, *_ = memory.prompts(Split.TRAIN)
        one, both = (memory.responses(prompt_ids=[p.id], stages=[Stage.SAMPLE])[0].id for p in (first, second))
        requests = tuple(
            Request(p.id, Origin.RECALL, p.messages, seed=0, parents=shown)
            for p, shown in ((first, (both,)), (second, (one, both)))
        )
        unit = Unit(3, Stage.RECALL, 0, requests, Sampling(0.7, 50, 1.0, 8), BASE)
        recalled = memory.commit_unit(
            unit, [Generation("4", Finish.STOP, 9, 1)] * 2, np.eye(2, 32, dtype=np.float32), wall_s=1.0
        )
        ids = [r.id for r in recalled]
        memory.commit_selection(3, Selection(tuple(Verdict(id_, Reason.KEPT) for id_ in ids), ()))
    far = [json.loads(line) for line in cli("echo", "--round", 3, "--json").splitlines()]
    assert [(line["response_id"], line["survivors"]) for line in far] == [(both, 2), (one, 1)]
    assert f"#{both} " in cli("echo", "--round", 3, "-n", 1)
    assert [json.loads(cli("show", id_, "--json"))["parents"] for id_ in ids] == [[both], [one, both]]
    assert json.loads(cli("show", both, "--json"))["recalled_for"] == ids
    assert json.loads(cli("show", one, "--json"))["recalled_for"] == ids[1:]
    assert cli("echo", "--round", 99) == ""


def test_show_names_what_a_response_was_shown_and_neighbours_what_its_prompt_would_be(cli):
    recalled = json.loads(cli("list", "--origin", "exemplar", "-n", 1, "--json"))
    shown = json.loads(cli("show", recalled["id"], "--json"))["shown"]
    assert [one["id"] for one in shown] == json.loads(cli("show", recalled["id"], "--json"))["parents"]
    assert all(one["prompt_id"] != recalled["prompt_id"] and -1 <= one["cosine"] <= 1 for one in shown)
    line = f"#{shown[0]['id']} r{shown[0]['round']} {shown[0]['cosine']:.3f}  {shown[0]['prompt']}"
    assert line in cli("show", recalled["id"])
    near = [json.loads(line) for line in cli("neighbours", recalled["prompt_id"], "-n", 4, "--json").splitlines()]
    assert 1 < len(near) <= 4
    assert [one["score"] for one in near] == sorted((one["score"] for one in near), reverse=True)
    assert {one["split"] for one in near} == {"train"}
    assert recalled["prompt_id"] not in {one["prompt_id"] for one in near}
    assert cli("neighbours", recalled["prompt_id"]).startswith(recalled["prompt_id"])
    heldout = json.loads(cli("list", "--origin", "greedy", "-n", 1, "--json"))["prompt_id"]
    assert cli("neighbours", heldout, "-n", 1, "--json")


def test_an_export_comes_into_a_run_in_quarantine(cli):
    cli("export", "kept.jsonl", "--kept")
    rows = [json.loads(line) for line in Path("kept.jsonl").read_text().splitlines()]
    assert rows
    said = f"{len(rows)} responses imported as r0000/import/0000, in quarantine\n"
    assert cli("import", "kept.jsonl") == said
    imported = [json.loads(x) for x in cli("list", "--origin", "imported", "-n", 0, "--json").splitlines()]
    assert [r["response"] for r in imported] == [r["response"] for r in rows]
    assert {(r["answer"], r["reason"]) for r in imported} == {(None, None)}
    assert "in this memory already" in cli("import", "kept.jsonl", code=2)
    assert "every hash, link and count is right" in cli("verify")


def test_verify_tells_programs_every_fault_and_people_how_many(cli):
    with closing(sqlite3.connect("runs/tiny/memory.db")) as raw:
        raw.execute("DELETE FROM prompt_vectors WHERE seq = 1")
        raw.commit()
    result = CliRunner().invoke(main, ["memory", "tiny", "verify", "--json"])
    assert result.exit_code == 2
    (fault,) = json.loads(result.stdout)["faults"]
    assert "its vector is missing" in fault
    assert result.stderr == cli("verify", code=2) == f"Error: 1 fault(s): {fault}\n"


def test_a_run_goes_on_with_another_embedder(cli):
    assert "hash:24" in cli("reembed", "hash:24")
    assert saved_config(Path("runs/tiny")).embedder == "hash:24"
    with ResponseMemory.open("runs/tiny/memory.db") as memory:
        assert memory.meta("embedder") == "hash:24"
        first = memory.responses(origins=[Origin.SAMPLE])[0]
        prompt = next(p for p in memory.prompts() if p.id == first.prompt_id)
        expected = Embedder.load("hash:24").encode([f"{prompt.text}\n{first.text}"])
        assert (memory.vectors([first.id]) == expected).all()
    assert "every hash, link and count is right" in cli("verify")
    assert "expected hash:DIMENSION" in cli("reembed", "hash:many", code=2)


def test_descendants_of_what_is_excluded_are_counted_and_go_with_it_if_asked(cli):
    with ResponseMemory.open("runs/tiny/memory.db") as memory:
        sql = "SELECT parent_id FROM parents GROUP BY parent_id ORDER BY count(*) DESC, parent_id LIMIT 1"
        root = memory.db.rows(sql)[0][0]
        family = memory.descendants(root)
    assert len(family) > 1
    said = cli("exclude", root, "--reason", "made up")
    assert said.startswith("1 response excluded: ")
    assert f"{len(family)} responses descend and stay; `trace ID --children` lists them, --descendants" in said
    cli("unexclude", root)
    cli("exclude", family[0], "--reason", "this one first")
    said = cli("exclude", root, "--descendants", "--reason", "made up")
    with ResponseMemory.open("runs/tiny/memory.db") as memory:
        assert memory.excluded() == {root, *family}
    assert said.startswith(f"{len(family)} responses excluded, {len(family) - 1} of them as descendants: ")
    assert "descend and stay" not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("search", "caf\udce9"), "'caf\\udce9' is not valid UTF-8"),
        (("list", "--source", "caf\udce9"), "'caf\\udce9' is not valid UTF-8"),
        (("list", "--round", "9" * 20), "is no round; write r0, r1, ..."),
        (("list", "--round", "9" * 5000), "is no round; write r0, r1, ..."),
        (("show", "9" * 20), "is no id of a response"),
        (("import", "logs.jsonl", "--trust", "--weight", "nan"), "--weight is nan: give a number from 0 to 1"),
    ],
)
def test_what_cannot_be_meant_costs_a_line_and_no_traceback(cli, words, says):
    Path("logs.jsonl").write_text(json.dumps({"prompt": "2+2?", "response": "4"}))
    assert says in cli(*words, code=2)


def test_more_lines_than_there_can_be_are_all(cli):
    every = cli("list", "-n", 0, "--json")
    assert cli("list", "-n", "9" * 20, "--json") == every
    assert 10 < len(cli("similar", 1, "-n", "9" * 20, "--json").splitlines()) < len(every.splitlines())
    assert cli("neighbours", json.loads(every.splitlines()[0])["prompt_id"], "-n", "9" * 20, "--json")


def test_a_filter_means_what_it_says(cli):
    """The last of two rounds won, and a file brought in those whose names begin with its own."""
    for name, response in (("logs.jsonl", "4"), ("logs.jsonl.2.jsonl", "five")):
        Path(name).write_text(json.dumps({"prompt": "What is 2 plus 2 here?", "response": response}))
        cli("import", name)
    said = cli("exclude", "--filter", "round=1", "--filter", "round=2", "--reason", "x", code=2)
    assert "--filter 'round=2': round is given twice, and all must hold" in said
    listed = cli("list", "--source", "logs.jsonl", "--json").splitlines()
    assert [json.loads(line)["response"] for line in listed] == ["4"]
    nothing = ("--filter", "source=logs.jsonl", "--filter", "words=")
    assert "no response matches" in cli("exclude", *nothing, "--reason", "an empty variable", code=2)
    words = ("--filter", "words=here", "--filter", "words=plus")
    said = cli("exclude", "--filter", "source=logs.jsonl", *words, "--reason", "x")
    assert said.startswith("1 response excluded")


@pytest.mark.parametrize("words", [("embed",), ("similar", "1"), ("neighbours",)])
def test_vectors_of_another_embedder_are_never_mixed_in(cli, words):
    """The configuration was edited, or `reembed` was killed before it wrote it."""
    with ResponseMemory.open("runs/tiny/memory.db", write=True) as memory:
        memory.set_meta("embedder", "another one of width 32")
        memory.db.write("DELETE FROM response_vectors")
        before = memory.digest()
        ask = words if words != ("neighbours",) else (*words, memory.prompts(Split.TRAIN)[0].id)
    said = cli(*ask, code=2)
    assert said.count("\n") == 1 and "was made with embedder another one of width 32, this is hash:32" in said
    with ResponseMemory.open("runs/tiny/memory.db") as memory:
        assert memory.digest() == before


def test_looking_into_a_memory_needs_no_reader_of_answers(cli):
    config = Path("runs/tiny/config.yaml")
    config.write_text(config.read_text().replace("reader: null", "reader: gone/reader.py:read"))
    assert cli("similar", "1")
    assert "are embedded" in cli("embed")
