"""The one command for a GPU, with the same code on the CPU: its checks, and its sections with their faults."""

import argparse
import json

import gpu
import gpu_checks
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


def test_the_limits_leave_time_of_eight_minutes():
    assert gpu.LIMITS.keys() == gpu.SECTIONS.keys() and sum(gpu.LIMITS.values()) < 8 * 60
