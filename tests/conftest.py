"""Tiny real models as folders, the way `save_pretrained` writes them."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import settings
from tasks.tiny import SUMS, byte_tokenizer, save, sum_question, teach, tiny_llama
from tasks.tiny_runs import run_it, tiny_config, write_prompts

settings.register_profile("machine", deadline=None)  # how long an example takes says more of its neighbours
settings.load_profile("machine")
torch.set_num_threads(1)  # for matrices this small, more threads only wait for each other


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A model folder as `save_pretrained` writes it: safetensors, config, tokenizer, chat template."""
    tokenizer = byte_tokenizer()
    return save(tmp_path_factory.mktemp("tiny-llama"), tiny_llama(len(tokenizer)), tokenizer)


@pytest.fixture(scope="session")
def taught_folder(tmp_path_factory):
    """The tiny model after two seconds of plain fine-tuning on sums: it answers, stops, and is often wrong."""
    examples = [(sum_question(a, b), f"{a} plus {b} is {a + b}.") for a, b in SUMS]
    folder = tmp_path_factory.mktemp("taught-llama")
    return teach(folder, examples, steps=60)  # right 3 times of 4, at temperature 0.7


@pytest.fixture(scope="session")
def prompts(tmp_path_factory):
    """The sums as a prompt file; it has an answer column, which nothing may read."""
    return write_prompts(tmp_path_factory.mktemp("prompts") / "p.jsonl")


@pytest.fixture(scope="session")
def undisturbed(taught_folder, prompts, tmp_path_factory):
    """A finished run of two rounds, (folder, summary), that nothing disturbed; tests only read it."""
    folder = tmp_path_factory.mktemp("run") / "undisturbed"
    summary = run_it(tiny_config(taught_folder, prompts), folder)
    config = (folder / "config.yaml").read_text()
    yield folder, summary
    assert (folder / "config.yaml").read_text() == config, "a test resumed the shared run with other settings"
