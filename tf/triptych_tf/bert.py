"""BERT in Keras: the layers, under the canonical names of `triptych.families.bert`."""

from __future__ import annotations

from typing import Any

from triptych.families.bert import BertConfig
from triptych.families.common import heads_axis
from triptych.forward import bert
from triptych.nn import stack as common
from triptych_tf import layers
from triptych_tf.layers import TFBlock
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
    def setup(self) -> None:
        config, width = self.config, self.config.embedding_width
        self.word_embeddings = layers.embedding(self, config.vocab_size, width, padding=config.pad_token_id)
        self.position_embeddings = layers.embedding(self, config.max_position_embeddings, width)
        self.token_type_embeddings = layers.embedding(self, config.type_vocab_size, width)
        self.LayerNorm = layers.layer_norm(self, width, config.layer_norm_eps)
        self.dropout = layers.dropout(self, config.hidden_dropout_prob)

    call = bert.embeddings
    positions = bert.positions


class TFBertSelfAttention(TFBlock):
    def setup(self) -> None:
        width, heads = self.config.hidden_size, heads_axis(self.config, self.index).length
        self.query = layers.dense(self, width, heads)
        self.key = layers.dense(self, width, heads)
        self.value = layers.dense(self, width, heads)
        self.dropout = layers.dropout(self, self.config.attention_probs_dropout_prob)

    call = bert.self_attention


class TFBertResidual(TFBlock):
    width: int = 0

    def setup(self) -> None:
        self.dense = layers.dense(self, self.width, self.config.hidden_size)
        self.LayerNorm = layers.layer_norm(self, self.config.hidden_size, self.config.layer_norm_eps)
        self.dropout = layers.dropout(self, self.config.hidden_dropout_prob)

    call = bert.residual


class TFBertAttention(TFBlock):
    def setup(self) -> None:
        self.self = layers.block(self, TFBertSelfAttention, index=self.index)
        self.output = layers.block(self, TFBertResidual, width=heads_axis(self.config, self.index).length)

    call = bert.attention


class TFBertActivated(TFBlock):
    width: int = 0
    activation: str = ""

    def setup(self) -> None:
        self.dense = layers.dense(self, self.config.hidden_size, self.width)

    call = common.activated


class TFBertLayer(TFBlock):
    def setup(self) -> None:
        width, activation = self.config.intermediate_size, self.config.hidden_act
        self.attention = layers.block(self, TFBertAttention, index=self.index)
        self.intermediate = layers.block(self, TFBertActivated, width=width, activation=activation)
        self.output = layers.block(self, TFBertResidual, width=width)

    call = bert.layer


class TFBertEncoder(TFBlock):
    def setup(self) -> None:
        self.layer = layers.stacked(self, TFBertLayer, self.config.num_hidden_layers)

    call = common.encoder


class TFBertPredictionTransform(TFBlock):
    def setup(self) -> None:
        self.dense = layers.dense(self, self.config.hidden_size, self.config.hidden_size)
        self.LayerNorm = layers.layer_norm(self, self.config.hidden_size, self.config.layer_norm_eps)

    call = bert.transform


class TFBertPredictions(TFBlock):
    def setup(self) -> None:
        self.bias = layers.vector(self, "bias", self.config.vocab_size)
        self.transform = layers.block(self, TFBertPredictionTransform)
        self.decoder = layers.vocab_head(self, self.config.hidden_size, self.config.vocab_size, bias=True)

    call = bert.predictions


class TFBertOnlyMLMHead(TFBlock):
    def setup(self) -> None:
        self.predictions = layers.block(self, TFBertPredictions)

    call = bert.only_mlm_head


class TFBertPreTrainedModel(TFPreTrainedModel):
    """Base of the BERT classes."""

    config_class = BertConfig
    base_model_prefix = "bert"
    build = layers.build


class TFBertModel(TFBertPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)
    _input_embeddings = "embeddings.word_embeddings"

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.add_pooling_layer = add_pooling_layer
        self.embeddings = layers.block(self, TFBertEmbeddings)
        self.encoder = layers.block(self, TFBertEncoder)
        pooler = {"width": config.hidden_size, "activation": "tanh"}
        self.pooler = layers.block(self, TFBertActivated, **pooler) if add_pooling_layer else None
        self.post_init()

    call = layers.with_training(bert.model)


class TFBertWithHead(TFBertPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        pooler = self.task == "SequenceClassification"
        self.bert = layers.block(self, TFBertModel, add_pooling_layer=pooler)
        self.dropout = layers.dropout(self, config.head_dropout)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: BertConfig) -> None:
        self.classifier = layers.dense(self, config.hidden_size, config.num_labels)

    call = layers.with_training(bert.with_head)
    score = common.score_tokens
    targets = bert.labels_alone


class TFBertForMaskedLM(TFBertWithHead):
    """BERT that predicts masked tokens; the decoder is tied to the word embeddings unless the config says not."""

    task = "MaskedLM"
    _output_embeddings = "cls.predictions.decoder"

    def build_head(self, config: BertConfig) -> None:
        self.cls = layers.block(self, TFBertOnlyMLMHead)

    score = bert.score_vocabulary


class TFBertForSequenceClassification(TFBertWithHead):
    """BERT that classifies or scores a text, from the pooled first token."""

    task = "SequenceClassification"
    score = common.score_pooled


class TFBertForTokenClassification(TFBertWithHead):
    """BERT that classifies every token."""

    task = "TokenClassification"


class TFBertForQuestionAnswering(TFBertWithHead):
    """BERT that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: BertConfig) -> None:
        self.qa_outputs = layers.dense(self, config.hidden_size, config.num_labels)

    call = layers.with_training(bert.with_span)
    score = common.score_span
