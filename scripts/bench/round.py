#!/usr/bin/env python3
"""Time of one round, and of a plain pipeline of transformers' `generate`, a majority vote and TRL's SFTTrainer.

    python scripts/bench/training.py --setup     make .venv-bench with TRL
    python scripts/bench/round.py --json         median of 3, the two in turn

Ours is round 1 of the quickstart on a random subset of its prompts, with the default operators: sample, recall, vote,
select, train, evaluate, guard, all of it written to the memory. The pipeline draws as many samples as ours has
responses, with the same settings, votes on the last number of each, or the last line where there is none, trains the
same rank and epochs on as many winners a prompt, and evaluates nothing. Where no vote reaches the threshold it has
nothing to train on, and its time is that of sampling. Both are timed from when the model is loaded and the base
evaluated. `waste` is the fraction of our round's seconds that are neither generation nor training: embedding, reading,
voting, selecting, commits, and the metrics of the held-out answers.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training import VENV, train_trl

from selfimprove.config import ModelConfig, ProposeConfig, RunConfig
from selfimprove.config_file import load_config
from selfimprove.engines.engine import Engine, OnStep, OnTokens, TrainingJob
from selfimprove.errors import UserError
from selfimprove.memory import ResponseMemory
from selfimprove.models.policy import Policy
from selfimprove.rounds import improve
from selfimprove.run.progress import Progress
from selfimprove.run.session import open_run
from selfimprove.training import TrainReport
from selfimprove.types import Generation, Split, Unit

ROOT = Path(__file__).resolve().parents[2]
HELDOUT_TOO = 2.35
"""Prompts to draw for each train prompt, by the quickstart's split."""
OPERATORS = [f"propose.{name}.{key}={value}" for name, section in ProposeConfig() for key, value in section]
BATCH = 64
"""Sequences in a batch of `generate`."""


