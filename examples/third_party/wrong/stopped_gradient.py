"""Positions that get no gradient."""

import keras
import models_tf


class Stopped(keras.layers.Embedding):
    def call(self, inputs):
        return keras.ops.stop_gradient(super().call(inputs))


class TFSprigForCausalLM(models_tf.TFSprigForCausalLM):
    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.sprig.places.__class__ = Stopped
