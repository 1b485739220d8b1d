"""RoBERTa in Flax: BERT's layers with other positions and heads."""

from __future__ import annotations

from triptych.families.roberta import RobertaConfig
from triptych.forward import bert
from triptych.nn import stack as common
from triptych_flax import layers
from triptych_flax.bert import FlaxBertActivated, FlaxBertEmbeddings, FlaxBertEncoder
from triptych_flax.layers import FlaxBlock
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = [
    "FlaxRobertaPreTrainedModel",
    "FlaxRobertaModel",
    "FlaxRobertaForMaskedLM",
    "FlaxRobertaForSequenceClassification",
    "FlaxRobertaForTokenClassification",
    "FlaxRobertaForQuestionAnswering",
]


class FlaxRobertaEmbeddings(FlaxBertEmbeddings):
    positions = bert.positions_after_padding


class FlaxRobertaLMHead(FlaxBlock):
    def setup(self) -> None:
        config = self.config
        self.bias = layers.vector(self, "bias", config.vocab_size)
        self.dense = layers.dense(self, config.hidden_size, config.hidden_size)
        self.layer_norm = layers.layer_norm(self, config.hidden_size, config.layer_norm_eps)
        self.decoder = layers.vocab_head(self, config.hidden_size, config.vocab_size, bias=True)

    __call__ = bert.roberta_head


class FlaxRobertaClassificationHead(FlaxBlock):
    activation: str = ""

    def setup(self) -> None:
        width = self.config.hidden_size
        self.dense = layers.dense(self, width, width)
        self.dropout = layers.dropout(self, self.config.head_dropout)
        self.out_proj = layers.dense(self, width, self.config.num_labels)

    __call__ = bert.classification_head


class FlaxRobertaModule(FlaxBlock):
    add_pooling_layer: bool = True

    def setup(self) -> None:
        config = self.config
        self.embeddings = layers.block(self, FlaxRobertaEmbeddings)
        self.encoder = layers.block(self, FlaxBertEncoder)
        pooler = {"width": config.hidden_size, "activation": "tanh"}
        self.pooler = layers.block(self, FlaxBertActivated, **pooler) if self.add_pooling_layer else None

    __call__ = bert.model


class FlaxRobertaWithHeadModule(FlaxBlock):
    task = ""
    base_model_prefix = "roberta"

    def setup(self) -> None:
        config = self.config
        self.roberta = layers.block(self, FlaxRobertaModule, add_pooling_layer=False)
        self.dropout = layers.dropout(self, config.head_dropout)
        self.build_head(config)

    def build_head(self, config: RobertaConfig) -> None:
        self.classifier = layers.dense(self, config.hidden_size, config.num_labels)

    __call__ = bert.with_head
    score = common.score_tokens
    targets = bert.labels_alone


class FlaxRobertaForMaskedLMModule(FlaxRobertaWithHeadModule):
    task = "MaskedLM"

    def build_head(self, config: RobertaConfig) -> None:
        self.lm_head = layers.block(self, FlaxRobertaLMHead)

    score = bert.score_roberta_vocabulary


class FlaxRobertaForSequenceClassificationModule(FlaxRobertaWithHeadModule):
    task = "SequenceClassification"

    def build_head(self, config: RobertaConfig) -> None:
        self.classifier = layers.block(self, FlaxRobertaClassificationHead, activation="tanh")

    score = bert.score_first


class FlaxRobertaForTokenClassificationModule(FlaxRobertaWithHeadModule):
    task = "TokenClassification"


class FlaxRobertaForQuestionAnsweringModule(FlaxRobertaWithHeadModule):
    task = "QuestionAnswering"

    def build_head(self, config: RobertaConfig) -> None:
        self.qa_outputs = layers.dense(self, config.hidden_size, config.num_labels)

    __call__ = bert.with_span  # type: ignore[assignment]  # two labels
    score = common.score_span


class FlaxRobertaPreTrainedModel(FlaxPreTrainedModel):
    """Base of the RoBERTa classes."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"


class FlaxRobertaModel(FlaxRobertaPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)
    module_class = FlaxRobertaModule
    __call__ = layers.declared_call(bert.model)


class FlaxRobertaWithHead(FlaxRobertaPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    module_class = FlaxRobertaWithHeadModule
    __call__ = layers.declared_call(bert.with_head)


class FlaxRobertaForMaskedLM(FlaxRobertaWithHead):
    """RoBERTa that predicts masked tokens; the decoder is tied unless the config says not."""

    module_class = FlaxRobertaForMaskedLMModule


class FlaxRobertaForSequenceClassification(FlaxRobertaWithHead):
    """RoBERTa that classifies or scores a text, from its first token."""

    module_class = FlaxRobertaForSequenceClassificationModule


class FlaxRobertaForTokenClassification(FlaxRobertaWithHead):
    """RoBERTa that classifies every token."""

    module_class = FlaxRobertaForTokenClassificationModule


class FlaxRobertaForQuestionAnswering(FlaxRobertaWithHead):
    """RoBERTa that finds a span."""

    module_class = FlaxRobertaForQuestionAnsweringModule
    __call__ = layers.declared_call(bert.with_span)
