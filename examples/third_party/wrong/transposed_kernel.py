"""A kernel that is applied transposed: it is square, so that no shape tells."""

import keras
import models_tf


class Transposed(keras.layers.Dense):
    def call(self, inputs, training=None):
        return keras.ops.matmul(inputs, keras.ops.transpose(self.kernel)) + self.bias


class TFSprigForCausalLM(models_tf.TFSprigForCausalLM):
    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.sprig.blocks[1].attention.query.__class__ = Transposed
