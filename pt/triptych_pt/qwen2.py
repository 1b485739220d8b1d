"""Qwen2 in PyTorch: Llama's layers, configured by `triptych.families.qwen2`."""

from __future__ import annotations

from triptych.families.qwen2 import Qwen2Config
from triptych_pt.llama import LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel, LlamaPreTrainedModel

__all__ = [
    "Qwen2PreTrainedModel",
    "Qwen2Model",
    "Qwen2ForCausalLM",
    "Qwen2ForSequenceClassification",
]


class Qwen2PreTrainedModel(LlamaPreTrainedModel):
    """Base of the Qwen2 classes."""

    config_class = Qwen2Config


class Qwen2Model(Qwen2PreTrainedModel, LlamaModel):
    """The decoder."""


class Qwen2ForCausalLM(Qwen2PreTrainedModel, LlamaForCausalLM):
    """Qwen2 that predicts the next token."""

    backbone_class = Qwen2Model


class Qwen2ForSequenceClassification(Qwen2PreTrainedModel, LlamaForSequenceClassification):
    """Qwen2 that classifies or scores a text, from its last token."""

    backbone_class = Qwen2Model
