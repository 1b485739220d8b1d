"""The blocks of BERT in Keras. Names of layers are the canonical names of `triptych.families.bert`."""

from __future__ import annotations

from typing import Any

import keras

from triptych import functional as fn
from triptych.families.bert import BertConfig, heads_axis
from triptych_tf import ops
from triptych_tf.layers import LEVEL, TFBlock, dense, embedding, layer_norm


class TFBertEmbeddings(TFBlock):
    def __init__(self, config: BertConfig, name: str) -> None:
        super().__init__(name=name)
        width, std = config.hidden_size, config.initializer_range
        self.word_embeddings = embedding(config.vocab_size, width, std, "word_embeddings")
        self.position_embeddings = embedding(config.max_position_embeddings, width, std, "position_embeddings")
        self.token_type_embeddings = embedding(config.type_vocab_size, width, std, "token_type_embeddings")
        self.LayerNorm = layer_norm(width, config.layer_norm_eps)
        self.dropout = keras.layers.Dropout(config.hidden_dropout_prob)

    def call(self, input_ids: Any, token_type_ids: Any, position_ids: Any, inputs_embeds: Any) -> Any:
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        positions = fn.positions(ops, words) if position_ids is None else position_ids
        types = ops.zeros_like(positions) if token_type_ids is None else token_type_ids
        total = words + self.token_type_embeddings(types) + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(total))


class TFBertSelfAttention(TFBlock):
    def __init__(self, config: BertConfig, layer: int, name: str) -> None:
        super().__init__(name=name)
        self.head_dim = config.head_dim
        sizes = (config.hidden_size, heads_axis(config, layer).length, config.initializer_range)
        self.query = dense(*sizes, "query")
        self.key = dense(*sizes, "key")
        self.value = dense(*sizes, "value")
        self.dropout = keras.layers.Dropout(config.attention_probs_dropout_prob)

    def call(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        query, key, value = (fn.split_heads(ops, f(hidden), self.head_dim) for f in (self.query, self.key, self.value))
        scale = self.head_dim**-0.5
        context, probabilities = fn.attend(ops, query, key, value, bias, scale, self.dropout, head_mask)
        return fn.merge_heads(ops, context, self.query.units), probabilities


class TFBertResidual(TFBlock):
    """Projection, dropout, and the norm of the sum with the residual."""

    def __init__(self, config: BertConfig, width: int, name: str) -> None:
        super().__init__(name=name)
        self.dense = dense(width, config.hidden_size, config.initializer_range, "dense")
        self.LayerNorm = layer_norm(config.hidden_size, config.layer_norm_eps)
        self.dropout = keras.layers.Dropout(config.hidden_dropout_prob)

    def call(self, hidden: Any, residual: Any) -> Any:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class TFBertAttention(TFBlock):
    def __init__(self, config: BertConfig, layer: int, name: str) -> None:
        super().__init__(name=name)
        self.self = TFBertSelfAttention(config, layer, "self")
        # Keras keeps the attribute `output` for itself.
        self.residual = TFBertResidual(config, heads_axis(config, layer).length, "output")

    def call(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        context, probabilities = self.self(hidden, bias, head_mask)
        return self.residual(context, hidden), probabilities


class TFBertActivated(TFBlock):
    """Projection and activation."""

    def __init__(self, config: BertConfig, width: int, activation: str, name: str) -> None:
        super().__init__(name=name)
        self.activation = activation
        self.dense = dense(config.hidden_size, width, config.initializer_range, "dense")

    def call(self, hidden: Any) -> Any:
        return fn.activation(ops, self.activation, self.dense(hidden))


class TFBertLayer(TFBlock):
    def __init__(self, config: BertConfig, layer: int, name: str) -> None:
        super().__init__(name=name)
        self.attention = TFBertAttention(config, layer, "attention")
        self.intermediate = TFBertActivated(config, config.intermediate_size, config.hidden_act, "intermediate")
        self.residual = TFBertResidual(config, config.intermediate_size, "output")

    def call(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        attended, probabilities = self.attention(hidden, bias, head_mask)
        return self.residual(self.intermediate(attended), attended), probabilities


class TFBertEncoder(TFBlock):
    def __init__(self, config: BertConfig, name: str) -> None:
        super().__init__(name=name)
        self.layer = [TFBertLayer(config, i, f"layer{LEVEL}{i}") for i in range(config.num_hidden_layers)]

    def call(self, hidden: Any, bias: Any, head_masks: list[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        states, attentions = [hidden], []
        for layer, head_mask in zip(self.layer, head_masks, strict=True):
            hidden, probabilities = layer(hidden, bias, head_mask)
            states.append(hidden)
            attentions.append(probabilities)
        return tuple(states), tuple(attentions)


class TFBertPredictionTransform(TFBlock):
    def __init__(self, config: BertConfig, name: str) -> None:
        super().__init__(name=name)
        self.activation = config.hidden_act
        self.dense = dense(config.hidden_size, config.hidden_size, config.initializer_range, "dense")
        self.LayerNorm = layer_norm(config.hidden_size, config.layer_norm_eps)

    def call(self, hidden: Any) -> Any:
        return self.LayerNorm(fn.activation(ops, self.activation, self.dense(hidden)))


class TFBertPredictions(TFBlock):
    """Scores from the word embeddings `table` and `bias`, or from a decoder if the config does not tie."""

    def __init__(self, config: BertConfig, name: str) -> None:
        super().__init__(name=name)
        self.vocab_size = config.vocab_size
        self.transform = TFBertPredictionTransform(config, "transform")
        sizes = (config.hidden_size, config.vocab_size, config.initializer_range)
        self.decoder = None if config.tie_word_embeddings else dense(*sizes, "decoder")

    def build(self, input_shape: Any = None) -> None:
        self.bias = self.add_weight(shape=(self.vocab_size,), initializer="zeros", name="bias")
        super().build(input_shape)

    def call(self, hidden: Any, table: Any) -> Any:
        hidden = self.transform(hidden)
        if self.decoder is not None:
            return self.decoder(hidden)
        table = ops.cast(table, hidden.dtype)
        return ops.matmul(hidden, ops.transpose(table, (1, 0))) + ops.cast(self.bias, hidden.dtype)


class TFBertOnlyMLMHead(TFBlock):
    def __init__(self, config: BertConfig, name: str) -> None:
        super().__init__(name=name)
        self.predictions = TFBertPredictions(config, "predictions")

    def call(self, hidden: Any, table: Any) -> Any:
        return self.predictions(hidden, table)
