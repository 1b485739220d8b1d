"""ELECTRA (Clark et al., 2020, https://arxiv.org/abs/2003.10555): BERT's encoder over narrower embeddings."""

from __future__ import annotations

from typing import Any

from triptych.checks import positive_int, probability
from triptych.families import declared
from triptych.families.bert import (
    IGNORABLE,
    BertAttention,
    BertConfig,
    BertEmbeddings,
    BertEncoder,
    BertIntermediate,
    BertLayer,
    BertModel,
    BertOutput,
    BertSelfAttention,
    BertSelfOutput,
)
from triptych.families.roberta import RobertaClassificationHead
from triptych.nn import functional as fn
from triptych.nn.axes import embedding_axis, hidden_axis, vocab_axis
from triptych.nn.encoder_heads import ChoiceHead, EncoderWithHead, NextTokenHead, SpanHead
from triptych.nn.parts import Model, Part
from triptych.nn.summary import SequenceSummary
from triptych.weights.schema import Axis

ElectraSelfAttention, ElectraSelfOutput, ElectraAttention = BertSelfAttention, BertSelfOutput, BertAttention
ElectraIntermediate, ElectraOutput, ElectraLayer = BertIntermediate, BertOutput, BertLayer
ElectraEncoder = BertEncoder


class ElectraConfig(BertConfig):
    """Configuration of ELECTRA; `embedding_size` is the width of the embeddings.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "electra"
    checks = {**BertConfig.checks, "embedding_size": positive_int, "summary_last_dropout": probability}

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


class ElectraEmbeddings(BertEmbeddings):
    """Those of BERT, of their own width."""


class ElectraModel(Model):
    """The encoder, of generator and discriminator alike; a decoder if the config says `is_decoder`."""

    other_tasks = ("TextEncoding",)

    def setup(self) -> None:
        make, width, hidden = self.make, embedding_axis(self.config), hidden_axis(self.config)
        self.embeddings = make.block(self, ElectraEmbeddings)
        self.embeddings_project = make.dense(self, width, hidden) if width != hidden else None
        self.encoder = make.block(self, BertEncoder)

    call = BertModel.call

    def finished(self, encoded: Any, by_name: bool) -> Any:
        """Return the encoder's output: there is no pooler."""
        return encoded if by_name else encoded.to_tuple()


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

    def call(self, discriminator_hidden_states: Any) -> Any:
        """Return [B, Q]: positive where a token was replaced."""
        hidden = fn.activation(self.ops, self.config.hidden_act, self.dense(discriminator_hidden_states))
        return self.dense_prediction(hidden)[..., 0]


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

    def call(self, generator_hidden_states: Any) -> Any:
        return self.LayerNorm(fn.activation(self.ops, "gelu", self.dense(generator_hidden_states)))


class ElectraGenerator(ElectraWithHead):
    """A backbone with scores of the vocabulary; the matrix is tied unless the config says not."""

    def build_head(self, config: Any) -> None:
        self.generator_predictions = self.make.block(self, ElectraGeneratorPredictions)
        self.generator_lm_head = self.make.vocab_projector(self, embedding_axis(config), vocab_axis(config))

    def score(self, backbone: Any) -> Any:
        hidden = self.generator_predictions(backbone.last_hidden_state)
        return self.generator_lm_head(hidden, embeddings=self.words())


class ElectraForMaskedLM(ElectraGenerator):
    """The generator: predicts masked tokens."""

    task = "MaskedLM"


class ElectraForCausalLM(NextTokenHead, ElectraGenerator):
    """ELECTRA that predicts the next token; its head is that of `ElectraForMaskedLM`."""


class ElectraClassificationHead(RobertaClassificationHead):
    """A classifier of the first token."""

    activation = "gelu"


class ElectraForSequenceClassification(ElectraWithHead):
    """ELECTRA that classifies or scores a text, from its first token."""

    task = "SequenceClassification"

    def build_head(self, config: Any) -> None:
        self.classifier = self.make.block(self, ElectraClassificationHead)

    def score(self, backbone: Any) -> Any:
        return self.classifier(backbone.last_hidden_state)


class ElectraForMultipleChoice(ChoiceHead, ElectraWithHead):
    """ELECTRA that chooses one of several texts, from a summary of each."""

    def build_head(self, config: Any) -> None:
        self.sequence_summary = self.make.block(self, SequenceSummary)
        self.classifier = self.make.dense(self, hidden_axis(config), Axis("labels", 1))

    def score(self, backbone: Any) -> Any:
        return self.classifier(self.sequence_summary(backbone.last_hidden_state))


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
        ElectraForCausalLM,
        ElectraForMaskedLM,
        ElectraForSequenceClassification,
        ElectraForMultipleChoice,
        ElectraForTokenClassification,
        ElectraForQuestionAnswering,
        ignorable=IGNORABLE,
    )
}
