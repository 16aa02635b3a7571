"""The configurations for larger machines: dry-run as they are, on a model that is there."""

import pytest
from click.testing import CliRunner
from fake_server import FakeServer, serving
from tasks.tiny import exactly

from selfimprove.cli.main import main
from selfimprove.config_file import load_config
from selfimprove.engines import make_engine
from selfimprove.engines.local import LocalEngine
from selfimprove.models.policy import Policy


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one_gpu", "cluster"])
def test_a_configuration_passes_its_dry_run(name, model_folder):
    config = f"configs/{name}.yaml"
    changes = [f"model.path={model_folder}", "model.device=cpu", "sample.max_new_tokens=16"]
    done = CliRunner().invoke(main, ["run", config, *changes, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "prompts " in done.output
    assert "answer " in done.output


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
