"""BERT in PyTorch: the layers, under the canonical names of `triptych.families.bert`."""

from __future__ import annotations

from triptych.families.bert import BertConfig
from triptych.families.common import heads_axis
from triptych.forward import bert
from triptych.nn import stack as common
from triptych_pt import layers
from triptych_pt.layers import Block
from triptych_pt.modeling import PreTrainedModel

__all__ = [
    "BertPreTrainedModel",
    "BertModel",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
]


class BertEmbeddings(Block):
    def setup(self) -> None:
        config, width = self.config, self.config.embedding_width
        self.word_embeddings = layers.embedding(self, config.vocab_size, width, padding=config.pad_token_id)
        self.position_embeddings = layers.embedding(self, config.max_position_embeddings, width)
        self.token_type_embeddings = layers.embedding(self, config.type_vocab_size, width)
        self.LayerNorm = layers.layer_norm(self, width, config.layer_norm_eps)
        self.dropout = layers.dropout(self, config.hidden_dropout_prob)

    forward = bert.embeddings
    positions = bert.positions


class BertSelfAttention(Block):
    def setup(self) -> None:
        width, heads = self.config.hidden_size, heads_axis(self.config, self.index).length
        self.query = layers.dense(self, width, heads)
        self.key = layers.dense(self, width, heads)
        self.value = layers.dense(self, width, heads)
        self.dropout = layers.dropout(self, self.config.attention_probs_dropout_prob)

    forward = bert.self_attention


class BertResidual(Block):
    width: int = 0

    def setup(self) -> None:
        self.dense = layers.dense(self, self.width, self.config.hidden_size)
        self.LayerNorm = layers.layer_norm(self, self.config.hidden_size, self.config.layer_norm_eps)
        self.dropout = layers.dropout(self, self.config.hidden_dropout_prob)

    forward = bert.residual


class BertAttention(Block):
    def setup(self) -> None:
        self.self = layers.block(self, BertSelfAttention, index=self.index)
        self.output = layers.block(self, BertResidual, width=heads_axis(self.config, self.index).length)

    forward = bert.attention


class BertActivated(Block):
    width: int = 0
    activation: str = ""

    def setup(self) -> None:
        self.dense = layers.dense(self, self.config.hidden_size, self.width)

    forward = common.activated


class BertLayer(Block):
    def setup(self) -> None:
        width, activation = self.config.intermediate_size, self.config.hidden_act
        self.attention = layers.block(self, BertAttention, index=self.index)
        self.intermediate = layers.block(self, BertActivated, width=width, activation=activation)
        self.output = layers.block(self, BertResidual, width=width)

    forward = bert.layer


class BertEncoder(Block):
    def setup(self) -> None:
        self.layer = layers.stacked(self, BertLayer, self.config.num_hidden_layers)

    forward = common.encoder


class BertPredictionTransform(Block):
    def setup(self) -> None:
        self.dense = layers.dense(self, self.config.hidden_size, self.config.hidden_size)
        self.LayerNorm = layers.layer_norm(self, self.config.hidden_size, self.config.layer_norm_eps)

    forward = bert.transform


class BertPredictions(Block):
    def setup(self) -> None:
        self.bias = layers.vector(self, "bias", self.config.vocab_size)
        self.transform = layers.block(self, BertPredictionTransform)
        self.decoder = layers.vocab_head(self, self.config.hidden_size, self.config.vocab_size, bias=True)

    forward = bert.predictions


class BertOnlyMLMHead(Block):
    def setup(self) -> None:
        self.predictions = layers.block(self, BertPredictions)

    forward = bert.only_mlm_head


class BertPreTrainedModel(PreTrainedModel):
    """Base of the BERT classes."""

    config_class = BertConfig
    base_model_prefix = "bert"


class BertModel(BertPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)
    _input_embeddings = "embeddings.word_embeddings"

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.add_pooling_layer = add_pooling_layer
        self.embeddings = layers.block(self, BertEmbeddings)
        self.encoder = layers.block(self, BertEncoder)
        pooler = {"width": config.hidden_size, "activation": "tanh"}
        self.pooler = layers.block(self, BertActivated, **pooler) if add_pooling_layer else None
        self.post_init()

    forward = bert.model


class BertWithHead(BertPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        pooler = self.task == "SequenceClassification"
        self.bert = layers.block(self, BertModel, add_pooling_layer=pooler)
        self.dropout = layers.dropout(self, config.head_dropout)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: BertConfig) -> None:
        self.classifier = layers.dense(self, config.hidden_size, config.num_labels)

    forward = bert.with_head
    score = common.score_tokens
    targets = bert.labels_alone


class BertForMaskedLM(BertWithHead):
    """BERT that predicts masked tokens; the decoder is tied to the word embeddings unless the config says not."""

    task = "MaskedLM"
    _output_embeddings = "cls.predictions.decoder"

    def build_head(self, config: BertConfig) -> None:
        self.cls = layers.block(self, BertOnlyMLMHead)

    score = bert.score_vocabulary


class BertForSequenceClassification(BertWithHead):
    """BERT that classifies or scores a text, from the pooled first token."""

    task = "SequenceClassification"
    score = common.score_pooled


class BertForTokenClassification(BertWithHead):
    """BERT that classifies every token."""

    task = "TokenClassification"


class BertForQuestionAnswering(BertWithHead):
    """BERT that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: BertConfig) -> None:
        self.qa_outputs = layers.dense(self, config.hidden_size, config.num_labels)

    forward = bert.with_span  # type: ignore[assignment]  # two labels
    score = common.score_span
