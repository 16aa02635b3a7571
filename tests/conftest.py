"""Tiny real models as folders, the way `save_pretrained` writes them."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from tiny import SUMS, byte_tokenizer, sum_question, tiny_llama
from tiny_runs import run_it, tiny_config, write_prompts

torch.set_num_threads(1)  # for matrices this small, more threads only wait for each other


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A model folder as `save_pretrained` writes it: safetensors, config, tokenizer, chat template."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = byte_tokenizer()
    model = tiny_llama(len(tokenizer))
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def taught_folder(model_folder, tmp_path_factory):
    """The tiny model after two seconds of plain fine-tuning on sums: it answers, stops, and is often wrong."""
    folder = tmp_path_factory.mktemp("taught-llama")
    tokenizer = byte_tokenizer()
    model = tiny_llama(len(tokenizer), hidden_size=64).train()
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    rows, labels = [], []
    for a, b in SUMS:
        question = [{"role": "user", "content": sum_question(a, b)}]
        prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=True)["input_ids"]
        answer = [*tokenizer(f"{a} plus {b} is {a + b}.", add_special_tokens=False)["input_ids"], 256]
        rows.append(prompt + answer)
        labels.append([-100] * len(prompt) + answer)
    width = max(map(len, rows))
    ids = torch.tensor([row + [257] * (width - len(row)) for row in rows])
    targets = torch.tensor([row + [-100] * (width - len(row)) for row in labels])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):  # right 3 times of 4, at temperature 0.7
        model(ids, labels=targets).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def prompts(tmp_path_factory):
    """The sums as a prompt file; it has an answer column, which nothing may read."""
    return write_prompts(tmp_path_factory.mktemp("prompts") / "p.jsonl")


@pytest.fixture(scope="session")
def undisturbed(taught_folder, prompts, tmp_path_factory):
    """A finished run of two rounds, (folder, summary), that nothing disturbed; tests only read it."""
    folder = tmp_path_factory.mktemp("run") / "undisturbed"
    return folder, run_it(tiny_config(taught_folder, prompts), folder)
