"""The whole loop on a 2-layer random Llama: real SQLite, real FAISS, real training, a second or two a run."""

import json

import pytest

from selfimprove.config import parse_config
from selfimprove.progress import Progress
from selfimprove.rounds import improve
from selfimprove.run import open_run
from selfimprove.types import Origin, Split


def tiny_config(model_folder, prompts, **changes):
    """Two rounds that exercise every stage: a random model agrees on little, so the limits are wide open."""
    raw = {
        "prompts": {"path": str(prompts), "heldout": 0.4},
        "model": {"path": str(model_folder), "device": "cpu"},
        "embedder": "hash:32",
        "sample": {"k": 4, "max_new_tokens": 6, "unit_prompts": 4, "temperature": 0.3},
        "propose": {"exemplar": {"k": 2, "trust": 0.2}, "revise": {"below": 1.0, "critique_tokens": 4}},
        "vote": {"kind": "short"},
        "select": {"threshold": 0.0, "answer_share": 1.0, "ancestor_share": 1.0, "length_factor": 100.0},
        "train": {"rank": 4, "lr": 1e-3, "epochs": 1},
        "evaluate": {"k": 2},
        "guard": {
            "agreement_drop": 1.0,
            "base_majority_drop": 1.0,
            "concentration_rise": 1.0,
            "parse_drop": 1.0,
            "length_factor": 100.0,
            "kl": 100.0,
        },
    }
    for section, values in changes.items():
        raw[section] = raw.get(section, {}) | values if isinstance(values, dict) else values
    return parse_config(raw)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "p.jsonl"
    rows = [{"prompt": f"What is {a} plus {b}?", "answer": a + b} for a in range(5) for b in range(4)]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def run_it(config, folder, resume=False):
    with open_run(config, folder=folder, resume=resume, progress=Progress(quiet=True)) as run:
        return improve(run)


@pytest.fixture(scope="module")
def undisturbed(model_folder, prompts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "undisturbed"
    return folder, run_it(tiny_config(model_folder, prompts), folder)


def test_two_rounds_run_through_every_stage(undisturbed, model_folder, prompts):
    folder, summary = undisturbed
    config = tiny_config(model_folder, prompts)
    with open_run(config, folder=folder, resume=True, progress=Progress(quiet=True)) as run:
        stages = {unit.stage for unit in run.memory.units()}
        origins = {r.origin for r in run.memory.responses()}
        assert run.memory.verify() == []
    print(stages, origins, summary.table)
    assert summary.figures["rounds_kept"] == 2
    assert origins >= {Origin.SAMPLE, Origin.EXEMPLAR, Origin.CRITIQUE, Origin.REVISE, Origin.PROBE, Origin.GREEDY}
    assert Split.TRAIN
