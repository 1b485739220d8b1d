"""Qwen3 in Flax: Llama's layers, configured by `triptych.families.qwen3`."""

from __future__ import annotations

from triptych.families.qwen3 import Qwen3Config
from triptych_flax.llama import (
    FlaxLlamaForCausalLM,
    FlaxLlamaForSequenceClassification,
    FlaxLlamaModel,
    FlaxLlamaPreTrainedModel,
)

__all__ = [
    "FlaxQwen3PreTrainedModel",
    "FlaxQwen3Model",
    "FlaxQwen3ForCausalLM",
    "FlaxQwen3ForSequenceClassification",
]


class FlaxQwen3PreTrainedModel(FlaxLlamaPreTrainedModel):
    """Base of the Qwen3 classes."""

    config_class = Qwen3Config


class FlaxQwen3Model(FlaxQwen3PreTrainedModel, FlaxLlamaModel):
    """The decoder."""


class FlaxQwen3ForCausalLM(FlaxQwen3PreTrainedModel, FlaxLlamaForCausalLM):
    """Qwen3 that predicts the next token."""


class FlaxQwen3ForSequenceClassification(FlaxQwen3PreTrainedModel, FlaxLlamaForSequenceClassification):
    """Qwen3 that classifies or scores a text, from its last token."""
