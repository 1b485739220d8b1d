"""`generate` in JAX: see `triptych.generation.mixin`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from triptych.errors import ArgumentError
from triptych.generation.beams import Found
from triptych.generation.buckets import widened
from triptych.generation.job import Compiled, Job
from triptych.generation.mixin import Asked, Generation
from triptych.generation.steps import FixedSteps, PreparedSteps, Steps
from triptych_flax import ops

__all__ = ["FlaxGenerationMixin"]


class Generates(Generation):
    """Part of `FlaxPreTrainedModel`."""

    _pads_to_the_end = True
    params: Any
    decode: Any
    init_cache: Any
    _call_arguments: Any

    def generate(
        self,
        input_ids: Any = None,
        generation_config: Any = None,
        prng_key: Any = None,
        trace: bool = True,
        params: Any = None,
        logits_processor: Any = None,
        *,
        seed: int | None = None,
        stopping_criteria: Any = None,
        prefix_allowed_tokens_fn: Any = None,
        assistant_model: Any = None,
        streamer: Any = None,
        negative_prompt_ids: Any = None,
        negative_prompt_attention_mask: Any = None,
        use_model_defaults: bool | None = None,
        tokenizer: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return texts that go on from prompts."""
        key = jax.random.PRNGKey(0) if prng_key is None else prng_key
        if not hasattr(key, "dtype") or np.ndim(key) not in (0, 1):
            raise ArgumentError("prng_key is none.", expected="a key, as jax.random.PRNGKey(0)",
                                received=repr(prng_key)[:80], remedy="or pass seed=")  # fmt: skip
        asked = Asked(
            input_ids, generation_config, logits_processor, stopping_criteria, prefix_allowed_tokens_fn, streamer,
            assistant_model, negative_prompt_ids, negative_prompt_attention_mask, use_model_defaults, tokenizer,
            noise=(_Native, key), seed=seed, params=self.params if params is None else params, compiled=trace,
            may_loop=True,
        )  # fmt: skip
        return self._generate(asked, kwargs)

    def prepare_inputs_for_generation(
        self, input_ids: Any, max_length: int, attention_mask: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the arguments of the first call, beside the tokens: an empty cache for `max_length` tokens, and where
        they are to be seen.

        Args:
            input_ids: the prompt [R, P], or the decoder's first tokens.
            attention_mask: [R, P], or that of an encoder's input.
        """
        rows = input_ids.shape[0]
        found = {**kwargs, "past_key_values": self.init_cache(rows, max_length)}
        if self._encodes() or attention_mask is None:
            return {**found, **({} if attention_mask is None else {"attention_mask": attention_mask})}
        mask = widened(ops, jnp.asarray(attention_mask), max_length, 1)
        if "position_ids" in self._call_arguments() and kwargs.get("position_ids") is None:
            found["position_ids"] = jnp.maximum(jnp.cumsum(mask, -1)[:, : input_ids.shape[1]] - 1, 0)
        return {**found, "attention_mask": mask}

    def update_inputs_for_generation(self, model_outputs: Any, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the next call, beside the token."""
        new = {**model_kwargs, "past_key_values": model_outputs["past_key_values"]}
        if new.get("position_ids") is not None:
            new["position_ids"] = new["position_ids"][:, -1:] + 1
        return new

    def _adapt_logits_for_beam_search(self, logits: jax.Array) -> jax.Array:
        """Return the logits [B, beams, V] of beams; classes override it that never write a certain token."""
        return logits

    def _steps_class(self) -> type[Steps]:
        return PreparedSteps if self._has_own_hooks() else FixedSteps

    def _as_ids(self, tokens: Any) -> jax.Array:
        return jnp.asarray(tokens).astype(jnp.int32)

    def _call_of(self, params: Any) -> Any:
        model: Any = self.decode if self._encodes() and self._has_own_hooks() else self
        return lambda *inputs, **options: model(*inputs, **options, params=params)

    def _caller(self, asked: Asked, eager: bool) -> Any:
        if not (eager and asked.compiled) or self._has_own_hooks():
            return self._call_of(asked.params)
        held = self.__dict__.setdefault("_generating", Compiled())

        def call(**inputs: Any) -> Any:
            """Call the model, compiled: where the search itself is a loop of Python."""
            flags = {name: value for name, value in inputs.items() if isinstance(value, bool)}
            key = (*sorted(flags.items()), self.config.to_json_string())
            if key not in held:
                held[key] = jax.jit(lambda params, arrays: self._call_of(params)(**arrays, **flags))
            return held[key](asked.params, {name: x for name, x in inputs.items() if name not in flags})

        return call

    def _run_compiled(
        self, asked: Asked, job: Job, ids: Any, inputs: dict[str, Any], length: int, limit: int, noise: Any
    ) -> Found:
        factory, state = (None, None) if noise is None else noise
        held = self.__dict__.setdefault("_generating", Compiled())
        key = (job.key, factory, self.config.to_json_string())
        if key not in held:

            def run(params: Any, ids: Any, inputs: Any, length: Any, limit: Any, state: Any) -> Any:
                draws = None if factory is None else (factory, state)
                return vars(job.run(self._call_of(params), ids, inputs, length, limit, draws))

            held[key] = jax.jit(run)
        return Found(**held[key](asked.params, ids, inputs, length, limit, state))


class FlaxGenerationMixin(Generates):
    """A base class that says that a model generates, as in transformers 4; `FlaxPreTrainedModel` has its methods."""


class _Native:
    """Draws of `jax.random` under a key."""

    def __init__(self, ops: Any, key: Any) -> None:
        self.key = key

    def one(self, scores: jax.Array, step: Any) -> jax.Array:
        return jax.random.categorical(jax.random.fold_in(self.key, step), scores)

    def several(self, scores: jax.Array, count: int, step: Any) -> jax.Array:
        noise = jax.random.gumbel(jax.random.fold_in(self.key, step), scores.shape)
        return jax.lax.top_k(scores + noise, count)[1]
