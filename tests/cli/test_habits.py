"""What people type: ids as they are printed, a learning rate by its usual name, a run that is there already."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from tasks.tiny_runs import tiny_config

from selfimprove.cli.main import main
from selfimprove.config_file import config_keys, config_values, to_yaml
from selfimprove.memory import ResponseMemory
from selfimprove.run.session import open_run


@pytest.fixture
def cli(undisturbed, tmp_path, monkeypatch):
    """Run commands in a folder in which `runs/tiny` is a finished run; return what is printed."""
    shutil.copytree(undisturbed[0], tmp_path / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)

    def invoke(*words, code=0):
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exit_code == code, f"{result.output}\n{result.stderr}"
        return result.output if code == 0 else result.stderr

    return invoke


@pytest.fixture
def config(taught_folder, prompts, tmp_path):
    """A configuration file for a run named tiny."""
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(tiny_config(taught_folder, prompts, name="tiny")))
    return file


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("key", ["lr", "learning_rate", "train.learning_rate"])
def test_explain_suggests_the_key_that_was_meant(cli, key):
    assert "did you mean train.lr" in cli("explain", key, code=2)


def test_explain_lists_default_and_allowed_values_of_every_key(cli):
    assert cli("explain", "train.method").splitlines()[1].split() == ["sft", "|", "preference"]
    assert "number, above 0, below 1" in cli("explain", "train.lr")
    assert "true | false" in cli("explain", "train.accumulate")
    assert config_values().keys() == config_keys().keys()
    assert all(config_values().values())


def test_an_unknown_setting_is_met_with_the_same_suggestion(cli, config):
    assert "unknown key learning_rate, did you mean train.lr?" in cli("run", config, "learning_rate=1e-4", code=2)


def test_ids_are_taken_as_they_are_printed(cli):
    [row] = rows(cli("memory", "tiny", "list", "-n", 1, "--json"))
    for id_ in (row["id"], f"#{row['id']}"):
        assert rows(cli("memory", "tiny", "show", id_, "--json"))[0]["id"] == row["id"]
    assert "begins a comment in the shell" in cli("memory", "tiny", "show", code=2)
    assert "no id of a response" in cli("memory", "tiny", "show", "r2", code=2)
    assert cli("rollback", "tiny", "r1") == "current policy: r0001\n"
    assert cli("rollback", "tiny", "r0002") == "current policy: r0002\n"
    for round_ in ("1", "r1", "r0001"):
        assert {r["round"] for r in rows(cli("memory", "tiny", "list", "--round", round_, "--json"))} == {1}
    assert "no round" in cli("memory", "tiny", "list", "--round", "one", code=2)


def test_a_prompt_is_named_by_the_beginning_of_its_id_or_text(cli):
    [row] = rows(cli("memory", "tiny", "list", "--kept", "-n", 1, "--json"))
    for beginning in (row["prompt_id"], row["prompt_id"][:8], row["prompt"], row["prompt"].upper()[:-1]):
        assert cli("memory", "tiny", "votes", beginning).startswith(row["prompt_id"])
    assert re.search(r"\d+ prompts have an id or a text", cli("memory", "tiny", "votes", "What is", code=2))


def test_lists_show_prompt_ids_that_can_be_used(cli):
    head, line, *_ = cli("memory", "tiny", "list", "--kept").splitlines()
    shown = line[head.index("prompt") :].split()[0]
    [row] = rows(cli("memory", "tiny", "list", "--kept", "-n", 1, "--json"))
    assert row["prompt_id"].startswith(shown)
    assert len(shown) == 8


def test_kept_is_exactly_what_was_trained_on(cli):
    with ResponseMemory.open("runs/tiny/memory.db", write=True) as memory:
        trained = {r: {id_ for id_, v in memory.verdicts(r).items() if v.kept} for r in (1, 2)}
        reports = {r: memory.result(r, "train") for r in (1, 2)}
    # Examples in revise format teach a survivor's text again.
    assert {r: len(ids) + len(reports[r].get("revisions", ())) for r, ids in trained.items()} == {
        r: report["examples"] for r, report in reports.items()
    }
    assert trained[1] != trained[2]
    listed = rows(cli("memory", "tiny", "list", "--kept", "-n", 0, "--json"))
    assert {row["id"] for row in listed} == trained[1] | trained[2]
    assert all(set(row["kept_in"]) == {r for r in (1, 2) if row["id"] in trained[r]} for row in listed)
    for round_ in (1, 2):
        told = rows(cli("memory", "tiny", "list", "--kept", "--round", f"r{round_}", "-n", 0, "--json"))
        assert {row["id"] for row in told} == trained[round_]
    lines = cli("memory", "tiny", "list", "--kept", "-n", 0).splitlines()[1:]
    assert all(re.search(r"kept r[12]( r2)?\b", line) for line in lines)


def test_what_was_selected_and_not_trained_on_yet_is_not_listed_as_kept(cli):
    """A run that stopped between select and train: these survivors have taught nothing."""
    with ResponseMemory.open("runs/tiny/memory.db", write=True) as memory:
        last = {id_ for id_, v in memory.verdicts(2).items() if v.kept}
        first = {id_ for id_, v in memory.verdicts(1).items() if v.kept}
        memory.db._connection.executescript(
            "DROP TRIGGER units_no_delete; DELETE FROM units WHERE id = 'r0001/train/0000'"
        )
    assert first - last
    assert {row["id"] for row in rows(cli("memory", "tiny", "list", "--kept", "-n", 0, "--json"))} == last


def test_resume_of_a_run_that_is_not_there_says_so(cli, config):
    said = cli("run", config, "name=tinny", "--resume", code=2)
    assert "there is no run 'tinny' to go on with: leave out --resume to start it; runs/ has tiny" in said
    assert not Path("runs/tinny").exists()


def test_fewer_rounds_than_were_run_are_refused(cli, config):
    said = cli("run", config, "--resume", "--rounds", 1, code=2)
    assert "2 rounds are done already, rounds is 1; set rounds to 2 or more" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "the run runs/tiny exists already"),
        (("--resume", "train.rank=8"), "train.rank was 4, now 8"),
        (("--resume", "--rounds", "1"), "2 rounds are done already"),
        (("name=other", "report_to=trackio"), "trackio, which is not installed"),
        (("name=other", "--resume"), "there is no run 'other'"),
    ],
)
def test_a_dry_run_finds_what_would_stop_the_run(cli, config, words, says, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert says in cli("run", config, *words, "--dry-run", code=2)
    assert says in cli("run", config, *words, code=2)
    assert not Path("runs/other").exists()


def test_compare_warns_where_figures_are_not_comparable(cli, taught_folder, prompts, tmp_path):
    assert "warning" not in cli("compare", "tiny", "tiny")
    shutil.copytree("runs/tiny", "runs/deeper")
    file = Path("runs/deeper/config.yaml")
    settings = tiny_config(taught_folder, prompts, evaluate={"k": 4})
    file.write_text(to_yaml(settings))
    said = cli("compare", "tiny", "deeper")
    assert "warning: measured with different settings: evaluate.k (2 and 4)" in said
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(json.dumps({"prompt": f"How much is {n} plus 1?"}) for n in range(12)))
    with open_run(tiny_config(taught_folder, other), folder=Path("runs/other")):
        pass
    found = json.loads(cli("compare", "tiny", "other", "--json"))
    assert any("the held-out prompts differ: 11 and" in text for text in found["warnings"])


@pytest.mark.slow
def test_in_a_pipe_there_are_no_progress_bars_of_libraries(undisturbed, tmp_path):
    """Loading, saving and loading again; a bar would be drawn on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "selfimprove", "export", str(undisturbed[0]), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"it/s|%\||\r", done.stdout + done.stderr)


def complete(*words):
    """What the shell is offered after these words, the last of which is not finished."""
    *before, incomplete = words
    shell = ShellComplete(main, {}, "selfimprove", "_SELFIMPROVE_COMPLETE")
    return [item.value for item in shell.get_completions(list(before), incomplete)]


def test_the_shell_completes_run_names_keys_and_values(cli):
    for words in (["status"], ["memory"], ["export"], ["chat"], ["report"], ["compare", "tiny"], ["rollback"]):
        assert complete(*words, "ti") == ["tiny"]
    assert complete("explain", "train.l") == ["train.lr"]
    assert complete("run", "c.yaml", "train.l") == ["train.lr="]
    assert complete("run", "c.yaml", "train.method=p") == ["train.method=preference"]
    assert complete("run", "c.yaml", "train.lr=") == []
