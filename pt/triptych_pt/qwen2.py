"""Qwen2 in PyTorch: the public classes of `triptych.families.qwen2`."""

from triptych.families import qwen2
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
from triptych_pt.llama import LlamaRMSNorm as Qwen2RMSNorm  # noqa: F401 (for authors, as the next)
from triptych_pt.make import binder

__all__ = ["Qwen2PreTrainedModel", "Qwen2Model", "Qwen2ForCausalLM", "Qwen2ForSequenceClassification",
           "Qwen2ForTokenClassification", "Qwen2ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(qwen2, __name__)


class Qwen2PreTrainedModel(LlamaPreTrainedModel):
    """Base of the Qwen2 classes."""

    config_class = qwen2.Qwen2Config


class Qwen2Model(Qwen2PreTrainedModel, LlamaModel, part=qwen2.Qwen2Model): ...


class Qwen2ForCausalLM(Qwen2PreTrainedModel, LlamaForCausalLM, part=qwen2.Qwen2ForCausalLM): ...


class Qwen2ForSequenceClassification(
    Qwen2PreTrainedModel, LlamaForSequenceClassification, part=qwen2.Qwen2ForSequenceClassification
): ...


class Qwen2ForTokenClassification(
    Qwen2PreTrainedModel, LlamaForTokenClassification, part=qwen2.Qwen2ForTokenClassification
): ...


class Qwen2ForQuestionAnswering(
    Qwen2PreTrainedModel, LlamaForQuestionAnswering, part=qwen2.Qwen2ForQuestionAnswering
): ...
