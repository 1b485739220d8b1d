"""Qwen2 in Keras: Llama's layers, configured by `triptych.families.qwen2`."""

from __future__ import annotations

from triptych.families.qwen2 import Qwen2Config
from triptych_tf.llama import TFLlamaForCausalLM, TFLlamaForSequenceClassification, TFLlamaModel, TFLlamaPreTrainedModel

__all__ = [
    "TFQwen2PreTrainedModel",
    "TFQwen2Model",
    "TFQwen2ForCausalLM",
    "TFQwen2ForSequenceClassification",
]


class TFQwen2PreTrainedModel(TFLlamaPreTrainedModel):
    """Base of the Qwen2 classes."""

    config_class = Qwen2Config


class TFQwen2Model(TFQwen2PreTrainedModel, TFLlamaModel):
    """The decoder."""


class TFQwen2ForCausalLM(TFQwen2PreTrainedModel, TFLlamaForCausalLM):
    """Qwen2 that predicts the next token."""

    backbone_class = TFQwen2Model


class TFQwen2ForSequenceClassification(TFQwen2PreTrainedModel, TFLlamaForSequenceClassification):
    """Qwen2 that classifies or scores a text, from its last token."""

    backbone_class = TFQwen2Model
