"""Llama (Touvron et al., 2023, https://arxiv.org/abs/2302.13971), 1 to 3.x: config and schema.

The schema also serves the families whose models are configurations of the same blocks: Mistral, Qwen2 and Qwen3.
"""

from __future__ import annotations

from typing import Any

from triptych.config import (
    PretrainedConfig,
    part_count,
    positive_int,
    positive_number,
    probability,
)
from triptych.families import Family
from triptych.families.common import (
    heads_axis,
    kv_heads_axis,
    labels_axis,
    require_activation,
    require_built_in,
    require_divisor,
    vocab_head,
    with_base,
)
from triptych.nn.rotary import check_rope, parse_rope
from triptych.weights.schema import Axis, Schema, SchemaBuilder


class LlamaConfig(PretrainedConfig):
    """Configuration of Llama; the defaults are those of the first 7B model.

    Rotary positions are given as transformers 4 writes them (`rope_theta`, `rope_scaling`) or as transformers 5 does
    (`rope_parameters`), and written as transformers 4 does, which both read.

    Raises:
        ConfigError: a field has an impossible value, or a kind of rotary scaling that is not built in.
    """

    model_type = "llama"
    checks = {
        "vocab_size": positive_int,
        "hidden_size": positive_int,
        "intermediate_size": positive_int,
        "num_hidden_layers": part_count,
        "num_attention_heads": part_count,
        "num_key_value_heads": part_count,
        "head_dim": positive_int,
        "max_position_embeddings": positive_int,
        "initializer_range": positive_number,
        "rms_norm_eps": positive_number,
        "rope_theta": positive_number,
        "attention_dropout": probability,
    }
    query_key_norm = False
    """Whether each head's query and key are normalised (Qwen3)."""

    def __init__(
        self,
        vocab_size: int = 32000,
        hidden_size: int = 4096,
        intermediate_size: int = 11008,
        num_hidden_layers: int = 32,
        num_attention_heads: int = 32,
        num_key_value_heads: int | None = None,
        hidden_act: str = "silu",
        max_position_embeddings: int = 2048,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-6,
        use_cache: bool = True,
        pad_token_id: int | None = None,
        bos_token_id: int | None = 1,
        eos_token_id: int | list[int] | None = 2,
        tie_word_embeddings: bool = False,
        rope_theta: float = 10000.0,
        rope_scaling: dict[str, Any] | None = None,
        attention_bias: bool = False,
        attention_dropout: float = 0.0,
        mlp_bias: bool = False,
        head_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._set_fields(locals())
        if num_key_value_heads is None:
            self.num_key_value_heads = num_attention_heads
        if head_dim is None and isinstance(hidden_size, int) and isinstance(num_attention_heads, int):
            self.head_dim = hidden_size // max(num_attention_heads, 1)
        self.rope_theta, self.rope_scaling = parse_rope(rope_theta, rope_scaling, kwargs.pop("rope_parameters", None))
        super().__init__(**kwargs)

    def validate(self) -> None:
        super().validate()
        require_divisor(self, "num_key_value_heads", "num_attention_heads")
        require_activation(self, "hidden_act")
        require_built_in(self, "pretraining_tp", "partial_rotary_factor", "is_causal")
        check_rope(self)
        for layer in self.pruned_heads:
            kv_heads_axis(self, layer)

    @property
    def rope_parameters(self) -> dict[str, Any]:
        """Rotary positions as transformers 5 writes them; setting them sets `rope_theta` and `rope_scaling`."""
        return {"rope_type": "default", **(self.rope_scaling or {}), "rope_theta": self.rope_theta}

    @rope_parameters.setter
    def rope_parameters(self, value: Any) -> None:
        self.rope_theta, self.rope_scaling = parse_rope(self.rope_theta, None, value)

    @property
    def qkv_bias(self) -> bool:
        return bool(self.attention_bias)

    @property
    def output_bias(self) -> bool:
        """Whether the projection after the attention has a bias."""
        return bool(self.attention_bias)

    @property
    def feed_forward_bias(self) -> bool:
        return bool(self.mlp_bias)

    @property
    def cached_heads(self) -> tuple[int, ...]:
        """Number of key and value heads of each decoder layer."""
        return tuple(kv_heads_axis(self, layer).units for layer in range(self.num_hidden_layers))

    def window(self, layer: int) -> int | None:
        """Return how many tokens back layer `layer` sees, itself included; None for all."""
        return None


def schema_of(prefix: str) -> Any:
    """Return the schema function of a family whose classes are called `prefix` + Model, ForCausalLM, and so on."""

    def schema(config: PretrainedConfig, stem: str) -> Schema:
        hidden = Axis("hidden", config.hidden_size)
        root, base, head = with_base(stem, f"{prefix}Model", "model")
        base.embedding("embed_tokens", Axis("vocab", config.vocab_size), hidden)
        for layer in range(config.num_hidden_layers):
            _layer(base.under(f"layers.{layer}"), config, layer, hidden)
        base.rms_norm("norm", hidden)
        if stem == f"{prefix}ForCausalLM":
            vocab_head(head, "lm_head", config, hidden, "model.embed_tokens.weight")
        elif stem == f"{prefix}ForSequenceClassification":
            head.linear("score", labels_axis(config), hidden, bias=False)
        per_layer = [f"layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(config.num_hidden_layers)]
        return root.build("model", stem == f"{prefix}Model", ["rotary_emb.inv_freq", *per_layer])

    return schema


def _layer(build: SchemaBuilder, config: PretrainedConfig, layer: int, hidden: Axis) -> None:
    heads, kv_heads = heads_axis(config, layer), kv_heads_axis(config, layer)
    ffn = Axis("ffn", config.intermediate_size)
    attention = build.under("self_attn")
    attention.linear("q_proj", heads, hidden, bias=config.qkv_bias)
    attention.linear("k_proj", kv_heads, hidden, bias=config.qkv_bias)
    attention.linear("v_proj", kv_heads, hidden, bias=config.qkv_bias)
    attention.linear("o_proj", hidden, heads, bias=config.output_bias)
    if config.query_key_norm:
        attention.rms_norm("q_norm", Axis("head_dim", config.head_dim))
        attention.rms_norm("k_norm", Axis("head_dim", config.head_dim))
    build.linear("mlp.gate_proj", ffn, hidden, bias=config.feed_forward_bias)
    build.linear("mlp.up_proj", ffn, hidden, bias=config.feed_forward_bias)
    build.linear("mlp.down_proj", hidden, ffn, bias=config.feed_forward_bias)
    build.rms_norm("input_layernorm", hidden)
    build.rms_norm("post_attention_layernorm", hidden)


def family_of(config_class: type[PretrainedConfig], prefix: str) -> Family:
    """Return a family of Llama's blocks."""
    return Family(
        config_class=config_class,
        base_prefix="model",
        classes={
            "": f"{prefix}Model",
            "PreTraining": f"{prefix}ForCausalLM",
            "CausalLM": f"{prefix}ForCausalLM",
            "SequenceClassification": f"{prefix}ForSequenceClassification",
        },
        schema=schema_of(prefix),
    )


FAMILIES = {"llama": family_of(LlamaConfig, "Llama")}