class Timed:
    """An engine that adds up its seconds of generation, without those of planning, and of training, by round."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seconds: dict[int, float] = defaultdict(float)
        self.model_here, self.close = engine.model_here, engine.close
        self._planning = 0.0

    def generate(
        self, units: Iterable[Unit], on_tokens: OnTokens | None = None
    ) -> Iterator[tuple[Unit, list[Generation]]]:
        """Yield what the engine does; see `Engine.generate`."""
        found = self.engine.generate(self._planned(iter(units)), on_tokens)
        while True:
            began, before = time.perf_counter(), self._planning
            answered = next(found, None)
            if answered is None:
                return
            self.seconds[answered[0].round] += time.perf_counter() - began - (self._planning - before)
            yield answered

    def _planned(self, units: Iterator[Unit]) -> Iterator[Unit]:
        while True:
            began = time.perf_counter()
            unit = next(units, None)
            self._planning += time.perf_counter() - began
            if unit is None:
                return
            yield unit

    def train(self, job: TrainingJob, out: Path, on_step: OnStep | None = None) -> TrainReport:
        """Train as the engine does, in round 1; see `Engine.train`."""
        began = time.perf_counter()
        report = self.engine.train(job, out, on_step)
        self.seconds[1] += time.perf_counter() - began
        return report


def timed_round(overrides: Sequence[str]) -> float:
    """Run one round here and return its seconds of generation and training."""
    config = load_config(ROOT / "configs" / "quickstart.yaml", tuple(overrides))
    with open_run(config, progress=Progress(quiet=True)) as run:
        engine = Timed(run.engine)
        improve(replace(run, engine=engine))
    return engine.seconds[1]


def run_ours(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Run one round in a process and return the seconds, responses and new tokens of each of its stages."""
    command = [sys.executable, __file__, "--round", json.dumps(overrides)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the round failed:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    work = float(done.stdout.strip().splitlines()[-1])
    stages: dict[str, dict[str, float]] = defaultdict(lambda: {"seconds": 0.0, "responses": 0, "tokens": 0})
    with ResponseMemory.open(folder / "runs" / "bench" / "memory.db") as memory:
        for unit in memory.units(round=1):
            stages[unit.stage]["seconds"] += unit.wall_s
        for response in memory.responses(rounds=[1]):
            stages[response.origin]["responses"] += 1
            stages[response.origin]["tokens"] += response.new_tokens
        prompts = [p.messages for p in memory.prompts(Split.TRAIN)]
        kept = sum(verdict.kept for verdict in memory.verdicts(1).values())
    seconds = total(stages)
    waste = 1 - work / seconds
    return {"stages": dict(stages), "prompts": prompts, "kept": kept, "seconds": seconds, "waste": waste}


def total(stages: dict[str, dict[str, float]]) -> float:
    """Seconds of all stages."""
    return sum(stage["seconds"] for stage in stages.values())


def written(stages: dict[str, dict[str, float]]) -> int:
    """Responses to train prompts that the round wrote."""
    return int(sum(s["responses"] for origin, s in stages.items() if origin not in ("probe", "greedy")))


def run_peer(folder: Path, job: dict[str, Any]) -> dict[str, float]:
    """Run the pipeline in a process of .venv-bench and return its seconds by step."""
    (folder / "job.json").write_text(json.dumps(job))
    python = VENV / "bin" / "python"
    if not python.exists():
        raise SystemExit("TRL is not installed: python scripts/bench/training.py --setup")
    command = [str(python), __file__, "--pipeline", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"the pipeline failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def pipeline(folder: Path) -> dict[str, float]:
    """Sample, vote and train, as a short script on the two libraries would."""
    job = json.loads((folder / "job.json").read_text())
    config = RunConfig.model_validate(job["config"])
    policy = Policy.load(ModelConfig(path=job["model"]))
    began = time.perf_counter()
    texts, tokens = sample(policy, job["prompts"], job["k"], config)
    sampled = time.perf_counter()
    rows = []
    for ids, answers in zip(job["prompts"], texts, strict=True):
        winners = majority(answers, config.select.threshold)[: config.select.per_prompt]
        rows += [{"prompt": ids, "completion": policy.encode_completion(answer)} for answer in winners]
    training = {
        "rows": rows,
        "model": str(policy.folder),
        "dtype": str(policy.dtype).removeprefix("torch."),
        "device": str(policy.device),
    }
    seconds = train_trl(training, folder, epochs=config.train.epochs) if rows else 0.0
    return {"sample": sampled - began, "train": seconds, "tokens": tokens, "examples": len(rows)}


def final(text: str) -> str:
    """Return the answer that a response votes for: its last number, else its last line."""
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", ""))
    lines = text.strip().lower().splitlines()
    return numbers[-1] if numbers else lines[-1].strip(" .") if lines else ""


def majority(answers: Sequence[str], threshold: float) -> list[str]:
    """Return the answers that agree with the most frequent one; none where their fraction is below the threshold."""
    votes = Counter(voted for answer in answers if (voted := final(answer)))
    top, count = votes.most_common(1)[0] if votes else ("", 0)
    return [answer for answer in answers if final(answer) == top] if count and count / len(answers) >= threshold else []


def sample(policy: Policy, prompts: Sequence[Sequence[int]], k: int, config: RunConfig) -> tuple[list[list[str]], int]:
    """Return k texts a prompt, and the number of new tokens, from `generate` on left-padded batches."""
    import torch

    torch.manual_seed(0)
    tokenizer = policy.tokenizer
    tokenizer.pad_token_id = policy.pad_id
    texts: list[list[str]] = []
    tokens, size = 0, max(1, BATCH // k)
    for start in range(0, len(prompts), size):
        part = tokenizer.pad({"input_ids": prompts[start : start + size]}, padding_side="left", return_tensors="pt")
        out = policy.model.generate(
            **part.to(policy.device),
            do_sample=True,
            temperature=config.sample.temperature,
            top_k=config.sample.top_k,
            max_new_tokens=config.sample.max_new_tokens,
            num_return_sequences=k,
        )[:, part["input_ids"].shape[1] :]
        tokens += int((out != policy.pad_id).sum())
        decoded = tokenizer.batch_decode(out, skip_special_tokens=True)
        texts += [decoded[i : i + k] for i in range(0, len(decoded), k)]
    return texts, tokens


def show(ours: dict[str, Any], peer: dict[str, float], k: int) -> None:
    """Print the stages of the last pair of runs."""
    print(f"{'ours':12}{'seconds':>9}{'responses':>11}{'new tokens':>12}")
    for name, stage in ours["stages"].items():
        print(f"{name:12}{stage['seconds']:9.1f}{stage['responses']:11.0f}{stage['tokens']:12.0f}")
    print(f"{'in all':12}{ours['seconds']:9.1f}   {ours['kept']} survivors, waste {ours['waste']:.1%}\n")
    print(f"{'pipeline':12}{'seconds':>9}")
    print(f"{'sample':12}{peer['sample']:9.1f}   {k} samples a prompt, {peer['tokens']:.0f} new tokens")
    print(f"{'train':12}{peer['train']:9.1f}   {peer['examples']:.0f} examples")
    print(f"{'in all':12}{peer['sample'] + peer['train']:9.1f}")


def main() -> None:
    """Read the options, run the two in turn, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64, help="prompts to learn from, about")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--pipeline", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--round", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.round:
        print(timed_round(json.loads(args.round)))
        return
    if args.pipeline:
        print(json.dumps(pipeline(args.pipeline)))
        return
    file = ROOT / "configs" / "prompts" / "everyday.jsonl"
    lines = file.read_text().splitlines()
    drawn = random.Random(0).sample(lines, min(round(args.prompts * HELDOUT_TOO), len(lines)))
    overrides = ["rounds=1", "name=bench", "prompts.path=prompts.jsonl", f"evaluate.limit={args.prompts // 2}",
                 *OPERATORS]  # fmt: skip
    config = load_config(ROOT / "configs" / "quickstart.yaml", tuple(overrides))
    policy = Policy.load(config.model)
    seconds: list[tuple[float, float]] = []
    wasted: list[float] = []
    for _ in range(args.runs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "prompts.jsonl").write_text("\n".join(drawn))
            ours = run_ours(folder, overrides)
            k = round(written(ours["stages"]) / len(ours["prompts"]))
            prompts = [policy.encode(messages) for messages in ours["prompts"]]
            job = {"model": str(policy.folder), "prompts": prompts, "k": k, "config": config.model_dump(mode="json")}
            peer = run_peer(folder, job)
        wasted.append(ours["waste"])
        seconds.append((ours["seconds"], peer["sample"] + peer["train"]))
        print(f"ours {seconds[-1][0]:.1f} s, pipeline {seconds[-1][1]:.1f} s", file=sys.stderr, flush=True)
    show(ours, peer, k)
    own, other = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = round(own / other, 3)
    print(f"\nmedian of {args.runs}: ours {own:.1f} s, pipeline {other:.1f} s, ours / pipeline {ratio} (target 1/3)")
    waste = round(statistics.median(wasted), 3)
    print(f"waste {waste}: fraction of our seconds that are neither generation nor training (target 0.03)")
    if args.json:
        print(json.dumps({"ratio_pipeline": ratio, "waste": waste}))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
