"""Qwen3 in Keras: the public classes of `triptych.families.qwen3`."""

from triptych.families import qwen3
from triptych_tf.llama import (
    TFLlamaForCausalLM,
    TFLlamaForQuestionAnswering,
    TFLlamaForSequenceClassification,
    TFLlamaForTokenClassification,
    TFLlamaModel,
    TFLlamaPreTrainedModel,
)
from triptych_tf.make import binder

__all__ = ["TFQwen3PreTrainedModel", "TFQwen3Model", "TFQwen3ForCausalLM", "TFQwen3ForSequenceClassification",
           "TFQwen3ForTokenClassification", "TFQwen3ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(qwen3, __name__)


class TFQwen3PreTrainedModel(TFLlamaPreTrainedModel):
    """Base of the Qwen3 classes."""

    config_class = qwen3.Qwen3Config


class TFQwen3Model(TFQwen3PreTrainedModel, TFLlamaModel, part=qwen3.Qwen3Model): ...


class TFQwen3ForCausalLM(TFQwen3PreTrainedModel, TFLlamaForCausalLM, part=qwen3.Qwen3ForCausalLM): ...


class TFQwen3ForSequenceClassification(
    TFQwen3PreTrainedModel, TFLlamaForSequenceClassification, part=qwen3.Qwen3ForSequenceClassification
): ...


class TFQwen3ForTokenClassification(
    TFQwen3PreTrainedModel, TFLlamaForTokenClassification, part=qwen3.Qwen3ForTokenClassification
): ...


class TFQwen3ForQuestionAnswering(
    TFQwen3PreTrainedModel, TFLlamaForQuestionAnswering, part=qwen3.Qwen3ForQuestionAnswering
): ...
