"""Qwen3 in PyTorch: the public classes of `triptych.families.qwen3`."""

from triptych.families import qwen3
from triptych_pt.llama import (
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    LlamaModel,
    LlamaPreTrainedModel,
)

__all__ = ["Qwen3PreTrainedModel", "Qwen3Model", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification",
           "Qwen3ForTokenClassification", "Qwen3ForQuestionAnswering"]  # fmt: skip


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
