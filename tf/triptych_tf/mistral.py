"""Mistral in Keras: the public classes of `triptych.families.mistral`."""

from triptych.families import mistral
from triptych_tf.llama import (
    TFLlamaForCausalLM,
    TFLlamaForQuestionAnswering,
    TFLlamaForSequenceClassification,
    TFLlamaForTokenClassification,
    TFLlamaModel,
    TFLlamaPreTrainedModel,
)
from triptych_tf.make import binder

__all__ = ["TFMistralPreTrainedModel", "TFMistralModel", "TFMistralForCausalLM", "TFMistralForSequenceClassification",
           "TFMistralForTokenClassification", "TFMistralForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(mistral, __name__)


class TFMistralPreTrainedModel(TFLlamaPreTrainedModel):
    """Base of the Mistral classes."""

    config_class = mistral.MistralConfig


class TFMistralModel(TFMistralPreTrainedModel, TFLlamaModel, part=mistral.MistralModel): ...


class TFMistralForCausalLM(TFMistralPreTrainedModel, TFLlamaForCausalLM, part=mistral.MistralForCausalLM): ...


class TFMistralForSequenceClassification(
    TFMistralPreTrainedModel, TFLlamaForSequenceClassification, part=mistral.MistralForSequenceClassification
): ...


class TFMistralForTokenClassification(
    TFMistralPreTrainedModel, TFLlamaForTokenClassification, part=mistral.MistralForTokenClassification
): ...


class TFMistralForQuestionAnswering(
    TFMistralPreTrainedModel, TFLlamaForQuestionAnswering, part=mistral.MistralForQuestionAnswering
): ...
