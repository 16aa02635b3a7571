"""Families from load to export: those that are built otherwise than a Llama, and the table that says so."""

import pytest
from families import STEPS, Trial, table, try_family


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_oss", "mamba2", "falcon_h1", "llama4_text"])
def test_a_family_passes_every_step(family, tmp_path):
    trial = try_family(family, tmp_path)
    assert not trial.fault
    assert trial.passed == STEPS


def test_a_model_whose_batches_go_wrong_is_refused_by_the_check(tmp_path):
    """transformers 5.23 mixes the states of a batch of RWKV."""
    trial = try_family("rwkv", tmp_path)
    assert trial.refused
    assert trial.passed == ("load",)
    assert "in a batch it continues prompts otherwise than alone" in trial.fault


def test_the_table_names_what_fails():
    trials = [
        Trial("b", ("load", "check"), "", "no such thing", True, 1.0),
        Trial("a", STEPS, "on 2 matrices", "", False, 2.0),
        Trial("c", ("load",), "", "KeyError: 'x'", False, 1.0),
    ]
    rows = table(trials).splitlines()
    assert rows[2] == "| a | yes | yes | yes | yes | yes | yes | yes | on 2 matrices |"
    assert rows[3] == "| b | yes | yes | refused |  |  |  |  | no such thing |"
    assert rows[4] == "| c | yes | fails |  |  |  |  |  | KeyError: 'x' |"
    assert rows[6].startswith("3 families: 1 pass every step, 1 are refused in one line, 1 fail; the slowest took 2 s.")
