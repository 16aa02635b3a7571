"""Generation over HTTP, by a server that misbehaves in every way met so far: nothing is lost and nothing doubled."""

import logging
import shutil
import threading

import pytest
from engine_story import a_unit, engine_at, outcome
from fake_server import FakeServer, real, serving, spelled, start
from tasks.tiny import exactly
from tasks.tiny_runs import run_it, tiny_config

from selfimprove.config import TrainConfig
from selfimprove.engines import server_client as client
from selfimprove.engines.engine import TrainingJob
from selfimprove.engines.local import LocalEngine
from selfimprove.errors import ConfigError, EngineError
from selfimprove.memory import ResponseMemory
from selfimprove.models.policy import Policy
from selfimprove.types import BASE, Example, Finish, Message, Origin, Split

FAULTS = [408, 429, 500, 502, 503, "truncated", "cut off", "hang up", "too few", "too many", "doubled", "no reason"]


@pytest.fixture(scope="module")
def policy(model_folder):
    return Policy.load(exactly(model_folder))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 0.01)


def texts(prompts=6, k=4):
    return [f"{slot} of {1000 * p}" for p in range(prompts) for slot in range(k)]


def test_each_request_gets_its_own_sample_and_equal_prompts_are_asked_for_once(policy):
    fake = FakeServer(policy)
    units = [a_unit(index=0), a_unit(prompts=3, index=1)]
    with serving(fake) as url, engine_at(url, policy) as engine:
        answered = list(engine.generate(units))
    assert [unit for unit, _ in answered] == units
    assert [g.text for g in answered[0][1]] == texts()
    assert [g.text for g in answered[1][1]] == texts(3)
    first = answered[0][1][0]
    assert first.finish is Finish.STOP
    assert first.prompt_tokens == len(policy.encode(units[0].requests[0].messages))
    assert first.new_tokens == len(policy.plain("0 of 0")), "the token that ends the turn is not part of it"
    assert len(fake.bodies) == 6 + 3
    body = next(b for b in fake.bodies if b["seed"] == 2000)
    assert body["prompt"] == policy.encode(units[0].requests[8].messages), "tokens are sent, not text"
    assert (body["n"], body["temperature"], body["top_k"], body["top_p"], body["max_tokens"]) == (4, 0.7, 50, 0.9, 32)
    assert body["stop_token_ids"] == list(policy.eos_ids)


@pytest.fixture
def base_model(model_folder, tmp_path):
    """A model without a chat template: its answers end at stop strings."""
    folder = shutil.copytree(model_folder, tmp_path / "m")
    (folder / "chat_template.jinja").unlink()
    return Policy.load(exactly(folder))


@pytest.mark.parametrize("tokens", [True, False], ids=["token ids", "text alone"])
def test_a_base_models_answer_ends_at_its_stop_string(base_model, tokens):
    """Whether the server stops there, or is one that knows no stop strings and goes on to the limit."""
    asked = Policy.load(base_model.config)  # a tokenizer is not for several threads

    def goes_on(body):
        return [asked.plain(" 4\nQuestion: and 2 plus 3?") for _ in range(body["n"])]

    fake = FakeServer(base_model, goes_on, tokens=tokens)
    with serving(fake) as url, engine_at(url, base_model) as engine:
        ((_, generations),) = engine.generate([a_unit(prompts=1, k=2)])
    assert [(g.text, g.finish, g.new_tokens) for g in generations] == 2 * [("4", Finish.STOP, 2)]
    assert fake.bodies[0]["stop"] == ["\nQuestion:"]


def test_a_model_with_a_chat_template_is_asked_without_stop_strings(policy):
    fake = FakeServer(policy)
    with serving(fake) as url, engine_at(url, policy) as engine:
        list(engine.generate([a_unit(prompts=1, k=1)]))
    assert "stop" not in fake.bodies[0]


def test_what_ends_a_turn_is_worked_out_before_threads_ask(policy, monkeypatch):
    found, ends = set(), policy.eos_ids
    monkeypatch.setattr(Policy, "eos_ids", property(lambda self: found.add(threading.current_thread().name) or ends))
    with serving(FakeServer(policy)) as url, engine_at(url, policy) as engine:
        list(engine.generate([a_unit()]))
    assert not any(name.startswith("server") for name in found)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_a_second_try_and_nothing_else(policy, fault):
    fake = FakeServer(policy)
    fake.faults = [fault] * 5
    with serving(fake) as url, engine_at(url, policy, concurrency=3) as engine:
        ((_, generations),) = engine.generate([a_unit()])
    assert [g.text for g in generations] == texts()
    assert len(fake.bodies) == 6, "each call was answered well once"
    assert fake.paths["/v1/completions"] == 6 + 5


