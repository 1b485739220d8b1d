"""A layer that computes in bfloat16, whatever the model's dtype is."""

import models_pt
import torch
from torch import nn


class Cast(nn.Linear):
    def forward(self, hidden):
        return super().forward(hidden).to(torch.bfloat16).to(hidden.dtype)


class SprigForCausalLM(models_pt.SprigForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.sprig.blocks[0].up = Cast(config.hidden_size, config.intermediate_size)
        self.post_init()
