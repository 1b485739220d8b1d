"""A head with weights of its own, where the config ties it to the embeddings."""

import keras
import models_tf


class TFSprigForCausalLM(models_tf.TFSprigForCausalLM):
    _tied_weights_keys = None

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.lm_head = keras.layers.Dense(config.vocab_size, use_bias=False, name="lm_head")