def test_an_answer_that_takes_too_long_is_asked_for_again(policy):
    fake = FakeServer(policy)
    fake.faults = ["slow", "slow"]
    with serving(fake) as url, engine_at(url, policy, timeout=0.2) as engine:
        ((_, generations),) = engine.generate([a_unit()])
    assert [g.text for g in generations] == texts()


def test_no_more_requests_are_in_flight_than_allowed(policy):
    most, now, lock = [0], [0], threading.Lock()
    spell = spelled(policy)

    def counted(body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.01)
        with lock:
            now[0] -= 1
        return spell(body)

    with serving(FakeServer(policy, counted)) as url, engine_at(url, policy, concurrency=3) as engine:
        list(engine.generate([a_unit(prompts=12)]))
    assert most[0] == 3


def test_the_next_unit_is_under_way_before_the_first_is_committed(policy):
    taken = []

    def planned():
        for index in range(4):
            taken.append(index)
            yield a_unit(index=index)

    with serving(FakeServer(policy)) as url, engine_at(url, policy) as engine:
        for unit, _ in engine.generate(planned()):
            assert taken[-1] == min(unit.index + 1, 3), "one ahead, no more"


def test_closing_does_not_wait_for_an_answer(policy):
    asked, never = threading.Event(), threading.Event()

    def silent(body):
        asked.set()
        never.wait(30)
        return []

    with serving(FakeServer(policy, silent)) as url, engine_at(url, policy, timeout=60) as engine:
        ends = []
        waiting = threading.Thread(target=lambda: ends.append(outcome(engine)))
        waiting.start()
        assert asked.wait(10)
        engine.close()
        waiting.join(10)
        never.set()
    assert ends[0] in {"EngineError", "CancelledError"}


def test_a_refusal_is_said_at_once_and_names_the_server(policy):
    fake = FakeServer(policy)
    fake.faults = [400]
    with (
        serving(fake) as url,
        engine_at(url, policy) as engine,
        pytest.raises(EngineError, match=rf"{url}/v1/completions answered 400: told to say 400"),
    ):
        list(engine.generate([a_unit()]))


def test_a_server_that_never_recovers_is_given_up_with_the_way_on(policy):
    fake = FakeServer(policy)
    fake.faults = [503] * 10_000
    with (
        serving(fake) as url,
        engine_at(url, policy, patience=0.1) as engine,
        pytest.raises(EngineError, match=r"gave no good answer in \d+ tries over .*503 told to say 503.*--resume"),
    ):
        list(engine.generate([a_unit()]))


def test_a_server_that_is_away_for_a_while_is_waited_for(policy):
    fake = FakeServer(policy)
    with serving(fake) as url:
        port = int(url.rpartition(":")[2])
    servers = []
    back = threading.Timer(0.3, lambda: servers.append(start(fake, port)))
    with engine_at(url, policy) as engine:
        back.start()
        ((_, generations),) = engine.generate([a_unit()])
    assert [g.text for g in generations] == texts()
    servers[0].shutdown()
    servers[0].server_close()


def test_a_server_that_gives_text_alone_will_do(policy):
    fake = FakeServer(policy, tokens=False)
    with serving(fake) as url, engine_at(url, policy) as engine:
        ((_, generations),) = engine.generate([a_unit()])
    assert [g.new_tokens for g in generations] == [len(t) for t in texts()], "one token a byte"


def test_what_is_continued_is_part_of_the_prompt_and_of_the_text(policy):
    fake = FakeServer(policy)
    unit = a_unit(prompts=1, k=1, prefix="It is ")
    with serving(fake) as url, engine_at(url, policy) as engine:
        ((_, generations),) = engine.generate([unit])
    assert generations[0].text == "It is 0 of 0"
    assert fake.bodies[0]["prompt"] == policy.encode(unit.requests[0].messages, "It is ")


@pytest.fixture(scope="module")
def adapters(policy, tmp_path_factory):
    """Two adapters of one run."""
    folder = tmp_path_factory.mktemp("adapters")
    examples = [Example("p", (Message("user", "hello"),), "goodbye", 1.0, 1)]
    for seed, name in enumerate(("r0001", "r0002")):
        job = TrainingJob(tuple(examples), TrainConfig(rank=2, epochs=1), seed)
        LocalEngine(policy, lambda name: None).train(job, folder / name)
    return folder


