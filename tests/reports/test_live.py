"""A run that is watched: its state and share in `status`, in another terminal, and in a report that renews itself."""

import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from tasks.tiny_runs import tiny_config

from selfimprove.cli import watch
from selfimprove.cli.main import main
from selfimprove.errors import MemoryError_
from selfimprove.memory import ResponseMemory
from selfimprove.memory.store.database import writer_of
from selfimprove.reports.live import Live, make_server, page
from selfimprove.reports.status import run_status, seconds_left, stage_line, time_text
from selfimprove.rounds import improve
from selfimprove.run.progress import RECORD, Progress
from selfimprove.run.session import open_run
from selfimprove.run.state import Doing, State, doing
from selfimprove.types import Stage


@pytest.mark.slow
def test_a_run_is_seen_from_outside_from_its_first_unit_to_its_end(taught_folder, prompts, tmp_path, monkeypatch):
    """The run's thread waits for the watcher at each stage, so that every stage is seen."""
    folder, seen, errors = tmp_path / "run", [], []
    at, go = threading.Event(), threading.Event()
    real = Progress._write

    def write(self, state):
        real(self, state)
        if state["done"] == 0:
            at.set()
            assert go.wait(20)
            go.clear()

    monkeypatch.setattr(Progress, "_write", write)

    def work():
        try:
            config = tiny_config(taught_folder, prompts)
            with open_run(config, folder=folder, progress=Progress(quiet=True)) as run:
                improve(run)
        except BaseException as error:
            errors.append(error)
        finally:
            at.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert at.wait(60)
    at.clear()
    pending = watch.statuses(folder, seconds=0)
    while thread.is_alive():
        seen.append(next(pending))
        go.set()
        at.wait(20)
        at.clear()
    thread.join()
    assert not errors
    seen += list(pending)
    stages = [(s["doing"]["round"], s["doing"]["stage"]) for s in seen if s["doing"]]
    order = list(dict.fromkeys(stages))
    assert [stage for round_, stage in order if round_ == 0] == ["probe", "greedy"]
    for round_ in (1, 2):
        assert [stage for r, stage in order if r == round_][:2] == ["sample", "exemplar"]
        assert {"train", "greedy"} <= {stage for r, stage in order if r == round_}
    assert {s["state"] for s in seen[:-1]} == {"running"}
    assert seen[-1]["state"] == "finished"
    assert seen[-1] == run_status(folder)
    assert [len(s["survivors"]) for s in seen] == sorted(len(s["survivors"]) for s in seen), "they come one by one"
    first = next(s for s in seen if s["doing"] and s["doing"]["round"] == 2)
    assert first["seconds_left"] > 0, "a whole round shows how long a round takes"
    assert seen[0]["seconds_left"] is None
    assert seen[-1]["survivors"][0]["examples"]


@contextmanager
def held(folder, **state):
    """Hold a run as a process that works on it does."""
    progress = Progress(quiet=True)
    with ResponseMemory.open(folder / "memory.db", write=True), progress.recorded(folder, rounds=2):
        progress.begin(2, "r0001")
        with progress.stage("sample", 40, "prompts") as bar:
            bar.advance(10)
            bar._note(bar.state)
            yield progress


@pytest.fixture
def copied(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "tiny")
    (folder / RECORD).unlink(missing_ok=True)
    return folder


def test_running_stopped_and_finished_are_told_apart(copied):
    assert run_status(copied)["state"] == "finished"
    with held(copied):
        status = run_status(copied)
        assert (status["state"], status["doing"]["stage"], status["doing"]["share"]) == ("running", "sample", 0.25)
        assert "running in round 2/2, sample 25%" in CliRunner().invoke(main, ["status", str(copied)]).output
    config = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(config.replace("rounds: 2", "rounds: 3"))
    status = run_status(copied)
    assert (status["state"], status["doing"]["share"], status["seconds_left"]) == ("stopped", 0.25, None)
    assert "stopped in round 2/2, sample 25%," in CliRunner().invoke(main, ["status", str(copied)]).output
    (copied / RECORD).write_bytes(b'{"pid": 1, "rou')
    assert doing(copied) is None
    assert run_status(copied)["state"] == "stopped"


def test_another_command_that_writes_is_no_run(copied):
    with ResponseMemory.open(copied / "memory.db", write=True):
        assert run_status(copied)["state"] == "finished"


def test_the_lock_is_asked_for_without_being_taken(copied):
    path = copied / "memory.db"
    assert writer_of(path) is None
    assert writer_of(copied / "nothing.db") is None
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            writer_of(path)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(8):
            with ResponseMemory.open(path, write=True), pytest.raises(MemoryError_, match="is being written"):
                ResponseMemory.open(path, write=True)
    finally:
        stop.set()
        asking.join()


