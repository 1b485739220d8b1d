"""GPT-2 in PyTorch: the public classes of `triptych.families.gpt2`."""

from triptych.families import gpt2
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["GPT2PreTrainedModel", "GPT2Model", "GPT2LMHeadModel", "GPT2DoubleHeadsModel",
           "GPT2ForSequenceClassification", "GPT2ForTokenClassification", "GPT2ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(gpt2, __name__)


class GPT2PreTrainedModel(PreTrainedModel):
    """Base of the GPT-2 classes."""

    config_class = gpt2.GPT2Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GPT2Block"]
    _supports_sdpa = True


class GPT2Model(GPT2PreTrainedModel, part=gpt2.GPT2Model): ...


class GPT2LMHeadModel(GPT2PreTrainedModel, part=gpt2.GPT2LMHeadModel): ...


class GPT2DoubleHeadsModel(GPT2PreTrainedModel, part=gpt2.GPT2DoubleHeadsModel): ...


class GPT2ForSequenceClassification(GPT2PreTrainedModel, part=gpt2.GPT2ForSequenceClassification): ...


class GPT2ForTokenClassification(GPT2PreTrainedModel, part=gpt2.GPT2ForTokenClassification): ...


class GPT2ForQuestionAnswering(GPT2PreTrainedModel, part=gpt2.GPT2ForQuestionAnswering): ...
