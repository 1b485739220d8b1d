"""OPT in Keras: the public classes of `triptych.families.opt`."""

from triptych.families import opt
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFOPTPreTrainedModel", "TFOPTModel", "TFOPTForCausalLM", "TFOPTForSequenceClassification",
           "TFOPTForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(opt, __name__)


class TFOPTPreTrainedModel(TFPreTrainedModel):
    """Base of the OPT classes."""

    config_class = opt.OPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True


class TFOPTModel(TFOPTPreTrainedModel, part=opt.OPTModel): ...


class TFOPTForCausalLM(TFOPTPreTrainedModel, part=opt.OPTForCausalLM): ...


class TFOPTForSequenceClassification(TFOPTPreTrainedModel, part=opt.OPTForSequenceClassification): ...


class TFOPTForQuestionAnswering(TFOPTPreTrainedModel, part=opt.OPTForQuestionAnswering): ...