def test_the_time_left_counts_what_the_last_round_took():
    now = Doing(2, 3, "train", 5, 10, "steps", 0, 20.0, 1)
    assert now.seconds_left == 20
    within = [Doing(2, 3, "sample", 5, 10, "prompts", 0, seconds, 1, 20.0).seconds_left for seconds in (20, 25, 50)]
    assert within == [20, 15, 0], "it falls within a unit, too"
    usual = {"sample": 10.0, "exemplar": 20.0, "train": 40.0, "probe": 5.0, "guard": 0.0}
    assert seconds_left({0: {"probe": 9.0}, 1: usual, 2: {"sample": 11.0}}, now) == 20 + 5 + 75
    assert seconds_left({0: {"probe": 9.0}, 1: {"sample": 1.0}}, now) is None, "no round is whole yet"
    begun = Doing(2, 2, "train", 0, 0, "steps", 0, 0.0, 1)
    assert seconds_left({1: usual}, begun) == 40 + 5
    status = {"state": State.RUNNING, "doing": {"round": 1, "rounds": 2, "stage": "sample", "share": 0.5,
                                                "seconds_left": 40.2}, "seconds_left": 400}  # fmt: skip
    assert stage_line(status) == "round 1/2, sample 50% (40 s left in this stage, about 7 min in all)"
    assert time_text(9000) == "2.5 h"


def test_watch_prints_what_is_new_and_ends_with_the_run(copied, monkeypatch):
    done = threading.Event()
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch.statuses, "__defaults__", (0.01,))

    def end():
        with held(copied):
            done.wait(2)

    thread = threading.Thread(target=end)
    thread.start()
    while not writer_of(copied / "memory.db"):
        time.sleep(0.01)
    threading.Timer(0.3, done.set).start()
    told = CliRunner().invoke(main, ["watch", str(copied)])
    thread.join()
    lines = told.output.splitlines()
    assert told.exit_code == 0, told.output
    assert any("running in round 2/2, sample 25%" in line for line in lines)
    assert any(line.startswith("round 2 kept ") for line in lines)
    assert sum(line.startswith("  #") for line in lines) >= 1, "survivors"
    assert "finished" in lines[-1]
    rows = CliRunner().invoke(main, ["watch", str(copied), "--json"]).output.splitlines()
    assert json.loads(rows[-1]) == json.loads(json.dumps(run_status(copied)))


def test_a_terminal_shows_lines_that_fit():
    status = {
        "run": "r", "state": "finished", "doing": None, "seconds_left": None, "current": "r0001", "responses": 3,
        "base": {"agreement": 0.5, "accuracy": None}, "last_unit": "x", "rounds": [],
        "survivors": [{"round": 1, "kept": 1, "candidates": 2, "examples": [[1, "日本" * 80, "\x1b[31m"]]}],
    }  # fmt: skip
    shown = watch.screen(status, 60)
    assert all(watch.columns(line) <= 60 for line in shown)
    assert not any("\x1b" in line for line in shown)


@contextmanager
def served(live):
    with make_server(live, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def get(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
        return answer.read()


def test_the_live_report_is_rendered_again_when_something_was_committed(copied, tmp_path):
    written = []

    def write(out):
        written.append(out)
        out.write_text(f"report {len(written)}")

    live = Live(copied, write, tmp_path / "report.html")
    with served(live) as address:
        assert b"/report.html" in get(address)
        assert get(f"{address}/report.html") == b"report 1"
        assert json.loads(get(f"{address}/status"))["version"] == 1
        assert get(f"{address}/report.html") == b"report 1", "nothing is new"
        with ResponseMemory.open(copied / "memory.db", write=True) as memory:
            memory.commit_result(3, Stage.TRAIN, {"loss": 1.0})
        live._next = 0.0
        assert json.loads(get(f"{address}/status"))["version"] == 2
        assert get(f"{address}/report.html") == b"report 2"
        live._next = time.monotonic() + 100
        with ResponseMemory.open(copied / "memory.db", write=True) as memory:
            memory.commit_result(4, Stage.TRAIN, {"loss": 1.0})
        with held(copied):
            assert json.loads(get(f"{address}/status"))["version"] == 2, "not so soon after the last"
        assert json.loads(get(f"{address}/status"))["version"] == 3, "but at once when the run has ended"
        (copied / "accuracy.json").write_text('{"prompts": [], "rounds": []}')
        assert json.loads(get(f"{address}/status"))["version"] == 4, "the accuracy comes after the last commit"
        for path, headers in (("/", {"Host": "evil.example:80"}), ("/nothing", {}), ("/../memory.db", {})):
            with pytest.raises(urllib.error.HTTPError):
                get(f"{address}{path}", **headers)
    assert b"SCRIPT_HASH" not in page()


def test_the_live_report_of_a_run_comes_by_one_command(copied, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", lambda self: get_and_stop(self))

    def get_and_stop(server):
        thread = threading.Thread(target=server._handle_request_noblock)
        thread.start()
        pages.append(get(f"http://127.0.0.1:{server.server_port}/report.html"))
        thread.join()
        raise KeyboardInterrupt

    pages = []
    told = CliRunner().invoke(main, ["report", str(copied), "--live", "--port", "0"])
    assert told.exit_code == 0, told.output
    assert opened == [told.output.split()[2]]
    assert b"Observable" in pages[0] or b"plot" in pages[0]
