"""A tracker gets each round once, when it is decided; without one, metrics.jsonl says the same."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import get_args

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.config import RunConfig
from selfimprove.errors import UserError
from selfimprove.reports.summary import write_metrics
from selfimprove.rounds import guard
from selfimprove.run.trackers import _arguments, numbers


class FakePackage(SimpleNamespace):
    """What accelerate calls of trackio, wandb and swanlab."""

    def __init__(self, key=True):
        super().__init__(started=[], settings={}, rows=[], finished=0, key=key)
        self.config = SimpleNamespace(update=lambda values, **_: self.settings.update(values))

    def init(self, **options):
        if not self.key:
            raise RuntimeError("api_key not configured (no-tty)\nand more")
        self.started.append(options)
        return self

    def log(self, figures, *, step):
        self.rows.append((step, figures))

    def finish(self):
        self.finished += 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_a_run_and_its_resumption_send_each_round_once(kind, taught_folder, prompts, tmp_path, monkeypatch):
    package = FakePackage()
    monkeypatch.setitem(sys.modules, kind, package)
    config = tiny_config(taught_folder, prompts, rounds=1, report_to=kind, name="tracked")
    run_it(config, tmp_path / "tracked")
    assert [step for step, _ in package.rows] == [0, 1]
    assert package.started[0]["name"] == "tracked"
    assert package.settings["train.rank"] == 4
    assert not any(key.startswith("server") for key in package.settings), "its address may hold a password"
    assert package.settings["prompts.path"] == prompts.name, "its folder is of this machine alone"
    written = [json.loads(line) for line in (tmp_path / "tracked/metrics.jsonl").read_text().splitlines()]
    assert [numbers(row) for row in written] == [figures for _, figures in package.rows]
    assert {"health/agreement", "train/examples"} <= package.rows[1][1].keys()
    run_it(config.model_copy(update={"rounds": 2}), tmp_path / "tracked", resume=True)
    assert [step for step, _ in package.rows] == [0, 1, 2]
    assert package.finished == 2


class Crash(BaseException):
    """Stands for the process dying: nothing may catch it."""


def decide_and_die(*given):
    guard(*given)
    raise Crash


def die_once_round_1_is_sent(run, rows):
    if len(rows) > 1:
        raise Crash
    write_metrics(run, rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "dying", "steps"),
    [("rounds.guard", decide_and_die, [0, 1]), ("reports.summary.write_metrics", die_once_round_1_is_sent, [0, 1, 1])],
)
def test_a_round_is_sent_though_the_process_died_over_it(
    where, dying, steps, taught_folder, prompts, tmp_path, monkeypatch
):
    """It stopped the run, so no later round brings its figures along."""
    package = FakePackage()
    monkeypatch.setitem(sys.modules, "trackio", package)
    config = tiny_config(taught_folder, prompts, report_to="trackio", guard={"kl": 1e-9, "trips": 1})
    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(f"selfimprove.{where}", dying)
        run_it(config, tmp_path / "r")
    for _ in range(2):
        run_it(config, tmp_path / "r", resume=True)
        assert [step for step, _ in package.rows] == steps
    assert package.rows[1] == package.rows[-1], "sent again, it says the same"


@pytest.mark.slow
def test_metrics_are_on_disk_before_the_run_ends(taught_folder, prompts, tmp_path, monkeypatch):
    def stop(*_):
        raise RuntimeError("the machine goes down")

    monkeypatch.setattr("selfimprove.rounds.summarise", stop)
    with pytest.raises(RuntimeError, match="goes down"):
        run_it(tiny_config(taught_folder, prompts, rounds=1), tmp_path / "r")
    rows = [json.loads(line) for line in (tmp_path / "r/metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [0, 1]
    assert rows[1]["guard/decision"] == "keep"


def test_a_missing_package_costs_one_line_before_anything_is_spent(taught_folder, prompts, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("selfimprove.models.policy.Policy.load", lambda *_: pytest.fail("a model is loaded"))
    with pytest.raises(UserError, match="mlflow, which is not installed; pip install mlflow, or set report_to=none"):
        run_it(tiny_config(taught_folder, prompts, report_to="mlflow"), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_tracker_that_does_not_start_is_one_line_and_leaves_no_folder(taught_folder, prompts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FakePackage(key=False))
    with pytest.raises(UserError) as told:
        run_it(tiny_config(taught_folder, prompts, report_to="wandb"), tmp_path / "r")
    assert str(told.value) == "wandb does not start: api_key not configured (no-tty); or set report_to=none"
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_a_tracker_that_fails_later_costs_no_round(taught_folder, prompts, tmp_path, monkeypatch):
    package = FakePackage()
    package.log = lambda figures, *, step: 1 / 0
    monkeypatch.setitem(sys.modules, "wandb", package)
    config = tiny_config(taught_folder, prompts, rounds=1, report_to="wandb")
    with pytest.raises(UserError, match="wandb failed; go on with --resume, which sends the round again: division"):
        run_it(config, tmp_path / "r")
    assert package.finished == 1
    package.log = lambda figures, *, step: package.rows.append(step)
    run_it(config, tmp_path / "r", resume=True)
    assert package.rows == [0, 1]


def test_the_trackers_that_can_be_set_are_those_of_accelerate():
    kinds = get_args(RunConfig.model_fields["report_to"].annotation)
    assert set(kinds) == {"none", *LOGGER_TYPE_TO_CLASS}


@pytest.mark.parametrize("kind", sorted(LOGGER_TYPE_TO_CLASS))
def test_every_tracker_takes_the_arguments_that_it_is_given(kind, tmp_path):
    project, options = _arguments(kind, "mine", tmp_path)
    opened = LOGGER_TYPE_TO_CLASS[kind](project, **options)
    assert opened.name == kind
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "swanlab", "trackio", "wandb", "dvclive"])
def test_a_real_tracker_keeps_figures_on_this_machine(kind, tmp_path):
    """Those that are installed; as a program of its own, for they start threads and processes."""
    if find_spec(kind) is None:
        pytest.skip(f"needs {kind}")
    program = (
        "from pathlib import Path\n"
        "from selfimprove.run.trackers import tracker\n"
        f"with tracker({kind!r}, 'mine', Path('runs/mine'), {{'train': {{'rank': 4, 'x': None}}}}) as log:\n"
        "    log(0, {'health/kl': 0.5})\n    log(1, {'health/kl': 0.25})\n"
    )
    here = {"WANDB_MODE": "offline", "SWANLAB_MODE": "local", "TRACKIO_DIR": str(tmp_path / "trackio")}
    here |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "DVC_NO_ANALYTICS": "1"}
    environment = os.environ | here | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) > 0


def test_what_is_no_number_is_left_to_the_file():
    row = {"round": 1, "guard/decision": "keep", "health/kl": None, "health/agreement": 0.5, "train/steps": 3}
    assert numbers(row) == {"health/agreement": 0.5, "train/steps": 3}
