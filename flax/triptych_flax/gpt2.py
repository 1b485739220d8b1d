"""GPT-2 in Flax: the public classes of `triptych.families.gpt2`."""

from triptych.families import gpt2
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxGPT2PreTrainedModel", "FlaxGPT2Model", "FlaxGPT2LMHeadModel", "FlaxGPT2DoubleHeadsModel",
           "FlaxGPT2ForSequenceClassification", "FlaxGPT2ForTokenClassification",
           "FlaxGPT2ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(gpt2, __name__)


class FlaxGPT2PreTrainedModel(FlaxPreTrainedModel):
    """Base of the GPT-2 classes."""

    config_class = gpt2.GPT2Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    call_order = ("input_ids", "attention_mask", "position_ids", "encoder_hidden_states", "encoder_attention_mask",
                  "params", "past_key_values", "dropout_rng", "train", "output_attentions", "output_hidden_states",
                  "return_dict")  # fmt: skip


class FlaxGPT2Model(FlaxGPT2PreTrainedModel, part=gpt2.GPT2Model): ...


class FlaxGPT2LMHeadModel(FlaxGPT2PreTrainedModel, part=gpt2.GPT2LMHeadModel): ...


class FlaxGPT2DoubleHeadsModel(FlaxGPT2PreTrainedModel, part=gpt2.GPT2DoubleHeadsModel): ...


class FlaxGPT2ForSequenceClassification(FlaxGPT2PreTrainedModel, part=gpt2.GPT2ForSequenceClassification): ...


class FlaxGPT2ForTokenClassification(FlaxGPT2PreTrainedModel, part=gpt2.GPT2ForTokenClassification): ...


class FlaxGPT2ForQuestionAnswering(FlaxGPT2PreTrainedModel, part=gpt2.GPT2ForQuestionAnswering): ...
