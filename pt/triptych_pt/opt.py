"""OPT in PyTorch: the public classes of `triptych.families.opt`."""

from triptych.families import opt
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["OPTPreTrainedModel", "OPTModel", "OPTForCausalLM", "OPTForSequenceClassification",
           "OPTForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(opt, __name__)


class OPTPreTrainedModel(PreTrainedModel):
    """Base of the OPT classes."""

    config_class = opt.OPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["OPTDecoderLayer"]
    _supports_sdpa = True


class OPTModel(OPTPreTrainedModel, part=opt.OPTModel): ...


class OPTForCausalLM(OPTPreTrainedModel, part=opt.OPTForCausalLM): ...


class OPTForSequenceClassification(OPTPreTrainedModel, part=opt.OPTForSequenceClassification): ...


class OPTForQuestionAnswering(OPTPreTrainedModel, part=opt.OPTForQuestionAnswering): ...
