"""GPT-2 in Keras: the public classes of `triptych.families.gpt2`."""

from triptych.families import gpt2
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFGPT2PreTrainedModel", "TFGPT2Model", "TFGPT2LMHeadModel", "TFGPT2DoubleHeadsModel",
           "TFGPT2ForSequenceClassification", "TFGPT2ForTokenClassification", "TFGPT2ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(gpt2, __name__)


class TFGPT2PreTrainedModel(TFPreTrainedModel):
    """Base of the GPT-2 classes."""

    config_class = gpt2.GPT2Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _supports_sdpa = True


class TFGPT2Model(TFGPT2PreTrainedModel, part=gpt2.GPT2Model): ...


class TFGPT2LMHeadModel(TFGPT2PreTrainedModel, part=gpt2.GPT2LMHeadModel): ...


class TFGPT2DoubleHeadsModel(TFGPT2PreTrainedModel, part=gpt2.GPT2DoubleHeadsModel): ...


class TFGPT2ForSequenceClassification(TFGPT2PreTrainedModel, part=gpt2.GPT2ForSequenceClassification): ...


class TFGPT2ForTokenClassification(TFGPT2PreTrainedModel, part=gpt2.GPT2ForTokenClassification): ...


class TFGPT2ForQuestionAnswering(TFGPT2PreTrainedModel, part=gpt2.GPT2ForQuestionAnswering): ...
