"""Qwen3 in Keras: Llama's layers, configured by `triptych.families.qwen3`."""

from __future__ import annotations

from triptych.families.qwen3 import Qwen3Config
from triptych_tf.llama import TFLlamaForCausalLM, TFLlamaForSequenceClassification, TFLlamaModel, TFLlamaPreTrainedModel

__all__ = [
    "TFQwen3PreTrainedModel",
    "TFQwen3Model",
    "TFQwen3ForCausalLM",
    "TFQwen3ForSequenceClassification",
]


class TFQwen3PreTrainedModel(TFLlamaPreTrainedModel):
    """Base of the Qwen3 classes."""

    config_class = Qwen3Config


class TFQwen3Model(TFQwen3PreTrainedModel, TFLlamaModel):
    """The decoder."""


class TFQwen3ForCausalLM(TFQwen3PreTrainedModel, TFLlamaForCausalLM):
    """Qwen3 that predicts the next token."""

    backbone_class = TFQwen3Model


class TFQwen3ForSequenceClassification(TFQwen3PreTrainedModel, TFLlamaForSequenceClassification):
    """Qwen3 that classifies or scores a text, from its last token."""

    backbone_class = TFQwen3Model
