"""T5 in PyTorch: the public classes of `triptych.families.t5`."""

from triptych.families import t5
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["T5PreTrainedModel", "T5Model", "T5ForConditionalGeneration", "T5EncoderModel",
           "T5ForSequenceClassification", "T5ForTokenClassification", "T5ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(t5, __name__)


class T5PreTrainedModel(PreTrainedModel):
    """Base of the T5 classes."""

    config_class = t5.T5Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True


class T5Model(T5PreTrainedModel, part=t5.T5Model): ...


class T5ForConditionalGeneration(T5PreTrainedModel, part=t5.T5ForConditionalGeneration): ...


class T5EncoderModel(T5PreTrainedModel, part=t5.T5EncoderModel): ...


class T5ForSequenceClassification(T5PreTrainedModel, part=t5.T5ForSequenceClassification): ...


class T5ForTokenClassification(T5PreTrainedModel, part=t5.T5ForTokenClassification): ...


class T5ForQuestionAnswering(T5PreTrainedModel, part=t5.T5ForQuestionAnswering): ...
