"""A 2-layer Llama, random or taught, a byte tokenizer, and sums to ask about: for the tests and the benches."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from selfimprove.config import ModelConfig

CHAT_TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a byte, plus padding, end of turn and start of turn."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: index for index, character in enumerate(alphabet)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_llama(
    vocab_size: int, seed: int = 0, hidden_size: int = 32, initializer_range: float = 0.3
) -> LlamaForCausalLM:
    """Return a 2-layer Llama with grouped-query attention and random weights, large enough that greedy text varies."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocab_size,
                hidden_size=hidden_size,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=1024,
                tie_word_embeddings=True,
                initializer_range=initializer_range,
            )
        )
    return model.eval()


def save(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Save model and tokenizer with `save_pretrained`, the tokenizer's special tokens in the model's configuration."""
    for settings in (model.config, model.generation_config):
        settings.eos_token_id, settings.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def teach(
    folder: Path,
    examples: Sequence[tuple[str, str]],
    steps: int,
    *,
    batch: int | None = None,
    seed: int = 0,
    initializer_range: float = 0.3,
    lr: float = 3e-3,
    warmup: int = 0,
) -> Path:
    """Fine-tune a tiny model on (question, answer) pairs and save it.

    A step takes `batch` of them, drawn with `seed`; None: all. With `warmup` the learning rate rises linearly for that
    many steps and then falls to zero; without, it is constant.
    """
    tokenizer = byte_tokenizer()
    model = tiny_llama(len(tokenizer), seed, hidden_size=64, initializer_range=initializer_range).train()
    rows, labels = [], []
    for question, answer in examples:
        turns = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True)["input_ids"]
        completion = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        rows.append(torch.tensor(prompt + completion))
        labels.append(torch.tensor([-100] * len(prompt) + completion))
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    targets = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        if warmup:
            optimizer.param_groups[0]["lr"] = lr * min((step + 1) / warmup, 1 - step / steps)
        chosen = torch.randperm(len(ids), generator=generator)[:batch] if batch else slice(None)
        model(ids[chosen], labels=targets[chosen]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return save(folder, model, tokenizer)


def exactly(folder: Path | str) -> ModelConfig:
    """Return the settings of a tiny model in float32 on the CPU: `auto` would pick bfloat16 on some machines."""
    return ModelConfig(path=str(folder), device="cpu", dtype="float32", threads=1)


SUMS = [(a, b) for a in range(6) for b in range(5)]
"""The sums that the tests' fine-tuned model was trained on."""


def sum_question(a: int, b: int) -> str:
    """Return the prompt that asks for a sum."""
    return f"What is {a} plus {b}?"
