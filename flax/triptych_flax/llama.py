"""Llama in Flax: the public classes of `triptych.families.llama`."""

from typing import Any, ClassVar

from triptych.families import llama
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxLlamaPreTrainedModel", "FlaxLlamaModel", "FlaxLlamaForCausalLM", "FlaxLlamaForSequenceClassification",
           "FlaxLlamaForTokenClassification", "FlaxLlamaForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(llama, __name__)


class FlaxLlamaPreTrainedModel(FlaxPreTrainedModel):
    """Base of the Llama classes."""

    config_class: ClassVar[Any] = llama.LlamaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    call_order = ("input_ids", "attention_mask", "position_ids", "params", "past_key_values", "dropout_rng", "train",
                  "output_attentions", "output_hidden_states", "return_dict")  # fmt: skip


class FlaxLlamaModel(FlaxLlamaPreTrainedModel, part=llama.LlamaModel): ...


class FlaxLlamaForCausalLM(FlaxLlamaPreTrainedModel, part=llama.LlamaForCausalLM): ...


class FlaxLlamaForSequenceClassification(FlaxLlamaPreTrainedModel, part=llama.LlamaForSequenceClassification): ...


class FlaxLlamaForTokenClassification(FlaxLlamaPreTrainedModel, part=llama.LlamaForTokenClassification): ...


class FlaxLlamaForQuestionAnswering(FlaxLlamaPreTrainedModel, part=llama.LlamaForQuestionAnswering): ...
