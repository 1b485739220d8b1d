"""DistilBERT in Keras: the layers, under the canonical names of `triptych.families.distilbert`."""

from __future__ import annotations

from typing import Any

from triptych.families.common import heads_axis
from triptych.families.distilbert import DistilBertConfig
from triptych.forward import distilbert
from triptych.nn import stack as common
from triptych_tf import layers
from triptych_tf.layers import TFBlock
from triptych_tf.modeling import TFPreTrainedModel

__all__ = [
    "TFDistilBertPreTrainedModel",
    "TFDistilBertModel",
    "TFDistilBertForMaskedLM",
    "TFDistilBertForSequenceClassification",
    "TFDistilBertForTokenClassification",
    "TFDistilBertForQuestionAnswering",
]


class TFDistilBertEmbeddings(TFBlock):
    def setup(self) -> None:
        config = self.config
        self.word_embeddings = layers.embedding(self, config.vocab_size, config.dim, padding=config.pad_token_id)
        self.position_embeddings = layers.embedding(self, config.max_position_embeddings, config.dim)
        self.LayerNorm = layers.layer_norm(self, config.dim, config.layer_norm_eps)
        self.dropout = layers.dropout(self, config.dropout)

    call = distilbert.embeddings


class TFDistilBertAttention(TFBlock):
    def setup(self) -> None:
        width, heads = self.config.dim, heads_axis(self.config, self.index).length
        self.q_lin = layers.dense(self, width, heads)
        self.k_lin = layers.dense(self, width, heads)
        self.v_lin = layers.dense(self, width, heads)
        self.out_lin = layers.dense(self, heads, width)
        self.dropout = layers.dropout(self, self.config.attention_dropout)

    call = distilbert.attention


class TFDistilBertFFN(TFBlock):
    def setup(self) -> None:
        self.lin1 = layers.dense(self, self.config.dim, self.config.hidden_dim)
        self.lin2 = layers.dense(self, self.config.hidden_dim, self.config.dim)
        self.dropout = layers.dropout(self, self.config.dropout)

    call = distilbert.feed_forward


class TFDistilBertLayer(TFBlock):
    def setup(self) -> None:
        width, epsilon = self.config.dim, self.config.layer_norm_eps
        self.attention = layers.block(self, TFDistilBertAttention, index=self.index)
        self.sa_layer_norm = layers.layer_norm(self, width, epsilon)
        self.ffn = layers.block(self, TFDistilBertFFN)
        self.output_layer_norm = layers.layer_norm(self, width, epsilon)

    call = distilbert.layer


class TFDistilBertTransformer(TFBlock):
    def setup(self) -> None:
        self.layer = layers.stacked(self, TFDistilBertLayer, self.config.n_layers)

    call = common.encoder


class TFDistilBertPreTrainedModel(TFPreTrainedModel):
    """Base of the DistilBERT classes."""

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    build = layers.build


class TFDistilBertModel(TFDistilBertPreTrainedModel):
    """The encoder."""

    _input_embeddings = "embeddings.word_embeddings"

    def __init__(self, config: DistilBertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.embeddings = layers.block(self, TFDistilBertEmbeddings)
        self.transformer = layers.block(self, TFDistilBertTransformer)
        self.post_init()

    call = layers.with_training(distilbert.model)


class TFDistilBertWithHead(TFDistilBertPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""
    dropout_field = "dropout"

    def __init__(self, config: DistilBertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.distilbert = layers.block(self, TFDistilBertModel)
        self.dropout = layers.dropout(self, getattr(config, self.dropout_field))
        self.build_head(config)
        self.post_init()

    def build_head(self, config: DistilBertConfig) -> None:
        self.classifier = layers.dense(self, config.dim, config.num_labels)

    call = layers.with_training(distilbert.with_head)
    score = common.score_tokens


class TFDistilBertForMaskedLM(TFDistilBertWithHead):
    """DistilBERT that predicts masked tokens; its matrix is tied unless the config says not."""

    task = "MaskedLM"
    _output_embeddings = "vocab_projector"

    def build_head(self, config: DistilBertConfig) -> None:
        self.vocab_transform = layers.dense(self, config.dim, config.dim)
        self.vocab_layer_norm = layers.layer_norm(self, config.dim, config.layer_norm_eps)
        self.vocab_projector = layers.vocab_projector(self, config.dim, config.vocab_size)

    score = distilbert.score_vocabulary


class TFDistilBertForSequenceClassification(TFDistilBertWithHead):
    """DistilBERT that classifies or scores a text, from its first token."""

    task = "SequenceClassification"
    dropout_field = "seq_classif_dropout"

    def build_head(self, config: DistilBertConfig) -> None:
        self.pre_classifier = layers.dense(self, config.dim, config.dim)
        self.classifier = layers.dense(self, config.dim, config.num_labels)

    score = distilbert.score_first


class TFDistilBertForTokenClassification(TFDistilBertWithHead):
    """DistilBERT that classifies every token."""

    task = "TokenClassification"


class TFDistilBertForQuestionAnswering(TFDistilBertWithHead):
    """DistilBERT that finds a span."""

    task = "QuestionAnswering"
    dropout_field = "qa_dropout"

    def build_head(self, config: DistilBertConfig) -> None:
        self.qa_outputs = layers.dense(self, config.dim, config.num_labels)

    call = layers.with_training(distilbert.with_span)
    score = distilbert.score_span
