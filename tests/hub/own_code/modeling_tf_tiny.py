"""The model in TensorFlow."""

import keras

from triptych import TFPreTrainedModel

from . import scale_tiny
from .configuration_tiny import TinyConfig


class TFTinyModel(TFPreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config: TinyConfig, **kwargs: object) -> None:
        super().__init__(config, **kwargs)
        self.embed = keras.layers.Embedding(config.vocab_size, config.hidden_size, name="embed")
        self.head = keras.layers.Dense(config.num_labels, name="head")

    def call(self, input_ids: object, training: bool | None = None) -> object:
        return self.head(scale_tiny.SCALE * self.embed(input_ids))
