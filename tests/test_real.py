"""The bundled 135M model through a miniature of the quickstart: one round, a handful of prompts."""

import json
import os

import pytest
import torch
from tasks.tiny_runs import run_it

from selfimprove.config_file import load_config

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def all_cores():
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(1)


def test_the_quickstart_in_miniature(tmp_path, all_cores):
    changes = (
        "rounds=1",
        "prompts.limit=24",
        "prompts.heldout=0.4",
        "sample.k=4",
        "evaluate.k=4",
        "evaluate.limit=6",
        "select.threshold=0.3",
        "propose.revise.above=0",
        "propose.revise.below=1.0",
        "propose.exemplar.trust=0.3",
        "guard.agreement_drop=1",
        "guard.base_share_drop=1",
        "guard.concentration_rise=1",
    )
    summary = run_it(load_config("configs/quickstart.yaml", changes), tmp_path / "run")
    heldout = summary.figures["heldout"]
    assert summary.figures["current"] == "r0001", summary.table
    assert heldout["prompts"] == 6
    assert 0 < heldout["before"] < 1, "the untouched model knows some of it"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["heldout"] == heldout
