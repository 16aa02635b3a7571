"""Random models of several families, small enough that a test builds its own."""

import random

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 97
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=512,
    initializer_range=0.3,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=2,
)
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
    "gemma": (GemmaForCausalLM, GemmaConfig, {"num_key_value_heads": 1}),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, {"query_pre_attn_scalar": 8}),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, {"query_pre_attn_scalar": 8, "sliding_window": 256}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 16}),
}


def tiny(family, seed=0):
    model, config, extra = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model(config(**SIZES | extra)).eval()


def tokens(rng, count):
    return [rng.randrange(3, VOCABULARY) for _ in range(count)]


def prompts_that_share(seed=0):
    """Two few-shot prefixes with short questions behind them, some strangers, and rows that repeat; shuffled."""
    rng = random.Random(seed)
    system = tokens(rng, 10)
    prefixes = [system + tokens(rng, 90), system + tokens(rng, 120), []]
    rows = []
    for i in range(24):
        rows += [prefixes[i % 3] + tokens(rng, rng.randint(1, 14))] * rng.randint(1, 3)
    rng.shuffle(rows)
    return rows


def reference(model, ids, count, eos_ids):
    """What transformers generates greedily for one prompt, its end token left out."""
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=count,
        eos_token_id=list(eos_ids),
        pad_token_id=2,
    )[0, len(ids) :].tolist()
    return tuple(out[:-1] if out[-1] in eos_ids else out)
