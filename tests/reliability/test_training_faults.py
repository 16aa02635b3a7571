"""What goes wrong while a model answers and learns: the run says so, keeps what it has, and can go on."""

import math

import pytest
import torch
from tasks.tiny import sum_question
from tasks.tiny_runs import run_it, tiny_config, write_prompts

from selfimprove.engines.local import LocalEngine
from selfimprove.errors import ModelError, TrainingError
from selfimprove.memory import ResponseMemory
from selfimprove.outcomes import Decision
from selfimprove.rollout import generation as entry
from selfimprove.run import session
from selfimprove.stages import recall
from selfimprove.training import trainer
from selfimprove.types import Finish, Generation, Origin, Stage

SMALL = {"rounds": 1, "sample": {"k": 2, "max_new_tokens": 16, "unit_prompts": 30}, "evaluate": {"k": 1}}
ONE_OPERATOR = {"exemplar": {"k": 0}, "revise": {"k": 0}, "stitch": {"k": 0}}


@pytest.fixture(scope="module")
def config(taught_folder, tmp_path_factory):
    file = write_prompts(tmp_path_factory.mktemp("p") / "p.jsonl")
    file.write_text("\n".join(file.read_text().splitlines()[::3]))
    return tiny_config(taught_folder, file, propose=ONE_OPERATOR, **SMALL)


def change(config, **sections):
    """Return the configuration with some sections changed."""
    updates = {name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    return config.model_copy(update=updates)


def stages_done(folder):
    with ResponseMemory.open(folder / "memory.db") as memory:
        assert memory.verify() == []
        return {unit.stage for unit in memory.units()}


@pytest.fixture
def unrehearsed(monkeypatch):
    """Faults that a rehearsal would meet come in the middle of the run."""
    monkeypatch.setattr(session, "rehearse", lambda *_: None)


def answers(config, folder, monkeypatch, text, finish=Finish.STOP):
    """Run with a model that gives these answers: `text` maps the place of a request in its unit to what it says."""

    def answer(self, unit, on_tokens=None):
        return [Generation(text(slot), finish, 8, 4) for slot in range(len(unit.requests))]

    monkeypatch.setattr(LocalEngine, "answer", answer)
    return run_it(config, folder)


@pytest.mark.usefixtures("unrehearsed")
def test_a_training_that_blows_up_leaves_no_adapter_and_goes_on_when_it_can(config, tmp_path, monkeypatch):
    row = trainer.Objective.row

    def broken(*arguments):
        loss, figures = row(*arguments)
        return loss * math.nan, figures

    with monkeypatch.context() as patched:
        patched.setattr(trainer.Objective, "row", broken)
        with pytest.raises(TrainingError, match=r"loss is nan at step 1 .*no adapter was written; lower"):
            run_it(config, tmp_path / "run")
    assert Stage.SELECT in stages_done(tmp_path / "run")
    assert Stage.TRAIN not in stages_done(tmp_path / "run")
    assert not (tmp_path / "run" / "adapters").exists()
    assert run_it(config, tmp_path / "run", resume=True).figures["rounds_kept"] == 1


def test_one_survivor_is_enough_to_learn_from(config, tmp_path, monkeypatch):
    def text(slot):
        return "The answer is 4." if slot < 2 else ""  # one prompt, answered twice: a vote needs two

    summary = answers(change(config, select={"threshold": 0.0}), tmp_path / "run", monkeypatch, text)
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        verdicts = memory.verdicts(1).values()
        assert sum(verdict.kept for verdict in verdicts) == 1, verdicts
        assert memory.result(1, Stage.TRAIN)["examples"] == 1
    assert len(summary.figures["rounds"]) == 1


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", Finish.STOP, "no_answer"),
        (" \n\t", Finish.STOP, "no_answer"),
        ("The answer is 4.", Finish.LENGTH, "truncated"),
        ("\ufffd" * 9, Finish.STOP, "no_answer"),
    ],
    ids=["empty", "white space", "all truncated", "noise"],
)
def test_a_model_that_says_nothing_usable_keeps_the_base(config, tmp_path, monkeypatch, text, finish, reason):
    summary = answers(config, tmp_path / "run", monkeypatch, lambda _: text, finish)
    (round_,) = summary.figures["rounds"]
    assert round_["decision"] == Decision.REJECT
    assert "no candidate survived selection" in summary.table
    assert summary.figures["current"] == "base"
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        assert {verdict.reason for verdict in memory.verdicts(1).values()} == {reason}
        assert memory.verify() == []


@pytest.mark.usefixtures("unrehearsed")
def test_a_memory_too_small_for_one_row_ends_with_a_message_and_no_half_unit(config, tmp_path, monkeypatch):
    def never(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(entry, "decode_batch", never)
    with pytest.raises(ModelError, match=r"out of memory with one row .* lower max_new_tokens"):
        run_it(config, tmp_path / "run")
    assert stages_done(tmp_path / "run") == set()


def test_recalled_answers_that_do_not_fit_the_model_are_not_shown(taught_folder, tmp_path, monkeypatch):
    """Prompts of 400 tokens fit 1,024 positions, with two recalled ones before them they do not."""
    asked = [sum_question(a, b) + " Think. " * 48 for a in range(6) for b in range(2)]
    file = tmp_path / "p.txt"
    file.write_text("\n".join(asked))
    propose = ONE_OPERATOR | {"exemplar": {"k": 1, "below": 2.0, "shots": 2, "trust": 0.0}}
    config = tiny_config(taught_folder, file, propose=propose, **SMALL)
    planned = []
    plan = recall.plan_recall
    monkeypatch.setattr(recall, "plan_recall", lambda *a, **k: planned.append(plan(*a, **k)) or planned[-1])
    run_it(config, tmp_path / "run")
    assert any(planned), "or nothing was too long"
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        assert memory.responses(origins=[Origin.SAMPLE])
        assert memory.responses(origins=[Origin.RECALL]) == []
