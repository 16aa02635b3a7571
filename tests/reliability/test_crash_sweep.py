"""The crash sweep in short: a few points of each kind. scripts/bench/reliability/crash_sweep.py tries them all."""

import os
import shutil
from itertools import count

import pytest
from reliability.crash_sweep import sweep
from reliability.fault_world import forked, report
from reliability.operations import DIED, DIED_UNSYNCED, Countdown

from selfimprove.fsio import make_folder, write_text


@pytest.mark.slow
def test_a_run_survives_death_at_any_operation_and_a_power_cut_there(world, tmp_path):
    tally = sweep(world, tmp_path, parts=("operations",), stride=67)
    assert tally.points["operations"] >= 2
    assert tally.faults == []


@pytest.mark.slow
def test_a_torn_log_holds_the_memory_before_the_commit_or_after_it(world, tmp_path):
    tally = sweep(world, tmp_path, parts=("torn",), stride=6)
    assert tally.points["torn"] > 30
    assert tally.faults == []


def after_power_cut(folder, work, last):
    """Let `work` die at operation `last` with the power cut; return the exit code, what it told us and what is left."""

    def dying(pipe):
        Countdown(folder, last, "cut+names", lambda _: None).arm()
        work(folder, lambda: report(pipe, 1))

    shutil.rmtree(folder, ignore_errors=True)
    code, told = forked(dying)
    return code, told, {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def careless(folder, tell):
    """As one would write it: nothing is synced."""
    folder.mkdir()
    (folder / "a").write_text("much work")
    os.rename(folder / "a", folder / "b")
    tell()
    (folder / "c").write_text("end")


def half_careful(folder, tell):
    """The fault that the sweep found first: the file is synced, the name of its folder is not."""
    (folder / "adapters").mkdir(parents=True)
    write_text(folder / "adapters" / "b", "much work")
    tell()
    (folder / "c").write_text("end")


def careful(folder, tell):
    """As this project does it."""
    make_folder(folder / "adapters")
    write_text(folder / "adapters" / "b", "much work")
    tell()
    (folder / "c").write_text("end")


@pytest.mark.parametrize("work", [careless, half_careful, careful])
def test_the_power_cut_of_the_sweep_takes_what_was_not_synced_and_nothing_else(tmp_path, work):
    """The sweep's own test: a fault that it cannot see would pass unnoticed."""
    lost = []
    for last in count(1):
        code, told, left = after_power_cut(tmp_path / "run", work, last)
        if code == 0:
            break
        assert code in (DIED, DIED_UNSYNCED)
        lost.append(bool(told) and "much work" not in left.values())
    assert last > 4
    assert any(lost) == (work is not careful)
