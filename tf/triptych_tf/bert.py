"""BERT in Keras. Names of layers are the canonical names of `triptych.families.bert`."""

from __future__ import annotations

from typing import Any

import keras

from triptych import functional as fn
from triptych import outputs
from triptych.families.bert import BertConfig, heads_axis
from triptych.heads import task_output
from triptych_tf import ops
from triptych_tf.layers import LEVEL, TFBlock, build_parts, dense, embedding, layer_norm, replace_layer
from triptych_tf.modeling import TFPreTrainedModel

__all__ = [
    "TFBertPreTrainedModel",
    "TFBertModel",
    "TFBertForMaskedLM",
    "TFBertForSequenceClassification",
    "TFBertForTokenClassification",
    "TFBertForQuestionAnswering",
]


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


class TFBertPreTrainedModel(TFPreTrainedModel):
    """Base of the BERT classes."""

    config_class = BertConfig
    base_model_prefix = "bert"

    def build(self, input_shape: Any = None) -> None:
        build_parts(self)


class TFBertModel(TFBertPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.embeddings = TFBertEmbeddings(config, "embeddings")
        self.encoder = TFBertEncoder(config, "encoder")
        self.pooler = TFBertActivated(config, config.hidden_size, "tanh", "pooler") if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> keras.layers.Layer:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: keras.layers.Layer) -> None:
        replace_layer(self.embeddings, "word_embeddings", value)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = None,
    ) -> Any:
        """Return `BaseModelOutputWithPooling`. Ids are integers [B, Q], `inputs_embeds` [B, Q, H]."""
        fn.one_input(input_ids, inputs_embeds)
        flags = fn.output_flags(self.config, output_attentions, output_hidden_states, return_dict)
        hidden = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        bias = fn.padding_bias(ops, attention_mask, hidden.dtype)
        masks = fn.head_masks(ops, head_mask, self.config, hidden.dtype)
        states, attentions = self.encoder(hidden, bias, masks)
        result = outputs.BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=None if self.pooler is None else self.pooler(states[-1][:, 0]),
            hidden_states=states if flags[1] else None,
            attentions=attentions if flags[0] else None,
        )
        return result if flags[2] else result.to_tuple()


class TFBertWithHead(TFBertPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        pooler = self.task == "SequenceClassification"
        self.bert = TFBertModel(config, add_pooling_layer=pooler, name="bert", dtype=self.dtype_policy)
        self.dropout = keras.layers.Dropout(config.head_dropout)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: BertConfig) -> None:
        self.classifier = dense(config.hidden_size, config.num_labels, config.initializer_range, "classifier")

    def score(self, backbone: Any) -> Any:
        return self.classifier(self.dropout(backbone.last_hidden_state))

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = None,
    ) -> Any:
        """Return logits, and with `labels` the loss; see `triptych.heads.task_output`."""
        backbone = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        return task_output(ops, self.config, self.task, self.score(backbone), labels, backbone, return_dict)


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


class TFBertForMaskedLM(TFBertWithHead):
    """BERT that predicts masked tokens; the decoder is tied to the word embeddings unless the config says not."""

    task = "MaskedLM"

    def build_head(self, config: BertConfig) -> None:
        self.cls = TFBertOnlyMLMHead(config, "cls")

    def score(self, backbone: Any) -> Any:
        table = keras.ops.convert_to_tensor(self.get_input_embeddings().embeddings)
        return self.cls(backbone.last_hidden_state, table)

    def get_output_embeddings(self) -> keras.layers.Layer:
        return self.cls.predictions.decoder or self.get_input_embeddings()

    def set_output_embeddings(self, new_embeddings: keras.layers.Layer) -> None:
        if self.cls.predictions.decoder is None:
            self.set_input_embeddings(new_embeddings)
        else:
            replace_layer(self.cls.predictions, "decoder", new_embeddings)


class TFBertForSequenceClassification(TFBertWithHead):
    """BERT that classifies or scores a text, from the pooled first token."""

    task = "SequenceClassification"

    def score(self, backbone: Any) -> Any:
        return self.classifier(self.dropout(backbone.pooler_output))


class TFBertForTokenClassification(TFBertWithHead):
    """BERT that classifies every token."""

    task = "TokenClassification"


class TFBertForQuestionAnswering(TFBertWithHead):
    """BERT that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: BertConfig) -> None:
        self.qa_outputs = dense(config.hidden_size, config.num_labels, config.initializer_range, "qa_outputs")

    def score(self, backbone: Any) -> Any:
        return self.qa_outputs(backbone.last_hidden_state)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = None,
    ) -> Any:
        """Return start and end logits, and with both positions the loss."""
        # int32: TensorFlow compares only equal types, and a length known only at run time is an int32.
        start, end = (p if p is None else ops.cast(p, "int32") for p in (start_positions, end_positions))
        return super().call(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            (start, end), output_attentions, output_hidden_states, return_dict,
        )  # fmt: skip
