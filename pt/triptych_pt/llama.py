"""Llama in PyTorch: the public classes of `triptych.families.llama`."""

from typing import Any, ClassVar

from triptych.families import llama
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["LlamaPreTrainedModel", "LlamaModel", "LlamaForCausalLM", "LlamaForSequenceClassification",
           "LlamaForTokenClassification", "LlamaForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(llama, __name__)


class LlamaPreTrainedModel(PreTrainedModel):
    """Base of the Llama classes."""

    config_class: ClassVar[Any] = llama.LlamaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True


class LlamaModel(LlamaPreTrainedModel, part=llama.LlamaModel): ...


class LlamaForCausalLM(LlamaPreTrainedModel, part=llama.LlamaForCausalLM): ...


class LlamaForSequenceClassification(LlamaPreTrainedModel, part=llama.LlamaForSequenceClassification): ...


class LlamaForTokenClassification(LlamaPreTrainedModel, part=llama.LlamaForTokenClassification): ...


class LlamaForQuestionAnswering(LlamaPreTrainedModel, part=llama.LlamaForQuestionAnswering): ...
