"""Mistral in Flax: the public classes of `triptych.families.mistral`."""

from triptych.families import mistral
from triptych_flax.llama import (
    FlaxLlamaForCausalLM,
    FlaxLlamaForQuestionAnswering,
    FlaxLlamaForSequenceClassification,
    FlaxLlamaForTokenClassification,
    FlaxLlamaModel,
    FlaxLlamaPreTrainedModel,
)
from triptych_flax.make import binder

__all__ = ["FlaxMistralPreTrainedModel", "FlaxMistralModel", "FlaxMistralForCausalLM",
           "FlaxMistralForSequenceClassification", "FlaxMistralForTokenClassification",
           "FlaxMistralForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(mistral, __name__)


class FlaxMistralPreTrainedModel(FlaxLlamaPreTrainedModel):
    """Base of the Mistral classes."""

    config_class = mistral.MistralConfig


class FlaxMistralModel(FlaxMistralPreTrainedModel, FlaxLlamaModel, part=mistral.MistralModel): ...


class FlaxMistralForCausalLM(FlaxMistralPreTrainedModel, FlaxLlamaForCausalLM, part=mistral.MistralForCausalLM): ...


class FlaxMistralForSequenceClassification(
    FlaxMistralPreTrainedModel, FlaxLlamaForSequenceClassification, part=mistral.MistralForSequenceClassification
): ...


class FlaxMistralForTokenClassification(
    FlaxMistralPreTrainedModel, FlaxLlamaForTokenClassification, part=mistral.MistralForTokenClassification
): ...


class FlaxMistralForQuestionAnswering(
    FlaxMistralPreTrainedModel, FlaxLlamaForQuestionAnswering, part=mistral.MistralForQuestionAnswering
): ...
