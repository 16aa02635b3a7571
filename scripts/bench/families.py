"""Take tiny models of many families from load to export, and write the table of docs/models.md.

    python scripts/bench/families.py                      all of them, a line each; minutes on one core
    python scripts/bench/families.py qwen3 mamba          some
    python scripts/bench/families.py --write              and write the table

Each model is built here from its transformers configuration, with random weights and a tokenizer of single bytes, and
saved as `save_pretrained` does. Then the functions of selfimprove load it, rehearse a round on a few tokens as `check`
does (in float32 and bfloat16), sample from it (the greedy tokens must be those of transformers), train an adapter (the
loss must fall), merge it, export the merged model and reload that (the greedy tokens must be the same).
"""

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from results import insert
from tasks.tiny import byte_tokenizer, save

from selfimprove.config import ModelConfig, TrainConfig
from selfimprove.errors import UserError, first_line
from selfimprove.exports.export import export
from selfimprove.models.policy import Policy
from selfimprove.rollout import Rollout, generate
from selfimprove.run.rehearsal import rehearse
from selfimprove.training import Encoded, train_adapter
from selfimprove.types import Message, Sampling

ROOT = Path(__file__).resolve().parents[2]
BASE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
LLAMA = BASE | dict(intermediate_size=48, num_key_value_heads=2, max_position_embeddings=512)
HEAD = LLAMA | dict(head_dim=8)
GPT = dict(n_embd=32, n_layer=2, n_head=4, n_positions=512)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
LOCAL = dict(num_local_experts=4, num_experts_per_tok=2)
DEEPSEEK = LLAMA | dict(
    num_key_value_heads=4,
    n_routed_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=16,
    n_group=1,
    topk_group=1,
    first_k_dense_replace=1,
    q_lora_rank=8,
    kv_lora_rank=8,
    qk_rope_head_dim=4,
    qk_nope_head_dim=4,
    v_head_dim=8,
)
MAMBA = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=4, mamba_chunk_size=16)

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", HEAD),
    "llama, tied, biases": ("Llama", HEAD | dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True)),
    "llama4_text": ("Llama4Text", HEAD | dict(num_local_experts=2, num_experts_per_tok=1, intermediate_size_mlp=48)),
    "smollm3": ("SmolLM3", LLAMA),
    "qwen2": ("Qwen2", LLAMA),
    "qwen2_moe": ("Qwen2Moe", LLAMA | EXPERTS | dict(shared_expert_intermediate_size=16)),
    "qwen3": ("Qwen3", HEAD),
    "qwen3_moe": ("Qwen3Moe", HEAD | EXPERTS),
    "qwen3_next": (
        "Qwen3Next",
        HEAD
        | EXPERTS
        | dict(
            shared_expert_intermediate_size=16,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_hidden_layers=4,
        ),
    ),
    "qwen3_5_text": (
        "Qwen3_5Text",
        HEAD
        | dict(
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_hidden_layers=4,
        ),
    ),
    "mistral": ("Mistral", HEAD | dict(sliding_window=64)),
    "ministral": ("Ministral", HEAD | dict(sliding_window=64)),
    "mixtral": ("Mixtral", LLAMA | LOCAL),
    "gemma": ("Gemma", HEAD),
    "gemma2": ("Gemma2", HEAD | dict(query_pre_attn_scalar=8)),
    "gemma3_text": ("Gemma3Text", HEAD | dict(query_pre_attn_scalar=8)),
    "recurrent_gemma": (
        "RecurrentGemma",
        LLAMA | dict(num_key_value_heads=1, lru_width=32, attention_window_size=64, num_hidden_layers=3),
    ),
    "phi": ("Phi", LLAMA),
    "phi3": ("Phi3", LLAMA),
    "phimoe": ("Phimoe", LLAMA | LOCAL),
    "gpt2": ("GPT2", GPT),
    "gpt_bigcode": ("GPTBigCode", GPT),
    "gpt_neo": (
        "GPTNeo",
        dict(
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            max_position_embeddings=512,
            attention_types=[[["global", "local"], 1]],
        ),
    ),
    "gpt_neox": ("GPTNeoX", BASE | dict(intermediate_size=48, max_position_embeddings=512)),
    "gptj": ("GPTJ", GPT | dict(rotary_dim=4)),
    "gpt_oss": ("GptOss", HEAD | LOCAL | dict(sliding_window=16)),
    "codegen": ("CodeGen", GPT | dict(rotary_dim=4, n_ctx=512)),
    "opt": ("OPT", BASE | dict(ffn_dim=48, max_position_embeddings=512, word_embed_proj_dim=32)),
    "bloom": ("Bloom", dict(hidden_size=32, n_layer=2, n_head=4)),
    "falcon": ("Falcon", BASE | dict(new_decoder_architecture=False, multi_query=True)),
    "falcon_h1": ("FalconH1", LLAMA | MAMBA | dict(mamba_d_ssm=32, mamba_n_heads=4)),
    "mpt": ("Mpt", dict(d_model=32, n_layers=2, n_heads=4, max_seq_len=512)),
    "stablelm": ("StableLm", LLAMA),
    "cohere": ("Cohere", LLAMA),
    "cohere2": ("Cohere2", LLAMA | dict(sliding_window=64)),
    "olmo": ("Olmo", LLAMA),
    "olmo2": ("Olmo2", LLAMA),
    "olmo3": ("Olmo3", LLAMA | dict(sliding_window=64)),
    "olmoe": ("Olmoe", LLAMA | dict(num_experts=4, num_experts_per_tok=2)),
    "granite": (
        "Granite",
        LLAMA | dict(embedding_multiplier=2.0, logits_scaling=3.0, residual_multiplier=0.5, attention_multiplier=0.1),
    ),
    "granitemoe": ("GraniteMoe", LLAMA | LOCAL),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        LLAMA | MAMBA | LOCAL | dict(layer_types=["mamba", "attention"], shared_intermediate_size=16),
    ),
    "glm": ("Glm", HEAD),
    "glm4": ("Glm4", HEAD),
    "glm4_moe": (
        "Glm4Moe",
        HEAD | EXPERTS | dict(n_routed_experts=4, n_group=1, topk_group=1, first_k_dense_replace=1),
    ),
    "deepseek_v2": ("DeepseekV2", DEEPSEEK),
    "deepseek_v3": ("DeepseekV3", DEEPSEEK),
    "ernie4_5": ("Ernie4_5", HEAD),
    "exaone4": ("Exaone4", LLAMA | dict(sliding_window=16)),
    "starcoder2": ("Starcoder2", LLAMA),
    "nemotron": ("Nemotron", LLAMA),
    "persimmon": ("Persimmon", LLAMA),
    "helium": ("Helium", HEAD),
    "seed_oss": ("SeedOss", HEAD),
    "apertus": ("Apertus", LLAMA),
    "arcee": ("Arcee", LLAMA),
    "hunyuan_v1_dense": ("HunYuanDenseV1", HEAD),
    "nanochat": ("NanoChat", LLAMA),
    "lfm2": ("Lfm2", LLAMA | dict(layer_types=["conv", "full_attention"])),
    "jamba": (
        "Jamba",
        LLAMA
        | dict(
            num_experts=2,
            num_experts_per_tok=1,
            attn_layer_offset=1,
            attn_layer_period=2,
            expert_layer_offset=1,
            expert_layer_period=2,
            use_mamba_kernels=False,
            mamba_d_state=4,
        ),
    ),
    "bamba": ("Bamba", LLAMA | MAMBA | dict(attn_layer_indices=[1])),
    "xglm": ("XGLM", dict(d_model=32, ffn_dim=48, num_layers=2, attention_heads=4, max_position_embeddings=512)),
    "bart (decoder)": (
        "Bart",
        dict(d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48, max_position_embeddings=512),
    ),
    "mamba": ("Mamba", dict(hidden_size=32, num_hidden_layers=2, state_size=4)),
    "mamba2": (
        "Mamba2",
        dict(hidden_size=32, num_hidden_layers=2, state_size=4, num_heads=8, head_dim=8, n_groups=1, chunk_size=16),
    ),
    "falcon_mamba": ("FalconMamba", dict(hidden_size=32, num_hidden_layers=2, state_size=4)),
    "rwkv": ("Rwkv", dict(hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=512)),
}
"""Name -> (prefix of its configuration class in transformers, settings that make it tiny)."""

