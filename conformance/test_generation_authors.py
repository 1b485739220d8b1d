"""Classes of authors, as transformers 4 has them: they say how they are called, and hold caches of their own.

One model three times: words and places are added, and each token sees those before it once. NumPy computes it, too.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from triptych.modeling_flax_outputs import FlaxCausalLMOutputWithCrossAttentions
from triptych.modeling_outputs import CausalLMOutputWithPast
from triptych.modeling_tf_outputs import TFCausalLMOutputWithPast

from triptych import (
    DynamicCache,
    FlaxPreTrainedModel,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
    TFPreTrainedModel,
)

WORDS, PLACES, WIDTH = 13, 16, 5
IDS = np.array([[3, 5, 9], [7, 2, 4]])
NEW, BEAMS = 6, 3


class MineConfig(PretrainedConfig):
    model_type = "mine-generating"

    def __init__(self, vocab_size: int = WORDS, **kwargs: Any) -> None:
        self.vocab_size = vocab_size
        super().__init__(**{"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0, "use_cache": True, **kwargs})


@functools.cache
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    shapes = {"words": (WORDS, WIDTH), "places": (PLACES, WIDTH), "mix": (WIDTH, WIDTH)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def log_probs(ids: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities of the token after `ids` [R, L], [R, V], without a cache."""
    words, places, mix = weights().values()
    hidden = words[ids] + places[: ids.shape[1]]
    keys = hidden @ mix
    scores = np.einsum("rd,rld->rl", hidden[:, -1], keys)
    share = np.exp(scores - scores.max(-1, keepdims=True))
    logits = np.einsum("rl,rld->rd", share / share.sum(-1, keepdims=True), keys) @ words.T
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def by_hand(beams: int) -> np.ndarray:
    """Return the best texts, of all that a beam of this width finds."""
    best = []
    for prompt in IDS:
        texts, scores = prompt[None], np.zeros(1)
        for _ in range(NEW):
            every = (scores[:, None] + log_probs(texts)).ravel()
            chosen = np.argsort(-every, kind="stable")[:beams]
            texts = np.concatenate([texts[chosen // WORDS], chosen[:, None] % WORDS], 1)
            scores = every[chosen]
        best.append(texts[0])
    return np.stack(best)


# -- PyTorch --------------------------------------------------------------------------------------------------------


class Mine(PreTrainedModel, GenerationMixin):
    """Its cache is a tuple for each layer."""

    config_class = MineConfig
    base_model_prefix = "mine"

    def __init__(self, config: MineConfig) -> None:
        super().__init__(config)
        self.words = torch.nn.Embedding(WORDS, WIDTH)
        self.places = torch.nn.Embedding(PLACES, WIDTH)
        self.mix = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.post_init()

    def forward(self, input_ids: Any, past_key_values: Any = None, use_cache: Any = None, **others: Any) -> Any:
        past = self.length_of(past_key_values)
        hidden = self.words(input_ids) + self.places(torch.arange(past, past + input_ids.shape[1]))
        keys = self.mix(hidden)[:, None]
        keys, values, past_key_values = self.joined(past_key_values, keys, keys)
        scores = hidden[:, None, -1:] @ keys.mT
        mixed = torch.softmax(scores, -1) @ values
        return CausalLMOutputWithPast(
            logits=mixed[:, 0] @ self.words.weight.T, past_key_values=past_key_values if use_cache else None
        )

    def length_of(self, past: Any) -> int:
        return 0 if past is None else past[0][0].shape[2]

    def joined(self, past: Any, keys: Any, values: Any) -> Any:
        if past is not None:
            keys, values = torch.cat([past[0][0], keys], 2), torch.cat([past[0][1], values], 2)
        return keys, values, ((keys, values),)

    def prepare_inputs_for_generation(self, input_ids: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        if past_key_values is not None:
            input_ids = input_ids[:, -1:]
        return {"input_ids": input_ids, "past_key_values": past_key_values, "use_cache": kwargs.get("use_cache")}

    @staticmethod
    def _reorder_cache(past: Any, beam_idx: Any) -> Any:
        return tuple(tuple(state.index_select(0, beam_idx) for state in layer) for layer in past)


class MineOfObjects(Mine):
    """Its cache is a `DynamicCache`, with the base class's order of beams."""

    _reorder_cache = PreTrainedModel._reorder_cache  # type: ignore[assignment]

    def length_of(self, past: Any) -> int:
        return 0 if past is None else int(past.get_seq_length())

    def joined(self, past: Any, keys: Any, values: Any) -> Any:
        past = DynamicCache() if past is None else past
        return *past.update(keys, values, 0), past


def torch_model(cls: Any = Mine) -> Any:
    model = cls(MineConfig()).eval()
    values = {name: torch.tensor(value) for name, value in weights().items()}
    named = {"words.weight": values["words"], "places.weight": values["places"], "mix.weight": values["mix"].T}
    model.load_state_dict(named)
    return model


# -- TensorFlow -----------------------------------------------------------------------------------------------------


class TFMine(TFPreTrainedModel):
    config_class = MineConfig
    base_model_prefix = "mine"

    def build(self, input_shape: Any = None) -> None:
        if not self.built:
            self.built = True
            for name, value in weights().items():
                setattr(self, name, self.add_weight(name=name, shape=value.shape, initializer="zeros"))

    def call(self, input_ids: Any, past_key_values: Any = None, use_cache: Any = None, **others: Any) -> Any:
        past = 0 if past_key_values is None else past_key_values[0][0].shape[2]
        length = input_ids.shape[1]
        hidden = tf.gather(self.words, input_ids) + self.places[past : past + length]
        keys = (hidden @ self.mix)[:, None]
        if past_key_values is not None:
            keys = tf.concat([past_key_values[0][0], keys], 2)
        mixed = tf.nn.softmax(tf.matmul(hidden[:, None, -1:], keys, transpose_b=True)) @ keys
        logits = tf.matmul(mixed[:, 0], self.words, transpose_b=True)
        return TFCausalLMOutputWithPast(logits=logits, past_key_values=((keys, keys),) if use_cache else None)

    def prepare_inputs_for_generation(self, inputs: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        if past_key_values is not None:
            inputs = inputs[:, -1:]
        return {"input_ids": inputs, "past_key_values": past_key_values, "use_cache": kwargs.get("use_cache")}


def keras_model() -> Any:
    model = TFMine(MineConfig())
    model.build()
    for name, value in weights().items():
        getattr(model, name).assign(keras.ops.convert_to_tensor(value))
    return model


# -- JAX ------------------------------------------------------------------------------------------------------------


class FlaxMineModule(linen.Module):
    config: MineConfig

    @linen.compact
    def __call__(self, input_ids: Any, position_ids: Any, init_cache: bool = False) -> Any:
        zeros = linen.initializers.zeros
        words, places, mix = (self.param(name, zeros, value.shape) for name, value in weights().items())
        hidden = words[input_ids] + places[position_ids]
        keys = hidden @ mix
        visible = jnp.arange(keys.shape[1])[None] <= position_ids[:, -1:]
        if init_cache or self.has_variable("cache", "cached_key"):
            begun = self.has_variable("cache", "cached_key")
            cached = self.variable("cache", "cached_key", jnp.zeros, keys.shape, keys.dtype)
            index = self.variable("cache", "cache_index", lambda: jnp.array(0, jnp.int32))
            if begun:
                cached.value = jax.lax.dynamic_update_slice(cached.value, keys, (0, index.value, 0))
                index.value = index.value + keys.shape[1]
                keys = cached.value
                visible = jnp.arange(keys.shape[1])[None] < index.value
        scores = jnp.einsum("rd,rld->rl", hidden[:, -1], keys)
        share = jax.nn.softmax(jnp.where(visible, scores, -1e9))
        return jnp.einsum("rl,rld->rd", share, keys)[:, None] @ words.T + jnp.zeros((1, input_ids.shape[1], 1))


class FlaxMine(FlaxPreTrainedModel):
    config_class = MineConfig
    base_model_prefix = "mine"
    module_class = FlaxMineModule

    def __init__(self, config: MineConfig, **kwargs: Any) -> None:
        super().__init__(config, self.module_class(config=config), input_shape=(1, 2), **kwargs)

    def init_weights(self, rng: Any, input_shape: Any, params: Any = None) -> Any:
        ids = jnp.zeros(input_shape, "i4")
        return self.module.init(rng, ids, ids)["params"]

    def init_cache(self, batch_size: int, max_length: int) -> Any:
        ids = jnp.ones((batch_size, max_length), "i4")
        return self.module.init(jax.random.PRNGKey(0), ids, ids * 0, init_cache=True)["cache"]

    def __call__(
        self, input_ids: Any, position_ids: Any = None, past_key_values: Any = None, params: Any = None, **others: Any
    ) -> Any:
        variables = {"params": self.params if params is None else params, "cache": past_key_values}
        logits, state = self.module.apply(variables, input_ids, position_ids, mutable=["cache"])
        return FlaxCausalLMOutputWithCrossAttentions(logits=logits, past_key_values=state["cache"])

    def prepare_inputs_for_generation(self, input_ids: Any, max_length: int, attention_mask: Any = None) -> Any:
        rows, length = input_ids.shape
        places = jnp.broadcast_to(jnp.arange(length), (rows, length))
        return {"past_key_values": self.init_cache(rows, max_length), "position_ids": places}

    def update_inputs_for_generation(self, model_outputs: Any, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        places = model_kwargs["position_ids"][:, -1:] + 1
        return {**model_kwargs, "past_key_values": model_outputs.past_key_values, "position_ids": places}


def flax_model() -> Any:
    model = FlaxMine(MineConfig())
    model.params = {name: jnp.asarray(value) for name, value in weights().items()}
    return model


MODELS = {
    "tuples": torch_model,
    "DynamicCache": functools.partial(torch_model, MineOfObjects),
    "Keras": keras_model,
    "Flax": flax_model,
}


@pytest.mark.parametrize("kind", MODELS)
def test_it_generates_as_a_plain_loop(kind: str) -> None:
    model = MODELS[kind]()
    ids = torch.from_numpy(IDS) if isinstance(model, Mine) else IDS
    assert model.can_generate()
    for beams in (1, BEAMS):
        found = model.generate(ids, max_new_tokens=NEW, num_beams=beams, do_sample=False)
        np.testing.assert_array_equal(np.asarray(getattr(found, "sequences", found)), by_hand(beams), f"{beams} beams")
    assert (by_hand(1) != by_hand(BEAMS)).any()
