"""Next week: a run goes on with more prompts, another begins with its memory, and people curate what it remembers."""

import json
import shlex
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner
from tasks.tiny import SUMS, sum_question
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.api import improve
from selfimprove.cli.main import main
from selfimprove.config_file import load_config
from selfimprove.errors import PromptError, UserError
from selfimprove.memory import Embedder, ResponseMemory
from selfimprove.memory.inspect.lineage import lines, trace
from selfimprove.prompts import load_prompts, make_prompt
from selfimprove.reports.figures import load_figures
from selfimprove.run import session
from selfimprove.run.inherit import inherit
from selfimprove.types import Action, Message, Origin, Overlay, Poll, Split, Stage, unit_id

MORE = [sum_question(a, b) for a in range(6) for b in (5, 6, 7)]
ONE_ROUND = {
    "rounds": 1,
    "sample": {"k": 1},  # so that most of what survives was written with demonstrations
    "propose": {"exemplar": {"k": 8, "below": 2.0, "pool": 32}},
    "select": {"threshold": 0.2, "per_prompt": 8},
}


def write(file, texts):
    file.write_text("\n".join(json.dumps({"prompt": text}) for text in texts))
    return file


@pytest.fixture
def first(undisturbed, tmp_path, monkeypatch):
    """A copy of a finished run of two rounds, `runs/first`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(undisturbed[0], tmp_path / "runs" / "first")
    return tmp_path / "runs" / "first"


def cli(*words, code=0):
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == code, f"{result.output}\n{result.stderr}"
    return result.output if code == 0 else result.stderr


class Crash(BaseException):
    """Stands for the process dying."""


def dying(monkeypatch, after):
    """Die at a later commit."""
    commit, left = ResponseMemory._insert, [after]

    def insert(self, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Crash
        return commit(self, *args, **kwargs)

    monkeypatch.setattr(ResponseMemory, "_insert", insert)


@pytest.mark.slow
def test_a_new_run_begins_with_the_memory_of_another(first, taught_folder, tmp_path, monkeypatch):
    with ResponseMemory.open(first / "memory.db", write=True) as memory:
        trained = next(id_ for id_, verdict in memory.verdicts(2).items() if verdict.kept)
        memory.commit_overlays([Overlay(trained, Action.EXCLUDE, "made up")])
        heldout = {p.id for p in memory.prompts(Split.HELDOUT)}
    config = tiny_config(taught_folder, write(tmp_path / "more.jsonl", MORE), memory={"from": "first"}, **ONE_ROUND)
    whole = run_it(config, tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Crash):
        dying(patched, 4)
        run_it(config, tmp_path / "killed")
    shutil.move(first, tmp_path / "gone")  # it is not needed any more
    assert run_it(config, tmp_path / "killed", resume=True).figures["digest"] == whole.figures["digest"]
    with ResponseMemory.open(tmp_path / "whole" / "memory.db") as memory:
        assert memory.verify() == []
        sources = memory.sources()
        assert {source.place for source in sources.values()} == {"first"}
        assert {(source.round, source.age) for source in sources.values()} == {(1, 1), (2, 0)}
        own = {prompt.id for prompt in memory.own_prompts()}
        assert len(own) == len(MORE)
        (excluded,) = memory.excluded()
        assert sources[excluded].ref == f"#{trained}"
        judged = memory.judgements(1, Poll.PAST)
        assert judged.keys() == {id_ for id_ in sources if id_ != excluded} - {
            r.id for r in memory.responses(origins=[Origin.CRITIQUE], stages=[Stage.IMPORT])
        }
        recalled = memory.responses(rounds=[1], origins=[Origin.RECALL])
        shown = {parent for r in recalled for parent in r.parents}
        assert shown & sources.keys(), "its answers are demonstrations"
        assert excluded not in shown
        prompts = {r.id: r.prompt_id for r in memory.responses()}
        assert not {prompts[id_] for id_ in shown} & heldout
        survivors = [id_ for id_, verdict in memory.verdicts(1).items() if verdict.kept]
        assert {prompts[id_] for id_ in memory.verdicts(1)} <= own, "learnt from are the run's own prompts alone"
        (descendant, *_) = [id_ for id_ in survivors if set(memory.ancestors(id_)) & sources.keys()]
        assert any("from first #" in line for line in lines(trace(memory, descendant)))


def test_what_either_run_holds_out_is_neither_learnt_from_nor_shown(first, tmp_path):
    embedder = Embedder.load("hash:32")
    with ResponseMemory.open(first / "memory.db") as memory:
        theirs = memory.prompts()
        model = memory.meta("model")
    held, learnt = ([p for p in theirs if p.split is split] for split in (Split.HELDOUT, Split.TRAIN))
    texts = [f"{held[0].text} !", *(f"What is {n} plus 9?" for n in range(20)), f"{learnt[0].text} !"]
    file = write(tmp_path / "p.jsonl", texts)

    def left_out(heldout, fingerprint):
        config = tiny_config("unused", file, prompts={"heldout": heldout}).prompts
        prompts = load_prompts(config).prompts
        vectors = embedder.encode([p.conversation for p in prompts])
        found = inherit("first", prompts, vectors, embedder, fingerprint)
        return {p.text for p in prompts if p.id in found.left_out}, {p.text: p.split for p in prompts}

    found, _ = left_out(0.01, model)
    assert texts[0] in found, "a near-duplicate of what the other run holds out"
    assert texts[-1] not in found
    share = next(s / 100 for s in range(1, 100) if left_out(s / 100, model)[1][texts[-1]] is Split.HELDOUT)
    assert texts[-1] not in left_out(share, model)[0], "the same base has not learnt from it"
    assert texts[-1] in left_out(share, "another model")[0], "the improved one may have"
    with pytest.raises(UserError, match="no run 'nowhere'"):
        inherit("nowhere", [], embedder.encode(["x"]), embedder, model)
    with pytest.raises(PromptError, match="none of the"):
        mine = [replace(p, split=Split.TRAIN) for p in held]
        inherit("first", mine, embedder.encode([p.text for p in mine]), embedder, model)


@pytest.mark.slow
def test_a_copied_or_renamed_run_goes_on_where_its_configuration_lies(first):
    recorded = load_config(first / "config.yaml").name
    copy, other = shutil.copytree(first, first.with_name("a copy")), shutil.copytree(first, first.with_name(recorded))
    for folder in (copy, other):
        (folder / "env.json").unlink()
    write(first / "more.jsonl", MORE)
    again = shlex.split(cli("add", copy, first / "more.jsonl").splitlines()[-1])
    cli(*again[1:-1])  # without the further round
    assert ((copy / "env.json").is_file(), (other / "env.json").is_file()) == (True, False)
    improve(copy / "config.yaml", "name=" + recorded, resume=True, quiet=True)
    assert (other / "env.json").is_file(), "a name that is given decides"
    (other / "env.json").unlink()
    improve(copy.rename(copy.with_name("renamed")) / "config.yaml", resume=True, quiet=True)
    assert not (other / "env.json").is_file()
    assert "exists already" in cli("run", "runs/renamed/config.yaml", code=2)


@pytest.mark.slow
def test_prompts_are_added_to_a_run_and_the_guard_compares_on_the_same_ones(first, tmp_path, monkeypatch):
    known = [sum_question(a, b) for a, b in SUMS[:3]]
    (tmp_path / "more.jsonl").write_text("\n".join([*(json.dumps({"prompt": t}) for t in [*known, *MORE]), "{"]))
    said = cli("add", "first", "more.jsonl")
    assert "join in round 3" in said
    assert "3 are the run's already" in said
    assert "left out: line 22: not valid JSON" in said
    assert "none of the 21 prompts" in cli("add", "first", "more.jsonl", code=2)
    with ResponseMemory.open(first / "memory.db") as memory:
        (unit,) = memory.units(stage=Stage.ADD)
        fresh = [p for p in memory.own_prompts() if p.id in unit.payload["prompts"]]
        assert {split: sum(p.split is split for p in fresh) for split in Split}.keys() == set(Split)
        assert min(sum(p.split is split for p in fresh) for split in Split) > 0
    (tmp_path / "more.jsonl").unlink()  # it is not needed any more
    shutil.copytree(first, tmp_path / "runs" / "killed")
    again = "runs/first/config.yaml"
    audit = tmp_path / "audit.jsonl"
    asked = [*((a, b) for a, b in SUMS), *((a, b) for a in range(6) for b in (5, 6, 7))]
    audit.write_text("\n".join(json.dumps({"prompt": sum_question(a, b), "answers": [str(a + b)]}) for a, b in asked))
    cli("run", again, "--resume", "--rounds", 3, "name=first", f"prompts.audit={audit}", "evaluate.limit=0")
    with monkeypatch.context() as patched:
        dying(patched, 9)
        with pytest.raises(Crash):
            CliRunner().invoke(main, ["run", again, "--resume", "--rounds", "3", "name=killed"])
    cli("run", again, "--resume", "--rounds", 3, "name=killed")
    digests = [json.loads((tmp_path / f"runs/{n}/summary.json").read_text())["digest"] for n in ("first", "killed")]
    assert digests[0] == digests[1]
    with ResponseMemory.open(first / "memory.db") as memory:
        assert memory.verify() == []
        measured = json.loads((first / "summary.json").read_text())
        assert measured["heldout"]["prompts"] == len(memory.own_prompts(Split.HELDOUT)), "the new ones are audited too"
        assert all("accuracy" in one for one in measured["rounds"])
        read = load_figures(first, memory).stored_answers.rounds
        for round_ in (0, 3):
            heldout = memory.responses(rounds=[round_], stages=[Stage.PROBE, Stage.GREEDY])
            assert {r.id for r in heldout} <= read[round_].keys(), "their answers are read in all rounds"
        for round_ in (0, 1, 2, 3):
            answered = {r.prompt_id for r in memory.responses(rounds=[round_], stages=[Stage.GREEDY])}
            assert answered == {p.id for p in memory.own_prompts(Split.HELDOUT)}, round_
        sampled = {r.prompt_id for r in memory.responses(rounds=[3], stages=[Stage.SAMPLE])}
        assert {p.id for p in fresh if p.split is Split.TRAIN} <= sampled
        assert not {p.id for p in fresh} & {r.prompt_id for r in memory.responses(rounds=[2], stages=[Stage.SAMPLE])}


@pytest.mark.slow
def test_train_prompts_that_change_the_families_have_earlier_policies_measured_again(first, tmp_path, monkeypatch):
    named = session.prompt_families

    def numbered(memory, prompts):
        return tuple(replace(family, name=f"{family.name} {len(prompts)}") for family in named(memory, prompts))

    monkeypatch.setattr(session, "prompt_families", numbered)
    heldout = load_config(first / "config.yaml").prompts.heldout
    texts = [t for t in MORE if make_prompt((Message("user", t),), heldout).split is Split.TRAIN]
    cli("add", "first", write(tmp_path / "more.jsonl", texts))
    cli("run", first / "config.yaml", "--resume", "--rounds", 3, "name=first")
    with ResponseMemory.open(first / "memory.db") as memory:
        assert memory.verify() == []
        for round_ in (0, *(r for r in memory.standing if 0 < r < 3)):
            assert memory.has_unit(unit_id(round_, Stage.HEALTH, 3)), round_
        compared = [{f["name"] for f in memory.result(r, Stage.HEALTH)["families"]} for r in (0, 3)]
        assert compared[0] == compared[1]


@pytest.mark.slow
def test_responses_are_curated_and_history_is_brought_in_from_the_command_line(first, tmp_path):
    asked = [p.text for p in ResponseMemory.open(first / "memory.db").own_prompts(Split.TRAIN)]
    logs = [
        *({"prompt": sum_question(a, 8), "response": f"{a} plus 8 is {a + 8}."} for a in range(6)),
        {"messages": [{"role": "user", "content": asked[0]}, {"role": "assistant", "content": "It is 77."}]},
        {"prompt": "no answer"},
    ]
    (tmp_path / "logs.jsonl").write_text("\n".join(map(json.dumps, logs)))
    said = cli("memory", "first", "import", "logs.jsonl", "--trust")
    assert "7 responses imported as r0002/import/0000, trusted: they take part from round 3 on" in said
    assert "left out: line 8: has prompt but no response" in said
    rows = [json.loads(x) for x in cli("memory", "first", "list", "--source", "logs.jsonl", "--json").splitlines()]
    ids = [row["id"] for row in rows]
    said = cli("memory", "first", "exclude", f"#{ids[0]}", ids[1], "--reason", "not sure")
    assert said.startswith("2 responses excluded")
    cli("memory", "first", "pin", ids[2], "--reason", "well put")
    cli("memory", "first", "note", ids[3], "as in the manual")
    assert "well put" in cli("memory", "first", "show", ids[2])
    assert len(cli("memory", "first", "list", "--curated", "excluded", "--json").splitlines()) == 2
    assert "no response 99999" in cli("memory", "first", "exclude", 99999, "--reason", "x", code=2)
    assert "KEY one of" in cli("memory", "first", "exclude", "--filter", "best=1", "--reason", "x", code=2)
    assert "give ids, or --filter" in cli("memory", "first", "exclude", "--reason", "x", code=2)
    assert "held-out" in cli("memory", "first", "pin", 1, code=2)
    assert "is excluded" in cli("memory", "first", "pin", ids[0], code=2)
    cli("memory", "first", "unexclude", "--filter", "words=0 plus 8", "--filter", "origin=past")
    cli("run", "runs/first/config.yaml", "--resume", "--rounds", 3, "name=first")
    with ResponseMemory.open(first / "memory.db") as memory:
        assert memory.verify() == []
        past = memory.judgements(3, Poll.PAST)
        assert past.keys() == {ids[0], *ids[2:6]}, "not the excluded one, nor that to a prompt of the run"
        votes = memory.judgements(3, Poll.SAMPLED)
        assert votes[ids[6]].weight == 0.5
        assert memory.tallies(3, Poll.FINAL)[rows[6]["prompt_id"]].answer != "77", "it cannot win alone"
        shown = {p for r in memory.responses(rounds=[3], origins=[Origin.RECALL]) for p in r.parents}
        assert ids[1] not in shown
        assert shown & set(ids), "and what was brought in is recalled"
    assert "7 of the responses are from logs.jsonl" in cli("memory", "first", "stats")
