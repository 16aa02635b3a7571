"""A tracker gets each round once, when it is decided; without one, metrics.jsonl says the same."""

import json
import sys
from types import SimpleNamespace

import pytest
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.errors import UserError
from selfimprove.reports.summary import write_metrics
from selfimprove.reports.trackers import numbers, tracker
from selfimprove.rounds import guard


class FakePackage(SimpleNamespace):
    """What trackio and wandb have in common."""

    class errors:
        class Error(Exception):
            pass

    def __init__(self, key=True):
        super().__init__(started=[], rows=[], finished=0, key=key)

    def init(self, **options):
        if not self.key:
            raise self.errors.Error("api_key not configured (no-tty)")
        self.started.append(options)

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
    assert package.started[0]["config"]["train"]["rank"] == 4
    assert "server" not in package.started[0]["config"], "its address may hold a password"
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
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match="trackio, which is not installed; pip install trackio, or set report_to=none"):
        run_it(tiny_config(taught_folder, prompts, report_to="trackio"), tmp_path / "r")
    assert not (tmp_path / "r/metrics.jsonl").exists()


def test_wandb_without_a_key_is_a_message_not_a_prompt(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FakePackage(key=False))
    with (
        pytest.raises(UserError, match="wandb does not start: api_key not configured"),
        tracker("wandb", "r", tmp_path, {}),
    ):
        pytest.fail("it must not start")


def test_tensorboard_gets_scalars_in_the_folder_of_the_run(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            written.append(folder)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            written.append("closed")

        def add_scalar(self, key, value, step):
            written.append((key, value, step))

        def flush(self):
            written.append("flushed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    with tracker("tensorboard", "r", tmp_path, {}) as log:
        log(1, {"health/kl": 0.5})
    assert written == [str(tmp_path / "tensorboard"), ("health/kl", 0.5, 1), "flushed", "closed"]


def test_what_is_no_number_is_left_to_the_file():
    row = {"round": 1, "guard/decision": "keep", "health/kl": None, "health/agreement": 0.5, "train/steps": 3}
    assert numbers(row) == {"health/agreement": 0.5, "train/steps": 3}