def test_each_rounds_adapter_is_loaded_under_its_own_name_and_the_old_one_unloaded(policy, adapters):
    fake = FakeServer(policy)
    fake.adapters = {"selfimprove-of-another-run": "elsewhere"}
    with serving(fake) as url, engine_at(url, policy, adapters) as engine:
        for name in (BASE, "r0001", "r0001", "r0002"):
            list(engine.generate([a_unit(policy=name)]))
        models = list(dict.fromkeys(body["model"] for body in fake.bodies))
        assert len(models) == 3
        assert models[0] == "the-base"
        assert fake.adapters == {"selfimprove-of-another-run": "elsewhere", models[2]: str(adapters / "r0002")}
        assert fake.paths["/v1/load_lora_adapter"] == 2


def test_a_server_that_forgot_its_adapter_gets_it_again(policy, adapters):
    fake = FakeServer(policy)
    with serving(fake) as url, engine_at(url, policy, adapters) as engine:
        list(engine.generate([a_unit(policy="r0001")]))
        fake.faults = ["forgets"]
        ((_, generations),) = engine.generate([a_unit(policy="r0001")])
    assert [g.text for g in generations] == texts()
    assert fake.paths["/v1/load_lora_adapter"] == 2


def test_a_server_without_adapters_is_told_apart_from_a_failing_one(policy, adapters):
    with (
        serving(FakeServer(policy, lora=False)) as url,
        engine_at(url, policy, adapters) as engine,
        pytest.raises(EngineError, match=r"cannot load the adapter .*VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.*engine=local"),
    ):
        list(engine.generate([a_unit(policy="r0001")]))


def test_a_model_that_the_server_does_not_have_is_named(policy):
    with (
        serving(FakeServer(policy)) as url,
        engine_at(url, policy, model="another") as engine,
        pytest.raises(EngineError, match=r"no model 'another' \(server\.model\); it has the-base"),
    ):
        list(engine.generate([a_unit()]))


def test_the_key_is_sent_and_shown_nowhere(policy, monkeypatch, caplog):
    monkeypatch.setenv("SELFIMPROVE_SERVER_KEY", "canary")
    caplog.set_level(logging.DEBUG)
    fake = FakeServer(policy, key="canary")
    fake.faults = [500, 429]
    with serving(fake) as url, engine_at(url, policy) as engine:
        ((_, generations),) = engine.generate([a_unit()])
    assert [g.text for g in generations] == texts()
    assert "again" in caplog.text
    assert "canary" not in caplog.text
    with pytest.raises(ConfigError, match="unencrypted"), engine_at("http://example.org", policy):
        pass


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://127.0.0.1", "http://", "http://user:word@127.0.0.1", "http://h:port", "http://[::1"],
)
def test_an_address_that_cannot_be_used_is_refused(policy, url):
    with pytest.raises(ConfigError, match=r"server\.url"), engine_at(url, policy):
        pass


@pytest.mark.slow
def test_a_whole_run_against_a_server_that_keeps_failing(taught_folder, prompts, tmp_path):
    served = Policy.load(exactly(taught_folder))
    fake = FakeServer(served)
    fake.answer = real(served, fake.adapters)
    fake.faults = FAULTS * 3
    with serving(fake) as url:
        config = tiny_config(taught_folder, prompts, engine="server", server={"url": url, "patience": 20})
        summary = run_it(config, tmp_path / "run")
    assert summary.figures["rounds_kept"] == 2
    with ResponseMemory.open(tmp_path / "run" / "memory.db") as memory:
        assert memory.verify() == []
        responses = memory.responses()
        assert len({(r.unit, r.slot) for r in responses}) == len(responses)
        samples = [r for r in responses if r.origin is Origin.SAMPLE]
        assert len(samples) == 2 * 4 * len(memory.prompts(Split.TRAIN))
        assert {r.policy for r in samples} == {BASE, "r0001"}
    asked = [r for r in responses if r.origin is not Origin.REVISE]  # a revision is taken out of its critique
    assert sum(body["n"] for body in fake.bodies) == len(asked), "what was answered is what is in the memory"


def test_a_run_may_move_to_another_engine(undisturbed, taught_folder, prompts, tmp_path):
    finished, summary = undisturbed
    folder = shutil.copytree(finished, tmp_path / "run")
    config = tiny_config(taught_folder, prompts, engine="server", server={"url": "http://127.0.0.1:9"})
    again = run_it(config, folder, resume=True)
    assert again.figures["digest"] == summary.figures["digest"], "a finished run asks nothing"
