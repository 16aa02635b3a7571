"""A run with an audit file, for all tests of reports."""

import json

import pytest
from tasks.tiny import SUMS, sum_question
from tasks.tiny_runs import run_it, tiny_config


@pytest.fixture(scope="session")
def audited(taught_folder, prompts, tmp_path_factory):
    """A finished run with an audit file: (folder, summary)."""
    folder = tmp_path_factory.mktemp("audited")
    audit = folder / "audit.jsonl"
    rows = [{"prompt": sum_question(a, b), "answers": [str(a + b)]} for a, b in SUMS]
    audit.write_text("\n".join(map(json.dumps, rows)))
    config = tiny_config(taught_folder, prompts, prompts={"audit": str(audit)}, train={"lr": 1e-2, "epochs": 2})
    return folder / "run", run_it(config, folder / "run")
