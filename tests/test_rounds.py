"""The whole loop on a tiny real model that knows sums but does not say them reliably; a few seconds a run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
from healths import BASE
from tasks.tiny import SUMS, sum_question
from tasks.tiny_runs import run_it, tiny_config, write_prompts

from selfimprove.answers import Kind, extract
from selfimprove.config import PromptsConfig
from selfimprove.engines.local import LocalEngine
from selfimprove.errors import ConfigError, UserError
from selfimprove.evaluation.families import FamilyMetrics
from selfimprove.evaluation.metrics import Health
from selfimprove.fsio import folder_digest
from selfimprove.memory import Embedder, ResponseMemory
from selfimprove.outcomes import Decision
from selfimprove.prompts import make_prompt
from selfimprove.rounds import improve
from selfimprove.run.progress import Progress
from selfimprove.run.session import open_run
from selfimprove.run.validate import refuse_unusable
from selfimprove.stages.guard import guard
from selfimprove.stages.independence import Independence
from selfimprove.stages.recall import FIRST, recall
from selfimprove.stages.sample import sample
from selfimprove.stages.units import by_prompt
from selfimprove.stages.vote import vote
from selfimprove.types import VOTERS, Message, Origin, Poll, Split, Stage

EVERY_STAGE = set(Stage) - {Stage.IMPORT, Stage.TRIAL, Stage.ADD, Stage.CURATE}


def adapters(folder):
    return {path.name: folder_digest(path) for path in sorted((folder / "adapters").iterdir())}


def test_two_rounds_run_through_every_stage(undisturbed):
    folder, summary = undisturbed
    assert summary.figures["rounds_kept"] == 2
    assert summary.figures["current"] == "r0002"
    with ResponseMemory.open(folder / "memory.db") as memory:
        assert {unit.stage for unit in memory.units()} == EVERY_STAGE
        assert {r.origin for r in memory.responses()} == set(Origin) - {Origin.IMPORTED, Origin.PAST}
        assert memory.verify() == []
        for round_ in (1, 2):
            verdicts, judged = memory.verdicts(round_), memory.judgements(round_, 2)
            assert verdicts.keys() == judged.keys(), "kept + dropped = in"
            assert any(v.kept for v in verdicts.values())
            assert not all(v.kept for v in verdicts.values())


def test_nothing_trained_on_or_recalled_was_held_out(undisturbed):
    folder, _ = undisturbed
    with ResponseMemory.open(folder / "memory.db") as memory:
        heldout = {p.id for p in memory.prompts(Split.HELDOUT)}
        responses = {r.id: r for r in memory.responses()}
        kept = [v.response_id for round_ in (1, 2) for v in memory.verdicts(round_).values() if v.kept]
        used = {a for id_ in kept for a in (id_, *memory.ancestors(id_))}
        assert heldout
        assert used
        assert not {responses[id_].prompt_id for id_ in used} & heldout


def test_no_sample_agrees_with_the_base_for_having_its_seed(undisturbed):
    """With two samples a prompt, each is held against the base's of the other seed: an equal policy gains nothing."""
    folder, _ = undisturbed
    with ResponseMemory.open(folder / "memory.db") as memory:
        prompts = {p.id: p.text for p in memory.prompts(Split.HELDOUT)}
        base = dict.fromkeys(prompts, (None, None))
        for round_ in (0, 1, 2):
            read = {id_: [] for id_ in prompts}
            for r in memory.responses(rounds=[round_], stages=[Stage.PROBE]):
                read[r.prompt_id].append(extract(r.text, Kind.NUMBER, prompts[r.prompt_id]))
            base = read if round_ == 0 else base
            pairs = [(read[id_], base[id_]) for id_ in prompts if base[id_] != [None, None]]
            agree = [x is not None and x == y for own, first in pairs for x, y in zip(own, first[::-1], strict=True)]
            assert 0 < sum(agree) < len(agree)
            health = Health.of(memory.result(round_, Stage.HEALTH))
            assert health.base_majority_share == pytest.approx(sum(agree) / len(agree))


