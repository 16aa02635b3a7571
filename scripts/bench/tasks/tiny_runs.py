"""Whole runs on the tiny model: two rounds through every stage in a few seconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfimprove.config import RunConfig
from selfimprove.config_file import parse_config
from selfimprove.reports.summary import Summary
from selfimprove.rounds import improve
from selfimprove.run.progress import Progress
from selfimprove.run.session import open_run
from tasks.tiny import SUMS, exactly, sum_question


def tiny_config(model: Path | str, file: Path | str, **changes: Any) -> RunConfig:
    """Return the settings of two rounds through every stage, with the guard's limits wide open.

    `changes` are laid over them, section by section.
    """
    raw: dict[str, Any] = {
        "prompts": {"path": str(file), "heldout": 0.3},
        "model": exactly(model).model_dump(),
        "embedder": "hash:32",
        "sample": {"k": 4, "max_new_tokens": 20, "unit_prompts": 8, "temperature": 0.9},
        "propose": {
            "exemplar": {"k": 2, "below": 2.0, "agree": 0.0},
            "revise": {"k": 1, "below": 1.0, "critique_tokens": 8, "shots": 1, "trial": 0, "verdicts": True},
            "stitch": {"k": 1, "steps": 1},
        },
        "select": {"answer_share": 1.0, "ancestor_share": 1.0, "near_duplicate": 1.0},
        "train": {"rank": 4, "lr": 1e-3, "epochs": 1, "revise": {"share": 0.3}},
        "evaluate": {"k": 2},
        "guard": {
            "agreement_drop": 1.0,
            "base_share_drop": 1.0,
            "concentration_rise": 1.0,
            "echo_rise": 1.0,
            "family_rise": 1.0,
            "family_fall": 1.0,
            "parse_drop": 1.0,
            "length_factor": 100.0,
            "kl": 100.0,
            "base_truncation": 1.0,
            "truncation_rise": 1.0,
        },
    }
    for section, values in changes.items():
        raw[section] = raw.get(section, {}) | values if isinstance(values, dict) else values
    return parse_config(raw)


def write_prompts(file: Path, answer: Callable[[int, int], str] = lambda a, b: str(a + b)) -> Path:
    """Write the sums as a prompt file with an answer column and return its path."""
    rows = [{"prompt": sum_question(a, b), "answer": answer(a, b)} for a, b in SUMS]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def run_it(config: RunConfig, folder: Path, resume: bool = False) -> Summary:
    """Run the configured rounds in `folder`."""
    with open_run(config, folder=folder, resume=resume, progress=Progress(quiet=True)) as run:
        return improve(run)
