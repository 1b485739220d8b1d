"""T5 in Flax: the public classes of `triptych.families.t5`."""

from triptych.families import t5
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxT5PreTrainedModel", "FlaxT5Model", "FlaxT5ForConditionalGeneration", "FlaxT5EncoderModel"]
__getattr__ = binder.parts_of(t5, __name__)


class FlaxT5PreTrainedModel(FlaxPreTrainedModel):
    """Base of the T5 classes."""

    config_class = t5.T5Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True


class FlaxT5Model(FlaxT5PreTrainedModel, part=t5.T5Model): ...


class FlaxT5ForConditionalGeneration(FlaxT5PreTrainedModel, part=t5.T5ForConditionalGeneration): ...


class FlaxT5EncoderModel(FlaxT5PreTrainedModel, part=t5.T5EncoderModel): ...
