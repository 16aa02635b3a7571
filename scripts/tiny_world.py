"""A world small enough to collapse in seconds: a 2-layer byte model that was taught sums, and sums to ask about.

The model is the tests' (tests/tiny.py); this module teaches it and writes the prompt and answer files.
"""

import json
import random
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from tiny import byte_tokenizer, sum_question, tiny_llama

SUMS = [(a, b) for a in range(10) for b in range(6)]
FORMS = ("{a} plus {b} is {c}.", "{a} plus {b} makes {c}.", "The sum of {a} and {b} is {c}.")


def answer(a: int, b: int, form: int = 0) -> str:
    """Return a right answer in one of the wordings."""
    return FORMS[form].format(a=a, b=b, c=a + b)


def write_sums(folder: Path) -> tuple[Path, Path]:
    """Write prompts.jsonl and audit.jsonl and return their paths."""
    prompts, audit = folder / "prompts.jsonl", folder / "audit.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": sum_question(a, b)}) for a, b in SUMS), encoding="utf-8")
    rows = [{"prompt": sum_question(a, b), "answers": [str(a + b)]} for a, b in SUMS]
    audit.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return prompts, audit


def teach(folder: Path, seed: int, steps: int) -> Path:
    """Teach a tiny model the sums for `steps` steps of plain fine-tuning and save it: often right, often wrong."""
    tokenizer = byte_tokenizer()
    model = tiny_llama(len(tokenizer), seed=seed, hidden_size=64).train()
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    model.config.pad_token_id = model.generation_config.pad_token_id = pad
    rng = random.Random(seed)
    rows, labels = [], []
    for a, b in SUMS:
        question = [{"role": "user", "content": sum_question(a, b)}]
        prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=True)["input_ids"]
        text = answer(a, b, rng.randrange(len(FORMS)))
        completion = [*tokenizer(text, add_special_tokens=False)["input_ids"], end]
        rows.append(prompt + completion)
        labels.append([-100] * len(prompt) + completion)
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    targets = torch.tensor([row + [-100] * (width - len(row)) for row in labels])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        model(ids, labels=targets).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
