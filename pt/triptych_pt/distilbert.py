"""DistilBERT in PyTorch: the layers, under the canonical names of `triptych.families.distilbert`."""

from __future__ import annotations

from triptych.families.common import heads_axis
from triptych.families.distilbert import DistilBertConfig
from triptych.forward import distilbert
from triptych.nn import stack as common
from triptych_pt import layers
from triptych_pt.layers import Block
from triptych_pt.modeling import PreTrainedModel

__all__ = [
    "DistilBertPreTrainedModel",
    "DistilBertModel",
    "DistilBertForMaskedLM",
    "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification",
    "DistilBertForQuestionAnswering",
]


class DistilBertEmbeddings(Block):
    def setup(self) -> None:
        config = self.config
        self.word_embeddings = layers.embedding(self, config.vocab_size, config.dim, padding=config.pad_token_id)
        self.position_embeddings = layers.embedding(self, config.max_position_embeddings, config.dim)
        self.LayerNorm = layers.layer_norm(self, config.dim, config.layer_norm_eps)
        self.dropout = layers.dropout(self, config.dropout)

    forward = distilbert.embeddings


class DistilBertAttention(Block):
    def setup(self) -> None:
        width, heads = self.config.dim, heads_axis(self.config, self.index).length
        self.q_lin = layers.dense(self, width, heads)
        self.k_lin = layers.dense(self, width, heads)
        self.v_lin = layers.dense(self, width, heads)
        self.out_lin = layers.dense(self, heads, width)
        self.dropout = layers.dropout(self, self.config.attention_dropout)

    forward = distilbert.attention


class DistilBertFFN(Block):
    def setup(self) -> None:
        self.lin1 = layers.dense(self, self.config.dim, self.config.hidden_dim)
        self.lin2 = layers.dense(self, self.config.hidden_dim, self.config.dim)
        self.dropout = layers.dropout(self, self.config.dropout)

    forward = distilbert.feed_forward


class DistilBertLayer(Block):
    def setup(self) -> None:
        width, epsilon = self.config.dim, self.config.layer_norm_eps
        self.attention = layers.block(self, DistilBertAttention, index=self.index)
        self.sa_layer_norm = layers.layer_norm(self, width, epsilon)
        self.ffn = layers.block(self, DistilBertFFN)
        self.output_layer_norm = layers.layer_norm(self, width, epsilon)

    forward = distilbert.layer


class DistilBertTransformer(Block):
    def setup(self) -> None:
        self.layer = layers.stacked(self, DistilBertLayer, self.config.n_layers)

    forward = common.encoder


class DistilBertPreTrainedModel(PreTrainedModel):
    """Base of the DistilBERT classes."""

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"


class DistilBertModel(DistilBertPreTrainedModel):
    """The encoder."""

    _input_embeddings = "embeddings.word_embeddings"

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.embeddings = layers.block(self, DistilBertEmbeddings)
        self.transformer = layers.block(self, DistilBertTransformer)
        self.post_init()

    forward = distilbert.model


class DistilBertWithHead(DistilBertPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""
    dropout_field = "dropout"

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config)
        self.distilbert = layers.block(self, DistilBertModel)
        self.dropout = layers.dropout(self, getattr(config, self.dropout_field))
        self.build_head(config)
        self.post_init()

    def build_head(self, config: DistilBertConfig) -> None:
        self.classifier = layers.dense(self, config.dim, config.num_labels)

    forward = distilbert.with_head
    score = common.score_tokens


class DistilBertForMaskedLM(DistilBertWithHead):
    """DistilBERT that predicts masked tokens; its matrix is tied unless the config says not."""

    task = "MaskedLM"
    _output_embeddings = "vocab_projector"

    def build_head(self, config: DistilBertConfig) -> None:
        self.vocab_transform = layers.dense(self, config.dim, config.dim)
        self.vocab_layer_norm = layers.layer_norm(self, config.dim, config.layer_norm_eps)
        self.vocab_projector = layers.vocab_projector(self, config.dim, config.vocab_size)

    score = distilbert.score_vocabulary


class DistilBertForSequenceClassification(DistilBertWithHead):
    """DistilBERT that classifies or scores a text, from its first token."""

    task = "SequenceClassification"
    dropout_field = "seq_classif_dropout"

    def build_head(self, config: DistilBertConfig) -> None:
        self.pre_classifier = layers.dense(self, config.dim, config.dim)
        self.classifier = layers.dense(self, config.dim, config.num_labels)

    score = distilbert.score_first


class DistilBertForTokenClassification(DistilBertWithHead):
    """DistilBERT that classifies every token."""

    task = "TokenClassification"


class DistilBertForQuestionAnswering(DistilBertWithHead):
    """DistilBERT that finds a span."""

    task = "QuestionAnswering"
    dropout_field = "qa_dropout"

    def build_head(self, config: DistilBertConfig) -> None:
        self.qa_outputs = layers.dense(self, config.dim, config.num_labels)

    forward = distilbert.with_span  # type: ignore[assignment]  # two labels
    score = distilbert.score_span
