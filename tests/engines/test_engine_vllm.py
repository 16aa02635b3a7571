"""A real vLLM, started by the engine: it answers as the local engine does, under the base and under an adapter."""

import os
import socket

import pytest

from selfimprove.config import ModelConfig, TrainConfig
from selfimprove.config_engines import ServerConfig
from selfimprove.engines.engine import TrainingJob
from selfimprove.engines.local import LocalEngine
from selfimprove.engines.server import ServerEngine
from selfimprove.models.policy import Policy
from selfimprove.types import BASE, Example, Finish, Message, Origin, Request, Sampling, Stage, Unit

PYTHON = os.environ.get("SELFIMPROVE_VLLM")
COMMAND = (
    f"{PYTHON} -m vllm.entrypoints.openai.api_server --model {{model}} --dtype float32 --host {{host}} --port {{port}} "
    "--enable-lora --max-lora-rank {rank} --generation-config vllm --max-model-len 512 --no-enable-chunked-prefill"
)
QUESTIONS = ("What is the capital of France?", "What is 7 times 8?", "What is the opposite of hot?", "Name a fruit.")

pytestmark = pytest.mark.skipif(
    PYTHON is None,
    reason="needs vLLM in an environment of its own: .venv/bin/python scripts/bench/rollout.py --setup, then "
    "VLLM_CPU_KVCACHE_SPACE=2 SELFIMPROVE_VLLM=$PWD/.venv-vllm/bin/python scripts/test "
    "tests/engines/test_engine_vllm.py",
)


def a_unit(policy, temperature, k):
    requests = [
        Request(q, Origin.SAMPLE, (Message("user", q),), 100 * i + slot)
        for i, q in enumerate(QUESTIONS)
        for slot in range(k)
    ]
    return Unit(1, Stage.SAMPLE, 0, tuple(requests), Sampling(temperature, 0, 1.0, 12), policy)


def test_it_says_what_the_local_engine_says_before_and_after_training(tmp_path):
    model = ModelConfig(path="bundled:smollm2-135m", dtype="float32", device="cpu")
    local = LocalEngine(Policy.load(model), lambda name: None if name == BASE else tmp_path / name)
    examples = [Example(q, (Message("user", q),), "Bananas, always.", 1.0, i) for i, q in enumerate(QUESTIONS)]
    local.train(
        TrainingJob(tuple(examples), TrainConfig(rank=8, lr=1e-3, epochs=6, beta=0.0), seed=0), tmp_path / "r0001"
    )
    units = [a_unit(BASE, 0.0, 1), a_unit("r0001", 0.0, 1)]
    (_, base), (_, trained) = local.generate(units)
    assert base != trained
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = ServerConfig(url=f"http://127.0.0.1:{port}", command=COMMAND)
    engine = ServerEngine(local, config, rank=8, log_file=tmp_path / "server.log")
    try:
        ((_, samples),) = engine.generate([a_unit(BASE, 0.8, 4)])
        found = [generations for unit in units for _, generations in engine.generate([unit])]
    finally:
        engine.close()
    for ours, theirs in zip((base, trained), found, strict=True):
        assert [g.prompt_tokens for g in ours] == [g.prompt_tokens for g in theirs]
        assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= len(QUESTIONS) - 1, "but for a tie"
    assert len({g.text for g in samples}) > len(QUESTIONS), "the samples of a prompt differ"
    assert all(0 < g.new_tokens <= 12 for g in samples)
    assert all((g.finish is Finish.LENGTH) == (g.new_tokens == 12) for g in samples)
