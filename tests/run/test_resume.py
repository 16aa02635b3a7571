"""Resuming runs of older versions: settings that they do not have keep the behaviour that these runs had."""

import pytest
import yaml

from selfimprove.config import RunConfig
from selfimprove.config_file import load_config, parse_config, to_yaml
from selfimprove.errors import ConfigError
from selfimprove.run.folder import INTRODUCED, flat, saved_config
from selfimprove.run.resume import as_resumed

RAW = {"prompts": {"path": "/p.jsonl"}, "vote": {"decay": 0.4}}


@pytest.fixture
def old(tmp_path):
    """The folder of a run that is older than all of these settings."""
    tree = yaml.safe_load(to_yaml(parse_config(RAW)))
    for key in INTRODUCED:
        *parents, last = key.split(".")
        node = tree
        for part in parents:
            node = node[part]
        del node[last]
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "memory.db").touch()
    (folder / "config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return folder


def introduced(config: RunConfig) -> dict[str, object]:
    return {key: value for key, value in flat(config.model_dump()).items() if key in INTRODUCED}


def test_an_older_run_keeps_the_behaviour_it_had(old):
    assert introduced(saved_config(old)) == INTRODUCED
    resumed = as_resumed(parse_config(RAW), old, resume=True)
    assert introduced(resumed) == INTRODUCED
    assert resumed.vote.decay == 0.4
    (old / "config.yaml").write_text(to_yaml(resumed), encoding="utf-8")  # as a resumed run does
    assert introduced(as_resumed(parse_config(RAW), old, resume=True)) == INTRODUCED, "also the next time"
    assert introduced(as_resumed(load_config(old / "config.yaml"), old, resume=True)) == INTRODUCED


def test_a_user_cannot_change_it_on_the_way(old):
    asked = parse_config(RAW | {"vote": {"decay": 0.4, "echo": 0.75}})
    with pytest.raises(ConfigError, match=r"vote\.echo was 0\.0, now 0\.75"):
        as_resumed(asked, old, resume=True)


def test_a_template_argument_is_a_setting_as_any_other(tmp_path):
    thinking = {"model": {"template": {"arguments": {"enable_thinking": False}}}}
    for recorded, asked in ((RAW, RAW | thinking), (RAW | thinking, RAW)):
        (tmp_path / "memory.db").touch()
        (tmp_path / "config.yaml").write_text(to_yaml(parse_config(recorded)), encoding="utf-8")
        with pytest.raises(ConfigError, match=r"model\.template\.arguments\.enable_thinking was"):
            as_resumed(parse_config(asked), tmp_path, resume=True)


def test_new_runs_have_the_defaults_of_today(old, tmp_path):
    asked = load_config(old / "config.yaml")  # a file of the user's own, without them
    assert introduced(asked) == introduced(parse_config(RAW))
    assert all(introduced(asked)[key] != value for key, value in INTRODUCED.items())
    assert introduced(as_resumed(asked, tmp_path / "new", resume=False)) == introduced(asked)


def test_a_run_of_today_resumes_with_what_it_recorded(tmp_path):
    recorded = parse_config(RAW | {"vote": {"decay": 0.4, "echo": 0.5}})
    (tmp_path / "memory.db").touch()
    (tmp_path / "config.yaml").write_text(to_yaml(recorded), encoding="utf-8")
    assert as_resumed(parse_config(RAW), tmp_path, resume=True).vote.echo == 0.5
    with pytest.raises(ConfigError, match=r"vote\.decay was 0\.4, now 0\.5"):
        as_resumed(parse_config({"prompts": {"path": "/p.jsonl"}}), tmp_path, resume=True)


def test_a_run_goes_on_where_its_files_were_moved(tmp_path):
    """The content at a path has a fingerprint, which is compared later; the rest of a setting may not change."""

    def resume(**paths):
        asked = RAW | {"vote": RAW["vote"] | {"reader": paths["reader"]}, "memory": {"from": paths["past"]}}
        return as_resumed(parse_config(asked | {"embedder": paths["embedder"]}), tmp_path / "run", resume=True)

    paths = {"reader": "/old/own.py:last", "past": "/old/runs/first", "embedder": "/old/minilm"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(to_yaml(resume(**paths)), encoding="utf-8")
    (tmp_path / "run/memory.db").touch()
    moved = {key: path.replace("old", "new") for key, path in paths.items()}
    assert resume(**moved).vote.reader == "/new/own.py:last"
    for key, other in (("reader", "/new/own.py:first"), ("reader", None), ("past", "/new/runs/second")):
        with pytest.raises(ConfigError, match=r"cannot resume with other settings: (vote\.reader|memory\.from) was"):
            resume(**moved | {key: other})
