"""Two processes that train together end where one ends, whether each holds all weights or half of every layer."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tasks.tiny import exactly

from selfimprove.config import TrainConfig
from selfimprove.models.policy import Policy
from selfimprove.training import Encoded, train_adapter
from selfimprove.training.distributed import Ranks, shard
from selfimprove.training.schedule import plan_steps

pytestmark = pytest.mark.slow

SPECS = {
    "sft": TrainConfig(rank=2, epochs=2, batch_tokens=40, lr=1e-3),
    "preference": TrainConfig(rank=2, epochs=2, batch_tokens=40, lr=1e-3, method="preference"),
}


def examples(method="sft"):
    """Of very different lengths, so that some steps have one example and leave a process without work."""
    pairs = method == "preference"
    return [
        Encoded(
            prompt=tuple(range(3, 9 + i)),
            completion=tuple(range(40, 44 + 9 * (i % 4))),
            weight=1.0 + i % 2,
            rejected=tuple(range(50, 53 + i)) if pairs else None,
        )
        for i in range(7)
    ]


def train(model, out, ranks):
    """Train with each method; the histories as JSON."""
    found = {}
    for method, spec in SPECS.items():
        policy = Policy.load(exactly(model))
        if ranks.lockstep:
            shard(policy.model)
        report = train_adapter(policy.model, examples(method), spec, seed=3, out=out / method, ranks=ranks)
        found[method] = report.history
    return found


def member(model, folder):
    """What each of the two processes does."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    for lockstep in (False, True):
        ranks = Ranks(rank, size, lockstep)
        out = Path(folder) / ("sharded" if lockstep else "whole")
        out.mkdir(exist_ok=True)
        (out / f"{rank}.json").write_text(json.dumps(train(model, out, ranks)))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(model_folder, tmp_path_factory):
    """Folder with what one process (`one`) and two processes (`whole`, `sharded`) wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "one").mkdir()
    (folder / "one" / "0.json").write_text(json.dumps(train(model_folder, folder / "one", Ranks())))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    pair = [
        subprocess.Popen(
            [sys.executable, __file__, model_folder, folder], env=os.environ | meet | paths | {"RANK": str(rank)}
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(240) for process in pair] == [0, 0]
    finally:
        for process in pair:
            process.kill()
            process.wait()
    return folder


@pytest.mark.parametrize("method", list(SPECS))
@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_two_processes_take_the_steps_that_one_takes(trained, method, kind):
    one, first, second = (
        json.loads((trained / name).read_text())[method] for name in ("one/0.json", f"{kind}/0.json", f"{kind}/1.json")
    )
    assert first == second, "both see the same sums"
    assert len(first) == len(one) > 1
    for a, b in zip(one, first, strict=True):
        assert a.keys() == b.keys()
        assert all(a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6) for key in a)
    ours, theirs = (load_file(trained / k / method / "adapter_model.safetensors") for k in ("one", kind))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)
    assert any(ours[name].abs().max() > 0 for name in ours if "lora_B" in name)


def test_some_steps_leave_a_process_without_work():
    steps = plan_steps(examples(), 2, SPECS["sft"].batch_tokens, seed=3)
    assert {1, 2} <= {len(step) for step in steps}


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_step_is_shared_out_whole(size):
    step = examples()
    parts = [Ranks(rank, size).part(step) for rank in range(size)]
    assert [e for part in parts for e in part] == step
    if size == 2:
        tokens = [sum(e.tokens for e in part) for part in parts]
        assert max(tokens) - min(tokens) <= 2 * max(e.tokens for e in step)


if __name__ == "__main__":
    member(*sys.argv[1:])
