"""The local engine on a base model: it asks itself the next question, and the answer before that counts."""

import pytest
from tasks import tiny
from tasks.tiny import SUMS, exactly, sum_question, teach
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.engines.local import LocalEngine, encode_examples
from selfimprove.memory import ResponseMemory
from selfimprove.models.policy import Policy
from selfimprove.models.template import PLAIN_TEMPLATE
from selfimprove.types import BASE, Example, Finish, Message, Origin, Request, Sampling, Stage, Unit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    """A model that was taught pages of questions and answers, without chat template and with no end of a turn."""
    folder = tmp_path_factory.mktemp("base-model")
    pages = [(sum_question(a, b), f" {a} plus {b} is {a + b}.\n\nQuestion: {sum_question(b, a)}") for a, b in SUMS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "CHAT_TEMPLATE", PLAIN_TEMPLATE)
        teach(folder, pages, steps=80)
    (folder / "chat_template.jinja").unlink()
    return folder


def test_an_answer_ends_where_the_next_question_begins(base_folder):
    policy = Policy.load(exactly(base_folder))
    requests = tuple(
        Request(f"p{a}{b}", Origin.SAMPLE, (Message("user", sum_question(a, b)),), seed=10 * a + b) for a, b in SUMS
    )
    unit = Unit(1, Stage.SAMPLE, 0, requests, Sampling(0.7, 50, 1.0, 48), BASE)
    generations = LocalEngine(policy, lambda _: None).answer(unit)
    stopped = [g for g in generations if g.finish is Finish.STOP]
    assert len(stopped) > len(generations) / 2
    for generation in (g for g in stopped if g.text.isascii()):  # not cut within a character, where bytes are lost
        assert "Question:" not in generation.text
        kept = policy.encode_completion(generation.text)
        assert kept[-1] == policy.tokenizer.eos_token_id
        assert 0 <= generation.new_tokens - len(kept[:-1]) <= 1, "the line break before the next question at most"
    example = Example("p", requests[0].messages, stopped[0].text, 1.0, 1)
    (encoded,) = encode_examples(policy, [example])
    assert encoded.completion == tuple(policy.encode_completion(stopped[0].text))


def test_a_run_on_a_base_model_keeps_answers(base_folder, prompts, tmp_path):
    config = tiny_config(base_folder, prompts, rounds=1, sample={"max_new_tokens": 40})
    run_it(config, tmp_path / "run")
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        assert any(verdict.kept for verdict in memory.verdicts(1).values())
        finished = [r.finish is Finish.STOP for r in memory.responses() if r.origin is Origin.SAMPLE]
    assert sum(finished) > len(finished) / 2
