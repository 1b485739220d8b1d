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
from triptych.generation.own_steps import HookedSteps
from triptych.generation.steps import FixedSteps, Steps
from triptych_tf.placement.placed import one_device

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
        """Return texts that go on from prompts.

        How they are searched for is said by the parameters of `GenerationConfig`: those among `kwargs`, else those of
        `generation_config`, else the model's own. B prompts of P tokens become R rows, B times the beams, of L tokens
        so far; V is the size of the vocabulary. What is computed in which way, and what is refused: docs/generation.md.

        Args:
            inputs: the prompts, int [B, P]: of a decoder, padded on the left, or what an encoder reads. They may be
                passed by the model's name for them instead, or as `inputs_embeds`; where there are none, `bos_token_id`
                is the prompt.
            generation_config: a `GenerationConfig`, or a mapping, in the place of the model's own.
            logits_processor: processors of your own, called with `(input_ids, scores, cur_len)`, int [R, L], a buffer
                of which `cur_len` columns are filled, and float [R, V]; they return new scores. They come after those
                that the config asks for, and before temperature, top_k and the like.
            seed: an integer from 0 to 2^64 - 1, by which tokens are drawn: Threefry-2x32 (Salmon et al., "Parallel
                random numbers: as easy as 1, 2, 3", 2011), the same text in the three frameworks. A pair of integers,
                int32 [2]: TensorFlow's stateless generator, whose numbers are others in a compiled search. None: its
                global one.
            stopping_criteria: called after each token with `(input_ids, scores)`, int [R, L] and a tuple of the scores
                that are kept, or None; they return a bool, or bool [R]: which rows end.
            prefix_allowed_tokens_fn: from the number of a prompt in the batch and its tokens so far, int [L], to a list
                of those that may come next.
            assistant_model: a smaller model of the same vocabulary that proposes tokens, for one text. Greedy search,
                seeds and pairs give the text that there is without one; draws of the global generator give another, of
                the same distribution.
            streamer: gets the prompts and then each token, by `put` and `end`; or a function of the new tokens alone,
                NumPy's int [R].
            negative_prompt_ids, negative_prompt_attention_mask: int [B, N], what `guidance_scale` leads away from; by
                default the last token of each prompt.
            use_model_defaults: whether parameters that `generation_config` leaves at their defaults are the model's;
                None: if transformers 4.50 or later saved these. Special tokens are always.
            tokenizer: needed by `stop_strings` and `token_healing`.
            jit_compile: compile the whole search by XLA: one compilation serves prompts, and texts, of up to 64 tokens,
                another those of up to 128, and so on. A `tf.function` around `generate` compiles it for each shape.
            kwargs: parameters of the config, and further inputs of the model, such as `attention_mask`, int [B, P].

        Returns:
            int32 [B * num_return_sequences, L]: the prompts (where there is an encoder: the decoder's first tokens),
            what was generated, and padding behind it; compiled, up to the greatest length. With
            `return_dict_in_generate=True` an output of `triptych.generation.outputs`, which has this as `sequences`.

        Raises:
            ArgumentError: an argument is impossible or unknown, the prompts have a wrong shape or leave no room, or
                what is asked for is not to be had; a compiled search has no streamer, criteria, assistant, or record of
                scores and states.
            ConfigError: parameters that cannot be meant, or that contradict each other.
            MissingMethodError: the class does not score the next token.
        """
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
                unseeded = isinstance(state, tuple) and not state
                draws = None if factory is None else (factory, None if unseeded else state)
                found = job.run(model, ids, inputs, length, limit, draws)
                return {name: value for name, value in vars(found).items() if value is not None}

            held[key] = run
        with one_device(model):
            numbers = tf.constant(length), tf.constant(limit)
            return Found(**{"scores": None, "rows": None, **held[key](ids, inputs, *numbers, state)})


class TFGenerationMixin(Generates):
    """A base class by the name that it has in transformers 4. `TFPreTrainedModel` has all its methods: `generate`, what
    authors override for it (`prepare_inputs_for_generation`, `_update_model_kwargs_for_generation`, `_reorder_cache`,
    ...) and `compute_transition_scores`. A class says that it generates by a `prepare_inputs_for_generation` of its
    own."""


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
