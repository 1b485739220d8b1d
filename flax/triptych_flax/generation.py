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
from triptych.generation.own_steps import PreparedSteps
from triptych.generation.steps import FixedSteps, Steps
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
        """Return texts that go on from prompts.

        How they are searched for is said by the parameters of `GenerationConfig`: those among `kwargs`, else those of
        `generation_config`, else the model's own. B prompts of P tokens become R rows, B times the beams, of L tokens
        so far; V is the size of the vocabulary. What is computed in which way, and what is refused: docs/generation.md.

        Args:
            input_ids: the prompts, int [B, P]: of a decoder, padded on the left, or what an encoder reads. They may be
                passed by the model's name for them instead, or as `inputs_embeds`; where there are none, `bos_token_id`
                is the prompt.
            generation_config: a `GenerationConfig`, or a mapping, in the place of the model's own.
            prng_key: a key of `jax.random`, by which tokens are drawn where there is no `seed`; by default
                `PRNGKey(0)`, so that two calls draw the same.
            trace: compile the search: one compilation serves prompts, and texts, of up to 64 tokens, another those of
                up to 128, and so on. Where a streamer, criteria, an assistant or a record of scores and states needs a
                loop of Python, the calls of the model are compiled. False: nothing is.
            params: parameters of the model; by default its own.
            logits_processor: processors of your own, called with `(input_ids, scores, cur_len)`, int [R, L], a buffer
                of which `cur_len` columns are filled, and float [R, V]; they return new scores. They come after those
                that the config asks for, and before temperature, top_k and the like.
            seed: an integer from 0 to 2^64 - 1, by which tokens are drawn: Threefry-2x32 (Salmon et al., "Parallel
                random numbers: as easy as 1, 2, 3", 2011), the same text in the three frameworks. None: `prng_key`.
            stopping_criteria: called after each token with `(input_ids, scores)`, int [R, L] and a tuple of the scores
                that are kept, or None; they return a bool, or bool [R]: which rows end.
            prefix_allowed_tokens_fn: from the number of a prompt in the batch and its tokens so far, int [L], to a list
                of those that may come next.
            assistant_model: a smaller model of the same vocabulary that proposes tokens, for one text. The text is that
                which there is without one.
            streamer: gets the prompts and then each token, by `put` and `end`; or a function of the new tokens alone,
                NumPy's int [R].
            negative_prompt_ids, negative_prompt_attention_mask: int [B, N], what `guidance_scale` leads away from; by
                default the last token of each prompt.
            use_model_defaults: whether parameters that `generation_config` leaves at their defaults are the model's;
                None: if transformers 4.50 or later saved these. Special tokens are always.
            tokenizer: needed by `stop_strings` and `token_healing`.
            kwargs: parameters of the config, and further inputs of the model, such as `attention_mask`, int [B, P].

        Returns:
            An output of `triptych.generation.outputs`: `sequences` int32 [B * num_return_sequences, L]: the prompts
            (where there is an encoder: the decoder's first tokens), what was generated, and padding behind it, up to
            the greatest length; of beams `scores`, and what else is asked for.

        Raises:
            ArgumentError: an argument is impossible or unknown, the prompts have a wrong shape or leave no room, or
                what is asked for is not to be had.
            ConfigError: parameters that cannot be meant, or that contradict each other.
            MissingMethodError: the class does not score the next token.
        """
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
    """A base class by the name that it has in transformers 4. `FlaxPreTrainedModel` has all its methods: `generate`,
    what authors override for it (`prepare_inputs_for_generation`, `update_inputs_for_generation`) and
    `compute_transition_scores`. A class says that it generates by a `prepare_inputs_for_generation` of its own."""


class _Native:
    """Draws of `jax.random` under a key."""

    def __init__(self, ops: Any, key: Any) -> None:
        self.key = key

    def one(self, scores: jax.Array, step: Any) -> jax.Array:
        return jax.random.categorical(jax.random.fold_in(self.key, step), scores)

    def several(self, scores: jax.Array, count: int, step: Any) -> jax.Array:
        noise = jax.random.gumbel(jax.random.fold_in(self.key, step), scores.shape)
        return jax.lax.top_k(scores + noise, count)[1]
