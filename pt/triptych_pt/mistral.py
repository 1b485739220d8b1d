"""Mistral in PyTorch: the public classes of `triptych.families.mistral`."""

from triptych.families import mistral
from triptych_pt.llama import (  # noqa: F401
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaModel,
    LlamaPreTrainedModel,
    apply_rotary_pos_emb,
    repeat_kv,
    rotate_half,
)
from triptych_pt.llama import LlamaRMSNorm as MistralRMSNorm  # noqa: F401 (for authors, as the next)
from triptych_pt.make import binder

__all__ = ["MistralPreTrainedModel", "MistralModel", "MistralForCausalLM", "MistralForSequenceClassification",
           "MistralForTokenClassification", "MistralForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(mistral, __name__)


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
