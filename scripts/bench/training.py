#!/usr/bin/env python3
"""Training time of the same adapter with and without KL, and with TRL's SFTTrainer.

    python scripts/bench/training.py --setup      make .venv-bench with TRL
    python scripts/bench/training.py --json       one epoch over 256 completions, 4 a prompt, median of 3
    python scripts/bench/training.py --half-revise --prompts 16      short answers, half of them to revise requests

The data are worked sums, written by this script. The three take turns, each in its own process; the clock runs during
training alone, with the model loaded and the examples tokenized.
"""

import argparse
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-bench"
RANK, ALPHA, LR, BATCH = 16, 32, 3e-4, 16
ARMS = ("ours", "ours + KL", "TRL")
PLAIN = "PEFT loop"
"""A plain loop over padded batches, for where TRL is not installed."""

OPENINGS = (
    "Let's take this one step at a time.",
    "First I look at what is multiplied.",
    "Products come before sums, so start there.",
    "We begin with the multiplication.",
    "Okay, the order of operations matters here.",
    "I will work from the product outwards.",
    "To solve this, multiply, then add, then subtract.",
    "This takes three small steps.",
)
TIMES = ("{b} times {c} is {bc}.", "Multiplying {b} by {c} gives {bc}.", "{b} * {c} = {bc}.", "The product is {bc}.")
PLUS = ("Add {a} to get {abc}.", "Then {a} + {bc} = {abc}.", "With {a} added that is {abc}.", "So far we have {abc}.")
MINUS = ("Take away {d}: {r}.", "Subtracting {d} leaves {r}.", "Now {abc} - {d} = {r}.", "Less {d}, it is {r}.")
CHECKS = (
    "To check, {r} + {d} = {abc}, as it should be.",
    "Going back, {abc} - {a} = {bc}, which agrees.",
    "Nothing is left to do after that.",
    "That uses all four numbers once.",
)


def make_problems(prompts: int, samples: int) -> list[tuple[str, list[str]]]:
    """Return questions, each with `samples` worked solutions with different openings, as samples have."""
    rng = random.Random(0)
    problems = []
    for _ in range(prompts):
        a, b, c, d = (rng.randint(2, 99) for _ in range(4))
        n = {"a": a, "b": b, "c": c, "d": d, "bc": b * c, "abc": a + b * c, "r": a + b * c - d}
        solutions = []
        for opening in rng.sample(OPENINGS, samples):
            steps = [opening, *(rng.choice(forms) for forms in (TIMES, PLUS, MINUS, CHECKS))]
            solutions.append(" ".join(steps).format(**n) + f" The answer is {n['r']}.")
        problems.append((f"What is {a} + {b} * {c} - {d}? Work step by step and end with the answer.", solutions))
    return problems


def make_half_revise(prompts: int) -> list[tuple[str, list[str]]]:
    """Return questions, each with two short answers and in two revise requests of its own, with four rivals in view."""
    from selfimprove.stages.revision import JUDGE

    rng = random.Random(0)
    problems = []
    for _ in range(prompts):
        a, b = rng.randint(2, 99), rng.randint(2, 99)
        question, answers = f"What is {a} plus {b}?", [f"The answer is {a + b}.", f"{a} plus {b} is {a + b}."]
        problems.append((question, answers))
        for answer in answers:
            wrong = [rng.random() < 0.5 for _ in range(4)]
            shown = [answer.replace(f"{a + b}.", f"{a + b + rng.randint(1, 9) * w}.") for w in wrong]
            listed = "\n".join(f"{number}. {text}" for number, text in enumerate(shown, start=1))
            said = ", ".join("wrong" if w else "right" for w in wrong)
            problems.append((JUDGE.format(question=question, answers=listed), [f"{said}\n{answer}"]))
    return problems


