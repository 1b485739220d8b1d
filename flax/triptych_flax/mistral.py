"""Mistral in Flax: Llama's layers, configured by `triptych.families.mistral`."""

from __future__ import annotations

from triptych.families.mistral import MistralConfig
from triptych_flax.llama import (
    FlaxLlamaForCausalLM,
    FlaxLlamaForSequenceClassification,
    FlaxLlamaModel,
    FlaxLlamaPreTrainedModel,
)

__all__ = [
    "FlaxMistralPreTrainedModel",
    "FlaxMistralModel",
    "FlaxMistralForCausalLM",
    "FlaxMistralForSequenceClassification",
]


class FlaxMistralPreTrainedModel(FlaxLlamaPreTrainedModel):
    """Base of the Mistral classes."""

    config_class = MistralConfig


class FlaxMistralModel(FlaxMistralPreTrainedModel, FlaxLlamaModel):
    """The decoder."""


class FlaxMistralForCausalLM(FlaxMistralPreTrainedModel, FlaxLlamaForCausalLM):
    """Mistral that predicts the next token."""


class FlaxMistralForSequenceClassification(FlaxMistralPreTrainedModel, FlaxLlamaForSequenceClassification):
    """Mistral that classifies or scores a text, from its last token."""
