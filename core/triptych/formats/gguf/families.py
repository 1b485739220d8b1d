"""What the architectures of GGUF call their weights, and what config.json says for them.

Sources: the GGUF specification ("Standardized key-value pairs", "Standardized tensor names") and the configs that
transformers 4.48 writes. llama.cpp stores Mistral models as architecture "llama"; they are read as model type llama,
which computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.errors import ConfigError, UnsupportedFormatError
from triptych.formats.gguf.header import GgufHeader

ROPE_FREQS = "rope_freqs.weight"
NO_TOKEN = 2**32 - 1


@dataclass(frozen=True)
class Target:
    """Where a tensor goes: canonical name ({} is the layer), canonical axes, what the converter did to it.

    - `order`: "q" or "kv" if the rows of each head are interleaved for llama.cpp's rotary embedding, "transposed" for
      the projections of GPT-2, else empty.
    - `flag`: the tensor is there exactly if this optional part of the model is.
    """

    name: str
    axes: tuple[str, ...]
    order: str = ""
    flag: str = ""


@dataclass(frozen=True)
class Family:
    """One architecture. `flags` name the optional parts, each by a tensor that only models with that part have."""

    outer: dict[str, Target]
    layer: dict[str, Target]
    flags: dict[str, str]
    describe: Callable[[Keys, frozenset[str]], tuple[dict[str, Any], dict[str, int]]]


class Keys:
    """The metadata of one architecture, each value checked as it is asked for."""

    def __init__(self, header: GgufHeader, architecture: str) -> None:
        self.header = header
        self._prefix = f"{architecture}."
        self._asked: set[str] = set()

    def count(self, key: str, default: int | None = None) -> int:
        """Return a positive integer of at most 31 bits."""
        value = self._get(key, default)
        if type(value) is not int or not 0 < value < 2**31:
            raise self._bad(key, "a positive integer", value)
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """Return a positive finite number, as the shortest decimal that is the same float32."""
        value = self._get(key, default)
        if type(value) is not float or not 0 < value < math.inf:
            raise self._bad(key, "a positive finite number", value)
        single = np.float32(value)
        return float(str(single)) if float(single) == value else value

    def text(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        """Return one of the `allowed` texts."""
        value = self._get(key, default)
        if not isinstance(value, str) or value not in allowed:
            raise self._bad(key, " or ".join(map(repr, allowed)), value)
        return value

    def token(self, name: str, vocab_size: int) -> int | None:
        """Return the id of a special token, or None if the model has none."""
        key = f"tokenizer.ggml.{name}_token_id"
        value = self.header.metadata.get(key)
        if value is None or (type(value) is int and value == NO_TOKEN):
            return None
        if type(value) is not int or not 0 <= value < vocab_size:
            raise self._bad(key, f"an id below {vocab_size}", value)
        return value

    def ignore(self, *keys: str) -> None:
        self._asked |= {self._prefix + key for key in keys}

    def check_all_asked(self) -> None:
        """Refuse settings that the config could not express: the model would compute something else."""
        strangers = sorted(k for k in self.header.metadata if k.startswith(self._prefix) and k not in self._asked)
        if strangers:
            raise UnsupportedFormatError(
                f"{self.header.path} has settings that are not known.",
                expected=", ".join(sorted(self._asked)),
                received=", ".join(strangers[:6]),
                remedy="convert the original model instead of its GGUF file",
            )

    def _get(self, key: str, default: Any) -> Any:
        self.ignore(key)
        return self.header.metadata.get(self._prefix + key, default)

    def _bad(self, key: str, expected: str, value: object) -> ConfigError:
        received = "nothing" if value is None else f"{value!r:.80}"
        return ConfigError(f"{self.header.path} has a bad setting {key!r}.", expected=expected, received=received)


def llama3_scaling(factors: np.ndarray, theta: float, head_dim: int) -> dict[str, Any] | None:
    """Return the `rope_scaling` of type llama3 that `factors` [head_dim / 2] (divisors of frequencies) stand for.

    Only the constants of the published Llama 3 models can be told from the factors. None if nothing is scaled.

    Raises:
        UnsupportedFormatError: other constants.
    """
    low, high, original = 1.0, 4.0, 8192
    factor = float(factors[-1])
    with np.errstate(all="ignore"):
        turns = original * theta ** (-2 * np.arange(head_dim // 2) / head_dim) / (2 * np.pi)
        blend = np.clip((turns - low) / (high - low), 0, 1)
        expected = 1 / ((1 - blend) / factor + blend)
        same = factors.shape == expected.shape and np.allclose(factors, expected, rtol=1e-4, atol=0)
    if (factors == 1).all():
        return None
    if not same or not factor > 1:
        raise UnsupportedFormatError(
            f"The rotary frequencies in {ROPE_FREQS!r} cannot be expressed in a config.",
            expected=f"those of Llama 3: {low}, {high} and {original}",
            received=f"factors from {factors.min()} to {factors.max()}",
        )
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high}
    return {**scaling, "original_max_position_embeddings": original}


def _rotary_config(keys: Keys, present: frozenset[str]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the settings that llama, qwen2 and qwen3 share, and the lengths of their axes."""
    hidden, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    kv_heads, head_dim = (
        keys.count("attention.head_count_kv", heads),
        keys.count("attention.key_length", hidden // heads),
    )
    vocab_size = keys.count("vocab_size", keys.header.tensors["token_embd.weight"].shape[0])
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.count(key, head_dim) != head_dim:
            raise UnsupportedFormatError(f"{keys.header.path} has heads of parts.", expected=f"{key} {head_dim}")
    if heads % kv_heads or head_dim % 2:
        raise ConfigError(
            f"{keys.header.path} has heads that do not divide.",
            expected="an even head size, and a number of heads that is a multiple of those of keys",
            received=f"{heads} heads, {kv_heads} of keys, size {head_dim}",
        )
    config: dict[str, Any] = {
        "hidden_size": hidden, "num_hidden_layers": keys.count("block_count"), "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head_dim, "intermediate_size": keys.count("feed_forward_length"),
        "rms_norm_eps": keys.real("attention.layer_norm_rms_epsilon"), "rope_theta": keys.real("rope.freq_base", 1e4),
        "rope_scaling": _linear_scaling(keys), "max_position_embeddings": keys.count("context_length"),
        "vocab_size": vocab_size, "hidden_act": "silu", "tie_word_embeddings": "untied" not in present,
        "bos_token_id": keys.token("bos", vocab_size), "eos_token_id": keys.token("eos", vocab_size),
        "pad_token_id": keys.token("padding", vocab_size),
    }  # fmt: skip
    ffn = config["intermediate_size"]
    lengths = {"vocab": vocab_size, "hidden": hidden, "ffn": ffn, "head": head_dim, "rope": head_dim // 2}
    return config, {**lengths, "q": heads * head_dim, "kv": kv_heads * head_dim}


def _linear_scaling(keys: Keys) -> dict[str, Any] | None:
    if keys.text("rope.scaling.type", "none", ("none", "linear")) == "none":
        return None
    keys.ignore("rope.scaling.original_context_length", "rope.scaling.finetuned")
    return {"rope_type": "linear", "factor": keys.real("rope.scaling.factor")}


def _llama(keys: Keys, present: frozenset[str]) -> tuple[dict[str, Any], dict[str, int]]:
    config, lengths = _rotary_config(keys, present)
    keys.text("tensor_data_layout", "reference", ("reference", "Meta AI original pth"))
    parts = {"attention_bias": "attention_bias" in present, "mlp_bias": "mlp_bias" in present}
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **config, **parts}, lengths


def _qwen2(keys: Keys, present: frozenset[str]) -> tuple[dict[str, Any], dict[str, int]]:
    config, lengths = _rotary_config(keys, present)
    if lengths["q"] != lengths["hidden"]:
        raise UnsupportedFormatError(f"{keys.header.path} has heads of a size that model type qwen2 does not know.")
    return {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        **config,
        "use_sliding_window": False,
    }, lengths


def _qwen3(keys: Keys, present: frozenset[str]) -> tuple[dict[str, Any], dict[str, int]]:
    config, lengths = _rotary_config(keys, present)
    parts = {"attention_bias": False, "use_sliding_window": False}
    return {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], **config, **parts}, lengths


