"""A norm whose scale and shift are swapped."""

import models_pt
from torch import nn


class Swapped(nn.LayerNorm):
    def forward(self, hidden):
        return nn.functional.layer_norm(hidden, self.normalized_shape, self.bias, self.weight, self.eps)


class SprigForCausalLM(models_pt.SprigForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.sprig.blocks[1].norm = Swapped(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()
