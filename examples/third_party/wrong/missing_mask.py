"""Attention that sees padding."""

import jax.numpy as jnp
import models_flax


class FlaxSprigModule(models_flax.FlaxSprigModule):
    def visible(self, mask, length):
        return super().visible(jnp.ones_like(mask), length)


class FlaxSprigForCausalLMModule(models_flax.FlaxSprigForCausalLMModule):
    module_class = FlaxSprigModule


class FlaxSprigForCausalLM(models_flax.FlaxSprigForCausalLM):
    module_class = FlaxSprigForCausalLMModule
