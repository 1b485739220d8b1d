"""`generate` in TensorFlow: see `triptych.generation.mixin`."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.generation.beams import Found
from triptych.generation.hooks import Hooks
from triptych.generation.job import Compiled, Job
from triptych.generation.mixin import Asked, Generation
from triptych.generation.steps import FixedSteps, HookedSteps, Steps

__all__ = ["TFGenerationMixin"]


class Generates(Hooks, Generation):
    """Part of `TFPreTrainedModel`."""

    @tf.autograph.experimental.do_not_convert
    def generate(
        self,
        inputs: Any = None,
        generation_config: Any = None,
        logits_processor: Any = None,
        seed: Any = None,
        *,
        stopping_criteria: Any = None,
        prefix_allowed_tokens_fn: Any = None,
        assistant_model: Any = None,
        streamer: Any = None,
        negative_prompt_ids: Any = None,
        negative_prompt_attention_mask: Any = None,
        use_model_defaults: bool | None = None,
        tokenizer: Any = None,
        jit_compile: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return texts that go on from prompts."""
        pair = _pair(seed)
        asked = Asked(
            inputs, generation_config, logits_processor, stopping_criteria, prefix_allowed_tokens_fn, streamer,
            assistant_model, negative_prompt_ids, negative_prompt_attention_mask, use_model_defaults, tokenizer,
            noise=(_Native, pair), seed=seed if pair is None else None, compiled=jit_compile,
        )  # fmt: skip
        return self._generate(asked, kwargs)

    def _steps_class(self) -> type[Steps]:
        return HookedSteps if self._has_own_hooks() else FixedSteps

    def _as_ids(self, tokens: Any) -> tf.Tensor:
        return tf.cast(tokens, tf.int32)

    def _run_compiled(
        self, asked: Asked, job: Job, ids: Any, inputs: dict[str, Any], length: int, limit: int, noise: Any
    ) -> Found:
        model: Any = self
        factory, state = (None, ()) if noise is None else (noise[0], () if noise[1] is None else noise[1])
        held = self.__dict__.setdefault("_generating", Compiled())  # not by setattr: Keras would track what is in it
        key = (job.key, factory, self.config.to_json_string())
        if key not in held:

            @tf.function(jit_compile=True, autograph=False)
            def run(ids: Any, inputs: Any, length: Any, limit: Any, state: Any) -> Any:
                draws = None if factory is None else (factory, state if state != () else None)
                found = job.run(model, ids, inputs, length, limit, draws)
                return {name: value for name, value in vars(found).items() if value is not None}

            held[key] = run
        numbers = tf.constant(length), tf.constant(limit)
        return Found(**{"scores": None, "rows": None, **held[key](ids, inputs, *numbers, state)})


class TFGenerationMixin(Generates):
    """A base class that says that a model generates, as in transformers 4; `TFPreTrainedModel` has all its methods."""


def _pair(seed: Any) -> Any:
    """Return a seed of TensorFlow, int32 [2], if it is one."""
    if seed is None or isinstance(seed, (bool, str)) or np.ndim(seed) != 1:
        return None
    if len(seed) != 2:
        raise ArgumentError("seed is impossible.", expected="an integer, or a pair of them", received=repr(seed)[:80])
    return tf.cast(seed, tf.int32)


class _Native:
    """Draws of TensorFlow: by a pair of integers, or by its global generator."""

    def __init__(self, ops: Any, pair: Any) -> None:
        self.pair, self.varies = pair, pair is None

    def one(self, scores: tf.Tensor, step: Any) -> tf.Tensor:
        return tf.argmax(scores + self._noise(scores, step), -1, tf.int32)

    def several(self, scores: tf.Tensor, count: int, step: Any) -> tf.Tensor:
        return tf.math.top_k(scores + self._noise(scores, step), count)[1]

    def _noise(self, scores: tf.Tensor, step: Any) -> tf.Tensor:
        tiny = 1.2e-38
        if self.pair is None:
            uniform = tf.random.uniform(tf.shape(scores), tiny, 1.0)
        else:
            uniform = tf.random.stateless_uniform(tf.shape(scores), self.pair + tf.cast(step, tf.int32), tiny, 1.0)
        return -tf.math.log(-tf.math.log(uniform))
