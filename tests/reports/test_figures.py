"""One derivation: the table, the files, the report, compare, status and the model card say the same of a run."""

import ast
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.cli.main import main
from selfimprove.exports.from_run import _summary
from selfimprove.memory import ResponseMemory
from selfimprove.reports.changes import Change
from selfimprove.reports.compare import compare_runs
from selfimprove.reports.figures import load_figures
from selfimprove.reports.html import write_report
from selfimprove.reports.status import run_status
from selfimprove.reports.tables import round_lines

PACKAGE = Path(__file__).parents[2] / "selfimprove"


@pytest.mark.slow
def test_every_place_gives_the_same_accuracy_by_round(audited, tmp_path):
    folder, summary = audited
    stored = json.loads((folder / "accuracy.json").read_text())
    means = {row["round"]: sum(row["mean_at_k"]) / len(row["mean_at_k"]) for row in stored["rounds"]}
    assert set(means) == {0, 1, 2}
    assert len(stored["prompts"]) == 11

    written = json.loads((folder / "summary.json").read_text())
    assert written == json.loads(json.dumps(summary.figures))
    assert {0: written["heldout"]["before"]} | {
        row["round"]: row["accuracy"]["mean_at_k"] for row in written["rounds"]
    } == pytest.approx(means)
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {row["round"]: row["audit/mean_at_k"] for row in metrics} == pytest.approx(means)
    status = run_status(folder)
    told = {0: status["base"]["accuracy"]} | {row["round"]: row["accuracy"] for row in status["rounds"]}
    assert {round_: one["mean_at_k"] for round_, one in told.items()} == pytest.approx(means)
    compared = compare_runs(folder, folder).figures
    assert compared["mean@k accuracy, round 1"] == (pytest.approx(means[1]),) * 2
    assert compared["mean@k accuracy, now"] == (written["heldout"]["after"],) * 2
    write_report(folder, tmp_path / "r.html")
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "r.html").read_text(), re.DOTALL)[1])
    drawn = {row["round"]: row["value"] for row in data["progress"] if row["measure"] == "mean@k accuracy"}
    assert drawn == pytest.approx(means)
    assert data["heldout"] == written["heldout"]
    with ResponseMemory.open(folder / "memory.db") as memory:
        for round_ in (1, 2):
            assert _summary(folder, memory, f"r{round_:04d}")["heldout"]["after"] == pytest.approx(means[round_])

    lines = summary.table.splitlines()
    [head] = [number for number, line in enumerate(lines) if line.startswith("  by round")]
    shown = [float(line.split()[1 if line.startswith("  base") else 2]) for line in lines[head + 1 : head + 4]]
    assert shown == pytest.approx(list(means.values()), abs=5e-4)
    status_lines = CliRunner().invoke(main, ["status", str(folder)]).output.splitlines()
    assert sum(f"{means[2]:.3f}" in line for line in status_lines) >= 1


def test_the_changes_are_paired_and_from_base_and_last_kept(audited):
    _, summary = audited
    second = summary.figures["rounds"][1]["accuracy"]
    assert second["from_base"] == pytest.approx(summary.figures["heldout"]["diff"])
    first = summary.figures["rounds"][0]["accuracy"]
    assert second["from_kept"] == pytest.approx(second["mean_at_k"] - first["mean_at_k"])
    for one in (first, second):
        assert one["from_base_low"] <= one["from_base"] <= one["from_base_high"]


def test_the_table_says_what_changed_by_family_and_what_is_worse(audited):
    folder, summary = audited
    lines = summary.table.splitlines()
    with ResponseMemory.open(folder / "memory.db") as memory:
        found = load_figures(folder, memory)
        changes, families = found.prompts.changes(2), found.prompts.family_changes(2)
        fallen = found.fallen(2, final=True)
    [prompts] = [line for line in lines if line.startswith("  prompts ")]
    count = Counter(one.kind for one in changes)
    assert (
        f"{count[Change.IMPROVED]} improved, {count[Change.REGRESSED]} regressed, {count[Change.SAME]} same" in prompts
    )
    assert f"{sum(one.changed for one in changes)} with another majority answer" in prompts
    start = next(number for number, line in enumerate(lines) if line.startswith("  by family, worst first"))
    for line, family in zip(lines[start + 1 :], families, strict=False):
        assert line.split("  ")[1] == family.name[:24]
        assert f"{family.mean[0]:.3f} -> {family.mean[1]:.3f}" in line
        assert f"{family.greedy[0]} -> {family.greedy[1]}" in line
    assert f"round 2 is worse {fallen.text}" in lines
    written = json.loads((folder / "summary.json").read_text())
    assert [row["name"] for row in written["families"]] == [family.name for family in families]
    assert written["fallen"]["against"] == fallen.against


