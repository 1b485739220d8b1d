"""Qwen2 in Flax: Llama's layers, configured by `triptych.families.qwen2`."""

from __future__ import annotations

from triptych.families.qwen2 import Qwen2Config
from triptych_flax.llama import (
    FlaxLlamaForCausalLM,
    FlaxLlamaForSequenceClassification,
    FlaxLlamaModel,
    FlaxLlamaPreTrainedModel,
)

__all__ = [
    "FlaxQwen2PreTrainedModel",
    "FlaxQwen2Model",
    "FlaxQwen2ForCausalLM",
    "FlaxQwen2ForSequenceClassification",
]


class FlaxQwen2PreTrainedModel(FlaxLlamaPreTrainedModel):
    """Base of the Qwen2 classes."""

    config_class = Qwen2Config


class FlaxQwen2Model(FlaxQwen2PreTrainedModel, FlaxLlamaModel):
    """The decoder."""


class FlaxQwen2ForCausalLM(FlaxQwen2PreTrainedModel, FlaxLlamaForCausalLM):
    """Qwen2 that predicts the next token."""


class FlaxQwen2ForSequenceClassification(FlaxQwen2PreTrainedModel, FlaxLlamaForSequenceClassification):
    """Qwen2 that classifies or scores a text, from its last token."""
