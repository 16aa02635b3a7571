"""What a probe says before anything is spent."""

from dataclasses import replace

import pytest
from tasks.tiny_runs import tiny_config

from selfimprove.cli.estimate import PROMPTS, Probe, RecallProbe, generation_seconds, report, take, warnings
from selfimprove.memory import Embedder
from selfimprove.models.policy import Policy
from selfimprove.prompts import load_prompts
from selfimprove.run.progress import Progress
from selfimprove.run.session import open_run
from selfimprove.stages.independence import Independence
from selfimprove.stages.recall import recall
from selfimprove.stages.sample import sample
from selfimprove.stages.select import select
from selfimprove.stages.vote import vote
from selfimprove.types import Poll, Split

PROMISING = Probe(
    prompts=PROMPTS,
    samples=8,
    parse_rate=0.7,
    agreement=0.6,
    headroom=0.5,
    trusted=0.4,
    trained_on=0.3,
    open=0.9,
    truncation=0.6,
    top_answer=0.1,
    mean_tokens=10.0,
    tokens_per_s=100.0,
    recall=RecallProbe(20, Independence(40, 0.4, 0.4, 0.38, 4.0, 0, None), (0.9, 1.0), 0.45),
)


def recall_line(config, probe):
    return next(line for line in report(config, probe, 100, 50) if line.startswith("recall"))


def test_a_probe_of_a_taught_model_sees_what_it_agrees_on(taught_folder, prompts):
    config = tiny_config(taught_folder, prompts, propose={"exemplar": {"k": 0}})
    policy, embedder = Policy.load(config.model), Embedder.load(config.embedder)
    train = [p for p in load_prompts(config.prompts).prompts if p.split is Split.TRAIN]
    seen = take(config, policy, embedder, train)
    again = take(config, policy, embedder, train)
    assert seen == replace(again, tokens_per_s=seen.tokens_per_s), "the same samples each time"
    assert seen.prompts == min(PROMPTS, len(train))
    assert 0.5 < seen.parse_rate <= 1
    assert 0 < seen.headroom < 0.9
    assert seen.mean_tokens <= config.sample.max_new_tokens
    assert seen.recall is None
    assert recall_line(config, seen).endswith("off: propose.exemplar.k is 0")
    certain = config.model_copy(update={"sample": config.sample.model_copy(update={"temperature": 0.0})})
    greedy = take(certain, policy, embedder, train)
    assert greedy.agreement == 1.0
    assert greedy.headroom == pytest.approx(1 - greedy.parse_rate), "samples that are one differ by silence alone"


def test_a_probe_of_all_prompts_measures_recall_as_round_1_does(taught_folder, prompts, tmp_path):
    settings = {"exemplar": {"k": 3, "below": 2.0, "agree": 0.85, "trust": 0.5}, "revise": {"k": 0}, "stitch": {"k": 0}}
    config = tiny_config(taught_folder, prompts, propose=settings)
    with open_run(config, folder=tmp_path / "run", progress=Progress(quiet=True)) as run:
        sample(run, 1)
        vote(run, 1, Poll.SAMPLED)
        recall(run, 1)
        vote(run, 1, Poll.RECALLED)
        measured = Independence(**run.memory.measured(1, Poll.RECALLED, "independence"))
        asked = run.prompts(Split.TRAIN)
        seen = take(config, run.policy, run.embedder, sorted(asked, key=lambda p: p.id)).recall
    assert seen.shown > config.propose.exemplar.shots
    assert measured.prompts == seen.independence.prompts > 0
    assert seen.independence.sampled == pytest.approx(measured.sampled), "the samples are those of the round"
    low, high = seen.interval
    assert low <= seen.independence.ratio <= high


@pytest.mark.parametrize(("new_tokens", "ceiling"), [(24, 1.0), (9, 1.0), (24, 0.9)])
def test_a_probe_of_all_prompts_expects_what_round_1_trains_on(new_tokens, ceiling, taught_folder, prompts, tmp_path):
    alone = {name: {"k": 0} for name in ("exemplar", "revise", "stitch")}
    select_all = {"answer_share": 1.0, "ceiling": ceiling}
    config = tiny_config(
        taught_folder, prompts, propose=alone, sample={"max_new_tokens": new_tokens}, select=select_all
    )
    with open_run(config, folder=tmp_path / "run", progress=Progress(quiet=True)) as run:
        sample(run, 1)
        vote(run, 1, Poll.SAMPLED)
        vote(run, 1, Poll.FINAL)
        kept = {v.response_id for v in select(run, 1).kept}
        taught = {r.prompt_id for r in run.memory.responses(ids=list(kept))}
        asked = run.prompts(Split.TRAIN)
        seen = take(config, run.policy, run.embedder, asked, limit=len(asked))
    assert seen.trained_on == pytest.approx(len(taught) / len(asked))
    assert (seen.trained_on < seen.trusted) == (new_tokens == 9 or ceiling < 1)


