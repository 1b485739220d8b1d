"""GPT-2 (Radford et al., 2019, "Language Models are Unsupervised Multitask Learners"): config and schema."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from triptych.config import (
    PretrainedConfig,
    optional_positive_int,
    part_count,
    positive_int,
    positive_number,
    probability,
)
from triptych.families import Family
from triptych.families.common import (
    heads_axis,
    labels_axis,
    require_activation,
    require_built_in,
    require_divisor,
    vocab_head,
    with_base,
)
from triptych.weights.schema import Axis, Schema, SchemaBuilder


class GPT2Config(PretrainedConfig):
    """Configuration of GPT-2; the defaults are those of the smallest model.

    Raises:
        ConfigError: a field has an impossible value, or the heads do not divide `n_embd`.
    """

    model_type = "gpt2"
    attribute_map = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    checks = {
        "vocab_size": positive_int,
        "n_positions": positive_int,
        "n_embd": positive_int,
        "n_layer": part_count,
        "n_head": part_count,
        "n_inner": optional_positive_int,
        "resid_pdrop": probability,
        "embd_pdrop": probability,
        "attn_pdrop": probability,
        "layer_norm_epsilon": positive_number,
        "initializer_range": positive_number,
    }

    def __init__(
        self,
        vocab_size: int = 50257,
        n_positions: int = 1024,
        n_embd: int = 768,
        n_layer: int = 12,
        n_head: int = 12,
        n_inner: int | None = None,
        activation_function: str = "gelu_new",
        resid_pdrop: float = 0.1,
        embd_pdrop: float = 0.1,
        attn_pdrop: float = 0.1,
        layer_norm_epsilon: float = 1e-5,
        initializer_range: float = 0.02,
        summary_type: str = "cls_index",
        summary_use_proj: bool = True,
        summary_activation: str | None = None,
        summary_proj_to_labels: bool = True,
        summary_first_dropout: float = 0.1,
        scale_attn_weights: bool = True,
        use_cache: bool = True,
        bos_token_id: int | None = 50256,
        eos_token_id: int | None = 50256,
        scale_attn_by_inverse_layer_idx: bool = False,
        reorder_and_upcast_attn: bool = False,
        **kwargs: Any,
    ) -> None:
        self._set_fields(locals())
        super().__init__(**kwargs)

    def validate(self) -> None:
        super().validate()
        require_divisor(self, "n_head", "n_embd")
        require_activation(self, "activation_function")
        require_built_in(self, "add_cross_attention", "is_causal")

    @property
    def cached_heads(self) -> tuple[int, ...]:
        """Number of key and value heads of each decoder layer."""
        return tuple(heads_axis(self, layer).units for layer in range(self.n_layer))

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    @property
    def ffn_width(self) -> int:
        return self.n_inner or 4 * self.n_embd

    @property
    def head_dropout(self) -> float:
        """Dropout before the scores of tokens."""
        for name in ("classifier_dropout", "hidden_dropout"):
            if getattr(self, name, None) is not None:
                return float(getattr(self, name))
        return 0.1

    @property
    def residual_std(self) -> float:
        """Standard deviation of new projections into the residual stream, of which each layer has two."""
        return float(self.initializer_range / (2 * self.n_layer) ** 0.5)

    def attention_scale(self, layer: int) -> float:
        """Return the factor of the attention scores of one layer."""
        scale = self.head_dim**-0.5 if self.scale_attn_weights else 1.0
        return float(scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale)


def _schema(config: PretrainedConfig, stem: str) -> Schema:
    hidden = Axis("hidden", config.n_embd)
    root, base, head = with_base(stem, "GPT2Model", "transformer")
    base.embedding("wte", Axis("vocab", config.vocab_size), hidden)
    base.embedding("wpe", Axis("positions", config.n_positions), hidden)
    for layer in range(config.n_layer):
        _layer(base.under(f"h.{layer}"), config, layer, hidden)
    base.layer_norm("ln_f", hidden)
    if stem == "GPT2LMHeadModel":
        vocab_head(head, "lm_head", config, hidden, "transformer.wte.weight")
    elif stem == "GPT2ForSequenceClassification":
        head.linear("score", labels_axis(config), hidden, bias=False)
    elif stem == "GPT2ForTokenClassification":
        head.linear("classifier", labels_axis(config), hidden)
    masks = [f"h.{layer}.attn.{name}" for layer in range(config.n_layer) for name in ("bias", "masked_bias")]
    return root.build("transformer", stem == "GPT2Model", masks)


def fused_axis(config: PretrainedConfig, layer: int) -> Axis:
    """Return the axis of queries, keys and values, one after the other."""
    return replace(heads_axis(config, layer), repeat=3)


def _layer(build: SchemaBuilder, config: PretrainedConfig, layer: int, hidden: Axis) -> None:
    heads, fused = heads_axis(config, layer), fused_axis(config, layer)
    ffn = Axis("ffn", config.ffn_width)
    build.layer_norm("ln_1", hidden)
    build.conv1d("attn.c_attn", hidden, fused)
    build.conv1d("attn.c_proj", heads, hidden)
    build.layer_norm("ln_2", hidden)
    build.conv1d("mlp.c_fc", hidden, ffn)
    build.conv1d("mlp.c_proj", ffn, hidden)


FAMILIES = {
    "gpt2": Family(
        config_class=GPT2Config,
        base_prefix="transformer",
        classes={
            "": "GPT2Model",
            "PreTraining": "GPT2LMHeadModel",
            "CausalLM": "GPT2LMHeadModel",
            "SequenceClassification": "GPT2ForSequenceClassification",
            "TokenClassification": "GPT2ForTokenClassification",
        },
        schema=_schema,
    )
}
