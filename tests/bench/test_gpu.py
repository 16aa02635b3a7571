"""The one command for a GPU, with the same code on the CPU: its checks, and its sections with their faults."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import gpu
import gpu_checks
import psutil
import pytest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return gpu_checks.Place(gpu_checks.teach_sums(tmp_path_factory.mktemp("tiny")), "cpu")


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=name, marks=[pytest.mark.slow] if name == "whole_run" else [])
        for name, check in gpu_checks.CHECKS.items()
    ],
)
def test_a_check_passes_on_the_cpu(place, check):
    assert check(place)


def test_a_check_can_fail(place, monkeypatch):
    ours = gpu_checks.generate
    monkeypatch.setattr(gpu_checks, "generate", lambda *args, **kwargs: ours(*args, **kwargs)[::-1])
    with pytest.raises(AssertionError, match="greedy texts equal"):
        gpu_checks.greedy_text(place)


def options(tmp_path, **changes):
    return argparse.Namespace(**({"out": tmp_path, "device": "cpu", "quick": True, "limit": {}} | changes))


def test_a_failing_section_leaves_its_rows_and_the_reason(tmp_path, monkeypatch):
    def broken(_, record):
        record({"check": "one", "passed": True, "found": "all"})
        raise RuntimeError("CUDA error: out of patience")

    monkeypatch.setitem(gpu.SECTIONS, "rollout", broken)
    with pytest.raises(RuntimeError):
        gpu.work(options(tmp_path, section="rollout"))
    first, second = json.loads((tmp_path / "rollout.json").read_text())
    assert first["passed"] and second["error"][-1] == "RuntimeError: CUDA error: out of patience"
    result = {"environment": {}, "sections": [{"section": "rollout", "rows": [first, second]}]}
    assert "FAILED" in gpu.show(result) and "out of patience" in gpu.show(result)


@pytest.mark.slow
def test_a_section_past_its_time_is_ended_and_said(tmp_path):
    found = gpu.run_section("tests", options(tmp_path, limit={"tests": 0.5}))
    assert found["rows"][-1]["error"][0] == "ended after 0.5 s"
    assert found["seconds"] < 60


PARENT = """
import sys, time
import gpu
from pathlib import Path

if "--section" in sys.argv:  # the section, and what it starts, as the quickstart does
    import os, subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path("pids.partial").write_text(f"{os.getpid()} {child.pid}")
    Path("pids.partial").rename("pids")
    time.sleep(60)
gpu.__file__ = __file__
gpu.environment = lambda device: {}
gpu.main()
"""


@pytest.mark.slow
def test_a_stopped_command_leaves_no_section_behind(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, script, "--out", tmp_path / "out", "--device", "cpu", "--only", "quickstart"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert soon(lambda: (tmp_path / "pids").exists(), 60)
    finally:
        process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    section, child = map(int, (tmp_path / "pids").read_text().split())
    assert soon(lambda: ended(section) and ended(child), 10)


def ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def soon(true, seconds):
    """True as soon as the condition is, False after the seconds."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def test_the_limits_leave_time_of_eight_minutes():
    assert gpu.LIMITS.keys() == gpu.SECTIONS.keys() and sum(gpu.LIMITS.values()) < 8 * 60
