"""The searches of transformers 4 that were methods of their own, and are deprecated there: `generate` with a config."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.generation.config import GenerationConfig

_OF_THE_CONFIG = (
    "max_length", "length_penalty", "early_stopping", "num_return_sequences", "pad_token_id", "eos_token_id",
    "output_attentions", "output_hidden_states", "output_scores", "return_dict_in_generate",
)  # fmt: skip
"""What the searches take of the model's generation config where it is not given."""


class Searches:
    """Part of `TFPreTrainedModel`.

    Arguments that they share: `input_ids` are the texts so far, of an encoder-decoder its decoder's, which needs
    `encoder_outputs`; `logits_processor` and `logits_warper` change the scores, and what the model's generation config
    says of them is not heeded; `max_length` and tokens that are not given are its. Further arguments are the model's.
    They return what `generate` returns, and raise what it raises.
    """

    generation_config: Any

    def greedy_search(
        self,
        input_ids: Any,
        max_length: int | None = None,
        pad_token_id: int | None = None,
        eos_token_id: Any = None,
        logits_processor: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_scores: bool | None = None,
        return_dict_in_generate: bool | None = None,
        **model_kwargs: Any,
    ) -> Any:
        """Return texts of the best token at each place."""
        return self._searched(
            input_ids, model_kwargs, [logits_processor], max_length=max_length, pad_token_id=pad_token_id,
            eos_token_id=eos_token_id, output_attentions=output_attentions, output_hidden_states=output_hidden_states,
            output_scores=output_scores, return_dict_in_generate=return_dict_in_generate,
        )  # fmt: skip

    def sample(
        self,
        input_ids: Any,
        logits_processor: Any = None,
        logits_warper: Any = None,
        max_length: int | None = None,
        pad_token_id: int | None = None,
        eos_token_id: Any = None,
        seed: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_scores: bool | None = None,
        return_dict_in_generate: bool | None = None,
        **model_kwargs: Any,
    ) -> Any:
        """Return texts of tokens that are drawn."""
        return self._searched(
            input_ids, {**model_kwargs, "seed": seed}, [logits_processor, logits_warper], do_sample=True, top_k=0,
            max_length=max_length, pad_token_id=pad_token_id, eos_token_id=eos_token_id,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
            output_scores=output_scores, return_dict_in_generate=return_dict_in_generate,
        )  # fmt: skip

    def beam_search(
        self,
        input_ids: Any,
        do_sample: bool = False,
        max_length: int | None = None,
        pad_token_id: int | None = None,
        eos_token_id: Any = None,
        length_penalty: float | None = None,
        early_stopping: bool | str | None = None,
        logits_processor: Any = None,
        logits_warper: Any = None,
        num_return_sequences: int | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_scores: bool | None = None,
        return_dict_in_generate: bool | None = None,
        **model_kwargs: Any,
    ) -> Any:
        """Return the texts of the best beams. `input_ids` are [B, num_beams, L], and further arguments of the model
        [B, num_beams, ...], of which the first beam counts.

        Raises:
            ArgumentError: the shape is another.
        """
        beams = tf.convert_to_tensor(input_ids)
        shape = tuple(beams.shape)
        if len(shape) != 3:
            raise ArgumentError("Beams of another shape.", expected="[B, num_beams, L]", received=str(shape))

        def first(value: Any) -> Any:
            return value[:, 0] if tf.is_tensor(value) and tuple(value.shape[:2]) == shape[:2] else value

        return self._searched(
            first(beams), tf.nest.map_structure(first, model_kwargs),
            [logits_processor, logits_warper], num_beams=shape[1], do_sample=do_sample, top_k=0 if do_sample else None,
            max_length=max_length, pad_token_id=pad_token_id, eos_token_id=eos_token_id, length_penalty=length_penalty,
            early_stopping=early_stopping, num_return_sequences=num_return_sequences,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
            output_scores=output_scores, return_dict_in_generate=return_dict_in_generate,
        )  # fmt: skip

    def contrastive_search(
        self,
        input_ids: Any,
        top_k: int | None = 1,
        penalty_alpha: float | None = 0,
        logits_processor: Any = None,
        logits_warper: Any = None,
        max_length: int | None = None,
        pad_token_id: int | None = None,
        eos_token_id: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_scores: bool | None = None,
        return_dict_in_generate: bool | None = None,
        **model_kwargs: Any,
    ) -> Any:
        """Return texts of tokens that are probable, and not like the text before them."""
        return self._searched(
            input_ids, model_kwargs, [logits_processor, logits_warper], top_k=top_k, penalty_alpha=penalty_alpha,
            max_length=max_length, pad_token_id=pad_token_id, eos_token_id=eos_token_id,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
            output_scores=output_scores, return_dict_in_generate=return_dict_in_generate,
        )  # fmt: skip

    def _searched(self, ids: Any, inputs: dict[str, Any], processors: list[Any], **options: Any) -> Any:
        own = {name: getattr(self.generation_config, name) for name in _OF_THE_CONFIG}
        given = {name: value for name, value in options.items() if value is not None}
        name = "decoder_input_ids" if self._encodes() else "input_ids"  # type: ignore[attr-defined]
        every = [one for some in processors if some is not None for one in some]
        return self.generate(  # type: ignore[attr-defined]
            generation_config=GenerationConfig(**{**own, **given}), use_model_defaults=False, logits_processor=every,
            **{name: ids, **inputs},
        )  # fmt: skip

    @property
    def seed_generator(self) -> tf.random.Generator:
        """A generator of random numbers of the model's own, which begins anywhere. `generate` does not draw of it."""
        if "_seed_generator" not in self.__dict__:  # not by setattr: Keras would track it
            self.__dict__["_seed_generator"] = tf.random.Generator.from_non_deterministic_state()
        return self.__dict__["_seed_generator"]  # type: ignore[no-any-return]
