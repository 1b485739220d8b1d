"""A Keras model of an author for the probes, written as for transformers 4 and Keras 2."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from triptych import (
    PretrainedConfig,
    TFPreTrainedModel,
)
from triptych.nn.outputs import BaseModelOutput, MaskedLMOutput
from triptych_tf import utilities as tfu

IDS = np.array([[1, 2, 3], [4, 5, 0]])


class OwnConfig(PretrainedConfig):
    model_type = "own-tf"

    def __init__(self, vocab_size: int = 11, hidden_size: int = 6, num_hidden_layers: int = 2, **kwargs: Any) -> None:
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        super().__init__(**kwargs)


class TFOwnEmbeddings(keras.layers.Layer):
    def __init__(self, config: OwnConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config, self.vocab_size = config, config.vocab_size
        self.LayerNorm = keras.layers.LayerNormalization(epsilon=1e-6, name="LayerNorm")
        self.dropout = keras.layers.Dropout(rate=0.1)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        with tf.name_scope("word_embeddings"):
            self.weight = self.add_weight(
                name="weight",
                shape=[self.config.vocab_size, self.config.hidden_size],
                initializer=tfu.get_initializer(1.0),
            )
        with tf.name_scope("token_type_embeddings"):
            self.token_type_embeddings = self.add_weight(
                name="embeddings", shape=[2, self.config.hidden_size], initializer=tfu.get_initializer(1.0)
            )
        if getattr(self, "LayerNorm", None) is not None:
            with tf.name_scope(self.LayerNorm.name):
                self.LayerNorm.build([None, None, self.config.hidden_size])

    def call(self, input_ids: Any, token_type_ids: Any = None, training: bool = False) -> Any:
        tfu.check_embeddings_within_bounds(input_ids, self.config.vocab_size)
        if token_type_ids is None:
            token_type_ids = tf.fill(dims=tfu.shape_list(input_ids), value=0)
        found = tf.gather(params=self.weight, indices=input_ids)
        found += tf.gather(params=self.token_type_embeddings, indices=token_type_ids)
        return self.dropout(self.LayerNorm(inputs=found), training=training)


class TFOwnLayer(keras.layers.Layer):
    def __init__(self, config: OwnConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.dense = keras.layers.Dense(config.hidden_size, kernel_initializer=tfu.get_initializer(1.0), name="dense")

    def call(self, hidden_states: Any, attention_mask: Any, output_attentions: bool, training: bool = False) -> Any:
        assert output_attentions in (True, False)
        return (tf.tanh(self.dense(inputs=hidden_states)) + hidden_states,)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        if getattr(self, "dense", None) is not None:
            with tf.name_scope(self.dense.name):
                self.dense.build([None, None, self.config.hidden_size])


@tfu.keras_serializable
class TFOwnMainLayer(keras.layers.Layer):
    config_class = OwnConfig

    def __init__(self, config: OwnConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.embeddings = TFOwnEmbeddings(config, name="embeddings")
        self.layer = [TFOwnLayer(config, name=f"layer_._{i}") for i in range(config.num_hidden_layers)]

    def get_input_embeddings(self) -> Any:
        return self.embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.embeddings.weight = value
        self.embeddings.vocab_size = tfu.shape_list(value)[0]

    @tfu.unpack_inputs
    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Any:
        if input_ids is None:
            raise ValueError("You have to specify input_ids")
        states = [self.embeddings(input_ids, token_type_ids, training=training)]
        for layer in self.layer:
            states.append(layer(states[-1], attention_mask, output_attentions, training=training)[0])
        if not return_dict:
            return tuple(
                one for one in (states[-1], tuple(states) if output_hidden_states else None) if one is not None
            )
        return BaseModelOutput(
            last_hidden_state=states[-1], hidden_states=tuple(states) if output_hidden_states else None
        )

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        for part in (self.embeddings, *self.layer):
            with tf.name_scope(part.name):
                part.build(None)


class TFOwnPreTrainedModel(TFPreTrainedModel):
    config_class = OwnConfig
    base_model_prefix = "own"


class TFOwnModel(TFOwnPreTrainedModel):
    def __init__(self, config: OwnConfig, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.own = TFOwnMainLayer(config, name="own")

    @tfu.unpack_inputs
    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = False,
    ) -> Any:
        return self.own(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            training=training,
        )

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        if getattr(self, "own", None) is not None:
            with tf.name_scope(self.own.name):
                self.own.build(None)


class TFOwnHead(keras.layers.Layer):
    def __init__(self, config: OwnConfig, input_embeddings: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config, self.input_embeddings = config, input_embeddings

    def build(self, input_shape: Any = None) -> None:
        self.bias = self.add_weight(shape=(self.config.vocab_size,), initializer="zeros", trainable=True, name="bias")
        super().build(input_shape)

    def get_output_embeddings(self) -> Any:
        return self.input_embeddings

    def set_output_embeddings(self, value: Any) -> None:
        self.input_embeddings.weight = value

    def get_bias(self) -> dict[str, Any]:
        return {"bias": self.bias}

    def call(self, hidden_states: Any) -> Any:
        length = tfu.shape_list(tensor=hidden_states)[1]
        hidden_states = tf.reshape(tensor=hidden_states, shape=[-1, self.config.hidden_size])
        scores = tf.matmul(a=hidden_states, b=self.input_embeddings.weight, transpose_b=True)
        scores = tf.reshape(tensor=scores, shape=[-1, length, self.config.vocab_size])
        return tf.nn.bias_add(value=scores, bias=self.bias)


class TFOwnForMaskedLM(TFOwnPreTrainedModel, tfu.TFMaskedLanguageModelingLoss):
    _keys_to_ignore_on_load_unexpected = [r"pooler"]

    def __init__(self, config: OwnConfig, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.own = TFOwnMainLayer(config, name="own")
        self.mlm = TFOwnHead(config, input_embeddings=self.own.embeddings, name="mlm___cls")

    def get_lm_head(self) -> Any:
        return self.mlm

    @tfu.unpack_inputs
    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        return_dict: bool | None = None,
        labels: Any = None,
        training: bool | None = False,
    ) -> Any:
        states = self.own(input_ids, attention_mask, token_type_ids, return_dict=return_dict, training=training)[0]
        logits = self.mlm(states)
        loss = None if labels is None else self.hf_compute_loss(labels=labels, logits=logits)
        if not return_dict:
            return (logits,) if loss is None else (loss, logits)
        return MaskedLMOutput(loss=loss, logits=logits)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        for part in (self.own, self.mlm):
            with tf.name_scope(part.name):
                part.build(None)


NAMES = {
    "own.embeddings.word_embeddings.weight",
    "own.embeddings.token_type_embeddings.weight",
    "own.embeddings.LayerNorm.weight",
    "own.embeddings.LayerNorm.bias",
    *(f"own.layer.{i}.dense.{leaf}" for i in (0, 1) for leaf in ("weight", "bias")),
    "cls.bias",
}


def own(**fields: Any) -> Any:
    return TFOwnForMaskedLM(OwnConfig(**fields))
