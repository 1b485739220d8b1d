"""ELECTRA in Keras: BERT's layers over narrower embeddings, with other heads."""

from __future__ import annotations

from typing import Any

from triptych.families.electra import ElectraConfig
from triptych.forward import bert
from triptych.nn import stack as common
from triptych_tf import layers
from triptych_tf.bert import TFBertEmbeddings, TFBertEncoder
from triptych_tf.layers import TFBlock
from triptych_tf.modeling import TFPreTrainedModel
from triptych_tf.roberta import TFRobertaClassificationHead

__all__ = [
    "TFElectraPreTrainedModel",
    "TFElectraModel",
    "TFElectraForPreTraining",
    "TFElectraForMaskedLM",
    "TFElectraForSequenceClassification",
    "TFElectraForTokenClassification",
    "TFElectraForQuestionAnswering",
]


class TFElectraDiscriminatorPredictions(TFBlock):
    def setup(self) -> None:
        self.dense = layers.dense(self, self.config.hidden_size, self.config.hidden_size)
        self.dense_prediction = layers.dense(self, self.config.hidden_size, 1)

    call = bert.discriminator_head


class TFElectraGeneratorPredictions(TFBlock):
    def setup(self) -> None:
        width = self.config.embedding_width
        self.LayerNorm = layers.layer_norm(self, width, self.config.layer_norm_eps)
        self.dense = layers.dense(self, self.config.hidden_size, width)

    call = bert.generator_head


class TFElectraPreTrainedModel(TFPreTrainedModel):
    """Base of the ELECTRA classes."""

    config_class = ElectraConfig
    base_model_prefix = "electra"
    build = layers.build


class TFElectraModel(TFElectraPreTrainedModel):
    """The encoder, of generator and discriminator alike."""

    _input_embeddings = "embeddings.word_embeddings"

    def __init__(self, config: ElectraConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.embeddings = layers.block(self, TFBertEmbeddings)
        if config.embedding_width != config.hidden_size:
            self.embeddings_project = layers.dense(self, config.embedding_width, config.hidden_size)
        self.encoder = layers.block(self, TFBertEncoder)
        self.post_init()

    call = layers.with_training(bert.model)


class TFElectraWithHead(TFElectraPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: ElectraConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.electra = layers.block(self, TFElectraModel)
        self.dropout = layers.dropout(self, config.head_dropout)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: ElectraConfig) -> None:
        self.classifier = layers.dense(self, config.hidden_size, config.num_labels)

    call = layers.with_training(bert.with_head)
    score = common.score_tokens
    targets = bert.labels_alone


class TFElectraForPreTraining(TFElectraWithHead):
    """The discriminator: which tokens were replaced."""

    task = "PreTraining"

    def build_head(self, config: ElectraConfig) -> None:
        self.discriminator_predictions = layers.block(self, TFElectraDiscriminatorPredictions)

    score = bert.score_replaced
    targets = bert.labels_of_attended


class TFElectraForMaskedLM(TFElectraWithHead):
    """The generator: predicts masked tokens; its matrix is tied unless the config says not."""

    task = "MaskedLM"
    _output_embeddings = "generator_lm_head"

    def build_head(self, config: ElectraConfig) -> None:
        self.generator_predictions = layers.block(self, TFElectraGeneratorPredictions)
        self.generator_lm_head = layers.vocab_projector(self, config.embedding_width, config.vocab_size)

    score = bert.score_generated


class TFElectraForSequenceClassification(TFElectraWithHead):
    """ELECTRA that classifies or scores a text, from its first token."""

    task = "SequenceClassification"

    def build_head(self, config: ElectraConfig) -> None:
        self.classifier = layers.block(self, TFRobertaClassificationHead, activation="gelu")

    score = bert.score_first


class TFElectraForTokenClassification(TFElectraWithHead):
    """ELECTRA that classifies every token."""

    task = "TokenClassification"


class TFElectraForQuestionAnswering(TFElectraWithHead):
    """ELECTRA that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: ElectraConfig) -> None:
        self.qa_outputs = layers.dense(self, config.hidden_size, config.num_labels)

    call = layers.with_training(bert.with_span)
    score = common.score_span