def encode(problems: Sequence[tuple[str, list[str]]], folder: Path, **model: str) -> dict[str, Any]:
    """Tokenize (question, answers) with the model's chat template and write them to the workers' job file.

    `model` are settings of a configuration's model section.
    """
    from selfimprove.config import ModelConfig
    from selfimprove.models.policy import Policy
    from selfimprove.types import Message

    policy = Policy.load(ModelConfig.model_validate(model))
    rows = [
        {"prompt": policy.encode([Message("user", question)]), "completion": policy.encode_completion(text)}
        for question, solutions in problems
        for text in solutions
    ]
    job = {
        "model": str(policy.folder),
        "dtype": str(policy.dtype).removeprefix("torch."),
        "device": str(policy.device),
        "pad_id": policy.pad_id,
        "rows": rows,
        "tokens": sum(len(r["prompt"]) + len(r["completion"]) for r in rows),
        "completion_tokens": sum(len(r["completion"]) for r in rows),
    }
    (folder / "job.json").write_text(json.dumps(job))
    return job


# -- the workers: one training each, in a process of its own


def load_model(job: dict[str, Any]) -> Any:
    """Return the model that every arm trains."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(job["model"], dtype=getattr(torch, job["dtype"])).to(job["device"])


def train_ours(job: dict[str, Any], folder: Path, beta: float) -> float:
    """Train with this project's trainer and return seconds."""
    from selfimprove.config import TrainConfig
    from selfimprove.training import Encoded, train_adapter

    model = load_model(job)
    examples = [Encoded(tuple(r["prompt"]), tuple(r["completion"]), 1.0) for r in job["rows"]]
    steps = -(-len(examples) // BATCH)
    spec = TrainConfig(
        rank=RANK, alpha=ALPHA, lr=LR, epochs=1, batch_tokens=-(-job["tokens"] // steps), beta=beta, warmup=0.1
    )
    report = train_adapter(model, examples, spec, seed=0, out=folder / "adapter", pad_id=job["pad_id"])
    assert report.steps == steps
    return report.wall_s


def train_trl(job: dict[str, Any], folder: Path, epochs: int = 1) -> float:
    """Train with TRL's SFTTrainer and return seconds.

    Activation checkpointing, its default, is off: it costs time, and memory is not short here.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    rows = [
        {
            "input_ids": r["prompt"] + r["completion"],
            "completion_mask": [0] * len(r["prompt"]) + [1] * len(r["completion"]),
        }
        for r in job["rows"]
    ]
    config = SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=epochs,
        learning_rate=LR,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=job["dtype"] == "bfloat16",
        use_cpu=job["device"] == "cpu",
        save_strategy="no",
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=load_model(job),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=LoraConfig(
            r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    began = time.perf_counter()
    trainer.train()
    return time.perf_counter() - began


def train_plain(job: dict[str, Any], _: Path) -> float:
    """Train with PEFT and AdamW in the plainest loop, on padded batches, and return seconds."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    device, mixed = torch.device(job["device"]), job["dtype"] == "bfloat16"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(load_model(job), config).train()
        order = torch.randperm(len(job["rows"])).tolist()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)
    began = time.perf_counter()
    for start in range(0, len(order), BATCH):
        rows = [job["rows"][i] for i in order[start : start + BATCH]]
        width = max(len(r["prompt"]) + len(r["completion"]) for r in rows)
        ids = torch.full((len(rows), width), job["pad_id"])
        labels = torch.full((len(rows), width), -100)
        for i, r in enumerate(rows):
            first, last = len(r["prompt"]), len(r["prompt"]) + len(r["completion"])
            ids[i, :last] = torch.tensor(r["prompt"] + r["completion"])
            labels[i, first:last] = torch.tensor(r["completion"])
        ids, labels = ids.to(device), labels.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            model(ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def work(arm: str, folder: Path, repeats: int) -> None:
    """Run one arm several times and print the figures of each as the last line."""
    from selfimprove.training.footprint import peak_gb

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    job = json.loads((folder / "job.json").read_text())
    runs = []
    for run in range(repeats):
        own = folder / f"run{run}"
        own.mkdir(exist_ok=True)
        if arm == "TRL":
            seconds = train_trl(job, own)
        elif arm == PLAIN:
            seconds = train_plain(job, own)
        else:
            seconds = train_ours(job, own, 0.0 if arm == "ours" else 0.02)
        runs.append({"seconds": seconds, "peak_gb": peak_gb(job["device"])})
    print(json.dumps(runs))


# -- the table


def measure(arm: str, folder: Path, repeats: int = 1) -> list[dict[str, float]]:
    """Run an arm so many times in a new process of its environment.

    Raises:
        RuntimeError: it failed.
    """
    bench = VENV / "bin" / "python"
    python = str(bench) if arm == "TRL" and bench.exists() else sys.executable
    command = [python, __file__, "--worker", arm, "--folder", str(folder), "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        hint = "\nTRL is not installed: run with --setup first." if arm == "TRL" else ""
        raise RuntimeError(f"{arm} failed:\n{done.stderr[-2000:]}{hint}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(job: dict[str, Any], runs: dict[str, list[dict[str, float]]]) -> tuple[str, dict[str, float]]:
    """Return the table and the ratios: medians over the runs. The peer is TRL, else the plain loop."""
    seconds = {arm: statistics.median(r["seconds"] for r in of_arm) for arm, of_arm in runs.items()}
    peer = "TRL" if "TRL" in runs else PLAIN
    lines = [
        f"{len(job['rows'])} completions, {job['completion_tokens']} tokens ({job['tokens']} with their prompts), "
        f"{job['dtype']} on {job['device']}, LoRA rank {RANK}, batch {BATCH}, median of {len(runs['ours'])}",
        "",
        "| | seconds | (each run) | tokens/s with prompts | completion tokens/s | peak GB |",
        "|---|---|---|---|---|---|",
    ]
    for arm in runs:
        each = ", ".join(f"{r['seconds']:.1f}" for r in runs[arm])
        lines.append(
            f"| {arm} | {seconds[arm]:.1f} | {each} | {job['tokens'] / seconds[arm]:.0f} "
            f"| {job['completion_tokens'] / seconds[arm]:.0f} | {max(r['peak_gb'] for r in runs[arm]):.1f} |"
        )
    ratios = {
        "ratio_trl" if peer == "TRL" else "ratio_plain": round(seconds[peer] / seconds["ours"], 2),
        "kl_cost": round(seconds["ours + KL"] / seconds["ours"], 2),
    }
    lines += ["", f"{peer} / ours {seconds[peer] / seconds['ours']:.2f}, with / without KL {ratios['kl_cost']}"]
    return "\n".join(lines), ratios


def setup() -> None:
    """Make .venv-bench: this project and TRL on the same CPU build of torch."""
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    install = [str(VENV / "bin" / "pip"), "install", "-q", "-e", str(ROOT), "trl==1.16.0", "torch==2.13.0"]
    subprocess.run(install, check=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="install TRL into .venv-bench")
    parser.add_argument("--json", action="store_true", help="print one JSON line last")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--half-revise", action="store_true", help="short answers, half of them to revise requests")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto", help="as model.device of a configuration")
    parser.add_argument("--worker", choices=(*ARMS, PLAIN), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        return work(options.worker, options.folder, options.repeats)
    if options.setup:
        return setup()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        problems = make_half_revise(options.prompts) if options.half_revise else make_problems(options.prompts, 4)
        job = encode(problems, folder, device=options.device)
        runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for _ in range(options.repeats):
            for arm in ARMS:
                try:
                    runs[arm] += measure(arm, folder)
                except RuntimeError as error:
                    raise SystemExit(str(error)) from None
        text, ratios = table(job, runs)
    print(text)
    if options.json:
        print(json.dumps(ratios))
    return None


if __name__ == "__main__":
    main()
