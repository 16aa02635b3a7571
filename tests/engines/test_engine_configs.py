"""The configurations for larger machines: dry-run as they are, on a model that is there."""

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_server import FakeServer, serving
from tasks.tiny import exactly

from selfimprove.cli.main import main
from selfimprove.config_file import load_config
from selfimprove.engines import make_engine
from selfimprove.engines.local import LocalEngine
from selfimprove.evaluation.answer_key import is_right, load_audit
from selfimprove.models.policy import Policy
from selfimprove.prompts import hub, load_prompts
from selfimprove.types import Split


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one_gpu", "cluster"])
def test_a_configuration_passes_its_dry_run(name, model_folder):
    config = f"configs/{name}.yaml"
    changes = [f"model.path={model_folder}", "model.device=cpu", "sample.max_new_tokens=16"]
    done = CliRunner().invoke(main, ["run", config, *changes, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "prompts " in done.output
    assert "answer " in done.output


@pytest.fixture
def gsm8k(monkeypatch):
    """A data set in GSM8K's form in place of the one on the hub."""
    import datasets

    rows = [json.loads(line) for line in Path("configs/prompts/market.audit.jsonl").read_text().splitlines()]
    answers = [f"He adds them up: 1+1=<<1+1=2>>2\n#### {row['answers'][0]}" for row in rows]
    table = datasets.Dataset.from_dict({"question": [row["prompt"] for row in rows], "answer": answers})
    seen = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *asked, **split: seen.append((*asked, split)) or table)
    hub._load.cache_clear()
    yield seen
    hub._load.cache_clear()


def test_gsm8k_has_the_prompts_and_the_audit_of_its_data_set(gsm8k):
    config = load_config("configs/gsm8k.yaml", ("prompts.heldout=0.3",)).prompts
    prompts = load_prompts(config).prompts
    assert gsm8k == [("openai/gsm8k", "main", {"split": "train"})]
    assert prompts[0].text.endswith("?\nThink step by step and end with the final number in \\boxed{}.")
    keys = load_audit(config.audit, config)
    assert {p.id for p in prompts if p.split is Split.HELDOUT} <= keys.keys()
    assert is_right("6 rolls in each of 4 bags: 6 * 4 = 24. \\boxed{24}", keys[prompts[0].id])


@pytest.mark.slow
def test_gsm8k_passes_its_dry_run_without_a_network(gsm8k, model_folder):
    changes = [f"model.path={model_folder}", "model.device=cpu", "prompts.heldout=0.3"]
    done = CliRunner().invoke(main, ["run", "configs/gsm8k.yaml", *changes, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "max_new_tokens: 512" in done.output
    assert re.search(r"prompts   4\d to learn from, 1\d held out", done.output)
    assert "not used: answer" in done.output


def test_the_servers_command_can_be_filled_in_and_starts_nothing_yet(model_folder, tmp_path):
    config = load_config("configs/one_gpu.yaml")
    local = LocalEngine(Policy.load(exactly(model_folder)), lambda name: None)
    engine = make_engine(config, local, tmp_path)
    assert str(engine) == "server at http://127.0.0.1:8000, started here"
    engine.close()
    assert not (tmp_path / "server.log").exists()


@pytest.mark.slow
def test_a_server_that_is_not_there_is_noticed_before_anything_is_spent(model_folder):
    changes = [f"model.path={model_folder}", "server.command=null", "server.url=http://127.0.0.1:9"]
    done = CliRunner().invoke(main, ["check", "configs/one_gpu.yaml", *changes])
    assert done.exit_code == 2
    assert "no server answers at server.url http://127.0.0.1:9" in done.output


def test_a_run_is_refused_within_seconds_when_nothing_listens(tmp_path, monkeypatch):
    config = str(Path("configs/one_gpu.yaml").resolve())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Policy, "load", lambda *_: pytest.fail("a model is loaded"))
    began = time.monotonic()
    done = CliRunner().invoke(main, ["run", config, "server.command=null", "server.url=http://127.0.0.1:9"])
    assert time.monotonic() - began < 10
    assert done.exit_code == 2
    assert "no server answers at server.url http://127.0.0.1:9; start it" in done.output
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_server_that_wants_a_key_gets_it_before_anything_is_spent(model_folder, monkeypatch):
    fake = FakeServer(Policy.load(exactly(model_folder)), key="canary")
    with serving(fake) as url:
        changes = [f"model.path={model_folder}", "server.command=null", f"server.url={url}", "sample.max_new_tokens=16"]
        without = CliRunner().invoke(main, ["check", "configs/one_gpu.yaml", *changes])
        monkeypatch.setenv("SELFIMPROVE_SERVER_KEY", "canary")
        done = CliRunner().invoke(main, ["check", "configs/one_gpu.yaml", *changes])
    assert "a key is read from SELFIMPROVE_SERVER_KEY" in without.output
    assert done.exit_code == 0, done.output
