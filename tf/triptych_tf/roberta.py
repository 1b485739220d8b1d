"""RoBERTa in Keras: BERT's layers with other positions and heads."""

from __future__ import annotations

from typing import Any

from triptych.families.roberta import RobertaConfig
from triptych.forward import bert
from triptych.nn import stack as common
from triptych_tf import layers
from triptych_tf.bert import TFBertActivated, TFBertEmbeddings, TFBertEncoder
from triptych_tf.layers import TFBlock
from triptych_tf.modeling import TFPreTrainedModel

__all__ = [
    "TFRobertaPreTrainedModel",
    "TFRobertaModel",
    "TFRobertaForMaskedLM",
    "TFRobertaForSequenceClassification",
    "TFRobertaForTokenClassification",
    "TFRobertaForQuestionAnswering",
]


class TFRobertaEmbeddings(TFBertEmbeddings):
    positions = bert.positions_after_padding


class TFRobertaLMHead(TFBlock):
    def setup(self) -> None:
        config = self.config
        self.bias = layers.vector(self, "bias", config.vocab_size)
        self.dense = layers.dense(self, config.hidden_size, config.hidden_size)
        self.layer_norm = layers.layer_norm(self, config.hidden_size, config.layer_norm_eps)
        self.decoder = layers.vocab_head(self, config.hidden_size, config.vocab_size, bias=True)

    call = bert.roberta_head


class TFRobertaClassificationHead(TFBlock):
    activation: str = ""

    def setup(self) -> None:
        width = self.config.hidden_size
        self.dense = layers.dense(self, width, width)
        self.dropout = layers.dropout(self, self.config.head_dropout)
        self.out_proj = layers.dense(self, width, self.config.num_labels)

    call = bert.classification_head


class TFRobertaPreTrainedModel(TFPreTrainedModel):
    """Base of the RoBERTa classes."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"
    build = layers.build


class TFRobertaModel(TFRobertaPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)
    _input_embeddings = "embeddings.word_embeddings"

    def __init__(self, config: RobertaConfig, add_pooling_layer: bool = True, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.add_pooling_layer = add_pooling_layer
        self.embeddings = layers.block(self, TFRobertaEmbeddings)
        self.encoder = layers.block(self, TFBertEncoder)
        pooler = {"width": config.hidden_size, "activation": "tanh"}
        self.pooler = layers.block(self, TFBertActivated, **pooler) if add_pooling_layer else None
        self.post_init()

    call = layers.with_training(bert.model)


class TFRobertaWithHead(TFRobertaPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: RobertaConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.roberta = layers.block(self, TFRobertaModel, add_pooling_layer=False)
        self.dropout = layers.dropout(self, config.head_dropout)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: RobertaConfig) -> None:
        self.classifier = layers.dense(self, config.hidden_size, config.num_labels)

    call = layers.with_training(bert.with_head)
    score = common.score_tokens
    targets = bert.labels_alone


class TFRobertaForMaskedLM(TFRobertaWithHead):
    """RoBERTa that predicts masked tokens; the decoder is tied unless the config says not."""

    task = "MaskedLM"
    _output_embeddings = "lm_head.decoder"

    def build_head(self, config: RobertaConfig) -> None:
        self.lm_head = layers.block(self, TFRobertaLMHead)

    score = bert.score_roberta_vocabulary


class TFRobertaForSequenceClassification(TFRobertaWithHead):
    """RoBERTa that classifies or scores a text, from its first token."""

    task = "SequenceClassification"

    def build_head(self, config: RobertaConfig) -> None:
        self.classifier = layers.block(self, TFRobertaClassificationHead, activation="tanh")

    score = bert.score_first


class TFRobertaForTokenClassification(TFRobertaWithHead):
    """RoBERTa that classifies every token."""

    task = "TokenClassification"


class TFRobertaForQuestionAnswering(TFRobertaWithHead):
    """RoBERTa that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: RobertaConfig) -> None:
        self.qa_outputs = layers.dense(self, config.hidden_size, config.num_labels)

    call = layers.with_training(bert.with_span)
    score = common.score_span
