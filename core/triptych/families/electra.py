"""ELECTRA (Clark et al., 2020, https://arxiv.org/abs/2003.10555): BERT's encoder over narrower embeddings."""

from __future__ import annotations

from typing import Any

from triptych.checks import positive_int
from triptych.families import declared
from triptych.families.bert import (
    IGNORABLE,
    BertConfig,
    BertEmbeddings,
    BertEncoder,
    BertModel,
)
from triptych.families.roberta import RobertaClassificationHead
from triptych.nn import functional as fn
from triptych.nn.axes import embedding_axis, hidden_axis, vocab_axis
from triptych.nn.encoder_heads import EncoderWithHead, SpanHead
from triptych.nn.parts import Model, Part
from triptych.weights.schema import Axis


class ElectraConfig(BertConfig):
    """Configuration of ELECTRA; `embedding_size` is the width of the embeddings.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "electra"
    checks = {**BertConfig.checks, "embedding_size": positive_int}

    def __init__(
        self,
        vocab_size: int = 30522,
        embedding_size: int = 128,
        hidden_size: int = 256,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 4,
        intermediate_size: int = 1024,
        summary_type: str = "first",
        summary_use_proj: bool = True,
        summary_activation: str = "gelu",
        summary_last_dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.embedding_size = embedding_size
        self.summary_type, self.summary_use_proj = summary_type, summary_use_proj
        self.summary_activation, self.summary_last_dropout = summary_activation, summary_last_dropout
        super().__init__(vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, **kwargs)

    @property
    def embedding_width(self) -> int:
        return self.embedding_size


class ElectraModel(Model):
    """The encoder, of generator and discriminator alike."""

    def setup(self) -> None:
        make, width, hidden = self.make, embedding_axis(self.config), hidden_axis(self.config)
        self.embeddings = make.block(self, BertEmbeddings)
        self.embeddings_project = make.dense(self, width, hidden) if width != hidden else None
        self.encoder = make.block(self, BertEncoder)
        self.pooler = None

    call = BertModel.call


class ElectraWithHead(EncoderWithHead):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    base_model_prefix = "electra"

    def build_backbone(self) -> None:
        self.electra = self.make.block(self, ElectraModel)


class ElectraDiscriminatorPredictions(Part):
    def setup(self) -> None:
        hidden = hidden_axis(self.config)
        self.dense = self.make.dense(self, hidden, hidden)
        self.dense_prediction = self.make.dense(self, hidden, Axis("labels", 1))

    def call(self, hidden: Any) -> Any:
        """Return [B, Q]: positive where a token was replaced."""
        return self.dense_prediction(fn.activation(self.ops, self.config.hidden_act, self.dense(hidden)))[..., 0]


class ElectraForPreTraining(ElectraWithHead):
    """The discriminator: which tokens were replaced."""

    task = "PreTraining"

    def build_head(self, config: Any) -> None:
        self.discriminator_predictions = self.make.block(self, ElectraDiscriminatorPredictions)

    def score(self, backbone: Any) -> Any:
        return self.discriminator_predictions(backbone.last_hidden_state)

    def targets(self, labels: Any, attention_mask: Any) -> Any:
        """Return labels, 1 where a token was replaced, and the mask of the tokens that count."""
        return labels, attention_mask


class ElectraGeneratorPredictions(Part):
    def setup(self) -> None:
        make, width = self.make, embedding_axis(self.config)
        self.LayerNorm = make.layer_norm(self, width, self.config.layer_norm_eps)
        self.dense = make.dense(self, hidden_axis(self.config), width)

    def call(self, hidden: Any) -> Any:
        return self.LayerNorm(fn.activation(self.ops, "gelu", self.dense(hidden)))


class ElectraForMaskedLM(ElectraWithHead):
    """The generator: predicts masked tokens; its matrix is tied unless the config says not."""

    task = "MaskedLM"

    def build_head(self, config: Any) -> None:
        self.generator_predictions = self.make.block(self, ElectraGeneratorPredictions)
        self.generator_lm_head = self.make.vocab_projector(self, embedding_axis(config), vocab_axis(config))

    def score(self, backbone: Any) -> Any:
        hidden = self.generator_predictions(backbone.last_hidden_state)
        return self.generator_lm_head(hidden, embeddings=self.words())


class ElectraForSequenceClassification(ElectraWithHead):
    """ELECTRA that classifies or scores a text, from its first token."""

    task = "SequenceClassification"

    def build_head(self, config: Any) -> None:
        self.classifier = self.make.block(self, RobertaClassificationHead, activation="gelu")

    def score(self, backbone: Any) -> Any:
        return self.classifier(backbone.last_hidden_state)


class ElectraForTokenClassification(ElectraWithHead):
    """ELECTRA that classifies every token."""

    task = "TokenClassification"


class ElectraForQuestionAnswering(SpanHead, ElectraWithHead):
    """ELECTRA that finds a span."""


FAMILIES = {
    "electra": declared(
        ElectraConfig,
        ElectraModel,
        ElectraForPreTraining,
        ElectraForMaskedLM,
        ElectraForSequenceClassification,
        ElectraForTokenClassification,
        ElectraForQuestionAnswering,
        ignorable=IGNORABLE,
    )
}
