"""OPT in Flax: the public classes of `triptych.families.opt`."""

from triptych.families import opt
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxOPTPreTrainedModel", "FlaxOPTModel", "FlaxOPTForCausalLM", "FlaxOPTForSequenceClassification",
           "FlaxOPTForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(opt, __name__)


class FlaxOPTPreTrainedModel(FlaxPreTrainedModel):
    """Base of the OPT classes."""

    config_class = opt.OPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    call_order = ("input_ids", "attention_mask", "position_ids", "params", "past_key_values", "output_attentions",
                  "output_hidden_states", "return_dict", "dropout_rng")  # fmt: skip


class FlaxOPTModel(FlaxOPTPreTrainedModel, part=opt.OPTModel): ...


class FlaxOPTForCausalLM(FlaxOPTPreTrainedModel, part=opt.OPTForCausalLM): ...


class FlaxOPTForSequenceClassification(FlaxOPTPreTrainedModel, part=opt.OPTForSequenceClassification): ...


class FlaxOPTForQuestionAnswering(FlaxOPTPreTrainedModel, part=opt.OPTForQuestionAnswering): ...
