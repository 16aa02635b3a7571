"""OpenAI's own client and curl against a run that is served: batching, streams, disconnects, errors."""

import json
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from click.testing import CliRunner
from tasks.tiny import sum_question

from selfimprove.cli.main import main
from selfimprove.models.policy import Policy
from selfimprove.rollout import generate
from selfimprove.rollout.continuous import PackedBatch
from selfimprove.run.folder import adapter_folder, saved_config
from selfimprove.seeds import seed_for
from selfimprove.serving import serve
from selfimprove.types import Message, Sampling

QUESTIONS = [sum_question(a, b) for a in range(2) for b in range(4)]


def ask(client, text, **how):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="undisturbed", messages=messages, **how)


@pytest.fixture(scope="module")
def rolled_out(undisturbed):
    """A function that answers as the loop does: the current policy's rollout of a prompt, as text."""
    folder = undisturbed[0]
    policy = Policy.load(saved_config(folder).model)
    policy.use(adapter_folder(folder, "r0002"))

    def rolled_out(text, seed, sampling):
        ids = policy.encode([Message("user", text)])
        key = seed_for("serve", seed, 0)
        (row,) = generate(policy.model, [ids], [key], sampling, eos_ids=policy.eos_ids, pad_id=policy.pad_id)
        return policy.decode(row.token_ids), len(row.token_ids), row.finish.value

    return rolled_out


def test_an_answer_is_the_rollout_of_the_current_policy(client, rolled_out):
    assert [model.id for model in client.models.list()] == ["undisturbed"]
    assert client.models.retrieve("undisturbed").owned_by == "selfimprove"
    for seed, text in enumerate(QUESTIONS[:3]):
        answer = ask(client, text, seed=seed, temperature=0.8, top_p=0.9, max_tokens=12, extra_body={"top_k": 9})
        expected, tokens, finish = rolled_out(text, seed, Sampling(0.8, 9, 0.9, 12))
        assert answer.choices[0].message.content == expected
        assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (tokens, finish)
    usual = ask(client, text, seed=5).choices[0].message.content
    assert usual == rolled_out(text, 5, Sampling(0.9, 50, 1.0, 256))[0], "as the run samples, where nothing is said"


def test_a_stream_gives_the_same_text_in_pieces(client):
    for seed in range(3):
        whole = ask(client, QUESTIONS[seed], seed=seed, n=2)
        texts, finishes, usage, pieces = ["", ""], [None, None], None, 0
        options = {"include_usage": True}
        for chunk in ask(client, QUESTIONS[seed], seed=seed, n=2, stream=True, stream_options=options):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                finishes[choice.index] = choice.finish_reason or finishes[choice.index]
                pieces += 1
        assert texts == [choice.message.content for choice in whole.choices]
        assert finishes == [choice.finish_reason for choice in whole.choices]
        assert usage == whole.usage
        assert pieces > 10
    assert texts[0] != texts[1], "choices are drawn apart"


def test_a_stop_string_is_cut_off_and_never_begun_in_a_stream(client):
    whole = ask(client, QUESTIONS[1], temperature=0).choices[0].message.content
    word = whole.split()[1]
    cut = ask(client, QUESTIONS[1], temperature=0, stop=[word])
    assert cut.choices[0].message.content == whole.partition(word)[0].strip()
    assert cut.choices[0].finish_reason == "stop"
    assert cut.usage.completion_tokens < len(whole)
    streamed = ask(client, QUESTIONS[1], temperature=0, stop=word, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in streamed]
    assert "".join(pieces) == cut.choices[0].message.content


def test_requests_that_come_together_are_decoded_together(client, served, monkeypatch):
    alone = [ask(client, text, seed=7).choices[0].message.content for text in QUESTIONS]
    rows, real = [], PackedBatch.step
    monkeypatch.setattr(PackedBatch, "step", lambda self, tokens: rows.append(len(tokens)) or real(self, tokens))
    with ThreadPoolExecutor(8) as pool:
        together = [
            answer.choices[0].message.content for answer in pool.map(lambda text: ask(client, text, seed=7), QUESTIONS)
        ]
    assert together == alone
    assert sum(rows) / len(rows) > 2, f"rows a step: {rows}"


