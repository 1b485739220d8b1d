"""T5 in Keras: the public classes of `triptych.families.t5`."""

from triptych.families import t5
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFT5PreTrainedModel", "TFT5Model", "TFT5ForConditionalGeneration", "TFT5EncoderModel",
           "TFT5ForSequenceClassification", "TFT5ForTokenClassification", "TFT5ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(t5, __name__)


class TFT5PreTrainedModel(TFPreTrainedModel):
    """Base of the T5 classes."""

    config_class = t5.T5Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _keep_in_fp32_modules = t5.KEPT_WIDE


class TFT5Stack(TFT5PreTrainedModel, part=t5.T5Stack): ...


class TFT5Model(TFT5PreTrainedModel, part=t5.T5Model): ...


class TFT5ForConditionalGeneration(TFT5PreTrainedModel, part=t5.T5ForConditionalGeneration): ...


class TFT5EncoderModel(TFT5PreTrainedModel, part=t5.T5EncoderModel): ...


class TFT5ForSequenceClassification(TFT5PreTrainedModel, part=t5.T5ForSequenceClassification): ...


class TFT5ForTokenClassification(TFT5PreTrainedModel, part=t5.T5ForTokenClassification): ...


class TFT5ForQuestionAnswering(TFT5PreTrainedModel, part=t5.T5ForQuestionAnswering): ...