def _gpt2(keys: Keys, present: frozenset[str]) -> tuple[dict[str, Any], dict[str, int]]:
    hidden, heads, ffn = (
        keys.count("embedding_length"),
        keys.count("attention.head_count"),
        keys.count("feed_forward_length"),
    )
    vocab_size = keys.count("vocab_size", keys.header.tensors["token_embd.weight"].shape[0])
    if hidden % heads:
        raise ConfigError(f"{keys.header.path} has heads that do not divide.", received=f"{hidden} by {heads}")
    config: dict[str, Any] = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": hidden, "n_head": heads, "n_inner": ffn,
        "n_layer": keys.count("block_count"), "n_positions": keys.count("context_length"), "vocab_size": vocab_size,
        "layer_norm_epsilon": keys.real("attention.layer_norm_epsilon"), "activation_function": "gelu_new",
        "tie_word_embeddings": "untied" not in present, "bos_token_id": keys.token("bos", vocab_size),
        "eos_token_id": keys.token("eos", vocab_size), "pad_token_id": keys.token("padding", vocab_size),
    }  # fmt: skip
    lengths = {"vocab": vocab_size, "hidden": hidden, "ffn": ffn, "qkv": 3 * hidden}
    return config, {**lengths, "positions": config["n_positions"]}


_OUTER = {
    "token_embd.weight": Target("model.embed_tokens.weight", ("vocab", "hidden")),
    "output_norm.weight": Target("model.norm.weight", ("hidden",)),
    "output.weight": Target("lm_head.weight", ("vocab", "hidden"), flag="untied"),
}
_LAYER = {
    "attn_norm.weight": Target("model.layers.{}.input_layernorm.weight", ("hidden",)),
    "attn_q.weight": Target("model.layers.{}.self_attn.q_proj.weight", ("q", "hidden")),
    "attn_k.weight": Target("model.layers.{}.self_attn.k_proj.weight", ("kv", "hidden")),
    "attn_v.weight": Target("model.layers.{}.self_attn.v_proj.weight", ("kv", "hidden")),
    "attn_output.weight": Target("model.layers.{}.self_attn.o_proj.weight", ("hidden", "q")),
    "ffn_norm.weight": Target("model.layers.{}.post_attention_layernorm.weight", ("hidden",)),
    "ffn_gate.weight": Target("model.layers.{}.mlp.gate_proj.weight", ("ffn", "hidden")),
    "ffn_up.weight": Target("model.layers.{}.mlp.up_proj.weight", ("ffn", "hidden")),
    "ffn_down.weight": Target("model.layers.{}.mlp.down_proj.weight", ("hidden", "ffn")),
}
_LLAMA_LAYER = {
    **_LAYER,
    "attn_q.weight": Target("model.layers.{}.self_attn.q_proj.weight", ("q", "hidden"), order="q"),
    "attn_k.weight": Target("model.layers.{}.self_attn.k_proj.weight", ("kv", "hidden"), order="kv"),
    "attn_q.bias": Target("model.layers.{}.self_attn.q_proj.bias", ("q",), "q", "attention_bias"),
    "attn_k.bias": Target("model.layers.{}.self_attn.k_proj.bias", ("kv",), "kv", "attention_bias"),
    "attn_v.bias": Target("model.layers.{}.self_attn.v_proj.bias", ("kv",), flag="attention_bias"),
    "attn_output.bias": Target("model.layers.{}.self_attn.o_proj.bias", ("hidden",), flag="attention_bias"),
    "ffn_gate.bias": Target("model.layers.{}.mlp.gate_proj.bias", ("ffn",), flag="mlp_bias"),
    "ffn_up.bias": Target("model.layers.{}.mlp.up_proj.bias", ("ffn",), flag="mlp_bias"),
    "ffn_down.bias": Target("model.layers.{}.mlp.down_proj.bias", ("hidden",), flag="mlp_bias"),
}
_QWEN2_LAYER = {
    **_LAYER,
    "attn_q.bias": Target("model.layers.{}.self_attn.q_proj.bias", ("q",)),
    "attn_k.bias": Target("model.layers.{}.self_attn.k_proj.bias", ("kv",)),
    "attn_v.bias": Target("model.layers.{}.self_attn.v_proj.bias", ("kv",)),
}
_QWEN3_LAYER = {
    **_LAYER,
    "attn_q_norm.weight": Target("model.layers.{}.self_attn.q_norm.weight", ("head",)),
    "attn_k_norm.weight": Target("model.layers.{}.self_attn.k_norm.weight", ("head",)),
}
_GPT2_OUTER = {
    "token_embd.weight": Target("transformer.wte.weight", ("vocab", "hidden")),
    "position_embd.weight": Target("transformer.wpe.weight", ("positions", "hidden")),
    "output_norm.weight": Target("transformer.ln_f.weight", ("hidden",)),
    "output_norm.bias": Target("transformer.ln_f.bias", ("hidden",)),
    "output.weight": Target("lm_head.weight", ("vocab", "hidden"), flag="untied"),
}
_GPT2_LAYER = {
    "attn_norm.weight": Target("transformer.h.{}.ln_1.weight", ("hidden",)),
    "attn_norm.bias": Target("transformer.h.{}.ln_1.bias", ("hidden",)),
    "attn_qkv.weight": Target("transformer.h.{}.attn.c_attn.weight", ("hidden", "qkv"), "transposed"),
    "attn_qkv.bias": Target("transformer.h.{}.attn.c_attn.bias", ("qkv",)),
    "attn_output.weight": Target("transformer.h.{}.attn.c_proj.weight", ("hidden", "hidden"), "transposed"),
    "attn_output.bias": Target("transformer.h.{}.attn.c_proj.bias", ("hidden",)),
    "ffn_norm.weight": Target("transformer.h.{}.ln_2.weight", ("hidden",)),
    "ffn_norm.bias": Target("transformer.h.{}.ln_2.bias", ("hidden",)),
    "ffn_up.weight": Target("transformer.h.{}.mlp.c_fc.weight", ("hidden", "ffn"), "transposed"),
    "ffn_up.bias": Target("transformer.h.{}.mlp.c_fc.bias", ("ffn",)),
    "ffn_down.weight": Target("transformer.h.{}.mlp.c_proj.weight", ("ffn", "hidden"), "transposed"),
    "ffn_down.bias": Target("transformer.h.{}.mlp.c_proj.bias", ("hidden",)),
}
_UNTIED = {"untied": "output.weight"}
_BIASES = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"}

FAMILIES = {
    "llama": Family(_OUTER, _LLAMA_LAYER, {**_UNTIED, **_BIASES}, _llama),
    "qwen2": Family(_OUTER, _QWEN2_LAYER, _UNTIED, _qwen2),
    "qwen3": Family(_OUTER, _QWEN3_LAYER, _UNTIED, _qwen3),
    "gpt2": Family(_GPT2_OUTER, _GPT2_LAYER, _UNTIED, _gpt2),
}
