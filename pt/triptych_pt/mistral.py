"""Mistral in PyTorch: the public classes of `triptych.families.mistral`."""

from triptych.families import mistral
from triptych_pt.llama import (
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaModel,
    LlamaPreTrainedModel,
)

__all__ = ["MistralPreTrainedModel", "MistralModel", "MistralForCausalLM", "MistralForSequenceClassification",
           "MistralForTokenClassification", "MistralForQuestionAnswering"]  # fmt: skip


class MistralPreTrainedModel(LlamaPreTrainedModel):
    """Base of the Mistral classes."""

    config_class = mistral.MistralConfig


class MistralModel(MistralPreTrainedModel, LlamaModel, part=mistral.MistralModel): ...


class MistralForCausalLM(MistralPreTrainedModel, LlamaForCausalLM, part=mistral.MistralForCausalLM): ...


class MistralForSequenceClassification(
    MistralPreTrainedModel, LlamaForSequenceClassification, part=mistral.MistralForSequenceClassification
): ...


class MistralForTokenClassification(
    MistralPreTrainedModel, LlamaForTokenClassification, part=mistral.MistralForTokenClassification
): ...


class MistralForQuestionAnswering(
    MistralPreTrainedModel, LlamaForQuestionAnswering, part=mistral.MistralForQuestionAnswering
): ...
