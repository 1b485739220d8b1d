"""Mistral in PyTorch: Llama's layers, configured by `triptych.families.mistral`."""

from __future__ import annotations

from triptych.families.mistral import MistralConfig
from triptych_pt.llama import LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel, LlamaPreTrainedModel

__all__ = [
    "MistralPreTrainedModel",
    "MistralModel",
    "MistralForCausalLM",
    "MistralForSequenceClassification",
]


class MistralPreTrainedModel(LlamaPreTrainedModel):
    """Base of the Mistral classes."""

    config_class = MistralConfig


class MistralModel(MistralPreTrainedModel, LlamaModel):
    """The decoder."""


class MistralForCausalLM(MistralPreTrainedModel, LlamaForCausalLM):
    """Mistral that predicts the next token."""

    backbone_class = MistralModel


class MistralForSequenceClassification(MistralPreTrainedModel, LlamaForSequenceClassification):
    """Mistral that classifies or scores a text, from its last token."""

    backbone_class = MistralModel
