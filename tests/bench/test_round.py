"""The timing of a round, and the plain pipeline beside it: its vote, and a vote that keeps nothing."""

import json
import time
from types import SimpleNamespace

import pytest
import round as bench

from selfimprove.config import PromptsConfig, RunConfig, SampleConfig, SelectConfig


@pytest.mark.parametrize(
    ("text", "voted"),
    [
        ("12 and 30 make 42.", "42"),
        ("It costs $1,250.50 in all.", "1250.50"),
        ("Let me think.\nParis.\n", "paris"),
        ("-3", "-3"),
        ("  \n", ""),
    ],
)
def test_a_response_votes_for_its_last_number_or_line(text, voted):
    assert bench.final(text) == voted


def test_the_majority_is_all_that_agree_with_it():
    answers = ["It is 4.", "4", "5", "Two and two: 4"]
    assert bench.majority(answers, 0.5) == ["It is 4.", "4", "Two and two: 4"]
    assert bench.majority(answers, 0.8) == []
    assert bench.majority(["", " "], 0.5) == []


def test_a_pipeline_that_keeps_nothing_is_a_row(model_folder, tmp_path):
    """The random model's texts do not agree, so there is nothing to train on, and TRL is not asked."""
    config = RunConfig(
        prompts=PromptsConfig(path="p.jsonl"),
        sample=SampleConfig(max_new_tokens=8, temperature=3.0),
        select=SelectConfig(threshold=1.0),
    )
    job = {"model": str(model_folder), "prompts": [[5, 6, 7], [8, 9]], "k": 4, "config": config.model_dump(mode="json")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    found = bench.pipeline(tmp_path)
    assert (found["examples"], found["train"]) == (0, 0.0)
    assert found["sample"] > 0 and found["tokens"] > 0
    bench.show({"stages": {}, "seconds": 0.0, "kept": 0, "waste": 0.0}, found, 4)


def test_planning_is_no_generation():
    def planned():
        for round_ in (0, 1, 1):
            time.sleep(0.05)
            yield SimpleNamespace(round=round_)

    def generate(units, on_tokens):
        for unit in units:
            time.sleep(0.01)
            yield unit, []

    engine = bench.Timed(SimpleNamespace(generate=generate, model_here=None, close=None))
    assert [unit.round for unit, _ in engine.generate(planned())] == [0, 1, 1]
    assert 0.02 <= engine.seconds[1] < 0.09
    assert 0.01 <= engine.seconds[0] < 0.05