def test_a_round_says_its_accuracy_against_the_base_and_the_last_kept_round(audited):
    folder, _ = audited
    with ResponseMemory.open(folder / "memory.db") as memory:
        found = load_figures(folder, memory)
        assert [name for name, _ in round_lines(found, 0)] == ["accuracy"]
        first, second = (dict(round_lines(found, round_)) for round_ in (1, 2))
        means = [found.rounds[round_].accuracy["mean_at_k"] for round_ in (0, 1, 2)]
    assert f"mean@2 from base {means[1] - means[0]:+.3f} (" in first["accuracy"]
    assert "from round" not in first["accuracy"], "the base is the last kept one"
    assert f"from round 1 {means[2] - means[1]:+.3f} (" in second["accuracy"]
    assert first["worse"].startswith("than the base in ")


def test_runs_from_before_answers_json_show_what_changed_too(audited, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "run")
    with ResponseMemory.open(folder / "memory.db") as memory:
        now = load_figures(folder, memory).prompts.changes(2)
        (folder / "answers.json").unlink()
        assert load_figures(folder, memory).prompts.changes(2) == now


def test_looking_at_a_run_executes_no_reader_of_the_user(audited, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "run")
    (folder / "answers.json").unlink()
    (tmp_path / "mine.py").write_text("raise RuntimeError('executed')")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("reader: null", f"reader: {tmp_path / 'mine.py'}:read"))
    with ResponseMemory.open(folder / "memory.db") as memory:
        found = load_figures(folder, memory)
        assert found.config.vote.reader is not None
        assert found.prompts.changes(2) == []
        write_report(folder, tmp_path / "r.html")


def test_compare_says_which_prompts_and_families_two_runs_answer_differently(audited, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "other")
    with ResponseMemory.open(folder / "memory.db", write=True) as memory:
        memory.rollback(0)
    found = compare_runs(audited[0], folder)
    with ResponseMemory.open(folder / "memory.db") as memory:
        base = load_figures(folder, memory).prompts.changes(2)
    assert sorted(-one.by for one in base) == sorted(one.by for one in found.prompts), "the other way round"
    told = json.loads(CliRunner().invoke(main, ["compare", str(audited[0]), str(folder), "--json"]).output)
    assert [row["id"] for row in told["prompts"]] == [one.prompt.id for one in found.prompts]
    assert {row["name"] for row in told["families"]} == {one.family for one in found.prompts}
    differ = [one for one in found.prompts if one.changed or one.by]
    assert f"{len(differ)} of 11 held-out prompts differ in majority answer or accuracy" in found.table
    assert repr(differ[0].prompt.text) in found.table
    assert compare_runs(audited[0], audited[0]).table.count("->") == 4 * len(found.families), "families alone"


def test_a_run_that_went_back_has_the_accuracy_of_the_policy_it_went_back_to(audited, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "run")
    with ResponseMemory.open(folder / "memory.db", write=True) as memory:
        memory.rollback(1)
        found = load_figures(folder, memory)
        assert found.measured == "r0001"
        assert found.heldout["after"] == found.rounds[1].accuracy["mean_at_k"]


def test_runs_from_before_accuracy_json_keep_their_figures(audited, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "run")
    with ResponseMemory.open(folder / "memory.db") as memory:
        now = load_figures(folder, memory)
        (folder / "accuracy.json").unlink()
        old = load_figures(folder, memory)
        assert old.heldout == now.heldout
        assert [one.accuracy for one in old.rounds] == [pytest.approx(one.accuracy) for one in now.rounds]
        assert old.metrics() == now.metrics()
        assert old.summary()["heldout"] == now.summary()["heldout"]


def test_an_audit_file_that_is_no_longer_set_leaves_no_accuracy(audited, taught_folder, prompts, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "run")
    config = tiny_config(taught_folder, prompts, train={"lr": 1e-2, "epochs": 2})
    summary = run_it(config, folder, resume=True)
    assert "heldout" not in summary.figures
    assert not (folder / "accuracy.json").exists()
    assert "audit/" not in (folder / "metrics.jsonl").read_text()


def test_a_damaged_file_of_figures_costs_one_line(audited, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "run")
    (folder / "accuracy.json").write_text("{")
    result = CliRunner().invoke(main, ["status", str(folder)])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "accuracy.json is damaged" in result.stderr


def test_nothing_that_decides_can_see_accuracy():
    """Stages, run, training, engines, memory and answers import no module that holds accuracy or figures."""
    seen = 0
    for room in ("stages", "run", "training", "engines", "memory", "answers", "rollout", "models", "prompts"):
        for path in (PACKAGE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom):
                    names = {*(node.module or "").split("."), *(alias.name for alias in node.names)}
                    assert not names & {"accuracy", "scores", "figures", "answer_key", "reports"}, path
                    seen += 1
    assert seen > 100
