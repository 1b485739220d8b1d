"""Positions that begin anew at each call, whatever the cache holds."""

import models_pt
import torch


class SprigModel(models_pt.SprigModel):
    def positions(self, mask, length):
        return torch.arange(length, device=mask.device).expand(mask.shape[0], -1)


class SprigForCausalLM(models_pt.SprigForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.sprig = SprigModel(config)
        self.post_init()
