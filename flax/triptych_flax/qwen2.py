"""Qwen2 in Flax: the public classes of `triptych.families.qwen2`."""

from triptych.families import qwen2
from triptych_flax.llama import (
    FlaxLlamaForCausalLM,
    FlaxLlamaForQuestionAnswering,
    FlaxLlamaForSequenceClassification,
    FlaxLlamaForTokenClassification,
    FlaxLlamaModel,
    FlaxLlamaPreTrainedModel,
)
from triptych_flax.make import binder

__all__ = ["FlaxQwen2PreTrainedModel", "FlaxQwen2Model", "FlaxQwen2ForCausalLM", "FlaxQwen2ForSequenceClassification",
           "FlaxQwen2ForTokenClassification", "FlaxQwen2ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(qwen2, __name__)


class FlaxQwen2PreTrainedModel(FlaxLlamaPreTrainedModel):
    """Base of the Qwen2 classes."""

    config_class = qwen2.Qwen2Config


class FlaxQwen2Model(FlaxQwen2PreTrainedModel, FlaxLlamaModel, part=qwen2.Qwen2Model): ...


class FlaxQwen2ForCausalLM(FlaxQwen2PreTrainedModel, FlaxLlamaForCausalLM, part=qwen2.Qwen2ForCausalLM): ...


class FlaxQwen2ForSequenceClassification(
    FlaxQwen2PreTrainedModel, FlaxLlamaForSequenceClassification, part=qwen2.Qwen2ForSequenceClassification
): ...


class FlaxQwen2ForTokenClassification(
    FlaxQwen2PreTrainedModel, FlaxLlamaForTokenClassification, part=qwen2.Qwen2ForTokenClassification
): ...


class FlaxQwen2ForQuestionAnswering(
    FlaxQwen2PreTrainedModel, FlaxLlamaForQuestionAnswering, part=qwen2.Qwen2ForQuestionAnswering
): ...
