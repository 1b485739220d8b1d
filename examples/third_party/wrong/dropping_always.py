"""Dropout in inference."""

import keras
import models_tf


class Dropping(keras.layers.Dropout):
    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


class TFSprigForCausalLM(models_tf.TFSprigForCausalLM):
    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.sprig.dropout.__class__ = Dropping