@pytest.mark.parametrize(
    ("found", "agree", "says"),
    [
        (RecallProbe(3), 0.85, "cannot be measured: 3 of 64 prompts have a trusted answer"),
        (RecallProbe(9), 0.85, "cannot be measured: no prompt has two samples"),
        (PROMISING.recall, 0.85, "0.95 times as often as samples (0.90 to 1.00 with 95 %): would vote, and 45% of"),
        (PROMISING.recall, 0.92, "would vote, and 45% of the prompts have a trusted majority then; too close to be"),
        (PROMISING.recall, 1.0, "would be off, because that is below propose.exemplar.agree 1; too close to be sure"),
        (replace(PROMISING.recall, interval=(0.9, 0.96)), 0.99, "would be off, because that is below"),
        (
            RecallProbe(9, Independence(5, 0.0, 0.0, 0.0, 4.0, 0, None)),
            0.85,
            "samples never agree: would vote, and 0% of",
        ),
    ],
)
def test_whether_recalled_answers_would_vote_is_said(found, agree, says, taught_folder, prompts):
    config = tiny_config(taught_folder, prompts, propose={"exemplar": {"k": 4, "agree": agree}})
    assert says in recall_line(config, replace(PROMISING, recall=found))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"parse_rate": 0.3}, "can be read"),
        ({"parse_rate": 0.0, "mean_tokens": 0.0, "tokens_per_s": 0.0}, "every answer is empty"),
        ({"trusted": 0.05, "trained_on": 0.05}, "select.threshold 0.5"),
        ({"trained_on": 0.05}, "only 5% have a majority answer that is not cut off"),
        ({"headroom": 0.02}, "98% of the samples"),
        ({"top_answer": 0.4}, "vote.calibration"),
    ],
)
def test_what_speaks_against_rounds_is_said(change, says, taught_folder, prompts):
    config = tiny_config(taught_folder, prompts, select={"answer_share": 0.2, "threshold": 0.5})
    assert warnings(config, PROMISING) == []
    (warning,) = warnings(config, replace(PROMISING, **change))
    assert says in warning


def test_a_model_that_writes_nothing_has_no_speed(taught_folder, prompts):
    silent = replace(PROMISING, parse_rate=0.0, mean_tokens=0.0, tokens_per_s=0.0)
    lines = report(tiny_config(taught_folder, prompts), silent, 100, 50)
    assert "time      cannot be told for 2 rounds: nothing was written" in lines
    assert sum(line.startswith("warning") for line in lines) == 1


def test_the_time_is_that_of_all_answers_at_the_speed_seen(taught_folder, prompts):
    config = tiny_config(
        taught_folder,
        prompts,
        rounds=2,
        sample={"k": 8},
        propose={"exemplar": {"k": 4}, "revise": {"k": 0}},
        evaluate={"k": 3, "limit": 20},
    )
    # Two rounds of 100 prompts x (8 + 0.9 * 4), three measurements of 20 x (3 + 1), 10 tokens each, 100 a second.
    assert generation_seconds(config, PROMISING, 100, 50) == pytest.approx((2 * 1160 + 3 * 80) * 10 / 100)


def test_the_time_of_revisions_and_their_trial_is_counted(taught_folder, prompts):
    revise = {"k": 2, "verdicts": True, "critique_tokens": 5, "trial": 8}
    common = {"rounds": 2, "sample": {"k": 8}, "evaluate": {"k": 3, "limit": 20}}
    off, on = (
        tiny_config(taught_folder, prompts, propose={"exemplar": {"k": 4}, "revise": settings}, **common)
        for settings in ({"k": 0}, revise)
    )
    probe = replace(PROMISING, disputed=0.3)
    more = generation_seconds(on, probe, 100, 50) - generation_seconds(off, probe, 100, 50)
    # Two rounds of 100 x 0.3 x 2 revisions and 8 in the trial, 10 + 5 tokens each, 100 a second.
    assert more == pytest.approx(2 * (60 + 8) * 15 / 100)
