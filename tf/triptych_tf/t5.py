"""T5 in Keras: the public classes of `triptych.families.t5`."""

from triptych.families import t5
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFT5PreTrainedModel", "TFT5Model", "TFT5ForConditionalGeneration", "TFT5EncoderModel"]
__getattr__ = binder.parts_of(t5, __name__)


class TFT5PreTrainedModel(TFPreTrainedModel):
    """Base of the T5 classes."""

    config_class = t5.T5Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True


class TFT5Model(TFT5PreTrainedModel, part=t5.T5Model): ...


class TFT5ForConditionalGeneration(TFT5PreTrainedModel, part=t5.T5ForConditionalGeneration): ...


class TFT5EncoderModel(TFT5PreTrainedModel, part=t5.T5EncoderModel): ...
