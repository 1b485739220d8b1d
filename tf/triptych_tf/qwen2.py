"""Qwen2 in Keras: the public classes of `triptych.families.qwen2`."""

from triptych.families import qwen2
from triptych_tf.llama import (
    TFLlamaForCausalLM,
    TFLlamaForQuestionAnswering,
    TFLlamaForSequenceClassification,
    TFLlamaForTokenClassification,
    TFLlamaModel,
    TFLlamaPreTrainedModel,
)
from triptych_tf.make import binder

__all__ = ["TFQwen2PreTrainedModel", "TFQwen2Model", "TFQwen2ForCausalLM", "TFQwen2ForSequenceClassification",
           "TFQwen2ForTokenClassification", "TFQwen2ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(qwen2, __name__)


class TFQwen2PreTrainedModel(TFLlamaPreTrainedModel):
    """Base of the Qwen2 classes."""

    config_class = qwen2.Qwen2Config


class TFQwen2Model(TFQwen2PreTrainedModel, TFLlamaModel, part=qwen2.Qwen2Model): ...


class TFQwen2ForCausalLM(TFQwen2PreTrainedModel, TFLlamaForCausalLM, part=qwen2.Qwen2ForCausalLM): ...


class TFQwen2ForSequenceClassification(
    TFQwen2PreTrainedModel, TFLlamaForSequenceClassification, part=qwen2.Qwen2ForSequenceClassification
): ...


class TFQwen2ForTokenClassification(
    TFQwen2PreTrainedModel, TFLlamaForTokenClassification, part=qwen2.Qwen2ForTokenClassification
): ...


class TFQwen2ForQuestionAnswering(
    TFQwen2PreTrainedModel, TFLlamaForQuestionAnswering, part=qwen2.Qwen2ForQuestionAnswering
): ...
