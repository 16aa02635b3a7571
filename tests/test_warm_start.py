"""Supervised fine-tuning on demonstrations before self-improvement."""

import json

import pytest
from greedy import greedy
from tasks.tiny import exactly

from selfimprove.config import TrainConfig
from selfimprove.errors import PromptError
from selfimprove.warm_start import read_demonstrations, warm_start


def test_a_warm_start_teaches_the_demonstrations(model_folder, tmp_path):
    file = tmp_path / "demonstrations.jsonl"
    rows = [{"prompt": f"say {word}", "response": "yes indeed"} for word in ("one", "two", "three", "four")]
    file.write_text("\n".join(map(json.dumps, rows)))
    model = exactly(model_folder)
    spec = TrainConfig(rank=8, lr=2e-2, epochs=30, batch_tokens=256, beta=0.0)
    report = warm_start(model, read_demonstrations(file), tmp_path / "warm", spec, seed=0)
    assert report.loss_last < report.loss_first
    assert greedy(model_folder, ["say two"]) != ["yes indeed"]
    assert greedy(tmp_path / "warm", ["say two"]) == ["yes indeed"]


def test_a_malformed_demonstration_is_named(tmp_path):
    file = tmp_path / "demonstrations.jsonl"
    file.write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n')
    with pytest.raises(PromptError, match="line 2: response must be a text"):
        read_demonstrations(file)
    file.write_text("\n")
    with pytest.raises(PromptError, match="holds no demonstrations"):
        read_demonstrations(file)
    with pytest.raises(PromptError, match="cannot read"):
        read_demonstrations(tmp_path / "none.jsonl")
