"""Qwen3 in PyTorch: the public classes of `triptych.families.qwen3`."""

from triptych.families import qwen3
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
from triptych_pt.llama import LlamaRMSNorm as Qwen3RMSNorm  # noqa: F401 (for authors, as the next)
from triptych_pt.make import binder

__all__ = ["Qwen3PreTrainedModel", "Qwen3Model", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification",
           "Qwen3ForTokenClassification", "Qwen3ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(qwen3, __name__)


class Qwen3PreTrainedModel(LlamaPreTrainedModel):
    """Base of the Qwen3 classes."""

    config_class = qwen3.Qwen3Config


class Qwen3Model(Qwen3PreTrainedModel, LlamaModel, part=qwen3.Qwen3Model): ...


class Qwen3ForCausalLM(Qwen3PreTrainedModel, LlamaForCausalLM, part=qwen3.Qwen3ForCausalLM): ...


class Qwen3ForSequenceClassification(
    Qwen3PreTrainedModel, LlamaForSequenceClassification, part=qwen3.Qwen3ForSequenceClassification
): ...


class Qwen3ForTokenClassification(
    Qwen3PreTrainedModel, LlamaForTokenClassification, part=qwen3.Qwen3ForTokenClassification
): ...


class Qwen3ForQuestionAnswering(
    Qwen3PreTrainedModel, LlamaForQuestionAnswering, part=qwen3.Qwen3ForQuestionAnswering
): ...
