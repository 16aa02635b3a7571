"""The rehearsal before a run: what an architecture fails at is one line, before anything is written or sampled."""

import pytest
import torch
from click.testing import CliRunner
from families import build
from tasks.tiny import exactly
from tasks.tiny_runs import tiny_config

from selfimprove.cli.check import check
from selfimprove.cli.main import main
from selfimprove.config import TrainConfig
from selfimprove.config_file import to_yaml
from selfimprove.errors import ModelError
from selfimprove.models.policy import Policy
from selfimprove.run.rehearsal import rehearse
from selfimprove.run.session import open_run
from selfimprove.training import trainer
from selfimprove.types import Message

ASKED = [(Message("user", "What is 2 plus 3?"),), (Message("user", "Name a fruit."),)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["sft", "preference"])
def test_a_model_that_suits_is_as_before(taught_folder, dtype, method):
    policy = Policy.load(exactly(taught_folder).model_copy(update={"dtype": dtype}))
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    found = rehearse(policy, TrainConfig(rank=4, method=method), ASKED)
    assert found.effect > 0.05
    assert found.kept == pytest.approx(1, abs=1e-3 if dtype == "float32" else 0.2)
    assert not found.partial
    assert policy.adapter is None
    after = policy.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_lost_adapter_is_noticed(taught_folder, monkeypatch):
    monkeypatch.setattr(Policy, "merge", staticmethod(lambda model, _: model))
    with pytest.raises(ModelError, match="cannot be merged with its adapter: 0% of the adapter's effect is left"):
        rehearse(Policy.load(exactly(taught_folder)), TrainConfig(rank=4), ASKED)


def test_a_step_that_moves_nothing_is_noticed(taught_folder, monkeypatch):
    monkeypatch.setattr(trainer, "rate", lambda *_: 0.0)
    with pytest.raises(ModelError, match="cannot be trained: a step changes its logits by 0 of their norm"):
        rehearse(Policy.load(exactly(taught_folder)), TrainConfig(rank=4), ASKED)


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_crash_of_an_architecture_is_one_line_and_leaves_nothing(
    taught_folder, prompts, tmp_path, monkeypatch, command
):
    def crash(*_, **__):
        raise AttributeError("'Odd' object has no attribute 'last_hidden_state'\nand more")

    monkeypatch.setattr(trainer, "split_network", crash)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(to_yaml(tiny_config(taught_folder, prompts)), encoding="utf-8")
    result = CliRunner().invoke(main, [command, "c.yaml"])
    assert result.exit_code == 2
    assert result.stderr.strip() == (
        f"Error: {taught_folder} cannot be trained here: AttributeError: 'Odd' object has no attribute "
        "'last_hidden_state'; take another model"
    )
    assert not (tmp_path / "runs").exists()


def test_a_mixture_is_told_what_is_left_alone_by_check_and_by_the_run(prompts, tmp_path, capsys):
    config = tiny_config(build("qwen3_moe", tmp_path / "base"), prompts, rounds=1)
    line = (
        "on 12 matrices, 4 of them stacks of 4 experts: 99% of the parameters in matrices; not trained: mlp.gate.weight"
    )
    assert f"adapter   rank 4 {line}" in check(config)
    capsys.readouterr()
    with open_run(config, folder=tmp_path / "run"):
        pass
    assert capsys.readouterr().out.count(line) == 1
