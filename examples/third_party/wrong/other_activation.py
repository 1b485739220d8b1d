"""An activation that is not the config's."""

import models_tf
from triptych.activations_tf import get_tf_activation


class TFSprigForCausalLM(models_tf.TFSprigForCausalLM):
    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        for block in self.sprig.blocks:
            block.act = get_tf_activation("gelu")
