"""The arms of later rounds: the gate with negatives, and labels from a slowly moving average of the policy."""

import json
from types import SimpleNamespace

import later_rounds
import pytest
import torch
from arms import ARMS
from peft import LoraConfig, get_peft_model
from tasks.quiz import Question, write_questions
from tasks.tiny import SUMS, byte_tokenizer, sum_question, tiny_llama
from tasks.tiny_runs import tiny_config

from selfimprove.config import VoteConfig
from selfimprove.evaluation.answer_key import load_audit
from selfimprove.models.policy import Policy
from selfimprove.outcomes import Judgement, Tally
from selfimprove.prompts import make_prompt
from selfimprove.rounds import improve
from selfimprove.run.progress import Progress
from selfimprove.run.session import open_run
from selfimprove.stages.vote import Ballot
from selfimprove.training.adapter import save_adapter
from selfimprove.types import Finish, Message, Origin, Poll, Response, Split

PROMPTS = [make_prompt((Message("user", f"Is {i} odd?"),), 0.0) for i in range(3)]


def response(id_, prompt, text, policy="base"):
    return Response(id_, prompt.id, 1, Origin.SAMPLE, "u", id_, text, Finish.STOP, 0, policy, 1, 1, ())


def test_the_gate_takes_the_label_of_a_prompt_without_a_clear_winner():
    def ballots(start, answers):
        return [Ballot(start + i, answer, False) for i, answer in enumerate(answers)]

    run = SimpleNamespace(config=SimpleNamespace(vote=VoteConfig(echo=0.0)))
    cast = {"clear": ballots(0, ["a"] * 6 + ["b"] * 2), "open": ballots(10, ["a"] * 4 + ["b"] * 3 + ["c"])}
    tallies, judgements = later_rounds.gated(run, 1, cast)
    assert {t.prompt_id: t.answer for t in tallies} == {"clear": "a", "open": None}
    assert len(judgements) == 16


def test_a_negative_is_the_rarest_answer_to_a_prompt_without_a_label():
    shares = {0: ("a", 0.5), 1: ("b", 0.4), 2: ("c", 0.1), 3: ("a", 0.5), 4: ("b", 0.5), 5: ("a", 0.9), 6: ("b", 0.1)}
    of = dict.fromkeys((0, 1, 2), PROMPTS[0]) | dict.fromkeys((3, 4), PROMPTS[1]) | dict.fromkeys((5, 6), PROMPTS[2])
    answers = (None, None, "a")  # the third prompt has a label, the second no rare answer
    memory = SimpleNamespace(
        judgements=lambda round_, poll: {i: Judgement(i, answer, 1.0, share) for i, (answer, share) in shares.items()},
        tallies=lambda round_, poll: {
            p.id: Tally(p.id, answer, 0.5, 0.1, 4.0, 4, 0) for p, answer in zip(PROMPTS, answers, strict=True)
        },
        responses=lambda ids: [response(i, of[i], f"{shares[i][0]}{i}") for i in ids],
    )
    run = SimpleNamespace(memory=memory, prompts=lambda split: PROMPTS)
    (pair,) = later_rounds.negatives(run, 1)
    assert (pair.prompt_id, pair.completion, pair.rejected) == (PROMPTS[0].id, "a0", "c2")
    assert pair.weight == later_rounds.NEGATIVE_WEIGHT


def adapter(folder, seed, rank):
    """Write a LoRA adapter with random A and B for the tiny Llama."""
    torch.manual_seed(seed)
    made = get_peft_model(
        tiny_llama(len(byte_tokenizer())), LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "up_proj"])
    )
    for name, parameter in made.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    save_adapter(made, folder, "tiny")
    return folder


def test_the_average_of_adapters_changes_the_weights_by_the_average_of_their_changes(tmp_path):
    def change(folder):
        base, merged = (dict(m.named_parameters()) for m in (model(), Policy.merge(model(), folder)))
        return {name: (merged[name] - base[name]).detach() for name in base}

    def model():
        return tiny_llama(len(byte_tokenizer()))

    one, two = adapter(tmp_path / "one", 0, 2), adapter(tmp_path / "two", 1, 4)
    later_rounds.write_average({one: 0.25, two: 0.5}, tmp_path / "average")
    expected = [change(one), change(two)]
    found = change(tmp_path / "average")
    moved = [name for name in found if found[name].abs().max() > 0]
    assert len(moved) == 4
    for name in moved:
        torch.testing.assert_close(
            found[name], 0.25 * expected[0][name] + 0.5 * expected[1][name], atol=1e-5, rtol=1e-4
        )


@pytest.mark.slow
def test_from_the_second_round_on_the_average_labels_the_samples_of_the_policy(taught_folder, tmp_path):
    prompts, audit = write_questions(tmp_path, (Question(sum_question(a, b), (str(a + b),)) for a, b in SUMS))
    off = {"exemplar": {"k": 0}, "revise": {"k": 0}, "stitch": {"k": 0}}
    own = {"vote": {"decay": 0.0}, "train": {"rank": 4, "lr": 1e-3, "accumulate": False}, "propose": off}
    config = tiny_config(taught_folder, prompts, **own, rounds=2)
    config = config.model_copy(update={"prompts": config.prompts.model_copy(update={"audit": str(audit)})})
    assert load_audit(audit)
    with open_run(config, folder=tmp_path / "run", progress=Progress(quiet=True)) as run:
        improve(run, ARMS["slow-labels"].method(300))
        train = run.prompts(Split.TRAIN)
        policies = [{r.policy for r in run.memory.responses(rounds=[n], origins=[Origin.SAMPLE])} for n in (1, 2)]
        assert policies == [{"base"}, {"r0001", "average-0002"}]
        both = run.memory.responses(rounds=[2], origins=[Origin.SAMPLE])
        assert len(both) == config.sample.k * len(train)
        judged = run.memory.judgements(2, Poll.FINAL)
        voters = [r for r in both if judged[r.id].weight > 0]
        assert all(judged[r.id].answer is None for r in both if r.policy == "average-0002")
        assert not [r for r in voters if r.policy == "r0001"], "the policy's own samples do not vote"
        kept = [v.response_id for v in run.memory.verdicts(2).values() if v.kept]
        assert {r.policy for r in run.memory.responses(ids=kept)} <= {"r0001"}
    saved = json.loads((tmp_path / "run/adapters/average-0002/adapter_config.json").read_text())
    assert saved["r"] == saved["lora_alpha"] == 4
