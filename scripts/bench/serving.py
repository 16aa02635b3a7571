"""Speed of `selfimprove serve`: 8 requests at a time against batch rollouts of the same prompts, and the first token.

    scripts/bench/serving.py RUN [--requests 64] [--threads 1]

Both run on one model in one process, in turn. Tokens are counted by second of this process's CPU time as well, which
other load of the machine hardly changes. The client runs in this process too, at the server's cost. Needs
`selfimprove[serve]` and the openai package.
"""

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from selfimprove.memory import ResponseMemory
from selfimprove.models.policy import Policy
from selfimprove.rollout import generate
from selfimprove.run.folder import run_folder, saved_config
from selfimprove.seeds import seed_for
from selfimprove.serving import serve
from selfimprove.types import Prompt, Split

TOGETHER = 8
"""Concurrent requests, and rows of the batch that they are compared with."""
NEW_TOKENS = 64


@contextmanager
def served(folder: Path, recalling: bool) -> Iterator[tuple[Any, Policy]]:
    """Yield an OpenAI client of the run and the policy behind it."""
    from openai import OpenAI

    with serve.opened_server(folder, port=0, recalling=recalling) as (server, listening, worker):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
            yield OpenAI(base_url=address, api_key="none"), worker.policy
        finally:
            server.should_exit = True
            thread.join()


def ask(client: Any, name: str, prompt: Prompt, *, stream: bool) -> int:
    """Send a prompt, and return the number of tokens of the answer."""
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
    how = {"model": name, "messages": messages, "seed": 0, "max_tokens": NEW_TOKENS}
    if not stream:
        return client.chat.completions.create(**how).usage.completion_tokens
    pieces = client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True})
    return [piece for piece in pieces][-1].usage.completion_tokens


def first_token(client: Any, name: str, prompt: Prompt) -> float:
    """Return the seconds until the first text of a stream."""
    begun = time.monotonic()
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
    with client.chat.completions.create(model=name, messages=messages, stream=True) as pieces:
        next(piece for piece in pieces if piece.choices[0].delta.content)
        return time.monotonic() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    folder = run_folder(args.run)
    config = saved_config(folder)
    sampling = config.sample.sampling(NEW_TOKENS)
    with ResponseMemory.open(folder / "memory.db") as memory:
        prompts = memory.prompts(Split.TRAIN)[: args.requests]
    name = folder.resolve().name
    with served(folder, recalling=False) as (client, policy), ThreadPoolExecutor(TOGETHER) as pool:
        torch.set_num_threads(args.threads)

        def roll_out() -> int:
            ids = [policy.encode(prompt.messages) for prompt in prompts]
            keys = [seed_for("serve", 0, 0)] * len(ids)
            rows = generate(
                policy.model,
                ids,
                keys,
                sampling,
                eos_ids=policy.eos_ids,
                pad_id=policy.pad_id,
                batch_size=TOGETHER,
                stop=policy.stop,
            )
            return sum(len(row.token_ids) for row in rows)

        def sent(stream: bool) -> int:
            return sum(pool.map(partial(ask, client, name, stream=stream), prompts))

        ways: dict[str, Callable[[], int]] = {
            "rollout": roll_out,
            "serve": partial(sent, False),
            "serve, streams": partial(sent, True),
        }
        ask(client, name, prompts[0], stream=False)
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        costs: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(3):
            for way, work in ways.items():
                begun, cpu = time.monotonic(), time.process_time()
                tokens = work()
                speeds[way].append(tokens / (time.monotonic() - begun))
                costs[way].append(tokens / (time.process_time() - cpu))
                each = f"{speeds[way][-1]:.0f} tokens/s, {costs[way][-1]:.0f} tokens a CPU second"
                print(f"{way:16} {tokens} tokens, {each}", flush=True)
        for clock, found in (("wall time", speeds), ("CPU time", costs)):
            for way in list(ways)[1:]:
                ratios = [new / old for new, old in zip(found[way], found["rollout"], strict=True)]
                spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
                print(f"{way:16} {statistics.median(ratios):.2f} of the rollout in {clock} {spread}")
        times = [first_token(client, name, prompt) for prompt in prompts[:TOGETHER]]
        print(f"first token      {statistics.median(times):.2f} s, at most {max(times):.2f} s")
    with served(folder, recalling=True) as (client, _):
        times = [first_token(client, name, prompt) for prompt in prompts[:TOGETHER]]
        print(f"  with --memory  {statistics.median(times):.2f} s, at most {max(times):.2f} s")


if __name__ == "__main__":
    main()
