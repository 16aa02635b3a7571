"""The bench that compares arms: whole cells on the tiny model, and the arms that only the bench has."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace

import arms
import compare
import measures
import numpy as np
import pytest
import results
from arms import ARMS, Arm, audited, configure, dealt, first, fit, flipped
from compare import Bench, matched_k, more_samples
from results import ROW, over_seeds, rows, share_of_gain, table
from tasks.off_task import OffTask
from tasks.quiz import Question, write_questions
from tasks.tasks import HELDOUT, TASKS, Task
from tasks.tiny import SUMS, sum_question
from tasks.tiny_runs import tiny_config

from selfimprove.config import VoteConfig
from selfimprove.engines.local import LocalEngine
from selfimprove.evaluation.answer_key import load_audit
from selfimprove.memory import ResponseMemory
from selfimprove.outcomes import Reason, Selection, Verdict
from selfimprove.prompts import make_prompt
from selfimprove.rounds import improve
from selfimprove.run.progress import Progress
from selfimprove.stages.vote import Ballot, majority
from selfimprove.types import Example, Finish, Message, Origin, Response


def write_sums(folder, seed):
    write_questions(folder, (Question(sum_question(a, b), (str(a + b),)) for a, b in SUMS))


@pytest.fixture(scope="module")
def task(taught_folder):
    settings = tiny_config(taught_folder, "unused.jsonl").model_dump(mode="json")
    tiny = {name: settings[name] for name in ("model", "embedder", "sample", "select", "evaluate")}
    own = {"rounds": 1, "prompts": {"heldout": 0.3}, "train": {"rank": 4, "lr": 1e-3}}
    return Task("sums", str(taught_folder), tiny | own, write_sums, trained_tokens=300)


@pytest.fixture(scope="module")
def finished(task, tmp_path_factory):
    """A folder in which four arms have played, and their cells by arm."""
    work = tmp_path_factory.mktemp("bench")
    bench = Bench(work, ("select.threshold=0.3",), Progress(quiet=True))
    return bench, {arm: bench.cell(task, arm, 0) for arm in ("base", "lmsi", "oracle", "ours")}


@pytest.mark.slow
def test_all_arms_have_the_same_base_and_rows_of_every_column(finished):
    _, cells = finished
    found = rows(list(cells.values()))
    assert [(row["arm"], row["round"]) for row in found] == [("base", 0), ("lmsi", 1), ("oracle", 1), ("ours", 1)]
    for row in found:
        assert tuple(row) == ROW
        assert all(0 <= row[name] <= 1 for name in ("greedy", "mean_at_k", "maj_at_k", "pass_at_k"))
    assert len({cell["rounds"][0]["mean_at_k"] for cell in cells.values()}) == 1
    assert len({tuple(cell["heldout"]["mean"][0]) for cell in cells.values()}) == 1


@pytest.mark.slow
def test_generated_and_trained_tokens_are_equal(finished):
    _, cells = finished
    last = {arm: cell["rounds"][-1] for arm, cell in cells.items() if arm != "base"}
    assert cells["lmsi"]["k"] > cells["ours"]["k"]
    a_sample_of_each = last["lmsi"]["tokens"]["sample"] / cells["lmsi"]["k"]
    for arm in ("lmsi", "oracle"):
        assert abs(last[arm]["generated_tokens"] - last["ours"]["generated_tokens"]) <= a_sample_of_each
        assert set(last[arm]["operators"]) == {"sample"}
    assert set(last["ours"]["operators"]) >= {"sample", "exemplar"}
    for figures in last.values():
        assert figures["trained_tokens"] == pytest.approx(300, rel=0.1)


@pytest.mark.slow
def test_a_cell_by_itself_needs_no_other_and_has_what_is_measured_beside(task, tmp_path, monkeypatch):
    questions = (Question(sum_question(1, 2), ("3",)), Question("What?", ("never",)))
    monkeypatch.setattr(measures, "off_tasks", lambda: (OffTask("two", questions, 8),))
    bench = Bench(tmp_path, ("select.threshold=0.3",), Progress(quiet=True), match=6)
    found = bench.cell(replace(task, beside=True), "lmsi", 0)
    assert [cell["arm"] for cell in bench.cells()] == ["lmsi"]
    assert (found["k"], found["model"]) == (6, Path(task.model).name)
    for what in ("greedy", "mean", "maj"):
        assert [len(values) for values in found["heldout"][what]] == [len(found["heldout"]["ids"])] * 2
    assert np.mean(found["heldout"]["greedy"][1]) == found["rounds"][1]["greedy"]
    assert len(found["learnt"]["greedy"]) == len(found["learnt"]["mean"]) == 2
    before, after = found["off_task"]["two"]["mean"]
    assert len(before) == len(after) == 2 and before[1] == after[1] == 0
    assert set(found["rounds"][1]["checks"]) >= {"agreement", "parse rate", "KL to base"}
    assert sum(number for _, _, number in found["rounds"][1]["votes"]) > 0


@pytest.mark.slow
def test_the_controls_are_the_base_with_more_samples_or_another_temperature(finished, task, tmp_path):
    bench, cells = finished
    many = bench.cell(task, "base-64", 0)
    cold = bench.cell(task, "base-t0.1", 0)
    assert many["rounds"][0]["greedy"] == cold["rounds"][0]["greedy"] == cells["base"]["rounds"][0]["greedy"]
    assert len({tuple(c["heldout"]["mean"][0]) for c in (many, cold, cells["base"])}) == 3
    assert [row["round"] for row in rows([many, cold])] == [0, 0]
    assert "| base-64 | 1 |" in table([many, cold])


def test_an_arm_that_uses_an_operator_more_often_samples_less():
    prompts = {"prompts": {"path": "p.jsonl"}}
    ours = configure(ARMS["ours"], prompts, ("sample.k=8", "propose.exemplar.k=8"))
    spent = {"sample": 800, "exemplar": 300, "critique": 0, "revise": 0, "stitch": 0}
    lmsi = configure(ARMS["lmsi"], prompts, ())
    assert matched_k(lmsi, ours, spent) == 8 + 3
    assert matched_k(configure(ARMS["ours-revise"], prompts, ()), ours, spent) == 8, "revision comes on top"
    assert matched_k(configure(ARMS["ours"], prompts, ("propose.exemplar.k=16",)), ours, spent) == 8 - 3


def test_an_arm_that_matches_another_samples_as_much_more_as_that_spent():
    def rounds(*spent):
        return [{"generated_tokens": 0, "tokens": {}}] + [
            {"generated_tokens": sum(spent[:i]), "tokens": {"sample": 800}} for i in range(1, len(spent) + 1)
        ]

    assert more_samples(rounds(1100, 1300), rounds(1000, 1000), 8) == 2
    assert more_samples(rounds(900), rounds(1000), 8) == 0
    assert ARMS["ours-more"].matches == "ours-revise"


@pytest.mark.slow
def test_pair_voters_are_not_trained_on(finished, task):
    bench, _ = finished
    changes = ("propose.revise.k=2", "propose.revise.rivals=2", "propose.revise.shots=0", "propose.revise.below=1.0")
    config = configure(ARMS["ours-pairs"], bench.settings(task, "ours", 0).model_dump(mode="json"), changes)
    with bench.opened(task, "ours-pairs", config) as run:
        improve(run, ARMS["ours-pairs"].method(task.trained_tokens))
        revisions = {r.id for r in run.memory.responses(origins=[Origin.REVISE])}
        assert revisions & set(run.memory.judgements(1, 2)), "they vote"
        everything = tuple(Verdict(id_, Reason.KEPT, weight=1.0) for id_ in run.memory.judgements(1, 2))
        selection = Selection(everything, ())
        job = ARMS["ours-pairs"].method(task.trained_tokens).examples(run, 1, selection)
        assert job.examples
        assert not {e.response_id for e in job.examples} & revisions


@pytest.mark.slow
def test_the_oracle_trains_on_right_answers_alone_and_the_vote_does_not(finished):
    _, cells = finished
    assert cells["oracle"]["rounds"][1]["label_accuracy"] == 1.0
    assert cells["lmsi"]["rounds"][1]["label_accuracy"] < 1.0
    assert cells["base"]["rounds"][0]["label_accuracy"] is None


@pytest.mark.slow
def test_a_finished_cell_is_not_run_again_and_one_of_other_settings_is(finished, task):
    bench, cells = finished
    again = Bench(bench.work, bench.changes, Progress(quiet=True))
    before = bench.lines.read_bytes()
    assert again.cell(task, "lmsi", 0) == cells["lmsi"]
    assert bench.lines.read_bytes() == before
    other = Bench(bench.work, (*bench.changes, "train.epochs=1"), Progress(quiet=True))
    assert other.cell(task, "base", 0)["settings"] != cells["base"]["settings"]


@pytest.mark.slow
def test_an_interrupted_cell_goes_on_and_gives_the_same_figures(finished, task, tmp_path, monkeypatch):
    bench, cells = finished

    class Died(BaseException):
        pass

    def die(self, *_, **__):
        raise Died

    work = Bench(tmp_path, bench.changes, Progress(quiet=True))
    with monkeypatch.context() as patch:
        patch.setattr(arms.Cached, "train", die)
        with pytest.raises(Died):
            work.cell(task, "ours", 0)
    assert list(work.cells()) == []
    found = work.cell(task, "ours", 0)
    assert found["rounds"] == cells["ours"]["rounds"]


@pytest.mark.slow
def test_the_base_answers_a_request_once_for_all_arms(finished, task, monkeypatch):
    bench, _ = finished
    asked = []
    monkeypatch.setattr(LocalEngine, "answer", lambda self, unit, on_tokens=None: asked.append(unit) or 1 / 0)
    again = Bench(bench.work, (*bench.changes, "train.lr=1e-5"), Progress(quiet=True))
    with pytest.raises(ZeroDivisionError):
        again.cell(task, "ours", 0)
    assert [unit.policy for unit in asked] == ["r0001"], "all that the base says was known"


@pytest.mark.slow
def test_answers_reach_the_bench_alone(finished, task):
    """What the loop stored for an arm without a hook does not depend on the audit file."""
    bench, cells = finished

    poisoned = Bench(bench.work / "poisoned", bench.changes, Progress(quiet=True))
    folder = poisoned.work / "prompts" / "sums-0"
    folder.mkdir(parents=True)
    write_sums(folder, 0)
    lines = (folder / "audit.jsonl").read_text().replace('"answers": ["', '"answers": ["9')
    (folder / "audit.jsonl").write_text(lines)
    found = poisoned.cell(task, "ours", 0)
    assert found["rounds"][1]["mean_at_k"] < cells["ours"]["rounds"][1]["mean_at_k"]
    digests = []
    for work, cell in ((bench.work, cells["ours"]), (poisoned.work, found)):
        with ResponseMemory.open(work / "runs" / f"sums-ours-0-{cell['settings']}" / "memory.db") as memory:
            digests.append(memory.digest())
    assert digests[0] == digests[1]


PROMPTS = [make_prompt((Message("user", f"Is {i} odd?"),), 0.0) for i in range(40)]


def a_vote(folder, prompts=40):
    """A run and its ballots: on each prompt 6 say yes, 3 say no, which is right, and 1 says nothing readable."""
    responses, ballots = [], {}
    for p, prompt in enumerate(PROMPTS[:prompts]):
        for i, answer in enumerate(["yes"] * 6 + ["no"] * 3 + [None]):
            id_ = p * 10 + i
            where = (1, Origin.SAMPLE, "u", id_, answer or "hm", Finish.STOP, 0, "base", 1, 1, ())
            responses.append(Response(id_, prompt.id, *where))
            ballots.setdefault(prompt.id, []).append(Ballot(id_, answer, False, weight=1 + p / prompts * (i < 6)))
    write_questions(folder, [Question(prompt.text, ("no",)) for prompt in PROMPTS])
    memory = SimpleNamespace(responses=lambda ids: [r for r in responses if r.id in ids])
    config = SimpleNamespace(vote=VoteConfig(echo=0.0), seed=0, prompts=SimpleNamespace(audit=folder / "audit.jsonl"))
    return SimpleNamespace(memory=memory, config=config), ballots


def test_the_dealt_vote_is_drawn_and_keeps_what_the_votes_were(tmp_path):
    run, ballots = a_vote(tmp_path)
    before, judged = majority(run, 1, ballots)
    tallies, judgements = dealt(run, 1, ballots)
    assert judgements == judged
    assert sorted(t.agreement for t in tallies) == sorted(t.agreement for t in before)
    assert [t.prompt_id for t in tallies] == [t.prompt_id for t in before]
    won = [t.answer for t in tallies].count("yes")
    assert 10 <= won <= 30, "a coin a prompt, not the majority"
    assert np.corrcoef([t.agreement for t in tallies], [t.agreement for t in before])[0, 1] < 0.5
    assert dealt(run, 1, ballots) == (tallies, judgements)
    assert dealt(run, 2, ballots) != (tallies, judgements)


def test_raw_samples_are_the_first_of_each_prompt_and_audited_ones_those_that_are_right(tmp_path):
    run, ballots = a_vote(tmp_path, 3)
    prompt_of = {b.response_id: id_ for id_, group in ballots.items() for b in group}
    for labels, winners in ((first, [0, 10, 20]), (audited, [6, 7, 8, 16, 17, 18, 26, 27, 28])):
        tallies, judgements = labels(run, 1, ballots)
        winner = {t.prompt_id: t.answer for t in tallies}
        won = [j.response_id for j in judgements if j.answer == winner[prompt_of[j.response_id]]]
        assert won == winners
        assert all(t.support == 1.0 for t in tallies)


@pytest.mark.slow
def test_an_arm_that_leaves_nothing_to_train_on_stays_the_base(finished, task, monkeypatch):
    bench, cells = finished
    arm = Arm("nothing", "lmsi", examples=lambda examples: [])
    monkeypatch.setattr(compare, "ARMS", compare.ARMS | {"nothing": arm})
    before, after = bench.cell(task, "nothing", 0)["rounds"]
    assert before["mean_at_k"] == after["mean_at_k"] == cells["base"]["rounds"][0]["mean_at_k"]
    assert (after["examples"], after["trained_tokens"]) == (0, 0)
    assert after["generated_tokens"] > 0


def test_flipped_prefers_the_rival():
    pair = Example("p", (Message("user", "q"),), "good", 1.0, 1, rejected="bad")
    (found,) = flipped([pair, Example("p", pair.messages, "alone", 1.0, 2)])
    assert (found.completion, found.rejected) == ("bad", "good")


@pytest.mark.parametrize("budget", [40, 100, 130, 250, 1000])
def test_every_arm_trains_on_the_budget(budget):
    sizes = [7, 9, 11, 10, 13, 6, 8, 12, 10, 14]  # 100 in all
    order, epochs = fit(sizes, budget, Random(0))
    assert epochs * sum(sizes[i] for i in order) == pytest.approx(budget, abs=7 * epochs)
    assert max(order.count(i) for i in order) <= 2
    if budget >= 100:
        assert set(order) == set(range(10)), "nothing is left out"


def test_a_setting_given_by_hand_wins_over_the_arm_and_the_arm_over_the_task():
    settings = {"prompts": {"path": "p.jsonl"}, "propose": {"exemplar": {"k": 9, "shots": 2}}, "train": {"lr": 1e-5}}
    config = configure(ARMS["lmsi"], settings, ("train.lr=1e-4", "propose.exemplar.shots=5"))
    assert (config.propose.exemplar.k, config.propose.exemplar.shots) == (0, 5)
    assert (config.train.lr, config.prompts.path, config.name) == (1e-4, "p.jsonl", "lmsi")


def test_the_interval_over_seeds_knows_that_seeds_differ():
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 0.1, 80) for _ in range(3)]
    same = over_seeds([0.1 + n for n in noise])
    apart = over_seeds([shift + n for shift, n in zip((0.0, 0.1, 0.2), noise, strict=True)])
    assert same.diff == pytest.approx(apart.diff, abs=1e-9)
    assert same.low > 0.05
    assert apart.high - apart.low > 2 * (same.high - same.low)


def test_a_gain_is_set_beside_the_oracles_on_the_seeds_that_both_have():
    def cell(seed, before, after):
        return {"seed": seed, "heldout": {"mean": [before, after]}}

    ours = [cell(0, [0.1, 0.3], [0.3, 0.5]), cell(1, [0.2, 0.2], [0.3, 0.3]), cell(2, [0.0, 0.0], [1.0, 1.0])]
    oracle = [cell(1, [0.2, 0.2], [0.5, 0.5]), cell(0, [0.1, 0.3], [0.5, 0.7])]
    assert share_of_gain(ours, oracle) == pytest.approx((0.2 + 0.1) / (0.4 + 0.3))
    assert share_of_gain(ours, []) is None


@pytest.mark.slow
def test_the_page_is_written_between_its_markers(finished, tmp_path, monkeypatch):
    _, cells = finished
    monkeypatch.setattr(results, "plot", lambda cells, path: None)  # matplotlib belongs to the bench's extra
    marks = "".join(f"<!-- {m} -->\nold\n<!-- end of {m} -->\n" for m in ("arms, float32", "operators, float32"))
    (tmp_path / "results-tables.md").write_text(f"# Results\n{marks}tail\n")
    other = {"task": "sums", "arm": "ours", "seed": 0, "dtype": "bfloat16", "round": 1}
    (tmp_path / "results.json").write_text(json.dumps([other, other | {"dtype": "float32"}]))
    results.write_results(list(cells.values()), tmp_path)
    page = (tmp_path / "results-tables.md").read_text()
    assert page.startswith("# Results\n") and page.endswith("tail\n") and "old" not in page
    assert "| oracle | 1 |" in page
    rows = json.loads((tmp_path / "results.json").read_text())
    assert rows[0] == other, "what was measured in another dtype stays"
    assert {row["arm"] for row in rows[1:]} == set(cells) and len(rows) == 1 + 4


@pytest.mark.parametrize("name", ["everyday", "arith"])
def test_a_task_draws_its_prompts_by_seed_and_has_all_answers(name, tmp_path):
    from selfimprove.config import PromptsConfig
    from selfimprove.prompts import load_prompts
    from selfimprove.types import Split

    written = []
    for run, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(run)
        folder.mkdir()
        TASKS[name].write(folder, seed)
        written.append((folder / "prompts.jsonl").read_text())
    assert written[0] == written[1] != written[2]
    found = load_prompts(PromptsConfig(path=str(folder / "prompts.jsonl"), heldout=HELDOUT, strict=True)).prompts
    assert sum(p.split is Split.TRAIN for p in found) == 120
    assert sum(p.split is Split.HELDOUT for p in found) == 80
    assert load_audit(folder / "audit.jsonl").keys() == {p.id for p in found}
    assert "answers" not in written[0]