def test_a_client_that_goes_away_costs_nothing_more(client, served):
    _, worker = served
    hold = threading.Event()
    real = worker._drop_cancelled

    def slowly():
        hold.wait(0.05)
        real()

    worker._drop_cancelled = slowly
    try:
        stream = ask(client, "a" * 50, n=4, stream=True, max_tokens=500, temperature=2, extra_body={"top_k": 0})
        next(iter(stream))
        until(lambda: worker.running)
        stream.close()
        until(lambda: not worker.running)
        with pytest.raises(openai.APITimeoutError):  # not a stream
            ask(client.with_options(timeout=0.4), "b" * 50, n=4, max_tokens=500, temperature=2, extra_body={"top_k": 0})
        until(lambda: not worker.running)
        spent = worker.tokens
        time.sleep(0.2)
        assert worker.tokens == spent < 4 * 500
    finally:
        hold.set()
        worker._drop_cancelled = real


def until(true):
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end, "waited for 5 s"
        time.sleep(0.01)


GOOD = {"messages": [{"role": "user", "content": "What is 1 plus 1?"}]}
BAD = [
    ({}, "messages", None),
    ({"messages": []}, "messages", None),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", None),
    ({"messages": [{"role": "user"}]}, "messages.0.content", None),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content", None),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", None),
    (GOOD | {"temperature": "hot"}, "temperature", None),
    (GOOD | {"temperature": -1}, "temperature", None),
    (GOOD | {"top_p": 0}, "top_p", None),
    (GOOD | {"max_tokens": 0}, "max_tokens", None),
    (GOOD | {"n": 99}, "n", None),
    (GOOD | {"stop": [""]}, "stop", None),
    (GOOD | {"temprature": 1}, "temprature", "unknown_parameter"),
    (GOOD | {"logprobs": True}, "logprobs", "unsupported_parameter"),
    (GOOD | {"tools": [{}]}, "tools", "unsupported_parameter"),
    (GOOD | {"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    (GOOD | {"stream_options": {"include_usage": True}}, "stream_options", None),
    (GOOD | {"max_tokens": 5000}, "messages", "context_length_exceeded"),
    (GOOD | {"messages": [{"role": "user", "content": "x" * 2000}]}, "messages", "context_length_exceeded"),
    (GOOD | {"model": "gpt-5"}, "model", "model_not_found"),
]


@pytest.mark.parametrize(("body", "param", "code"), BAD, ids=lambda value: json.dumps(value)[:50])
def test_a_malformed_request_gets_an_error_as_openai_s(client, body, param, code):
    with pytest.raises(openai.APIStatusError) as caught:
        client.post("/chat/completions", body=body, cast_to=object)
    error = caught.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert error.status_code == (404 if code == "model_not_found" else 400)
    assert error.body["message"]
    assert "\n" not in error.body["message"]


def test_a_stream_that_cannot_begin_has_the_status_of_the_error(client):
    with pytest.raises(openai.BadRequestError, match="positions"):
        ask(client, "x" * 2000, stream=True)


def test_what_asks_for_nothing_and_what_changes_no_answer_is_accepted(client):
    neutral = {"logprobs": False, "frequency_penalty": 0.0, "tools": [], "response_format": {"type": "text"}}
    answer = ask(client, QUESTIONS[0], seed=1, user="me", metadata={"a": "b"}, extra_body=neutral)
    assert answer.choices[0].message.content == ask(client, QUESTIONS[0], seed=1).choices[0].message.content
    turns = [answer.choices[0].message, {"role": "user", "content": [{"type": "text", "text": "And 1 plus 3?"}]}]
    assert client.chat.completions.create(model="undisturbed", messages=[*turns]).choices, "an answer is sent back"


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


def curl(address, *args):
    done = subprocess.run(["curl", "-sS", "-m", "20", *args, address], capture_output=True, text=True, check=True)
    return done.stdout


def post(address, body, *args, kind="application/json"):
    return curl(f"{address}/v1/chat/completions", "-H", f"Content-Type: {kind}", "-d", json.dumps(body), *args)


@needs_curl
def test_curl_gets_answers_streams_and_errors(served):
    address, _ = served
    assert json.loads(curl(f"{address}/health")) == {
        "status": "ok", "model": "undisturbed", "policy": "r0002", "running": 0, "waiting": 0,
    }  # fmt: skip
    answer = json.loads(post(address, GOOD | {"seed": 3}))
    assert answer["object"] == "chat.completion"
    lines = post(address, GOOD | {"seed": 3, "stream": True}, "-N").strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines[:-1]]
    assert chunks[0]["delta"]["role"] == "assistant"
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == answer["choices"][0]["message"]["content"]
    assert "not JSON" in json.loads(post(address, GOOD, "-d", "{"))["error"]["message"]  # curl joins them
    assert "not JSON" in post(address, GOOD, "--data-binary", '{"a": "\\ud800"}'), "half a character"
    assert "there are /v1/chat" in json.loads(curl(f"{address}/v1/completions"))["error"]["message"]
    assert "Method" in json.loads(curl(f"{address}/v1/chat/completions"))["error"]["message"]
    long = subprocess.run(
        ["curl", "-sS", "-H", "Content-Type: application/json", "-d", "@-", f"{address}/v1/chat/completions"],
        input="x" * 1_100_000, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "longer than" in long.stdout


@needs_curl
def test_only_this_machine_and_no_other_page_is_answered(served):
    address, _ = served
    port = address.rpartition(":")[2]
    for refused in (
        ("-H", "Host: evil.example"),
        ("-H", f"Host: evil.example:{port}"),
        ("-H", "Host: 127.0.0.1.evil.example"),
        ("-H", "Origin: https://evil.example"),
        ("-H", "Origin: null"),
        ("-H", "Origin: http://127.0.0.1:1"),
    ):
        assert json.loads(post(address, GOOD, *refused))["error"]["message"], refused
        assert "choices" not in post(address, GOOD, *refused)
    assert "choices" in post(address, GOOD, "-H", f"Origin: {address}")
    assert "choices" in post(address.replace("127.0.0.1", "localhost"), GOOD)
    simple = post(address, GOOD, kind="text/plain")  # what a page may send without being asked
    assert json.loads(simple)["error"]["message"].startswith("the body must be JSON")


def test_a_batch_that_fails_is_answered_and_the_next_one_works(client, monkeypatch):
    def no_memory(self, tokens):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(PackedBatch, "step", no_memory)
        with pytest.raises(openai.InternalServerError, match="out of memory"):
            ask(client, QUESTIONS[0])
        with pytest.raises(openai.APIError, match="out of memory"):
            list(ask(client, QUESTIONS[0], stream=True))
    assert ask(client, QUESTIONS[0]).choices[0].message.content


def test_a_model_that_packed_attention_does_not_suit_is_served_too(client, monkeypatch):
    expected = ask(client, QUESTIONS[2], seed=2, n=2)
    monkeypatch.setattr("selfimprove.serving.worker.misfit", lambda model, longest: "it has odd layers")
    monkeypatch.setattr(PackedBatch, "admit", None)
    assert ask(client, QUESTIONS[2], seed=2, n=2).choices == expected.choices


def test_more_than_fits_waits_for_its_turn(client, monkeypatch):
    expected = [ask(client, text, seed=7).choices[0].message.content for text in QUESTIONS]
    rows, real = [], PackedBatch.step
    monkeypatch.setattr(PackedBatch, "step", lambda self, tokens: rows.append(len(tokens)) or real(self, tokens))
    monkeypatch.setattr("selfimprove.serving.worker.choose_rows", lambda model, columns: 2)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: ask(client, text, seed=7).choices[0].message.content, QUESTIONS))
    assert answers == expected
    assert max(rows) == 2
    assert len(ask(client, QUESTIONS[0], n=3).choices) == 3, "a request alone is admitted whatever it needs"


def test_what_stands_in_the_way_is_one_line(undisturbed, monkeypatch):
    folder = str(undisturbed[0])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = CliRunner().invoke(main, ["serve", folder, "--port", str(taken.getsockname()[1])])
    assert told.exit_code == 2
    assert "cannot listen at port" in told.output
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    told = CliRunner().invoke(main, ["serve", folder])
    assert told.exit_code == 2
    assert "pip install 'selfimprove[serve]'" in told.output
