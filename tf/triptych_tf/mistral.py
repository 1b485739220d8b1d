"""Mistral in Keras: Llama's layers, configured by `triptych.families.mistral`."""

from __future__ import annotations

from triptych.families.mistral import MistralConfig
from triptych_tf.llama import TFLlamaForCausalLM, TFLlamaForSequenceClassification, TFLlamaModel, TFLlamaPreTrainedModel

__all__ = [
    "TFMistralPreTrainedModel",
    "TFMistralModel",
    "TFMistralForCausalLM",
    "TFMistralForSequenceClassification",
]


class TFMistralPreTrainedModel(TFLlamaPreTrainedModel):
    """Base of the Mistral classes."""

    config_class = MistralConfig


class TFMistralModel(TFMistralPreTrainedModel, TFLlamaModel):
    """The decoder."""


class TFMistralForCausalLM(TFMistralPreTrainedModel, TFLlamaForCausalLM):
    """Mistral that predicts the next token."""

    backbone_class = TFMistralModel


class TFMistralForSequenceClassification(TFMistralPreTrainedModel, TFLlamaForSequenceClassification):
    """Mistral that classifies or scores a text, from its last token."""

    backbone_class = TFMistralModel
