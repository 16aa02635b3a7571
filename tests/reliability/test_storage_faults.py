"""The disk fails a run: full, read-only, bytes that changed. It says so, what was there stays, and it goes on."""

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from reliability.fault_world import ending, forked, run, units_of

from selfimprove.cli.main import main
from selfimprove.config_file import to_yaml
from selfimprove.errors import MemoryError_, UserError
from selfimprove.memory import ResponseMemory
from selfimprove.reports import summary
from selfimprove.run.progress import Progress
from selfimprove.types import Stage

pytestmark = pytest.mark.slow


@pytest.fixture
def finished(world, tmp_path):
    """A copy of a finished run of one round."""
    return shutil.copytree(world.folder / "undisturbed", tmp_path / "runs" / "run")


def two_rounds(world):
    return world.config.model_copy(update={"rounds": 2})


def told(work):
    """Return what a person is told who meets the fault: one line."""
    with pytest.raises(UserError) as refusal:
        work()
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


class Fills(Progress):
    """The disk is full from a stage on: no file may grow beyond so many bytes, the memory's and its log's included."""

    def __init__(self, stage, room):
        super().__init__(quiet=True)
        self._stage, self._room = stage, room

    def line(self, stage, *facts, seconds=None):
        if stage == self._stage:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._room, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("stage", "room", "says"),
    [
        ("", 1000, "could not be (?:read or )?written"),  # the rehearsal's adapter, or the memory
        ("vote", 600_000, "memory.db could not be read or written"),
        ("select", 4096, "adapters/r0001 could not be written"),
    ],
)
def test_a_full_disk_ends_the_run_with_a_message_and_it_goes_on_with_room(world, tmp_path, capfd, stage, room, says):
    def cramped(_):
        fills = Fills(stage, room)
        fills.line("")
        try:
            run(world.config, tmp_path / "run", fills)
        except UserError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            os.write(2, f"told: {error}\n".encode())
            sys.exit(2)

    code, _ = forked(cramped)
    said = capfd.readouterr().err
    assert code == 2, said
    assert re.search(f"^told: .*{says}.*(room|permissions)", said, re.MULTILINE), said
    before = units_of(tmp_path / "run")
    run(world.config, tmp_path / "run")
    assert units_of(tmp_path / "run")[: len(before)] == before
    assert ending(tmp_path / "run") == world.ending


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, and a way to give it other options; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        return subprocess.run(["mount", "-o", *options, str(folder)], capture_output=True, text=True, check=False)

    made = mount("size=64m", "-t", "tmpfs", "none") if shutil.which("mount") else None
    if made is None or made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip() if made else 'there is no mount'}")
    yield folder, lambda options: mount(f"remount,{options}").check_returncode()
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("room", ["256k", "512k", "700k", "1100k"])
def test_a_disk_that_is_really_full_loses_nothing_and_the_run_goes_on_with_room(world, disk, room):
    folder, remount = disk
    remount(f"size={room}")

    def cramped(_):
        with pytest.raises(UserError, match="room left"):
            run(world.config, folder / "run")

    assert forked(cramped)[0] == 0
    before = units_of(folder / "run")
    remount("size=64m")
    run(world.config, folder / "run")
    assert units_of(folder / "run")[: len(before)] == before
    assert ending(folder / "run") == world.ending


def test_a_disk_that_is_really_read_only_is_named_and_can_be_read(world, finished, disk):
    folder, remount = disk
    shutil.copytree(finished, folder / "run")
    remount("ro")
    said = told(lambda: run(two_rounds(world), folder / "run"))
    assert re.search(r"cannot write in .*/run \(Read-only file system\): check its permissions", said)
    with ResponseMemory.open(folder / "run" / "memory.db") as memory:
        assert memory.digest() == world.ending.memory
    result = CliRunner().invoke(main, ["report", str(folder / "run")])
    assert result.exit_code == 2
    assert re.fullmatch(r"Error: .*Read-only file system; what was committed is safe: .*\n", result.stderr)
    remount("rw")
    run(two_rounds(world), folder / "run")
    assert len(ending(folder / "run").adapters) == 2


def test_a_finished_run_on_read_only_media_is_looked_at_and_exported(finished, disk, tmp_path):
    folder, remount = disk
    for file in finished.glob("memory.db-*"):  # a copy of a closed run has no log
        file.unlink()
    run = shutil.copytree(finished, folder / "run")
    shutil.copytree(finished, folder / "torn")
    (folder / "torn" / "memory.db-wal").write_bytes(b"newer pages")
    remount("ro")
    export = ["export", run, tmp_path / "out", "--as", "adapter"]
    report = ["report", run, "--out", tmp_path / "r.html"]
    for words in (["status", run], ["memory", run, "verify"], ["memory", run, "list"], report, export):
        result = CliRunner().invoke(main, [*map(str, words)])
        assert result.exit_code == 0, (words, result.stderr)
    result = CliRunner().invoke(main, ["status", str(folder / "torn")])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "memory.db-wal holds newer pages: copy the whole folder" in result.stderr


