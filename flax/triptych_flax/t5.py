"""T5 in Flax: the public classes of `triptych.families.t5`."""

from triptych.families import t5
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxT5PreTrainedModel", "FlaxT5Model", "FlaxT5ForConditionalGeneration", "FlaxT5EncoderModel",
           "FlaxT5ForSequenceClassification", "FlaxT5ForTokenClassification", "FlaxT5ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(t5, __name__)


class FlaxT5PreTrainedModel(FlaxPreTrainedModel):
    """Base of the T5 classes."""

    config_class = t5.T5Config
    base_model_prefix = "transformer"


class FlaxT5Stack(FlaxT5PreTrainedModel, part=t5.T5Stack): ...


class FlaxT5Model(FlaxT5PreTrainedModel, part=t5.T5Model): ...


class FlaxT5ForConditionalGeneration(FlaxT5PreTrainedModel, part=t5.T5ForConditionalGeneration): ...


class FlaxT5EncoderModel(FlaxT5PreTrainedModel, part=t5.T5EncoderModel): ...


class FlaxT5ForSequenceClassification(FlaxT5PreTrainedModel, part=t5.T5ForSequenceClassification): ...


class FlaxT5ForTokenClassification(FlaxT5PreTrainedModel, part=t5.T5ForTokenClassification): ...


class FlaxT5ForQuestionAnswering(FlaxT5PreTrainedModel, part=t5.T5ForQuestionAnswering): ...
