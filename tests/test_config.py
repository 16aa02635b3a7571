import json
from pathlib import Path

import pytest
from make_reference import reference

from selfimprove.answers import Reader
from selfimprove.config import ABLATED, GuardConfig
from selfimprove.config_file import (
    apply_override,
    config_keys,
    config_values,
    load_config,
    parse_config,
    shareable_yaml,
    to_yaml,
)
from selfimprove.errors import ConfigError, UserError
from selfimprove.memory import Embedder
from selfimprove.models.policy import Policy
from selfimprove.prompts import load_prompts, make_prompt
from selfimprove.run.folder import located
from selfimprove.run.validate import refuse_unusable


def test_every_fault_is_in_one_message_with_a_suggestion_for_typos():
    with pytest.raises(ConfigError) as caught:
        parse_config({"train": {"lora_ranl": 3, "lr": "fast"}, "roundz": 2})
    message = str(caught.value)
    assert message.startswith("4 fault(s)")
    assert "unknown key train.lora_ranl, did you mean train.rank?" in message
    assert "train.lr = 'fast'" in message
    assert "unknown key roundz, did you mean rounds?" in message
    assert "prompts is missing" in message
    assert "\n" not in message


def test_overrides_win_over_the_file_and_values_are_yaml(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("prompts: {path: p.txt}\ntrain: {lr: 0.001}\n")
    config = load_config(file, ("train.lr=2e-4", "propose.exemplar.k=0", "name=other"))
    assert (config.train.lr, config.propose.exemplar.k, config.name) == (2e-4, 0, "other")


def test_files_named_in_the_yaml_are_found_beside_it(tmp_path):
    for name in ("p.txt", "a.jsonl", "model", "embedder"):
        (tmp_path / name).touch()
    file = tmp_path / "c.yaml"
    file.write_text("prompts: {path: p.txt, audit: a.jsonl}\nmodel: {path: model}\nembedder: embedder\n")
    config = load_config(file)
    found = (config.prompts.path, config.prompts.audit, config.model.path, config.embedder)
    assert found == tuple(str(tmp_path / name) for name in ("p.txt", "a.jsonl", "model", "embedder"))
    file.write_text("prompts: {path: elsewhere.txt}\nembedder: all-MiniLM\n")
    assert (load_config(file).prompts.path, load_config(file).embedder) == ("elsewhere.txt", "all-MiniLM")


def test_what_is_merged_into_a_section_may_be_written_there_again(tmp_path):
    file = tmp_path / "c.yaml"
    arm = "sample: {<<: {k: 4, top_p: 0.5}, k: 2}\nevaluate: {k: 3}\ntrain: {lr: 0.1}\n"
    file.write_text("prompts: {path: p}\n" + arm + "select: {<<: {threshold: 0.3}, <<: {ceiling: 0.9}}\n")
    config = load_config(file)
    assert (config.sample.k, config.sample.top_p, config.evaluate.k) == (2, 0.5, 3)
    assert (config.select.threshold, config.select.ceiling) == (0.3, 0.9)
    file.write_text("prompts: {path: p}\nsample: {<<: {<<: {k: 4, top_k: 9}, k: 2}}\nevaluate: {<<: {k: 5}}\n")
    assert (load_config(file).sample.k, load_config(file).sample.top_k) == (2, 9)


PATHS = {
    "prompts.path": lambda config: load_prompts(config.prompts),
    "prompts.audit": lambda config: refuse_unusable(config.prompts, [make_prompt([], 0), make_prompt([], 1)]),
    "model.path": lambda config: Policy.load(config.model),
    "embedder": lambda config: Embedder.load(config.embedder),
    "vote.reader": Reader.of,
    "memory.from": located,
}


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize(("path", "says"), [("~$own.py:f", "home directory of nobody"), ("a\0.py:f", "a null byte")])
def test_what_cannot_be_a_path_is_refused_in_one_line(key, path, says):
    raw = {"prompts": {"path": "p.txt"}}
    apply_override(raw, f"{key}={json.dumps(path)}")
    with pytest.raises(UserError, match=says) as told:
        PATHS[key](parse_config(raw))
    assert "\n" not in str(told.value)


NO_PATHS = ("name", "model.revision", "model.commit", "model.device", "prompts.split", "prompts.column")
NO_PATHS += ("prompts.template", "prompts.audit_split", "prompts.audit_column")


def test_what_is_shared_holds_no_path_of_this_machine():
    """Each setting that takes text names a path here, or stands in the list of those that cannot."""
    texts = [key for key, kind in config_values().items() if "text" in kind.split(" | ")]
    raw = {}
    for key in texts:
        if key not in NO_PATHS and not key.startswith(("server.", "ray.")):
            apply_override(raw, f"{key}=/mnt/secret/{key}.py" + ":read" * (key == "vote.reader"))
    page = shareable_yaml(parse_config(raw))
    assert "/" not in page
    assert "from: memory.from.py" in page
    assert "reader: vote.reader.py:read" in page


def test_the_resolved_configuration_reads_back_equal(tmp_path):
    config = parse_config({"prompts": {"path": "p.txt"}, "vote": {"kind": "number"}})
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    assert load_config(file) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "cannot read"),
        ("- 1\n", "holds list"),
        ("prompts: {path: p}\nsample: {temperature: 0}\n", "sample.temperature is 0 with sample.k 8"),
        ("prompts: {path: p}\nsample: {temperature: 0, k: 1}\n", "sample.temperature is 0 with evaluate.k 8"),
        ("prompts: {path: p}\nselect: {threshold: 0.9, ceiling: 0.5}\n", "nothing could survive"),
        ("prompts: {path: p}\nname: ../x\n", "name = '../x'"),
        ("prompts: {path: p}\ntrain: {rank: 0}\n", "train.rank = 0"),
        ("prompts: {path: p}\nname: 2024-02-30\n", "cannot read"),
        ("prompts: {path: p}\nname: 2024-05-01\n", "name = 2024-05-01: YAML does not read text; quote it"),
        (
            "prompts: {path: p}\nname: 7\n",
            "quote it, on a command line 'name=\"7\"'",
        ),
        ("train:\n  rank: 4\nname: x\ntrain:\n  lr: 0.1\n", "train stands in line 1 and again in line 4; join them"),
        ("prompts: {path: p, path: q}\n", "path stands in line 1 and again in line 1; join them"),
        ("!!python/object/apply:os.system ['true']\n", "cannot read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, says):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["lr", "=3", "train.lr.x=3", "train.lr=[", "trian.lr=1", "name=2024-02-30"])
def test_a_wrong_override_is_named(tmp_path, override):
    file = tmp_path / "c.yaml"
    file.write_text("prompts: {path: p}\ntrain: {lr: 0.1}\n")
    with pytest.raises(ConfigError):
        load_config(file, (override,))


def test_every_key_is_explained():
    assert [key for key, (_, text) in config_keys().items() if not text] == []


def test_the_reference_page_is_what_the_classes_say():
    page = Path("docs/configuration.md").read_text()
    assert page == reference(), "run: python scripts/bench/make_reference.py"


def test_limits_on_removed_metrics_are_read_from_older_runs_and_left_out():
    guard = {name: 0.5 for name in ABLATED} | {"kl": 2.0}
    config = parse_config({"prompts": {"path": "p.jsonl"}, "guard": guard})
    assert config.guard == GuardConfig(kl=2.0)