def test_the_guard_sees_how_many_answers_only_repeat_the_prompt(undisturbed):
    folder, _ = undisturbed
    with ResponseMemory.open(folder / "memory.db") as memory:
        texts = {p.id: p.text for p in memory.prompts(Split.HELDOUT)}
        for round_ in (0, 1, 2):
            echoes = []
            for r in memory.responses(rounds=[round_], stages=[Stage.PROBE]):
                prompt = texts[r.prompt_id]
                answer = extract(r.text, Kind.NUMBER, prompt)
                if answer is not None:
                    echoes.append(answer in re.findall(r"\w+", prompt))
            assert memory.result(round_, Stage.HEALTH)["question_echo"] == pytest.approx(np.mean(echoes))


def test_answers_in_the_prompt_file_change_not_one_byte(undisturbed, taught_folder, tmp_path):
    """Rule 1: label-free by construction. The same prompts with poisoned answers give the same memory and adapters."""
    folder, summary = undisturbed
    poisoned = write_prompts(tmp_path / "p.jsonl", answer=lambda a, b: "poison")
    poisoned_summary = run_it(tiny_config(taught_folder, poisoned), tmp_path / "run")
    assert poisoned_summary.figures["digest"] == summary.figures["digest"]
    assert adapters(tmp_path / "run") == adapters(folder)


@pytest.mark.slow
def test_an_audit_file_only_adds_figures(undisturbed, taught_folder, prompts, tmp_path):
    _, summary = undisturbed
    audit = tmp_path / "audit.jsonl"
    audit.write_text("\n".join(json.dumps({"prompt": sum_question(a, b), "answers": [str(a + b)]}) for a, b in SUMS))
    config = tiny_config(taught_folder, prompts, prompts={"audit": str(audit)})
    audited = run_it(config, tmp_path / "run")
    assert audited.figures["digest"] == summary.figures["digest"]
    heldout = audited.figures["heldout"]
    assert heldout["diff"] == pytest.approx(heldout["after"] - heldout["before"])
    assert heldout["diff_low"] <= heldout["diff"] <= heldout["diff_high"]
    assert "heldout" not in summary.figures
    assert "mean@2 accuracy" in audited.table


class Crash(BaseException):
    """Stands for the process dying: nothing may catch it."""


