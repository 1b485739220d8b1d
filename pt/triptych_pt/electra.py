"""ELECTRA in PyTorch: BERT's layers over narrower embeddings, with other heads."""

from __future__ import annotations

from triptych.families.electra import ElectraConfig
from triptych.forward import bert
from triptych.nn import stack as common
from triptych_pt import layers
from triptych_pt.bert import BertEmbeddings, BertEncoder
from triptych_pt.layers import Block
from triptych_pt.modeling import PreTrainedModel
from triptych_pt.roberta import RobertaClassificationHead

__all__ = [
    "ElectraPreTrainedModel",
    "ElectraModel",
    "ElectraForPreTraining",
    "ElectraForMaskedLM",
    "ElectraForSequenceClassification",
    "ElectraForTokenClassification",
    "ElectraForQuestionAnswering",
]


class ElectraDiscriminatorPredictions(Block):
    def setup(self) -> None:
        self.dense = layers.dense(self, self.config.hidden_size, self.config.hidden_size)
        self.dense_prediction = layers.dense(self, self.config.hidden_size, 1)

    forward = bert.discriminator_head


class ElectraGeneratorPredictions(Block):
    def setup(self) -> None:
        width = self.config.embedding_width
        self.LayerNorm = layers.layer_norm(self, width, self.config.layer_norm_eps)
        self.dense = layers.dense(self, self.config.hidden_size, width)

    forward = bert.generator_head


class ElectraPreTrainedModel(PreTrainedModel):
    """Base of the ELECTRA classes."""

    config_class = ElectraConfig
    base_model_prefix = "electra"


class ElectraModel(ElectraPreTrainedModel):
    """The encoder, of generator and discriminator alike."""

    _input_embeddings = "embeddings.word_embeddings"

    def __init__(self, config: ElectraConfig) -> None:
        super().__init__(config)
        self.embeddings = layers.block(self, BertEmbeddings)
        if config.embedding_width != config.hidden_size:
            self.embeddings_project = layers.dense(self, config.embedding_width, config.hidden_size)
        self.encoder = layers.block(self, BertEncoder)
        self.post_init()

    forward = bert.model


class ElectraWithHead(ElectraPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: ElectraConfig) -> None:
        super().__init__(config)
        self.electra = layers.block(self, ElectraModel)
        self.dropout = layers.dropout(self, config.head_dropout)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: ElectraConfig) -> None:
        self.classifier = layers.dense(self, config.hidden_size, config.num_labels)

    forward = bert.with_head
    score = common.score_tokens
    targets = bert.labels_alone


class ElectraForPreTraining(ElectraWithHead):
    """The discriminator: which tokens were replaced."""

    task = "PreTraining"

    def build_head(self, config: ElectraConfig) -> None:
        self.discriminator_predictions = layers.block(self, ElectraDiscriminatorPredictions)

    score = bert.score_replaced
    targets = bert.labels_of_attended


class ElectraForMaskedLM(ElectraWithHead):
    """The generator: predicts masked tokens; its matrix is tied unless the config says not."""

    task = "MaskedLM"
    _output_embeddings = "generator_lm_head"

    def build_head(self, config: ElectraConfig) -> None:
        self.generator_predictions = layers.block(self, ElectraGeneratorPredictions)
        self.generator_lm_head = layers.vocab_projector(self, config.embedding_width, config.vocab_size)

    score = bert.score_generated


class ElectraForSequenceClassification(ElectraWithHead):
    """ELECTRA that classifies or scores a text, from its first token."""

    task = "SequenceClassification"

    def build_head(self, config: ElectraConfig) -> None:
        self.classifier = layers.block(self, RobertaClassificationHead, activation="gelu")

    score = bert.score_first


class ElectraForTokenClassification(ElectraWithHead):
    """ELECTRA that classifies every token."""

    task = "TokenClassification"


class ElectraForQuestionAnswering(ElectraWithHead):
    """ELECTRA that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: ElectraConfig) -> None:
        self.qa_outputs = layers.dense(self, config.hidden_size, config.num_labels)

    forward = bert.with_span  # type: ignore[assignment]  # two labels
    score = common.score_span
