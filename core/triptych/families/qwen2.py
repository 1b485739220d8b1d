"""Qwen2 and 2.5 (Yang et al., 2024, https://arxiv.org/abs/2407.10671): Llama's blocks, biased queries, keys, values."""

from __future__ import annotations

from typing import Any

from triptych.checks import natural, optional_positive_int
from triptych.errors import ConfigError
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

SLIDING = "sliding_attention"


class Qwen2Config(LlamaConfig):
    """Configuration of Qwen2. `layer_types` says which layers have a window; without it, with `use_sliding_window`,
    those from `max_window_layers` on do.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "qwen2"
    qkv_bias, output_bias, feed_forward_bias = True, False, False
    checks = {**LlamaConfig.checks, "sliding_window": optional_positive_int, "max_window_layers": natural}

    def __init__(
        self,
        vocab_size: int = 151936,
        *,
        intermediate_size: int = 22016,
        num_key_value_heads: int | None = 32,
        max_position_embeddings: int = 32768,
        bos_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        use_sliding_window: bool = False,
        sliding_window: int | None = 4096,
        max_window_layers: int = 28,
        layer_types: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.use_sliding_window, self.max_window_layers = use_sliding_window, max_window_layers
        self.sliding_window = sliding_window if use_sliding_window else None
        self.layer_types = layer_types
        super().__init__(
            vocab_size=vocab_size,
            intermediate_size=intermediate_size,
            num_key_value_heads=num_key_value_heads,
            max_position_embeddings=max_position_embeddings,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            **kwargs,
        )

    def validate(self) -> None:
        super().validate()
        known = (SLIDING, "full_attention")
        if self.layer_types is not None and not (
            isinstance(self.layer_types, list)
            and len(self.layer_types) == self.num_hidden_layers
            and all(kind in known for kind in self.layer_types)
        ):
            raise ConfigError(
                "`layer_types` is impossible.",
                expected=f"{self.num_hidden_layers} of {known}",
                received=repr(self.layer_types)[:80],
            )
        if SLIDING in (self.layer_types or ()) and not (self.use_sliding_window and self.sliding_window):
            raise ConfigError(
                "`layer_types` asks for a window that the config has not.",
                expected="use_sliding_window true, and a number as sliding_window",
                received=f"{self.use_sliding_window!r} and {self.sliding_window!r}",
            )

    def window(self, layer: int) -> int | None:
        if not self.use_sliding_window:
            return None
        if self.layer_types is not None:
            return self.sliding_window if self.layer_types[layer] == SLIDING else None
        return self.sliding_window if layer >= self.max_window_layers else None


Qwen2Attention, Qwen2MLP, Qwen2DecoderLayer = LlamaAttention, LlamaMLP, LlamaDecoderLayer
Qwen2RotaryEmbedding = LlamaRotaryEmbedding


class Qwen2Model(LlamaModel):
    """The decoder."""


class Qwen2ForCausalLM(LlamaForCausalLM):
    """Qwen2 that predicts the next token."""

    backbone_class = Qwen2Model


class Qwen2ForSequenceClassification(LlamaForSequenceClassification):
    """Qwen2 that classifies or scores a text, from its last token."""

    backbone_class = Qwen2Model


class Qwen2ForTokenClassification(LlamaForTokenClassification):
    """Qwen2 that classifies every token."""

    backbone_class = Qwen2Model


class Qwen2ForQuestionAnswering(LlamaForQuestionAnswering):
    """Qwen2 that finds a span."""

    backbone_class = Qwen2Model


FAMILIES = {
    "qwen2": family_of(
        Qwen2Config,
        Qwen2Model,
        Qwen2ForCausalLM,
        Qwen2ForSequenceClassification,
        Qwen2ForTokenClassification,
        Qwen2ForQuestionAnswering,
    )
}
