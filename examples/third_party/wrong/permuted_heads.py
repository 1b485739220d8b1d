"""Heads that are joined in another order than they were split."""

import models_pt


class PermutedAttention(models_pt.SprigAttention):
    def joined(self, mixed):
        return super().joined(mixed.flip(1))


class SprigForCausalLM(models_pt.SprigForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.sprig.blocks[1].attention = PermutedAttention(config)
        self.post_init()
