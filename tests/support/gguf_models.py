"""Writes small Hugging Face models as GGUF, as llama.cpp's converter does, with the package gguf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SIZES = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 40,
         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}  # fmt: skip
GPT2_SIZES = {"vocab_size": 48, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40,
              "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
MODELS: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "llama": ("llama", LlamaForCausalLM, LlamaConfig, {**SIZES, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}),
    "llama-tied": ("llama", LlamaForCausalLM, LlamaConfig, {**SIZES, "tie_word_embeddings": True}),
    "llama-biases": ("llama", LlamaForCausalLM, LlamaConfig, {**SIZES, "attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": ("llama", LlamaForCausalLM, LlamaConfig, {**SIZES, "head_dim": 16}),
    "qwen2": ("qwen2", Qwen2ForCausalLM, Qwen2Config, {**SIZES, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", Qwen3ForCausalLM, Qwen3Config, {**SIZES, "head_dim": 16, "tie_word_embeddings": False}),
    "gpt2": ("gpt2", GPT2LMHeadModel, GPT2Config, GPT2_SIZES),
}
CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def make_model(name: str, **changes: Any) -> PreTrainedModel:
    """Return the random model `name` of `MODELS`; biases and norms are random too, so that none can be mistaken."""
    _, model_class, config_class, values = MODELS[name]
    torch.manual_seed(0)
    model = model_class(config_class(**{**values, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + 0.1)
    return model


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Return `rows` in llama.cpp's order: within a head, rows 0, d/2, 1, d/2 + 1, ..."""
    size = len(rows) // heads
    order = [head * size + half * size // 2 + i for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return rows[order]


def gguf_tensors(name: str, model: PreTrainedModel) -> dict[str, np.ndarray]:
    """Return the arrays of `model` under GGUF's names (from the table of the package gguf) and in its layouts."""
    architecture, config = MODELS[name][0], model.config
    arch = next(number for number, text in gguf.MODEL_ARCH_NAMES.items() if text == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    tensors = {}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = value.numpy()
        if architecture == "llama" and ".q_proj." in key:
            array = interleaved(array, config.num_attention_heads)
        if architecture == "llama" and ".k_proj." in key:
            array = interleaved(array, config.num_key_value_heads)
        if architecture == "gpt2" and key.endswith(CONV1D):
            array = np.ascontiguousarray(array.T)
        tensors[names.get_name(key, try_suffixes=(".weight", ".bias"))] = array
    return tensors


def write_gguf(
    path: Path, name: str, model: PreTrainedModel, quantisation: str = "F32", extra: dict[str, Any] | None = None
) -> Path:
    """Write `model`; matrices are quantised, vectors stay F32. `extra`: tensors (arrays) and settings to add."""
    writer = gguf.GGUFWriter(path, MODELS[name][0])
    _write_settings(writer, model.config)
    tensors = gguf_tensors(name, model)
    for key, value in (extra or {}).items():
        if isinstance(value, np.ndarray):
            tensors[key] = value
        else:
            {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)](key, value)
    kind = gguf.GGMLQuantizationType[quantisation]
    for key, array in tensors.items():
        if array.ndim == 1 or quantisation in ("F32", "F64"):
            writer.add_tensor(key, array.astype(np.float64 if quantisation == "F64" else np.float32))
        else:
            writer.add_tensor(key, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_settings(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_token_list(["a", "b", "é"])
    writer.add_token_types([1, 1, 3])
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(4 * config.n_embd)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_pad_token_id(config.pad_token_id)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if config.model_type == "llama":
        writer.add_rope_dimension_count(head_dim)
        writer.add_vocab_size(config.vocab_size)
