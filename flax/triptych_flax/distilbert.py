"""DistilBERT in Flax: the layers, under the canonical names of `triptych.families.distilbert`."""

from __future__ import annotations

from triptych.families.common import heads_axis
from triptych.families.distilbert import DistilBertConfig
from triptych.forward import distilbert
from triptych.nn import stack as common
from triptych_flax import layers
from triptych_flax.layers import FlaxBlock
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = [
    "FlaxDistilBertPreTrainedModel",
    "FlaxDistilBertModel",
    "FlaxDistilBertForMaskedLM",
    "FlaxDistilBertForSequenceClassification",
    "FlaxDistilBertForTokenClassification",
    "FlaxDistilBertForQuestionAnswering",
]


class FlaxDistilBertEmbeddings(FlaxBlock):
    def setup(self) -> None:
        config = self.config
        self.word_embeddings = layers.embedding(self, config.vocab_size, config.dim, padding=config.pad_token_id)
        self.position_embeddings = layers.embedding(self, config.max_position_embeddings, config.dim)
        self.LayerNorm = layers.layer_norm(self, config.dim, config.layer_norm_eps)
        self.dropout = layers.dropout(self, config.dropout)

    __call__ = distilbert.embeddings


class FlaxDistilBertAttention(FlaxBlock):
    def setup(self) -> None:
        width, heads = self.config.dim, heads_axis(self.config, self.index).length
        self.q_lin = layers.dense(self, width, heads)
        self.k_lin = layers.dense(self, width, heads)
        self.v_lin = layers.dense(self, width, heads)
        self.out_lin = layers.dense(self, heads, width)
        self.dropout = layers.dropout(self, self.config.attention_dropout)

    __call__ = distilbert.attention


class FlaxDistilBertFFN(FlaxBlock):
    def setup(self) -> None:
        self.lin1 = layers.dense(self, self.config.dim, self.config.hidden_dim)
        self.lin2 = layers.dense(self, self.config.hidden_dim, self.config.dim)
        self.dropout = layers.dropout(self, self.config.dropout)

    __call__ = distilbert.feed_forward


class FlaxDistilBertLayer(FlaxBlock):
    def setup(self) -> None:
        width, epsilon = self.config.dim, self.config.layer_norm_eps
        self.attention = layers.block(self, FlaxDistilBertAttention, index=self.index)
        self.sa_layer_norm = layers.layer_norm(self, width, epsilon)
        self.ffn = layers.block(self, FlaxDistilBertFFN)
        self.output_layer_norm = layers.layer_norm(self, width, epsilon)

    __call__ = distilbert.layer


class FlaxDistilBertTransformer(FlaxBlock):
    def setup(self) -> None:
        self.layer = layers.stacked(self, FlaxDistilBertLayer, self.config.n_layers)

    __call__ = common.encoder


class FlaxDistilBertModule(FlaxBlock):
    def setup(self) -> None:
        self.embeddings = layers.block(self, FlaxDistilBertEmbeddings)
        self.transformer = layers.block(self, FlaxDistilBertTransformer)

    __call__ = distilbert.model


class FlaxDistilBertWithHeadModule(FlaxBlock):
    task = ""
    base_model_prefix = "distilbert"
    dropout_field = "dropout"

    def setup(self) -> None:
        config = self.config
        self.distilbert = layers.block(self, FlaxDistilBertModule)
        self.dropout = layers.dropout(self, getattr(config, self.dropout_field))
        self.build_head(config)

    def build_head(self, config: DistilBertConfig) -> None:
        self.classifier = layers.dense(self, config.dim, config.num_labels)

    __call__ = distilbert.with_head
    score = common.score_tokens


class FlaxDistilBertForMaskedLMModule(FlaxDistilBertWithHeadModule):
    task = "MaskedLM"

    def build_head(self, config: DistilBertConfig) -> None:
        self.vocab_transform = layers.dense(self, config.dim, config.dim)
        self.vocab_layer_norm = layers.layer_norm(self, config.dim, config.layer_norm_eps)
        self.vocab_projector = layers.vocab_projector(self, config.dim, config.vocab_size)

    score = distilbert.score_vocabulary


class FlaxDistilBertForSequenceClassificationModule(FlaxDistilBertWithHeadModule):
    task = "SequenceClassification"
    dropout_field = "seq_classif_dropout"

    def build_head(self, config: DistilBertConfig) -> None:
        self.pre_classifier = layers.dense(self, config.dim, config.dim)
        self.classifier = layers.dense(self, config.dim, config.num_labels)

    score = distilbert.score_first


class FlaxDistilBertForTokenClassificationModule(FlaxDistilBertWithHeadModule):
    task = "TokenClassification"


class FlaxDistilBertForQuestionAnsweringModule(FlaxDistilBertWithHeadModule):
    task = "QuestionAnswering"
    dropout_field = "qa_dropout"

    def build_head(self, config: DistilBertConfig) -> None:
        self.qa_outputs = layers.dense(self, config.dim, config.num_labels)

    __call__ = distilbert.with_span  # type: ignore[assignment]  # two labels
    score = distilbert.score_span


class FlaxDistilBertPreTrainedModel(FlaxPreTrainedModel):
    """Base of the DistilBERT classes."""

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"


class FlaxDistilBertModel(FlaxDistilBertPreTrainedModel):
    """The encoder."""

    module_class = FlaxDistilBertModule
    __call__ = layers.declared_call(distilbert.model)


class FlaxDistilBertWithHead(FlaxDistilBertPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    module_class = FlaxDistilBertWithHeadModule
    __call__ = layers.declared_call(distilbert.with_head)


class FlaxDistilBertForMaskedLM(FlaxDistilBertWithHead):
    """DistilBERT that predicts masked tokens; its matrix is tied unless the config says not."""

    module_class = FlaxDistilBertForMaskedLMModule


class FlaxDistilBertForSequenceClassification(FlaxDistilBertWithHead):
    """DistilBERT that classifies or scores a text, from its first token."""

    module_class = FlaxDistilBertForSequenceClassificationModule


class FlaxDistilBertForTokenClassification(FlaxDistilBertWithHead):
    """DistilBERT that classifies every token."""

    module_class = FlaxDistilBertForTokenClassificationModule


class FlaxDistilBertForQuestionAnswering(FlaxDistilBertWithHead):
    """DistilBERT that finds a span."""

    module_class = FlaxDistilBertForQuestionAnsweringModule
    __call__ = layers.declared_call(distilbert.with_span)
