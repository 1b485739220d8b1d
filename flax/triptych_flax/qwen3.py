"""Qwen3 in Flax: the public classes of `triptych.families.qwen3`."""

from triptych.families import qwen3
from triptych_flax.llama import (
    FlaxLlamaForCausalLM,
    FlaxLlamaForQuestionAnswering,
    FlaxLlamaForSequenceClassification,
    FlaxLlamaForTokenClassification,
    FlaxLlamaModel,
    FlaxLlamaPreTrainedModel,
)
from triptych_flax.make import binder

__all__ = ["FlaxQwen3PreTrainedModel", "FlaxQwen3Model", "FlaxQwen3ForCausalLM", "FlaxQwen3ForSequenceClassification",
           "FlaxQwen3ForTokenClassification", "FlaxQwen3ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(qwen3, __name__)


class FlaxQwen3PreTrainedModel(FlaxLlamaPreTrainedModel):
    """Base of the Qwen3 classes."""

    config_class = qwen3.Qwen3Config


class FlaxQwen3Model(FlaxQwen3PreTrainedModel, FlaxLlamaModel, part=qwen3.Qwen3Model): ...


class FlaxQwen3ForCausalLM(FlaxQwen3PreTrainedModel, FlaxLlamaForCausalLM, part=qwen3.Qwen3ForCausalLM): ...


class FlaxQwen3ForSequenceClassification(
    FlaxQwen3PreTrainedModel, FlaxLlamaForSequenceClassification, part=qwen3.Qwen3ForSequenceClassification
): ...


class FlaxQwen3ForTokenClassification(
    FlaxQwen3PreTrainedModel, FlaxLlamaForTokenClassification, part=qwen3.Qwen3ForTokenClassification
): ...


class FlaxQwen3ForQuestionAnswering(
    FlaxQwen3PreTrainedModel, FlaxLlamaForQuestionAnswering, part=qwen3.Qwen3ForQuestionAnswering
): ...
