"""The model in Flax."""

import flax.linen as nn
import jax.numpy as jnp

from triptych import FlaxPreTrainedModel

from .configuration_tiny import TinyConfig
from .scale_tiny import SCALE


class FlaxTinyModule(nn.Module):
    config: TinyConfig
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, input_ids: object) -> object:
        embedded = nn.Embed(self.config.vocab_size, self.config.hidden_size, name="embed")(input_ids)
        return nn.Dense(self.config.num_labels, name="head")(SCALE * embedded)


class FlaxTinyModel(FlaxPreTrainedModel):
    config_class = TinyConfig
    module_class = FlaxTinyModule
