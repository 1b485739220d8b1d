"""ELECTRA in Flax: BERT's layers over narrower embeddings, with other heads."""

from __future__ import annotations

from triptych.families.electra import ElectraConfig
from triptych.forward import bert
from triptych.nn import stack as common
from triptych_flax import layers
from triptych_flax.bert import FlaxBertEmbeddings, FlaxBertEncoder
from triptych_flax.layers import FlaxBlock
from triptych_flax.modeling import FlaxPreTrainedModel
from triptych_flax.roberta import FlaxRobertaClassificationHead

__all__ = [
    "FlaxElectraPreTrainedModel",
    "FlaxElectraModel",
    "FlaxElectraForPreTraining",
    "FlaxElectraForMaskedLM",
    "FlaxElectraForSequenceClassification",
    "FlaxElectraForTokenClassification",
    "FlaxElectraForQuestionAnswering",
]


class FlaxElectraDiscriminatorPredictions(FlaxBlock):
    def setup(self) -> None:
        self.dense = layers.dense(self, self.config.hidden_size, self.config.hidden_size)
        self.dense_prediction = layers.dense(self, self.config.hidden_size, 1)

    __call__ = bert.discriminator_head


class FlaxElectraGeneratorPredictions(FlaxBlock):
    def setup(self) -> None:
        width = self.config.embedding_width
        self.LayerNorm = layers.layer_norm(self, width, self.config.layer_norm_eps)
        self.dense = layers.dense(self, self.config.hidden_size, width)

    __call__ = bert.generator_head


class FlaxElectraModule(FlaxBlock):
    def setup(self) -> None:
        config = self.config
        self.embeddings = layers.block(self, FlaxBertEmbeddings)
        if config.embedding_width != config.hidden_size:
            self.embeddings_project = layers.dense(self, config.embedding_width, config.hidden_size)
        self.encoder = layers.block(self, FlaxBertEncoder)

    __call__ = bert.model


class FlaxElectraWithHeadModule(FlaxBlock):
    task = ""
    base_model_prefix = "electra"

    def setup(self) -> None:
        config = self.config
        self.electra = layers.block(self, FlaxElectraModule)
        self.dropout = layers.dropout(self, config.head_dropout)
        self.build_head(config)

    def build_head(self, config: ElectraConfig) -> None:
        self.classifier = layers.dense(self, config.hidden_size, config.num_labels)

    __call__ = bert.with_head
    score = common.score_tokens
    targets = bert.labels_alone


class FlaxElectraForPreTrainingModule(FlaxElectraWithHeadModule):
    task = "PreTraining"

    def build_head(self, config: ElectraConfig) -> None:
        self.discriminator_predictions = layers.block(self, FlaxElectraDiscriminatorPredictions)

    score = bert.score_replaced
    targets = bert.labels_of_attended


class FlaxElectraForMaskedLMModule(FlaxElectraWithHeadModule):
    task = "MaskedLM"

    def build_head(self, config: ElectraConfig) -> None:
        self.generator_predictions = layers.block(self, FlaxElectraGeneratorPredictions)
        self.generator_lm_head = layers.vocab_projector(self, config.embedding_width, config.vocab_size)

    score = bert.score_generated


class FlaxElectraForSequenceClassificationModule(FlaxElectraWithHeadModule):
    task = "SequenceClassification"

    def build_head(self, config: ElectraConfig) -> None:
        self.classifier = layers.block(self, FlaxRobertaClassificationHead, activation="gelu")

    score = bert.score_first


class FlaxElectraForTokenClassificationModule(FlaxElectraWithHeadModule):
    task = "TokenClassification"


class FlaxElectraForQuestionAnsweringModule(FlaxElectraWithHeadModule):
    task = "QuestionAnswering"

    def build_head(self, config: ElectraConfig) -> None:
        self.qa_outputs = layers.dense(self, config.hidden_size, config.num_labels)

    __call__ = bert.with_span  # type: ignore[assignment]  # two labels
    score = common.score_span


class FlaxElectraPreTrainedModel(FlaxPreTrainedModel):
    """Base of the ELECTRA classes."""

    config_class = ElectraConfig
    base_model_prefix = "electra"


class FlaxElectraModel(FlaxElectraPreTrainedModel):
    """The encoder, of generator and discriminator alike."""

    module_class = FlaxElectraModule
    __call__ = layers.declared_call(bert.model)


class FlaxElectraWithHead(FlaxElectraPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    module_class = FlaxElectraWithHeadModule
    __call__ = layers.declared_call(bert.with_head)


class FlaxElectraForPreTraining(FlaxElectraWithHead):
    """The discriminator: which tokens were replaced."""

    module_class = FlaxElectraForPreTrainingModule


class FlaxElectraForMaskedLM(FlaxElectraWithHead):
    """The generator: predicts masked tokens; its matrix is tied unless the config says not."""

    module_class = FlaxElectraForMaskedLMModule


class FlaxElectraForSequenceClassification(FlaxElectraWithHead):
    """ELECTRA that classifies or scores a text, from its first token."""

    module_class = FlaxElectraForSequenceClassificationModule


class FlaxElectraForTokenClassification(FlaxElectraWithHead):
    """ELECTRA that classifies every token."""

    module_class = FlaxElectraForTokenClassificationModule


class FlaxElectraForQuestionAnswering(FlaxElectraWithHead):
    """ELECTRA that finds a span."""

    module_class = FlaxElectraForQuestionAnsweringModule
    __call__ = layers.declared_call(bert.with_span)
