"""BERT in Flax: the layers, under the canonical names of `triptych.families.bert`."""

from __future__ import annotations

from triptych.families.bert import BertConfig
from triptych.families.common import heads_axis
from triptych.forward import bert
from triptych.nn import stack as common
from triptych_flax import layers
from triptych_flax.layers import FlaxBlock
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = [
    "FlaxBertPreTrainedModel",
    "FlaxBertModel",
    "FlaxBertForMaskedLM",
    "FlaxBertForSequenceClassification",
    "FlaxBertForTokenClassification",
    "FlaxBertForQuestionAnswering",
]


class FlaxBertEmbeddings(FlaxBlock):
    def setup(self) -> None:
        config, width = self.config, self.config.embedding_width
        self.word_embeddings = layers.embedding(self, config.vocab_size, width, padding=config.pad_token_id)
        self.position_embeddings = layers.embedding(self, config.max_position_embeddings, width)
        self.token_type_embeddings = layers.embedding(self, config.type_vocab_size, width)
        self.LayerNorm = layers.layer_norm(self, width, config.layer_norm_eps)
        self.dropout = layers.dropout(self, config.hidden_dropout_prob)

    __call__ = bert.embeddings
    positions = bert.positions


class FlaxBertSelfAttention(FlaxBlock):
    def setup(self) -> None:
        width, heads = self.config.hidden_size, heads_axis(self.config, self.index).length
        self.query = layers.dense(self, width, heads)
        self.key = layers.dense(self, width, heads)
        self.value = layers.dense(self, width, heads)
        self.dropout = layers.dropout(self, self.config.attention_probs_dropout_prob)

    __call__ = bert.self_attention


class FlaxBertResidual(FlaxBlock):
    width: int = 0

    def setup(self) -> None:
        self.dense = layers.dense(self, self.width, self.config.hidden_size)
        self.LayerNorm = layers.layer_norm(self, self.config.hidden_size, self.config.layer_norm_eps)
        self.dropout = layers.dropout(self, self.config.hidden_dropout_prob)

    __call__ = bert.residual


class FlaxBertAttention(FlaxBlock):
    def setup(self) -> None:
        self.self = layers.block(self, FlaxBertSelfAttention, index=self.index)
        self.output = layers.block(self, FlaxBertResidual, width=heads_axis(self.config, self.index).length)

    __call__ = bert.attention


class FlaxBertActivated(FlaxBlock):
    width: int = 0
    activation: str = ""

    def setup(self) -> None:
        self.dense = layers.dense(self, self.config.hidden_size, self.width)

    __call__ = common.activated


class FlaxBertLayer(FlaxBlock):
    def setup(self) -> None:
        width, activation = self.config.intermediate_size, self.config.hidden_act
        self.attention = layers.block(self, FlaxBertAttention, index=self.index)
        self.intermediate = layers.block(self, FlaxBertActivated, width=width, activation=activation)
        self.output = layers.block(self, FlaxBertResidual, width=width)

    __call__ = bert.layer


class FlaxBertEncoder(FlaxBlock):
    def setup(self) -> None:
        self.layer = layers.stacked(self, FlaxBertLayer, self.config.num_hidden_layers)

    __call__ = common.encoder


class FlaxBertPredictionTransform(FlaxBlock):
    def setup(self) -> None:
        self.dense = layers.dense(self, self.config.hidden_size, self.config.hidden_size)
        self.LayerNorm = layers.layer_norm(self, self.config.hidden_size, self.config.layer_norm_eps)

    __call__ = bert.transform


class FlaxBertPredictions(FlaxBlock):
    def setup(self) -> None:
        self.bias = layers.vector(self, "bias", self.config.vocab_size)
        self.transform = layers.block(self, FlaxBertPredictionTransform)
        self.decoder = layers.vocab_head(self, self.config.hidden_size, self.config.vocab_size, bias=True)

    __call__ = bert.predictions


class FlaxBertOnlyMLMHead(FlaxBlock):
    def setup(self) -> None:
        self.predictions = layers.block(self, FlaxBertPredictions)

    __call__ = bert.only_mlm_head


class FlaxBertModule(FlaxBlock):
    add_pooling_layer: bool = True

    def setup(self) -> None:
        config = self.config
        self.embeddings = layers.block(self, FlaxBertEmbeddings)
        self.encoder = layers.block(self, FlaxBertEncoder)
        pooler = {"width": config.hidden_size, "activation": "tanh"}
        self.pooler = layers.block(self, FlaxBertActivated, **pooler) if self.add_pooling_layer else None

    __call__ = bert.model


class FlaxBertWithHeadModule(FlaxBlock):
    task = ""
    base_model_prefix = "bert"

    def setup(self) -> None:
        config = self.config
        pooler = self.task == "SequenceClassification"
        self.bert = layers.block(self, FlaxBertModule, add_pooling_layer=pooler)
        self.dropout = layers.dropout(self, config.head_dropout)
        self.build_head(config)

    def build_head(self, config: BertConfig) -> None:
        self.classifier = layers.dense(self, config.hidden_size, config.num_labels)

    __call__ = bert.with_head
    score = common.score_tokens
    targets = bert.labels_alone


class FlaxBertForMaskedLMModule(FlaxBertWithHeadModule):
    task = "MaskedLM"

    def build_head(self, config: BertConfig) -> None:
        self.cls = layers.block(self, FlaxBertOnlyMLMHead)

    score = bert.score_vocabulary


class FlaxBertForSequenceClassificationModule(FlaxBertWithHeadModule):
    task = "SequenceClassification"
    score = common.score_pooled


class FlaxBertForTokenClassificationModule(FlaxBertWithHeadModule):
    task = "TokenClassification"


class FlaxBertForQuestionAnsweringModule(FlaxBertWithHeadModule):
    task = "QuestionAnswering"

    def build_head(self, config: BertConfig) -> None:
        self.qa_outputs = layers.dense(self, config.hidden_size, config.num_labels)

    __call__ = bert.with_span  # type: ignore[assignment]  # two labels
    score = common.score_span


class FlaxBertPreTrainedModel(FlaxPreTrainedModel):
    """Base of the BERT classes."""

    config_class = BertConfig
    base_model_prefix = "bert"


class FlaxBertModel(FlaxBertPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)
    module_class = FlaxBertModule
    __call__ = layers.declared_call(bert.model)


class FlaxBertWithHead(FlaxBertPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    module_class = FlaxBertWithHeadModule
    __call__ = layers.declared_call(bert.with_head)


class FlaxBertForMaskedLM(FlaxBertWithHead):
    """BERT that predicts masked tokens; the decoder is tied to the word embeddings unless the config says not."""

    module_class = FlaxBertForMaskedLMModule


class FlaxBertForSequenceClassification(FlaxBertWithHead):
    """BERT that classifies or scores a text, from the pooled first token."""

    module_class = FlaxBertForSequenceClassificationModule


class FlaxBertForTokenClassification(FlaxBertWithHead):
    """BERT that classifies every token."""

    module_class = FlaxBertForTokenClassificationModule


class FlaxBertForQuestionAnswering(FlaxBertWithHead):
    """BERT that finds a span."""

    module_class = FlaxBertForQuestionAnsweringModule
    __call__ = layers.declared_call(bert.with_span)
