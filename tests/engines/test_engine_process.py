"""A server that the run starts: it takes turns with this process, is revived, and never outlives it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from engine_story import a_unit, engine_at, outcome
from tasks.tiny import exactly

from selfimprove.engines import server_client as client
from selfimprove.engines import server_process as process
from selfimprove.errors import ConfigError, EngineError
from selfimprove.models.policy import Policy

STUB = Path(__file__).with_name("stub_server.py")
COMMAND = f"{sys.executable} {STUB} {{port}} {{rank}} {{model}}"


@pytest.fixture(scope="module")
def policy(model_folder):
    return Policy.load(exactly(model_folder))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(process, "POLL_S", 0.02)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answering(engine):
    """The number of the process that answers."""
    ((_, generations),) = engine.generate([a_unit(prompts=2, k=2)])
    (number,) = {int(g.text) for g in generations}
    return number


def test_it_runs_while_it_generates_and_is_gone_while_the_model_is_needed_here(policy, port, tmp_path):
    with engine_at(f"http://127.0.0.1:{port}", policy, tmp_path, command=COMMAND) as engine:
        assert not listens(port), "nothing is started before it is needed"
        first = answering(engine)
        assert answering(engine) == first
        assert policy.model is None, "its memory is the server's"
        policy = engine.model_here()
        assert not listens(port)
        policy.use(None)
        assert policy.model is not None
        assert answering(engine) != first
    assert not listens(port)


def test_one_that_is_killed_is_started_again_and_its_requests_asked_again(policy, port, tmp_path, caplog):
    with engine_at(f"http://127.0.0.1:{port}", policy, tmp_path, command=COMMAND) as engine:
        first = answering(engine)
        os.kill(first, signal.SIGKILL)
        assert answering(engine) != first
    assert "the server ended with code 137; starting it again" in caplog.text


ONCE = f"""
import runpy, sys
from pathlib import Path
starts, then = Path(sys.argv.pop(1)), sys.argv.pop(1)
with open(starts, "a") as file:
    file.write("x")
if starts.stat().st_size > 1:
    exec(then)
runpy.run_path({str(STUB)!r}, run_name="__main__")
"""


def only_once(folder, then):
    """A command that serves when started first, and the count of its starts; later it does `then`."""
    (folder / "once.py").write_text(ONCE)
    return COMMAND.replace(str(STUB), f"{folder}/once.py {folder}/starts '{then}'"), folder / "starts"


def test_one_that_does_not_come_up_again_is_tried_once_for_all_requests(policy, port, tmp_path):
    command, starts = only_once(tmp_path, 'sys.exit("the device is lost")')
    with engine_at(f"http://127.0.0.1:{port}", policy, tmp_path, command=command) as engine:
        os.kill(answering(engine), signal.SIGKILL)
        with pytest.raises(EngineError, match=r"ends: .*the device is lost"):
            list(engine.generate([a_unit(prompts=12)]))
    assert starts.read_text() == "xx"


def test_a_run_that_ends_does_not_wait_for_a_server_to_come_up(policy, port, tmp_path):
    command, starts = only_once(tmp_path, "import time; time.sleep(60)")
    with engine_at(f"http://127.0.0.1:{port}", policy, tmp_path, command=command) as engine:
        os.kill(answering(engine), signal.SIGKILL)
        ends = []
        waiting = threading.Thread(target=lambda: ends.append(outcome(engine)))
        waiting.start()
        while starts.read_text() == "x":
            time.sleep(0.02)
        began = time.monotonic()
        engine.close()
        waiting.join(10)
    assert ends[0] in {"EngineError", "CancelledError"}
    assert time.monotonic() - began < 10


def test_a_keeper_that_is_told_to_end_ends_at_once():
    script = Path(process.__file__).with_name("child_guard.py")
    command = [sys.executable, script, "sh", "-c", "sleep 0.2; echo up; sleep 60"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout.readline() == "up\n"
        keeper.terminate()
        assert keeper.wait(10) == 128 + signal.SIGTERM


@pytest.mark.parametrize("own", [None, "0"])
def test_vllm_is_told_to_send_nothing_home_unless_the_user_wants_it(policy, port, tmp_path, monkeypatch, own):
    monkeypatch.delenv("VLLM_NO_USAGE_STATS", raising=False)
    if own:
        monkeypatch.setenv("VLLM_NO_USAGE_STATS", own)
    command = f'{sys.executable} -c \'import os; exit(os.environ["VLLM_NO_USAGE_STATS"] + " it was")\''
    with (
        engine_at(f"http://127.0.0.1:{port}", policy, tmp_path, command=command) as engine,
        pytest.raises(EngineError, match=f"ends: {own or 1} it was"),
    ):
        answering(engine)


def test_one_that_cannot_start_says_why(policy, port, tmp_path):
    command = COMMAND.replace("{rank}", "13")
    with (
        engine_at(f"http://127.0.0.1:{port}", policy, tmp_path, command=command) as engine,
        pytest.raises(EngineError, match=r"ended with code 1 before it answered; .*server\.log ends: no rank 13 here"),
    ):
        answering(engine)


def test_what_is_at_the_address_already_is_left_alone(policy, port, tmp_path):
    url = f"http://127.0.0.1:{port}"
    with engine_at(url, policy, tmp_path, command=COMMAND) as theirs:
        first = answering(theirs)
        with (
            engine_at(url, policy, tmp_path, command=COMMAND) as ours,
            pytest.raises(EngineError, match=rf"something answers at {url} already"),
        ):
            answering(ours)
        assert answering(theirs) == first


@pytest.mark.parametrize(
    ("url", "command", "says"),
    [
        ("http://127.0.0.1:1", "serve {modle}", "can be filled in"),
        ("http://127.0.0.1:1", "serve 'half", "can be filled in"),
        ("http://10.0.0.1:1", COMMAND, "is elsewhere"),
    ],
)
def test_a_command_that_cannot_work_is_refused(policy, tmp_path, url, command, says):
    with pytest.raises(ConfigError, match=says), engine_at(url, policy, tmp_path, command=command):
        pass


DIES = """
import sys, time
from pathlib import Path
from selfimprove.engines.server_client import Client
from selfimprove.engines.server_process import ServerProcess
url, command, model, log = sys.argv[1:]
server = ServerProcess(command, Client(url, timeout=5, patience=5), model=Path(model), rank=4, log_file=Path(log))
server.start()
print("up", flush=True)
time.sleep(60)
"""


def test_it_ends_when_the_run_is_killed(port, tmp_path):
    arguments = [f"http://127.0.0.1:{port}", COMMAND, str(tmp_path), str(tmp_path / "log")]
    run = subprocess.Popen([sys.executable, "-c", DIES, *arguments], stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "up\n"
    assert listens(port)
    run.kill()
    run.wait()
    run.stdout.close()
    ends = time.monotonic() + 10
    while listens(port):
        assert time.monotonic() < ends, "it outlived its run"
        time.sleep(0.02)
