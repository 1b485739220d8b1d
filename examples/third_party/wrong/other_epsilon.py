"""Norms with the framework's epsilon, not with that of the config."""

import copy

import models_flax


class FlaxSprigForCausalLMModule(models_flax.FlaxSprigForCausalLMModule):
    def setup(self):
        config = copy.deepcopy(self.config)
        config.layer_norm_eps = 1e-6
        self.sprig = models_flax.FlaxSprigModule(config, self.dtype, self.gradient_checkpointing)


class FlaxSprigForCausalLM(models_flax.FlaxSprigForCausalLM):
    module_class = FlaxSprigForCausalLMModule
