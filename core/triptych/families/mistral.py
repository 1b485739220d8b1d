"""Mistral (Jiang et al., 2023, https://arxiv.org/abs/2310.06825): Llama's blocks with a sliding window."""

from __future__ import annotations

from typing import Any

from triptych.checks import optional_positive_int
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


class MistralConfig(LlamaConfig):
    """Configuration of Mistral; the defaults are those of the first 7B model.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "mistral"
    qkv_bias = output_bias = feed_forward_bias = False
    checks = {**LlamaConfig.checks, "sliding_window": optional_positive_int}

    def __init__(
        self,
        *,
        intermediate_size: int = 14336,
        num_key_value_heads: int | None = 8,
        max_position_embeddings: int = 131072,
        sliding_window: int | None = 4096,
        **kwargs: Any,
    ) -> None:
        self.sliding_window = sliding_window
        super().__init__(
            intermediate_size=intermediate_size,
            num_key_value_heads=num_key_value_heads,
            max_position_embeddings=max_position_embeddings,
            **kwargs,
        )

    def window(self, layer: int) -> int | None:
        return self.sliding_window


MistralAttention, MistralMLP, MistralDecoderLayer = LlamaAttention, LlamaMLP, LlamaDecoderLayer
MistralRotaryEmbedding = LlamaRotaryEmbedding


class MistralModel(LlamaModel):
    """The decoder."""


class MistralForCausalLM(LlamaForCausalLM):
    """Mistral that predicts the next token."""

    backbone_class = MistralModel


class MistralForSequenceClassification(LlamaForSequenceClassification):
    """Mistral that classifies or scores a text, from its last token."""

    backbone_class = MistralModel


class MistralForTokenClassification(LlamaForTokenClassification):
    """Mistral that classifies every token."""

    backbone_class = MistralModel


class MistralForQuestionAnswering(LlamaForQuestionAnswering):
    """Mistral that finds a span. Its files hold the backbone as those of other classes do, unlike Llama's."""

    base_model_prefix = "model"
    backbone_class = MistralModel


FAMILIES = {
    "mistral": family_of(
        MistralConfig,
        MistralModel,
        MistralForCausalLM,
        MistralForSequenceClassification,
        MistralForTokenClassification,
        MistralForQuestionAnswering,
    )
}
