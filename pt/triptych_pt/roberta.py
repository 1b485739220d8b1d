"""RoBERTa in PyTorch: BERT's layers with other positions and heads."""

from __future__ import annotations

from triptych.families.roberta import RobertaConfig
from triptych.forward import bert
from triptych.nn import stack as common
from triptych_pt import layers
from triptych_pt.bert import BertActivated, BertEmbeddings, BertEncoder
from triptych_pt.layers import Block
from triptych_pt.modeling import PreTrainedModel

__all__ = [
    "RobertaPreTrainedModel",
    "RobertaModel",
    "RobertaForMaskedLM",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "RobertaForQuestionAnswering",
]


class RobertaEmbeddings(BertEmbeddings):
    positions = bert.positions_after_padding


class RobertaLMHead(Block):
    def setup(self) -> None:
        config = self.config
        self.bias = layers.vector(self, "bias", config.vocab_size)
        self.dense = layers.dense(self, config.hidden_size, config.hidden_size)
        self.layer_norm = layers.layer_norm(self, config.hidden_size, config.layer_norm_eps)
        self.decoder = layers.vocab_head(self, config.hidden_size, config.vocab_size, bias=True)

    forward = bert.roberta_head


class RobertaClassificationHead(Block):
    activation: str = ""

    def setup(self) -> None:
        width = self.config.hidden_size
        self.dense = layers.dense(self, width, width)
        self.dropout = layers.dropout(self, self.config.head_dropout)
        self.out_proj = layers.dense(self, width, self.config.num_labels)

    forward = bert.classification_head


class RobertaPreTrainedModel(PreTrainedModel):
    """Base of the RoBERTa classes."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"


class RobertaModel(RobertaPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)
    _input_embeddings = "embeddings.word_embeddings"

    def __init__(self, config: RobertaConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.add_pooling_layer = add_pooling_layer
        self.embeddings = layers.block(self, RobertaEmbeddings)
        self.encoder = layers.block(self, BertEncoder)
        pooler = {"width": config.hidden_size, "activation": "tanh"}
        self.pooler = layers.block(self, BertActivated, **pooler) if add_pooling_layer else None
        self.post_init()

    forward = bert.model


class RobertaWithHead(RobertaPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = layers.block(self, RobertaModel, add_pooling_layer=False)
        self.dropout = layers.dropout(self, config.head_dropout)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: RobertaConfig) -> None:
        self.classifier = layers.dense(self, config.hidden_size, config.num_labels)

    forward = bert.with_head
    score = common.score_tokens
    targets = bert.labels_alone


class RobertaForMaskedLM(RobertaWithHead):
    """RoBERTa that predicts masked tokens; the decoder is tied unless the config says not."""

    task = "MaskedLM"
    _output_embeddings = "lm_head.decoder"

    def build_head(self, config: RobertaConfig) -> None:
        self.lm_head = layers.block(self, RobertaLMHead)

    score = bert.score_roberta_vocabulary


class RobertaForSequenceClassification(RobertaWithHead):
    """RoBERTa that classifies or scores a text, from its first token."""

    task = "SequenceClassification"

    def build_head(self, config: RobertaConfig) -> None:
        self.classifier = layers.block(self, RobertaClassificationHead, activation="tanh")

    score = bert.score_first


class RobertaForTokenClassification(RobertaWithHead):
    """RoBERTa that classifies every token."""

    task = "TokenClassification"


class RobertaForQuestionAnswering(RobertaWithHead):
    """RoBERTa that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: RobertaConfig) -> None:
        self.qa_outputs = layers.dense(self, config.hidden_size, config.num_labels)

    forward = bert.with_span  # type: ignore[assignment]  # two labels
    score = common.score_span
