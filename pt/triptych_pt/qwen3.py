"""Qwen3 in PyTorch: Llama's layers, configured by `triptych.families.qwen3`."""

from __future__ import annotations

from triptych.families.qwen3 import Qwen3Config
from triptych_pt.llama import LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel, LlamaPreTrainedModel

__all__ = [
    "Qwen3PreTrainedModel",
    "Qwen3Model",
    "Qwen3ForCausalLM",
    "Qwen3ForSequenceClassification",
]


class Qwen3PreTrainedModel(LlamaPreTrainedModel):
    """Base of the Qwen3 classes."""

    config_class = Qwen3Config


class Qwen3Model(Qwen3PreTrainedModel, LlamaModel):
    """The decoder."""


class Qwen3ForCausalLM(Qwen3PreTrainedModel, LlamaForCausalLM):
    """Qwen3 that predicts the next token."""

    backbone_class = Qwen3Model


class Qwen3ForSequenceClassification(Qwen3PreTrainedModel, LlamaForSequenceClassification):
    """Qwen3 that classifies or scores a text, from its last token."""

    backbone_class = Qwen3Model
