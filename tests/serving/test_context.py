"""What an answer is given to go by: the run's system message, demonstrations; and what is kept of what was asked."""

import json
import shutil

import pytest
from click.testing import CliRunner
from serving_story import serving
from tasks.tiny import SUMS, sum_question
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.cli.main import main
from selfimprove.config import PromptsConfig
from selfimprove.errors import UserError
from selfimprove.memory import ResponseMemory
from selfimprove.memory.retrieval import Trusted
from selfimprove.models.policy import Policy
from selfimprove.models.stop_strings import StopStrings
from selfimprove.prompts import load_prompts
from selfimprove.serving.asked import ASKED, Asked
from selfimprove.serving.worker import certain
from selfimprove.types import Message

SYSTEM = "You are good at sums."


@pytest.fixture(scope="module")
def with_system(taught_folder, tmp_path_factory):
    """A run whose prompts all have one system message."""
    folder = tmp_path_factory.mktemp("system")
    rows = [{"prompt": sum_question(a, b), "system": SYSTEM} for a, b in SUMS]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    propose = {"exemplar": {"k": 1, "below": 2.0, "trust": 0.3}}
    run_it(tiny_config(taught_folder, folder / "p.jsonl", rounds=1, propose=propose), folder / "run")
    return folder / "run"


@pytest.fixture
def rendered(monkeypatch):
    """The conversations that the model is given."""
    seen, real = [], Policy.encode

    def encode(self, messages, prefix=""):
        seen.append(tuple(messages))
        return real(self, messages, prefix)

    monkeypatch.setattr(Policy, "encode", encode)
    return seen


def client_of(address):
    from openai import OpenAI

    return OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def user(text):
    return {"role": "user", "content": text}


@pytest.mark.slow
def test_demonstrations_are_the_run_s_own_trusted_answers(undisturbed, rendered):
    folder = undisturbed[0]
    with ResponseMemory.open(folder / "memory.db") as memory:
        by_id = {response.id: response for response in memory.responses()}
        prompts = {prompt.id: prompt for prompt in memory.prompts()}
    known = next(prompt for prompt in prompts.values() if prompt.split == "train")
    with serving(folder, recalling=True) as (address, _), client_of(address) as client:

        def ask(text, **how):
            return client.chat.completions.create(model="undisturbed", messages=[user(text)], **how)

        answer = ask(known.text, n=3, seed=1)
        assert len({tuple(ids) for ids in answer.recalled}) > 1, "each choice has its own draw"
        for ids, conversation in zip(answer.recalled, rendered[-3:], strict=True):
            shown = [by_id[id_] for id_ in ids]
            assert all(prompts[response.prompt_id].split == "train" for response in shown)
            assert known.id not in {response.prompt_id for response in shown}, "not its own answers"
            turns = [turn for r in shown for turn in (prompts[r.prompt_id].text, r.text)]
            assert [message.content for message in conversation] == [*turns, known.text]
        assert ask(known.text, n=3, seed=1).choices == answer.choices
        plain = ask("x" * 900)
        assert plain.recalled == [[]], "what leaves no room for demonstrations is answered without"
        streamed = [chunk for chunk in ask(known.text, seed=1, stream=True)]
        assert streamed[0].recalled == answer.recalled[:1]


@pytest.mark.slow
def test_requests_get_the_system_message_of_the_run_unless_they_have_one(with_system, rendered):
    with serving(with_system, recalling=True) as (address, _), client_of(address) as client:

        def ask(*messages):
            return client.chat.completions.create(model="run", messages=list(messages), seed=0)

        shown = ask(user("What is 1 plus 1?"))
        assert rendered[-1][0] == Message("system", SYSTEM)
        assert shown.recalled[0], "demonstrations were asked under the same system message"
        assert len([m for m in rendered[-1] if m.role == "system"]) == 1
        other = ask({"role": "developer", "content": "Be brief."}, user("What is 1 plus 1?"))
        assert rendered[-1] == (Message("system", "Be brief."), Message("user", "What is 1 plus 1?"))
        assert other.recalled == [[]], "none was asked under this one"


@pytest.mark.slow
def test_chat_asks_under_the_system_message_of_the_run_too(with_system, rendered):
    told = CliRunner().invoke(main, ["chat", str(with_system), "--memory"], input="What is 1 plus 1?\nAnd 2?\n\n")
    assert told.exit_code == 0, told.output
    assert f"system: {SYSTEM}" in told.output
    assert told.output.count("recalled #") >= 2
    first, second = (c for c in rendered if c[-1].content in ("What is 1 plus 1?", "And 2?"))
    for conversation in (first, second):
        assert [m.role for m in conversation].count("system") == 1
        assert conversation[0] == Message("system", SYSTEM)
    assert second[-3] == first[-1], "the conversation goes on"


@pytest.mark.slow
def test_what_is_asked_is_kept_as_prompts_once_if_told_to(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    turns = [user("What is 8 plus 1?"), {"role": "assistant", "content": "9"}, user("And 9 plus 1?")]
    with serving(folder) as (address, _), client_of(address) as client:
        client.chat.completions.create(model="run", messages=turns[:1])
    assert not (folder / ASKED).exists(), "not unless told to"
    for _ in range(2):
        with serving(folder, learning=True) as (address, _), client_of(address) as client:
            for messages in (turns[:1], turns, turns[:1], [user(sum_question(1, 1))], [user("x" * 1000)]):
                client.chat.completions.create(model="run", messages=messages, max_tokens=3)
    found = load_prompts(PromptsConfig(path=str(folder / ASKED)))
    assert [prompt.text for prompt in found.prompts] == ["What is 8 plus 1?", "And 9 plus 1?"]
    assert found.prompts[1].messages[1] == Message("assistant", "9")
    assert found.duplicates == 0


def test_what_was_kept_is_read_again_and_a_torn_line_does_no_harm(tmp_path):
    file = tmp_path / ASKED
    assert Asked(file, []).add([Message("user", "a \u2028 b\n")])
    with file.open("a") as out:
        out.write('{"prompt": "to')
    again = Asked(file, [])
    assert not again.add([Message("user", "a \u2028 b\n")])
    assert not again.add([Message("user", " ")]), "nothing is asked"
    assert again.add([Message("user", "c")])
    assert [p.text for p in load_prompts(PromptsConfig(path=str(file))).prompts] == ["a \u2028 b\n", "c"]


def test_a_memory_that_trusts_nothing_is_refused_before_anything_is_served(undisturbed, monkeypatch):
    monkeypatch.setattr("selfimprove.serving.demonstrations.latest_pool", lambda *_: Trusted({}))
    with pytest.raises(UserError, match="leave out --memory"), serving(undisturbed[0], recalling=True):
        pass


def test_a_stream_shows_what_later_tokens_cannot_change():
    stop = StopStrings(["\nQuestion:", "END"], None)
    assert certain("It is 5", stop) == "It is 5"
    assert certain("It is 5\nQuest", stop) == "It is 5"
    assert certain("It is 5 EN", stop) == "It is 5"
    assert certain("It is 5 ENc", stop) == "It is 5 ENc"
    assert certain("caf\ufffd", stop) == "caf"
    assert certain("caf\ufffd", None) == "caf"
    assert certain("", stop) == ""
