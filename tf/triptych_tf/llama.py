"""Llama in Keras: the public classes of `triptych.families.llama`."""

from typing import Any, ClassVar

from triptych.families import llama
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFLlamaPreTrainedModel", "TFLlamaModel", "TFLlamaForCausalLM", "TFLlamaForSequenceClassification",
           "TFLlamaForTokenClassification", "TFLlamaForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(llama, __name__)


class TFLlamaPreTrainedModel(TFPreTrainedModel):
    """Base of the Llama classes."""

    config_class: ClassVar[Any] = llama.LlamaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True


class TFLlamaModel(TFLlamaPreTrainedModel, part=llama.LlamaModel): ...


class TFLlamaForCausalLM(TFLlamaPreTrainedModel, part=llama.LlamaForCausalLM): ...


class TFLlamaForSequenceClassification(TFLlamaPreTrainedModel, part=llama.LlamaForSequenceClassification): ...


class TFLlamaForTokenClassification(TFLlamaPreTrainedModel, part=llama.LlamaForTokenClassification): ...


class TFLlamaForQuestionAnswering(TFLlamaPreTrainedModel, part=llama.LlamaForQuestionAnswering): ...
