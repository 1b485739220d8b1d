"""A buffer that is not saved."""

import models_pt


class SprigForCausalLM(models_pt.SprigForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.sprig.register_buffer("shift", self.sprig.shift, persistent=False)