def crash_at(monkeypatch, count):
    """Die at the `count`-th commit of a unit or of vectors, before it reaches the disk."""
    left = [count]

    def dying(commit):
        def die_or_commit(self, *args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Crash
            return commit(self, *args, **kwargs)

        return die_or_commit

    for name in ("_insert", "commit_vectors"):
        monkeypatch.setattr(ResponseMemory, name, dying(getattr(ResponseMemory, name)))


@pytest.mark.slow
def test_a_run_that_dies_again_and_again_ends_with_the_same_bytes(
    undisturbed, taught_folder, prompts, tmp_path, monkeypatch
):
    folder, summary = undisturbed
    config = tiny_config(taught_folder, prompts)
    deaths = 0
    while True:
        with monkeypatch.context() as patched:
            crash_at(patched, 5)
            try:
                resumed = run_it(config, tmp_path / "run", resume=True)
                break
            except Crash:
                deaths += 1
    assert deaths > 5
    assert resumed.figures["digest"] == summary.figures["digest"]
    assert adapters(tmp_path / "run") == adapters(folder)


@pytest.mark.slow
def test_what_is_embedded_beforehand_changes_nothing(undisturbed, taught_folder, prompts, tmp_path, monkeypatch):
    """As in runs of older versions, which embedded every response when they committed it."""
    commit = ResponseMemory.commit_unit
    embedder = Embedder.load("hash:32")

    def embedding(self, unit, generations, embeddings, **how):
        if unit.stage in (Stage.SAMPLE, Stage.RECALL, Stage.REVISE, Stage.STITCH):
            asked = {prompt.id: prompt.conversation for prompt in self.prompts()}
            pairs = zip(unit.requests, generations, strict=True)
            embeddings = embedder.encode([f"{asked[r.prompt_id]}\n{g.text}" for r, g in pairs])
        return commit(self, unit, generations, embeddings, **how)

    monkeypatch.setattr(ResponseMemory, "commit_unit", embedding)
    run_it(tiny_config(taught_folder, prompts), tmp_path / "run")
    folder, _ = undisturbed
    with ResponseMemory.open(folder / "memory.db") as memory, ResponseMemory.open(tmp_path / "run/memory.db") as older:
        assert memory.responses() == older.responses()
        candidates = [r.id for r in memory.responses(origins=VOTERS)]
        assert len(older.embedded(candidates)[0]) == len(candidates) > 3 * len(memory.embedded(candidates)[0])
        for round_ in (1, 2):
            assert memory.verdicts(round_) == older.verdicts(round_)
            kept = [id_ for id_, verdict in memory.verdicts(round_).items() if verdict.kept]
            assert np.array_equal(memory.vectors(kept), older.vectors(kept)), "survivors are always embedded"
    assert adapters(tmp_path / "run") == adapters(folder)


@pytest.mark.slow
def test_a_finished_run_is_only_summarised_and_can_be_extended(taught_folder, prompts, tmp_path, undisturbed):
    begun = time.monotonic()
    one = run_it(tiny_config(taught_folder, prompts, rounds=1), tmp_path / "run")
    assert one.figures["wall_s"] <= time.monotonic() - begun + 0.05, "what the process did before is not the run's"
    again = run_it(tiny_config(taught_folder, prompts, rounds=1), tmp_path / "run", resume=True)
    assert again.figures["digest"] == one.figures["digest"]
    two = run_it(tiny_config(taught_folder, prompts, rounds=2), tmp_path / "run", resume=True)
    assert two.figures["digest"] == undisturbed[1].figures["digest"]


def test_an_existing_run_is_neither_overwritten_nor_resumed_unasked(undisturbed, taught_folder, prompts):
    folder, _ = undisturbed
    with pytest.raises(ConfigError, match=r"exists already.*--resume.*name=NEW.*delete"):
        run_it(tiny_config(taught_folder, prompts), folder)
    with pytest.raises(ConfigError, match=r"train\.rank was 4, now 8"):
        run_it(tiny_config(taught_folder, prompts, train={"rank": 8}), folder, resume=True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"heldout": 0.0}, "no heldout prompts: 30 prompts with prompts.heldout 0; add prompts or change the share"),
        ({"audit": "moved.jsonl"}, "no audit file moved.jsonl; leave prompts.audit unset"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_spent(taught_folder, prompts, tmp_path, changes, why):
    with pytest.raises(UserError, match=why):
        run_it(tiny_config(taught_folder, prompts, prompts=changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("asked", "known"), [(SUMS[:15], "[1-9]"), ([(70, 80)], "0")])
def test_an_audit_file_that_misses_held_out_prompts_is_told(
    undisturbed, taught_folder, prompts, tmp_path, capsys, asked, known
):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    audit = tmp_path / "audit.jsonl"
    audit.write_text("\n".join(json.dumps({"prompt": sum_question(*ab), "answers": ["1"]}) for ab in asked))
    config = tiny_config(taught_folder, prompts, prompts={"audit": str(audit)})
    with open_run(config, folder=folder, resume=True, progress=Progress()) as run:
        assert re.search(f"held-out prompts: {known} of 11 audited, never", improve(run).table)
    assert ("none of the 1 prompts in" in capsys.readouterr().out) == (known == "0")


def test_an_audit_file_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "audit.jsonl").touch()
    both = [asked(sum_question(a, b)) for a, b in SUMS]
    refuse_unusable(PromptsConfig(path="p.jsonl", audit="~/audit.jsonl"), both)


def test_what_says_the_same_as_a_held_out_prompt_is_not_learnt_from(taught_folder, tmp_path, capsys, monkeypatch):
    heldout = next(q for q in (sum_question(a, b) for a, b in SUMS) if asked(q).split is Split.HELDOUT)
    twin = next(t for t in (heldout + "!" * n for n in range(1, 20)) if asked(t).split is Split.TRAIN)
    texts = [heldout, twin, *(t for t in (f"Who was number {n}?" for n in range(9)) if asked(t).split is Split.TRAIN)]
    file = tmp_path / "p.txt"
    file.write_text("\n".join(texts))
    config, folder = tiny_config(taught_folder, file), tmp_path / "run"
    with open_run(config, folder=folder, progress=Progress()) as run:
        assert [p.text for p in run.prompts(Split.TRAIN)] == texts[2:]
        assert [p.text for p in run.prompts(Split.HELDOUT)] == [heldout]
        run.memory.commit_result(0, Stage.HEALTH, {})
    said = capsys.readouterr()
    assert f"{len(texts) - 2} to learn from, 1 held out" in said.out + said.err
    assert "1 prompts are near-duplicates of held-out prompts" in said.out + said.err

    monkeypatch.setattr("selfimprove.run.session.leave_out", lambda *_: frozenset())  # as another version might say
    with open_run(config, folder=folder, resume=True, progress=Progress(quiet=True)) as run:
        assert run.left_out == {asked(twin).id}, "units must go on with the prompts that they were begun with"

    file.write_text(f"{heldout}\n{twin}")
    monkeypatch.undo()
    with pytest.raises(UserError, match="all 1 prompts to learn from are near-duplicates of held-out ones"):
        run_it(config, tmp_path / "other")


def asked(text):
    return make_prompt([Message("user", text)], 0.3)


def test_a_second_process_is_refused(undisturbed, taught_folder, prompts):
    folder, _ = undisturbed
    config = tiny_config(taught_folder, prompts)
    with (
        open_run(config, folder=folder, resume=True, progress=Progress(quiet=True)),
        pytest.raises(UserError, match=str(os.getpid())),
    ):
        run_it(config, folder, resume=True)


@pytest.mark.slow
def test_a_round_without_survivors_is_rejected_and_leaves_the_base(taught_folder, prompts, tmp_path):
    config = tiny_config(taught_folder, prompts, select={"length_factor": 1.01, "threshold": 1.0, "ceiling": 1.0})
    config = config.model_copy(update={"vote": config.vote.model_copy(update={"kind": "choice"})})
    summary = run_it(config, tmp_path / "run")
    assert summary.figures["current"] == "base"
    assert [r["decision"] for r in summary.figures["rounds"]] == [Decision.REJECT, Decision.STOP]
    assert "no candidate survived" in summary.table


@pytest.mark.slow
def test_a_rejected_round_leaves_current_where_it_was(taught_folder, prompts, tmp_path):
    config = tiny_config(taught_folder, prompts, guard={"kl": 1e-9})
    summary = run_it(config, tmp_path / "run")
    assert summary.figures["current"] == "base"
    assert "KL to base" in summary.figures["rounds"][0]["because"]
    assert (tmp_path / "run" / "adapters" / "r0001").is_dir(), "the adapter stays, to be looked at"


@pytest.mark.slow
def test_after_a_rejected_round_the_next_is_more_careful_and_then_it_ends(
    taught_folder, prompts, tmp_path, monkeypatch
):
    specs, train = [], LocalEngine.train

    def watched(self, job, *rest):
        specs.append(job.spec)
        return train(self, job, *rest)

    monkeypatch.setattr(LocalEngine, "train", watched)
    config = tiny_config(
        taught_folder, prompts, rounds=4, guard={"kl": 1e-9}, train={"epochs": 2}, select={"threshold": 0.0}
    )
    summary = run_it(config, tmp_path / "run")
    assert [r["decision"] for r in summary.figures["rounds"]] == [Decision.REJECT, Decision.STOP]
    assert summary.figures["current"] == "base"
    first, second = specs
    assert (first.lr, first.epochs) == (config.train.lr, 2)
    assert (second.lr, second.epochs) == (pytest.approx(config.train.lr / 3), 1)


def decide(run, shares, first=0):
    """Have the guard decide on rounds that differ in how often samples agree with the base majority."""
    policies = []
    for round_, share in enumerate(shares, first):
        health = replace(BASE, kl=0.1, family_rise=0.0, family_fall=0.0, base_majority_share=share)
        run.memory.commit_result(round_, Stage.HEALTH, asdict(health))
        if round_:
            guard(run, round_, f"r{round_:04d}")
            policies.append(run.memory.current)
    return policies, run.memory.rounds()[-1]


@pytest.mark.parametrize(
    ("rounds", "shares", "went", "decision", "because"),
    [
        (9, (0.5, 0.7, 0.65, 0.3, 0.2), [1, 2, 2, 1], Decision.STOP, "samples in base majority 0.2 (limit 0.6); "),
        (2, (0.5, 0.7, 0.65), [1, 1], Decision.KEEP, "all checks passed; "),
    ],
    ids=["stopped", "finished"],
)
def test_a_run_ends_with_its_best_kept_round(taught_folder, prompts, tmp_path, rounds, shares, went, decision, because):
    """Round 2 was kept, though a little worse than round 1."""
    config = tiny_config(taught_folder, prompts, rounds=rounds, guard={"base_share_drop": 0.1})
    with open_run(config, folder=tmp_path / "run", progress=Progress(quiet=True)) as run:
        policies, last = decide(run, shares)
        assert policies == [f"r{round_:04d}" for round_ in went]
        assert (last.decision, last.because) == (decision, f"{because}the run ends with the best kept round, 1")
        assert run.memory.rollback(2) == "r0002", "by hand, any kept round"


def test_a_round_that_was_gone_back_behind_is_no_measure_for_later_ones(taught_folder, prompts, tmp_path):
    config = tiny_config(taught_folder, prompts, rounds=4, guard={"base_share_drop": 0.1})
    with open_run(config, folder=tmp_path / "run", progress=Progress(quiet=True)) as run:
        decide(run, (0.5, 0.6, 0.9))
        run.memory.rollback(1)
        policies, last = decide(run, (0.61, 0.55), first=3)
        assert policies == ["r0003", "r0003"], "0.3 below round 2, and the run does not end with round 2"
        assert (last.decision, last.because) == (
            Decision.KEEP,
            "all checks passed; the run ends with the best kept round, 3",
        )


@pytest.mark.slow
def test_frozen_labels_come_from_the_base_alone_however_old(taught_folder, prompts, tmp_path):
    run_it(tiny_config(taught_folder, prompts, vote={"labels": "base", "decay": 0.0}), tmp_path / "run")
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        policies = {r.id: r.policy for r in memory.responses()}
        judged = memory.judgements(2, 2).values()
        assert {policies[j.response_id] for j in judged} == {"base", "r0001"}
        assert {policies[j.response_id] for j in judged if j.weight > 0} == {"base"}
        silent = [j for j in judged if j.answer is None and policies[j.response_id] == "base"]
        assert silent, "the base could be read every time: say something else here"
        assert sum(t.abstained for t in memory.tallies(2, 2).values()) == len(silent), "as many as in round 1"


SIGNALLED = """
import json, signal, sys
from selfimprove.cli import main
main(json.loads(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_leave_a_run_that_can_be_resumed(taught_folder, prompts, tmp_path, undisturbed, signum, code):
    from selfimprove.config_file import to_yaml

    config = tmp_path / "c.yaml"
    config.write_text(to_yaml(tiny_config(taught_folder, prompts)))
    command = [sys.executable, "-c", SIGNALLED, json.dumps(["run", str(config)])]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("  vote"):
            process.send_signal(signum)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "--resume" in errors
    resumed = run_it(tiny_config(taught_folder, prompts), tmp_path / "runs" / "run", resume=True)
    assert resumed.figures["digest"] == undisturbed[1].figures["digest"]


def test_recalled_answers_that_agree_less_with_samples_than_samples_do_are_left_out_of_the_votes(
    taught_folder, prompts, tmp_path, monkeypatch
):
    monkeypatch.setattr(Independence, "harms", lambda self, least: self.prompts > 0 and least == 0.0)
    config = tiny_config(taught_folder, prompts, rounds=1, propose={"exemplar": {"k": 5, "below": 2.0, "agree": 0.0}})
    run_it(config, tmp_path / "run")
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        per_prompt = by_prompt(memory.responses(origins=[Origin.RECALL]))
        assert {len(group) for group in per_prompt.values()} == {FIRST}, "the others are not worth their tokens"
        recalled = {r.id for group in per_prompt.values() for r in group}
        assert memory.measured(1, Poll.RECALLED, "independence")["prompts"] > 0
        for poll in (Poll.RECALLED, Poll.FINAL):
            assert memory.judgements(1, poll)
            assert not recalled & memory.judgements(1, poll).keys()
        assert not recalled & memory.verdicts(1).keys()


@pytest.mark.parametrize("committed", [0, 1])
def test_recall_that_was_killed_behind_the_first_answers_ends_with_the_same_responses(
    taught_folder, prompts, tmp_path, monkeypatch, committed
):
    """A resumed recall decides from the first answers alone, as the undisturbed one did."""
    monkeypatch.setattr(Independence, "harms", lambda self, least: self.size > FIRST)
    config = tiny_config(taught_folder, prompts, rounds=1, propose={"exemplar": {"k": 5, "below": 2.0, "agree": 0.0}})
    ended = []
    for name in ("undisturbed", "killed"):
        with open_run(config, folder=tmp_path / name, progress=Progress(quiet=True)) as run:
            sample(run, 1)
            vote(run, 1, Poll.SAMPLED)
            if name == "killed":
                units = -(-len(run.memory.tallies(1, Poll.SAMPLED)) // run.config.sample.unit_prompts)
                with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
                    killed.setattr(ResponseMemory, "commit_unit", dying_at(units + committed))
                    recall(run, 1)
            recall(run, 1)
            recall(run, 1)
            ended.append(run.memory.responses(origins=[Origin.RECALL]))
    undisturbed, killed = ended
    assert {len(group) for group in by_prompt(undisturbed).values()} == {5}
    assert len({(r.prompt_id, r.seed) for r in undisturbed}) == len(undisturbed), "each answer has its own seed"
    assert undisturbed == killed


def dying_at(index):
    """Return a `commit_unit` that is killed at this unit of recall."""
    commit = ResponseMemory.commit_unit

    def dying(self, unit, *args, **kwargs):
        if unit.stage is Stage.RECALL and unit.index == index:
            raise KeyboardInterrupt
        return commit(self, unit, *args, **kwargs)

    return dying


def test_a_round_whose_recall_an_older_version_asked_at_once_is_not_asked_again(taught_folder, tmp_path, monkeypatch):
    """Two prompts have a system message of their own, and so no demonstrations."""
    rows = [{"messages": [{"role": "user", "content": sum_question(a, b)}]} for a, b in SUMS]
    rows[3:5] = [{"messages": [{"role": "system", "content": "Be brief."}, *row["messages"]]} for row in rows[3:5]]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    exemplar = {"k": 5, "below": 2.0, "agree": 0.0}
    config = tiny_config(taught_folder, file, rounds=1, propose={"exemplar": exemplar, "revise": {"k": 0}})
    with monkeypatch.context() as older:
        older.setattr("selfimprove.stages.recall.FIRST", 5)
        before = run_it(config, tmp_path / "run")
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        assert {len(group) for group in by_prompt(memory.responses(origins=[Origin.RECALL])).values()} == {5}
    assert run_it(config, tmp_path / "run", resume=True).figures["digest"] == before.figures["digest"]


def test_a_round_in_which_a_family_gets_one_answer_is_rejected_by_its_name(taught_folder, prompts, tmp_path):
    base = FamilyMetrics("animal plant object", 14, 0.6, "animal", 0.5, 0.9)
    now = replace(base, top_fraction=1.0, entropy=0.0)
    config = tiny_config(taught_folder, prompts, guard={"family_rise": 0.3})
    with open_run(config, folder=tmp_path / "run", progress=Progress(quiet=True)) as run:
        for round_, (family, rise) in enumerate(((base, None), (now, 0.5))):
            health = replace(BASE, kl=0.1, families=(family,), family_rise=rise, family_fall=0.0)
            run.memory.commit_result(round_, Stage.HEALTH, asdict(health))
        guard(run, 1, "r0001")
        (record,) = run.memory.rounds()
    assert record.decision is Decision.REJECT
    assert record.because.startswith(
        "top answer of a family 0.5 (limit 0.3): 100% of the prompts like 'animal plant object' are answered 'animal'"
    )
