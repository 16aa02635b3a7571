"""One GGUF file, the format of llama.cpp and Ollama, from a Llama-family model and its byte-level BPE tokenizer.

Names and types of the fields are those of llama.cpp's convert_hf_to_gguf.py; the `gguf` package lays them out. Tensors
are rounded and written one at a time, so writing takes no second copy of the model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter

    from ..models.policy import Policy

WEIGHTS = ("f16", "q8_0")
"""Types that matrices can be stored in; vectors are always float32."""

LARGEST_F16 = 65504.0

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PRE_TOKENIZERS = {
    "gpt-2": BYTE_LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
}
"""Name of a pre-tokenizer in llama.cpp -> its settings in tokenizer.json."""


def write_gguf(model: Any, policy: Policy, file: Path, weights: str) -> None:
    """Write a float32 model, with the tokenizer and chat template of `policy`, to `file`.

    Raises:
        ModelError: the architecture or the tokenizer is not supported, or a weight exceeds float16.
    """
    from gguf import GGUFWriter

    _refuse(model.config)
    writer = GGUFWriter(file, "llama")
    try:
        _add_model(writer, model.config, policy, weights)
        _add_tokenizer(writer, policy, model.config.vocab_size)
        _write(writer, _tensors(model), weights)
    finally:
        writer.close()


def as_stored(values: np.ndarray, weights: str) -> np.ndarray:
    """Return a float32 tensor rounded as the file stores it."""
    from gguf import dequantize, quantize

    kind = _kind(values, weights)
    return dequantize(quantize(values, kind), kind).reshape(values.shape)


def template_in(file: Path) -> str:
    """Return the chat template that a GGUF file holds."""
    from gguf import GGUFReader

    field = GGUFReader(file).get_field("tokenizer.chat_template")
    return "" if field is None else field.contents()


def _refuse(config: Any) -> None:
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    for fault, found in (
        (f"the architecture {config.model_type}", config.model_type != "llama"),
        (f"rope of type {rope}", rope != "default"),
        ("biases", getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)),
    ):
        if found:
            raise ModelError(
                f"no GGUF for {fault}: only plain Llama-family models are written; export merged and use llama.cpp's "
                "convert_hf_to_gguf.py on that folder"
            )


def _add_model(writer: GGUFWriter, config: Any, policy: Policy, weights: str) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    kinds = {"f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
    writer.add_type("model")
    writer.add_name(Path(policy.name).name)
    writer.add_file_type(kinds[weights])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    for add in (writer.add_rope_dimension_count, writer.add_key_length, writer.add_value_length):
        add(_head_size(config))


def _add_tokenizer(writer: GGUFWriter, policy: Policy, rows: int) -> None:
    """Add vocabulary, merges, special tokens and chat template; ids without a token, up to `rows`, are unused."""
    from gguf import TokenType

    tokenizer = policy.tokenizer
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    bpe = settings["model"]
    names = [name for name, cut in PRE_TOKENIZERS.items() if cut == settings["pre_tokenizer"]]
    if bpe["type"] != "BPE" or not bpe["merges"] or settings["normalizer"] or not names:
        raise ModelError(
            "no GGUF for this tokenizer: only byte-level BPE as of GPT-2 and SmolLM is written; export merged and use "
            "llama.cpp's convert_hf_to_gguf.py on that folder"
        )
    tokens = [f"[PAD{id_}]" for id_ in range(rows)]
    types = [TokenType.UNUSED] * rows
    for token, id_ in bpe["vocab"].items():
        tokens[id_], types[id_] = token, TokenType.NORMAL
    for added in settings["added_tokens"]:
        if added["id"] >= rows:
            continue  # no embedding: text cannot hold it
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(names[0])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]])
    for add, id_ in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_eot_token_id, policy.end_of_turn),
    ):
        if id_ is not None:
            add(id_)
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id)
    writer.add_chat_template(policy.template)


def _tensors(model: Any) -> dict[str, np.ndarray]:
    """Return GGUF name -> float32 values, sharing the model's memory but for queries and keys."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    config = model.config
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # readers take the embeddings
        renamed = names.get_name(name, try_suffixes=(".weight",))
        if renamed is None:
            raise ModelError(f"no GGUF for this model: llama.cpp has no name for {name}")
        values = tensor.float().numpy()
        if "attn_q" in renamed:
            values = _interleave(values, config.num_attention_heads)
        elif "attn_k" in renamed:
            values = _interleave(values, config.num_key_value_heads)
        tensors[renamed] = values
    return tensors


def _interleave(values: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of each head: transformers rotates row i with i + D/2, llama.cpp 2i with 2i + 1."""
    halves = values.reshape(heads, 2, -1, values.shape[-1])  # (H, 2, D/2, hidden)
    return halves.swapaxes(1, 2).reshape(values.shape)


def _kind(values: np.ndarray, weights: str) -> GGMLQuantizationType:
    """Return how a tensor is stored: vectors in float32, rows that q8_0 cannot cut into blocks of 32 in float16."""
    from gguf import GGMLQuantizationType as Kind

    if values.ndim == 1:
        return Kind.F32
    return Kind.Q8_0 if weights == "q8_0" and values.shape[-1] % 32 == 0 else Kind.F16


def _write(writer: GGUFWriter, tensors: dict[str, np.ndarray], weights: str) -> None:
    """Write all fields, then the tensors, each rounded only when its turn comes."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quantize

    for name, values in tensors.items():
        kind = _kind(values, weights)
        if kind is GGMLQuantizationType.F16 and np.abs(values).max() > LARGEST_F16:
            raise ModelError(f"{name} holds a weight beyond what f16 can store; export as q8_0")
        block, size = GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(name, values.shape, values.dtype, values.size // block * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values in tensors.values():
        writer.write_tensor_data(quantize(values, _kind(values, weights)))


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
