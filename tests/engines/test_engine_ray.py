"""A real Ray cluster on this machine: the same bytes as the local engine, whoever computes and whoever dies."""

import os
import signal
import threading
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file
from tasks.tiny import exactly
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.config import ModelConfig, TrainConfig
from selfimprove.config_engines import RayConfig
from selfimprove.engines.engine import TrainingJob
from selfimprove.engines.local import LocalEngine
from selfimprove.engines.ray import RayEngine
from selfimprove.engines.ray_worker import to_shard
from selfimprove.errors import EngineError
from selfimprove.models.policy import Policy
from selfimprove.types import BASE, Example, Message, Origin, Request, Sampling, Stage, Unit

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra: pip install 'selfimprove[ray]'"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module")
def model(taught_folder):
    return exactly(taught_folder)


@pytest.fixture(scope="module")
def local(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return LocalEngine(Policy.load(model), lambda name: None if name == BASE else folder / name)


@pytest.fixture(scope="module")
def engine(local, model):
    import ray

    engine = RayEngine(local, model, RayConfig(actors=2, trainers=2))
    yield engine
    engine.close()
    assert not ray.is_initialized()


def a_unit(index=0, policy=BASE, tokens=12):
    requests = [
        Request(f"p{p}", Origin.SAMPLE, (Message("user", f"What is {p} plus {index}?"),), 100 * p + slot)
        for p in range(5)
        for slot in range(3)
    ]
    return Unit(1, Stage.SAMPLE, index, tuple(requests), Sampling(0.9, 50, 1.0, tokens), policy)


EXAMPLES = [
    Example(f"p{i}", (Message("user", f"What is {i} plus 1?"),), f"{i} plus 1 is {i + 1}." + " Yes." * (i % 3), 1.0, i)
    for i in range(7)
]


def test_units_come_back_in_order_with_the_bytes_of_the_local_engine(local, engine):
    units = [a_unit(index) for index in range(7)]
    tokens = []
    answered = list(engine.generate(iter(units), tokens.append))
    assert answered == list(local.generate(units))
    assert sum(tokens) == sum(g.new_tokens for _, generations in answered for g in generations)


def test_without_units_no_actor_is_started(local, model):
    idle = RayEngine(local, model, RayConfig(actors=2))
    assert list(idle.generate([])) == []
    assert idle._actors is None
    idle.close()


def test_two_trainers_take_the_steps_that_one_takes(local, engine, tmp_path):
    spec = TrainConfig(rank=2, epochs=2, batch_tokens=160, lr=1e-3)
    one = local.train(TrainingJob(tuple(EXAMPLES), spec, seed=5), tmp_path / "one")
    steps = []
    two = engine.train(TrainingJob(tuple(EXAMPLES), spec, seed=5), tmp_path / "two", lambda *step: steps.append(step))
    assert steps[0][:2] == (one.steps, one.steps)
    for a, b in zip(one.history, two.history, strict=True):
        assert a.keys() == b.keys()
        assert all(a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6) for key in a), (a, b)
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)
    assert any(not torch.equal(ours[name], torch.zeros_like(ours[name])) for name in ours if "lora_B" in name)


def test_an_adapter_travels_to_the_actors(local, engine):
    spec = TrainConfig(rank=2, epochs=2, lr=1e-2)
    engine.train(TrainingJob(tuple(EXAMPLES), spec, seed=1), local.adapter_of("r0001"))
    units = [a_unit(0), a_unit(1, "r0001"), a_unit(1)]
    answered = list(engine.generate(units))
    assert answered == list(local.generate(units))
    assert answered[1][1] != answered[2][1], "the adapter says something else"


def test_an_actor_that_is_killed_is_replaced_and_nothing_is_lost(local, engine, caplog):
    units = [a_unit(index, tokens=64) for index in range(8)]
    list(engine.generate(units[:2]))
    victim = engine._started_actors().processes[0]
    threading.Timer(0.02, os.kill, (victim, signal.SIGKILL)).start()
    answered = list(engine.generate(units))
    assert answered == list(local.generate(units))
    list(engine.generate(units[:4]))
    assert f"actor 0 (process {victim}) died" in caplog.text


def test_what_a_unit_cannot_do_is_said_in_one_line(engine):
    with pytest.raises(EngineError, match=r"unit r0001/sample/0000: .*positions") as caught:
        list(engine.generate([a_unit(tokens=5000)]))
    assert "\n" not in str(caught.value)


def test_a_whole_run_ends_like_a_local_one(undisturbed, engine, taught_folder, prompts, tmp_path):
    """With one trainer even the adapters have the same bytes, so all that follows has."""
    _, summary = undisturbed
    config = tiny_config(taught_folder, prompts, engine="ray", ray={"actors": 2})
    assert run_it(config, tmp_path / "run").figures["digest"] == summary.figures["digest"]


def test_weights_that_gpus_will_share_are_loaded_here_in_the_dtype_for_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **kwargs: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert [(m.device, m.dtype) for m in (to_shard(ModelConfig(), kind) for kind in ("cuda", "cpu"))] == [
        ("cpu", "bfloat16"),
        ("cpu", "float32"),
    ]
