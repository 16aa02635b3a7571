"""An OpenAI-compatible server on a free port of this machine, which misbehaves when told to."""

import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tasks.tiny import exactly

from selfimprove.models.policy import Policy
from selfimprove.rollout import generate
from selfimprove.types import Sampling


def spelled(policy):
    """Answers that need no model: sample i says its number and the seed, so that each can be recognised."""
    own, lock = Policy.load(exactly(policy.folder)), threading.Lock()  # a tokenizer is not for several threads

    def answer(body):
        with lock:
            return [own.plain(f"{i} of {body['seed']}") for i in range(body["n"])]

    return answer


def real(policy, adapters):
    """Answers of the model, with the adapter that the body names merged in; one at a time."""
    lock = threading.Lock()

    def answer(body):
        sampling = Sampling(body["temperature"], max(0, body["top_k"]), body["top_p"], body["max_tokens"])
        with lock:
            folder = adapters.get(body["model"])
            policy.use(folder and Path(folder))
            seeds = [body["seed"] + i for i in range(body["n"])]
            rollouts = generate(policy.model, [body["prompt"]] * body["n"], seeds, sampling, eos_ids=policy.eos_ids)
        return [list(r.token_ids) for r in rollouts]

    return answer


class FakeServer:
    """What it was asked (`bodies`, `paths`), what it holds (`adapters`), and how it is to fail next (`faults`)."""

    def __init__(self, policy, answer=None, *, lora=True, tokens=True, key=None):
        self.lora, self.tokens, self.key = lora, tokens, key
        self.policy = Policy.load(exactly(policy.folder))  # its tokenizer is not the driver's, which runs meanwhile
        self.answer = answer or spelled(policy)
        self.adapters = {}
        self.bodies, self.paths, self.faults = [], Counter(), []
        self.lock = threading.Lock()

    def completion(self, body):
        answers = self.answer(body)
        with self.lock:
            choices = [
                {
                    "index": i,
                    "text": "" if self.tokens else self.policy.decode(ids),
                    "finish_reason": "stop",
                    **({"token_ids": [*ids, self.policy.end_of_turn]} if self.tokens else {}),
                }
                for i, ids in enumerate(answers)
            ]
        return {"choices": list(reversed(choices))}  # the index counts, not the place


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, value, headers=(), cut=0):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data[: len(data) - cut])
        if cut:
            self.close_connection = True

    def do_GET(self):
        fake = self.server.fake
        if fake.key and self.headers.get("Authorization") != f"Bearer {fake.key}":
            return self.reply(401, {"error": {"message": "no key"}})
        self.reply(200, {"data": [{"id": "the-base"}, *({"id": name} for name in fake.adapters)]})

    def do_POST(self):
        fake = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake.paths[self.path] += 1
        if self.path != "/v1/completions":
            return self.adapter(fake, body)
        with fake.lock:
            fault = fake.faults.pop(0) if fake.faults else None
            if fault is None:
                fake.bodies.append(body)
        if body["model"] not in {"the-base", *fake.adapters}:
            return self.reply(404, {"error": {"message": f"The model {body['model']} does not exist"}})
        self.misbehave(fault, fake.completion(body))

    def adapter(self, fake, body):
        if not fake.lora:
            return self.reply(404, {"detail": "Not Found"})
        if self.path == "/v1/load_lora_adapter":
            fake.adapters[body["lora_name"]] = body["lora_path"]
        else:
            del fake.adapters[body["lora_name"]]
        self.reply(200, b"Success")

    def misbehave(self, fault, answer):
        choices = answer["choices"]
        if fault is None:
            self.reply(200, answer)
        elif isinstance(fault, int):
            self.reply(fault, {"error": {"message": f"told to say {fault}"}})
        elif fault == "truncated":
            whole = json.dumps(answer).encode()
            self.reply(200, whole[: len(whole) // 2])
        elif fault == "cut off":
            self.reply(200, answer, cut=10)
        elif fault == "hang up":
            self.close_connection = True
        elif fault == "too few":
            self.reply(200, {"choices": choices[1:]})
        elif fault == "too many":
            self.reply(200, {"choices": [*choices, {**choices[0], "index": len(choices)}]})
        elif fault == "doubled":
            self.reply(200, {"choices": [*choices[1:], choices[1]]})
        elif fault == "no reason":
            self.reply(200, {"choices": [{**choice, "finish_reason": None} for choice in choices]})
        elif fault == "slow":
            threading.Event().wait(0.5)
            self.reply(200, answer)
        elif fault == "forgets":
            self.server.fake.adapters.clear()
            self.reply(404, {"error": {"message": "The model does not exist"}})
        else:
            raise AssertionError(fault)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that has gone is part of the stories."""


def start(fake, port=0):
    server = Server(("127.0.0.1", port), Handler)
    server.fake = fake
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@contextmanager
def serving(fake):
    server = start(fake)
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
