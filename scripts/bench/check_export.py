#!/usr/bin/env python3
"""Exported folders in the loaders that people use: greedy answers to 20 held-out prompts compared with the run's.

    selfimprove export quickstart out && selfimprove export quickstart out-q8 --as gguf --weights q8_0
    python scripts/bench/check_export.py --run quickstart out out-q8

A merged folder is loaded by transformers and vLLM, an adapter by PEFT, a GGUF file by llama.cpp; each in a process
that does not import selfimprove, and is given messages, not tokens. vLLM lives in .venv-vllm (made by
scripts/bench/rollout.py --setup), llama.cpp in .venv-llama (pip install xllamacpp); a loader that is not installed is
named and left out. An answer that differs is shown with the margin in nats: log p(own token) - log p(other token) under
the run's own model at the first token that differs; 0 is a tie.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROMPTS, NEW_TOKENS = 20, 32
ENVIRONMENTS = {
    "transformers": Path(sys.executable),
    "peft": Path(sys.executable),
    "vllm": ROOT / ".venv-vllm/bin/python",
    "llama.cpp": ROOT / ".venv-llama/bin/python",
}
QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "1"}


# -- the loaders: each answers conversations from a folder, in its own environment


def transformers_answers(job: dict[str, Any]) -> list[str]:
    """A merged folder in plain transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(job["folder"])
    return _generate(model, AutoTokenizer.from_pretrained(job["folder"]), job["conversations"])


def peft_answers(job: dict[str, Any]) -> list[str]:
    """An adapter folder in PEFT, on the base that it was made for."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(job["base"]), job["folder"])
    return _generate(model, AutoTokenizer.from_pretrained(job["folder"]), job["conversations"])


def _generate(model: Any, tokenizer: Any, conversations: list[Any]) -> list[str]:
    answers = []
    for turns in conversations:
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
        out = model.generate(**ids, do_sample=False, max_new_tokens=NEW_TOKENS)[0, ids["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(out, skip_special_tokens=True))
    return answers


def vllm_answers(job: dict[str, Any]) -> list[str]:
    """A merged folder in vLLM, in float32."""
    from vllm import LLM, SamplingParams

    engine = LLM(model=job["folder"], dtype="float32", max_model_len=1024, max_num_seqs=8, enforce_eager=True)
    how = SamplingParams(temperature=0, max_tokens=NEW_TOKENS)
    return [out.outputs[0].text for out in engine.chat(job["conversations"], how, use_tqdm=False)]


def llama_cpp_answers(job: dict[str, Any]) -> list[str]:
    """A GGUF file in llama.cpp, through its own chat template engine and tokenizer."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(job["folder"]).glob("*.gguf")))
    params.n_ctx, params.n_parallel, params.use_jinja, params.warmup = 1024, 1, True, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    server = xllamacpp.Server(params)
    how = {"temperature": 0, "max_tokens": NEW_TOKENS, "cache_prompt": False}
    replies = [server.handle_chat_completions({"messages": turns, **how}) for turns in job["conversations"]]
    return [reply["choices"][0]["message"]["content"] for reply in replies]


LOADERS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "transformers": transformers_answers,
    "peft": peft_answers,
    "vllm": vllm_answers,
    "llama.cpp": llama_cpp_answers,
}


def ask(loader: str, job: dict[str, Any]) -> list[str]:
    """Return a loader's answers, from a process of its own."""
    done = subprocess.run(
        [ENVIRONMENTS[loader], __file__, "--worker", loader],
        input=json.dumps(job),
        env=os.environ | QUIET,
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"answers"')]
    if not lines:
        raise SystemExit(f"{loader} could not load {job['folder']}:\n{done.stderr[-3000:]}")
    return json.loads(lines[-1])["answers"]


# -- the run's own answers


class Reference:
    """The run's current policy, in float32: base and adapter as the run itself uses them."""

    def __init__(self, run: str) -> None:
        from selfimprove.memory import ResponseMemory
        from selfimprove.models.policy import Policy
        from selfimprove.run.folder import adapter_folder, run_folder, saved_config
        from selfimprove.types import Split

        folder = run_folder(run)
        with ResponseMemory.open(folder / "memory.db") as memory:
            adapter = adapter_folder(folder, memory.current)
            self.conversations = [p.messages for p in memory.prompts(Split.HELDOUT)[:PROMPTS]]
        model = saved_config(folder).model.model_copy(update={"dtype": "float32", "device": "cpu"})
        self.policy = Policy.load(model)
        self.policy.use(adapter)
        self.ids = self._greedy()

    def _greedy(self) -> list[tuple[int, ...]]:
        from selfimprove.rollout import generate
        from selfimprove.types import Sampling

        policy, rows = self.policy, [self.policy.encode(messages) for messages in self.conversations]
        sampling = Sampling.greedy(NEW_TOKENS)
        rollouts = generate(policy.model, rows, [0] * len(rows), sampling, eos_ids=policy.eos_ids, pad_id=policy.pad_id)
        return [rollout.token_ids for rollout in rollouts]

    def answer(self, index: int) -> str:
        """Return the run's answer to a prompt."""
        return self.policy.decode(self.ids[index])

    def margin(self, index: int, other: str) -> float:
        """Return log p(own token) - log p(the other's), in nats, at the first token where `other` differs."""
        import torch

        policy, own = self.policy, [*self.ids[index], *self.policy.eos_ids[:1]]
        theirs = [*policy.plain(other), *policy.eos_ids[:1]]
        first = next(i for i, (a, b) in enumerate(zip(own, theirs, strict=False)) if a != b)
        prompt = policy.encode(self.conversations[index])
        with torch.inference_mode():
            logits = policy.model(torch.tensor([[*prompt, *own[:first]]])).logits[0, -1]
        return float(logits[own[first]] - logits[theirs[first]])


def loaders_of(folder: Path) -> list[str]:
    """Return the loaders that can read a folder of this form."""
    if any(folder.glob("*.gguf")):
        return ["llama.cpp"]
    return ["peft"] if (folder / "adapter_config.json").is_file() else ["transformers", "vllm"]


def check(folder: Path, reference: Reference) -> None:
    """Print one line a loader, and one more for each answer that differs."""
    turns = [[{"role": m.role, "content": m.content} for m in messages] for messages in reference.conversations]
    job = {"folder": str(folder.resolve()), "base": str(reference.policy.folder), "conversations": turns}
    for loader in loaders_of(folder):
        if not ENVIRONMENTS[loader].exists():
            print(f"{folder}: {loader} is not installed, left out")
            continue
        answers = [answer.strip() for answer in ask(loader, job)]
        differing = [i for i, answer in enumerate(answers) if answer != reference.answer(i)]
        print(f"{folder}: loads in {loader}, {len(answers) - len(differing)} of {len(answers)} greedy texts equal")
        for i in differing:
            margin = reference.margin(i, answers[i])
            print(f"    {turns[i][-1]['content']!r}: {reference.answer(i)!r} | {answers[i]!r}, margin {margin:.3f}")


def main() -> None:
    """Read the options; as a worker, answer the job on stdin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="name or folder of the run that was exported")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--worker", choices=LOADERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print("\n" + json.dumps({"answers": LOADERS[args.worker](json.load(sys.stdin))}), flush=True)
        return
    if not args.run or not args.folders:
        parser.error("name the run and the exported folders")
    reference = Reference(args.run)
    for folder in args.folders:
        check(folder, reference)


if __name__ == "__main__":
    main()