STEPS = ("load", "check", "sample", "train", "merge", "export", "reload")
ASKED = [(Message("user", "What is 2 plus 3?"),), (Message("user", "Name a fruit please"),)]
ANSWERS = ["5", "An apple."]


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of one family: the steps that passed, why the next failed, and the weights that an adapter reaches.

    `refused` says that it was one line for the user (an error of exit code 2) and not a crash.
    """

    family: str
    passed: tuple[str, ...]
    adapted: str
    fault: str
    refused: bool
    seconds: float


def build(family: str, folder: Path) -> Path:
    """Write a tiny model of the family, with random weights and a tokenizer, to the new folder."""
    tokenizer = byte_tokenizer()
    prefix, settings = FAMILIES[family]
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    # 320: some tokenizer classes add tokens of their own when they are loaded
    config = getattr(transformers, f"{prefix}Config")(**settings | ids | {"vocab_size": 320})
    if hasattr(config, "initializer_range"):
        config.initializer_range = 0.2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
    return save(folder, model, tokenizer)


def try_family(family: str, work: Path) -> Trial:
    """Take one family through all steps, in the folder `work`."""
    began = time.monotonic()
    passed: list[str] = []
    found: dict[str, str] = {}
    fault, refused = "", False
    try:
        folder = build(family, work / "base")
        passed.extend(steps(folder, work, found))
    except UserError as error:
        fault, refused = str(error).replace(str(work / "base"), family), True
    except Exception as error:  # what a user would see as a traceback
        fault = f"{type(error).__name__}: {first_line(error)}"
    return Trial(family, tuple(passed), found.get("adapted", ""), fault, refused, time.monotonic() - began)


def steps(folder: Path, work: Path, found: dict[str, str]) -> Iterator[str]:
    """Yield the name of each step after it passed; `found` is told what an adapter reaches."""
    config = ModelConfig(path=str(folder), device="cpu", dtype="float32", threads=1)
    policy = Policy.load(config)
    yield "load"
    spec = TrainConfig(rank=4, alpha=8, lr=1e-2, epochs=6, batch_tokens=64)
    for dtype in ("bfloat16", "float32"):
        found["adapted"] = rehearse(Policy.load(config.model_copy(update={"dtype": dtype})), spec, ASKED).adapted
    yield "check"
    prompts = [policy.encode(messages) for messages in ASKED]
    for prompt, rollout in zip(prompts, rollouts(policy, prompts), strict=True):
        own = greedy(policy, prompt)
        if list(rollout.token_ids) != own:
            raise RuntimeError(f"greedy tokens {rollout.token_ids}, by transformers {own}")
    yield "sample"
    examples = [
        Encoded(tuple(prompt), tuple(policy.encode_completion(text)), 1.0)
        for prompt, text in zip(prompts, ANSWERS, strict=True)
    ]
    adapter = work / "adapter"
    report = train_adapter(policy.model, examples * 2, spec, seed=0, out=adapter, pad_id=policy.pad_id)
    if not report.loss_last < report.loss_first:
        raise RuntimeError(f"the loss does not fall: {report.loss_first:.2f}, {report.loss_last:.2f}")
    yield "train"
    policy.use(adapter)
    yield "merge"
    export(config, adapter, work / "out", form="merged", card="", conversations=ASKED)
    yield "export"
    exported = Policy.load(config.model_copy(update={"path": str(work / "out")}))
    if [r.token_ids for r in rollouts(exported, prompts)] != [r.token_ids for r in rollouts(policy, prompts)]:
        raise RuntimeError("the exported model says something else")
    yield "reload"


def rollouts(policy: Policy, prompts: Sequence[Sequence[int]]) -> list[Rollout]:
    """Return greedy continuations of six tokens."""
    sampling = Sampling.greedy(6)
    return generate(policy.model, prompts, [1, 2], sampling, eos_ids=policy.eos_ids, pad_id=policy.pad_id)


def greedy(policy: Policy, prompt: Sequence[int]) -> list[int]:
    """Return what transformers itself continues a prompt with, alone and without padding."""
    out = policy.model.generate(
        torch.tensor([prompt]),
        max_new_tokens=6,
        do_sample=False,
        forced_eos_token_id=None,
        eos_token_id=list(policy.eos_ids),
        pad_token_id=policy.pad_id,
    )
    return [token for token in out[0, len(prompt) :].tolist() if token not in policy.eos_ids]


def table(trials: Sequence[Trial]) -> str:
    """Return the table of docs/models.md, sorted by name, with a summary below."""
    lines = ["| family | " + " | ".join(STEPS) + " | an adapter goes |", "|---|" + "---|" * (len(STEPS) + 1)]
    for trial in sorted(trials, key=lambda t: t.family):
        cells = ["yes" if step in trial.passed else "" for step in STEPS]
        if trial.fault:
            cells[len(trial.passed)] = "refused" if trial.refused else "fails"
        lines.append(f"| {trial.family} | {' | '.join(cells)} | {trial.fault or trial.adapted} |")
    whole = sum(trial.passed == STEPS for trial in trials)
    refused = sum(trial.refused for trial in trials)
    slowest = max(trial.seconds for trial in trials)
    lines += [
        "",
        f"{len(trials)} families: {whole} pass every step, {refused} are refused in one line, "
        f"{len(trials) - whole - refused} fail; the slowest took {slowest:.0f} s. "
        f"transformers {transformers.__version__}, peft {peft.__version__}, torch {torch.__version__}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Try the families named, or all; print a line each; write the table where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--write", action="store_true", help="write the table into docs/models.md")
    options = parser.parse_args()
    unknown = set(options.families) - FAMILIES.keys()
    if unknown:
        parser.error(f"no family {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    trials = []
    for family in options.families or FAMILIES:
        with tempfile.TemporaryDirectory() as work:
            trials.append(trial := try_family(family, Path(work)))
        said = trial.fault or trial.adapted
        print(f"{family:20s} {trial.seconds:5.1f} s  {len(trial.passed)}/{len(STEPS)}  {said}", flush=True)
    if options.write:
        page = ROOT / "docs/models.md"
        page.write_text(insert(page.read_text(encoding="utf-8"), "families", table(trials)), encoding="utf-8")


if __name__ == "__main__":
    main()