def test_figures_that_cannot_be_written_cost_one_line_not_the_run(world, finished, tmp_path, monkeypatch):
    config = tmp_path / "c.yaml"
    config.write_text(to_yaml(world.config))
    monkeypatch.chdir(tmp_path)
    (finished / "summary.json").unlink()

    def full(path, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(summary, "write_json", full)
        result = CliRunner().invoke(main, ["run", str(config), "--resume"])
    assert result.exit_code == 2
    assert re.fullmatch(r"Error: runs/run/summary.json: No space left on device; .*again\n", result.stderr)
    assert CliRunner().invoke(main, ["run", str(config), "--resume"]).exit_code == 0
    assert (finished / "summary.json").is_file()
    assert ending(finished) == world.ending


def test_a_read_only_folder_is_named_and_nothing_changes(finished, monkeypatch):
    """Root may write anywhere, so the system's refusal is played: the lock's file cannot be opened."""
    with ResponseMemory.open(finished / "memory.db") as memory:
        digest = memory.digest()
    really_open = os.open

    def refuse(path, flags, *rest, **more):
        if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(finished)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return really_open(path, flags, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        said = told(lambda: ResponseMemory.open(finished / "memory.db", write=True))
        with ResponseMemory.open(finished / "memory.db") as memory:
            assert memory.digest() == digest, "reading is possible all the same"
    assert re.search(r"cannot write in .*/run \(Permission denied\): check its permissions", said)
    with ResponseMemory.open(finished / "memory.db", write=True) as memory:
        assert memory.digest() == digest


def flip(path, at=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x10
    path.write_bytes(data)


def test_an_empty_database_is_refused_and_left_alone(world, finished):
    (finished / "memory.db").write_bytes(b"")
    assert "not a response memory" in told(lambda: run(world.config, finished))
    assert (finished / "memory.db").read_bytes() == b""


@pytest.mark.parametrize("at", [0.0, 0.0002, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_flipped_bit_in_the_database_is_found(finished, at):
    with ResponseMemory.open(finished / "memory.db") as memory:
        whole = memory.digest()
    flip(finished / "memory.db", at)
    try:
        with ResponseMemory.open(finished / "memory.db") as memory:
            assert memory.verify() or memory.digest() == whole, "found, or it changed nothing that is said"
    except MemoryError_ as error:
        assert "\n" not in str(error)


def test_a_flipped_bit_in_the_definition_of_a_table_is_told_in_one_line(finished):
    path = finished / "memory.db"
    with ResponseMemory.open(path) as memory:
        whole = memory.digest()
    good = path.read_bytes()
    start = good.index(b"CREATE TABLE units")
    told_of = 0
    for at in range(start, start + 600, 40):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:
            with ResponseMemory.open(path) as memory:
                assert memory.verify() or memory.digest() == whole, at
        except MemoryError_ as error:
            told_of += 1
            assert "\n" not in str(error)
    assert told_of > 3


def test_a_cut_database_is_found(finished):
    path = finished / "memory.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MemoryError_, match="damaged"), ResponseMemory.open(path) as memory:
        memory.verify()


def test_a_changed_adapter_is_never_used_and_a_torn_manifest_of_it_does_no_harm(world, finished):
    """The manifest is for people: the hashes that count stand in the database."""
    adapter = finished / "adapters" / "r0001"
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        good = (adapter / name).read_bytes()
        flip(adapter / name)
        said = told(lambda: run(two_rounds(world), finished))
        assert "adapters/r0001 is missing or was changed" in said
        assert "rollback" in said
        (adapter / name).write_bytes(good)
    flip(adapter / "MANIFEST.json")
    run(two_rounds(world), finished)
    assert len(ending(finished).adapters) == 2


def test_a_missing_adapter_is_told_with_the_way_back(world, finished):
    shutil.rmtree(finished / "adapters" / "r0001")
    assert "missing or was changed" in told(lambda: run(two_rounds(world), finished))
    result = CliRunner().invoke(main, ["rollback", str(finished), "0"])
    assert result.output == "current policy: base\n"
    run(two_rounds(world), finished)
    with ResponseMemory.open(finished / "memory.db") as memory:
        assert {r.policy for r in memory.responses(rounds=[2], stages=[Stage.SAMPLE])} == {"base"}
        assert 1 not in memory.standing


def test_an_adapter_that_is_lost_before_its_round_is_decided_is_told_too(world, tmp_path, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("selfimprove.rounds.guard", dies)
        run(world.config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapters" / "r0001")
    assert "start another run" in told(lambda: run(world.config, tmp_path / "run")), "there is no way back"


def test_a_torn_configuration_is_told_and_a_missing_one_too(world, finished):
    path = finished / "config.yaml"
    good = path.read_text()
    path.write_text(good[: len(good) // 2] + "\n: [")
    assert "config.yaml" in told(lambda: run(world.config, finished))
    path.unlink()
    assert "config.yaml is missing" in told(lambda: run(world.config, finished))
    path.write_text(good)
    run(world.config, finished)
    assert ending(finished) == world.ending


@pytest.mark.parametrize("bit", [0x01, 0x10, 0x80])
def test_a_flipped_bit_in_the_configuration_is_found_or_changes_nothing(world, finished, bit):
    """The settings that a run was begun with stand there; a resumed run must have the same."""
    path = finished / "config.yaml"
    good = path.read_bytes()
    found = 0
    for at in range(0, len(good), 61):
        path.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
        try:
            run(world.config, finished)
        except UserError as error:
            found += 1
            assert "\n" not in str(error)
            path.write_bytes(good)
        assert ending(finished) == world.ending, at
    assert found > 10


def test_figures_that_are_lost_come_back_from_the_memory(world, finished):
    for name in ("summary.json", "metrics.jsonl", "env.json"):
        (finished / name).unlink()
    run(world.config, finished)
    assert {"summary.json", "metrics.jsonl", "env.json"} <= {path.name for path in finished.iterdir()}
