"""Qwen3 (Yang et al., 2025, https://arxiv.org/abs/2505.09388): Llama's blocks with normalised queries and keys."""

from __future__ import annotations

from typing import Any

from triptych.families.llama import (
    LlamaAttention,
    LlamaConfig,
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaMLP,
    LlamaModel,
    LlamaRotaryEmbedding,
    family_of,
)
from triptych.families.qwen2 import Qwen2Config


class Qwen3Config(Qwen2Config):
    """Configuration of Qwen3; see `Qwen2Config` for the windows.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "qwen3"
    query_key_norm = True
    qkv_bias, output_bias = LlamaConfig.qkv_bias, LlamaConfig.output_bias

    def __init__(self, *, head_dim: int | None = 128, **kwargs: Any) -> None:
        super().__init__(head_dim=head_dim, **kwargs)


Qwen3Attention, Qwen3MLP, Qwen3DecoderLayer = LlamaAttention, LlamaMLP, LlamaDecoderLayer
Qwen3RotaryEmbedding = LlamaRotaryEmbedding


class Qwen3Model(LlamaModel):
    """The decoder."""


class Qwen3ForCausalLM(LlamaForCausalLM):
    """Qwen3 that predicts the next token."""

    backbone_class = Qwen3Model


class Qwen3ForSequenceClassification(LlamaForSequenceClassification):
    """Qwen3 that classifies or scores a text, from its last token."""

    backbone_class = Qwen3Model


class Qwen3ForTokenClassification(LlamaForTokenClassification):
    """Qwen3 that classifies every token."""

    backbone_class = Qwen3Model


class Qwen3ForQuestionAnswering(LlamaForQuestionAnswering):
    """Qwen3 that finds a span."""

    backbone_class = Qwen3Model


FAMILIES = {
    "qwen3": family_of(
        Qwen3Config,
        Qwen3Model,
        Qwen3ForCausalLM,
        Qwen3ForSequenceClassification,
        Qwen3ForTokenClassification,
        Qwen3ForQuestionAnswering,
    )
}
