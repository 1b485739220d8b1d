"""Positions that begin at one."""

import models_tf


class TFSprigModel(models_tf.TFSprigModel):
    def positions(self, mask, length):
        return super().positions(mask, length) + 1


class TFSprigForCausalLM(models_tf.TFSprigForCausalLM):
    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.sprig.__class__ = TFSprigModel
