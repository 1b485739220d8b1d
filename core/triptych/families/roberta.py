"""RoBERTa (Liu et al., 2019, https://arxiv.org/abs/1907.11692): BERT's blocks with other positions and heads."""

from __future__ import annotations

from typing import Any

from triptych.families import declared
from triptych.families.bert import (
    IGNORABLE,
    BertConfig,
    BertEmbeddings,
    BertModel,
)
from triptych.nn import attention as at
from triptych.nn import functional as fn
from triptych.nn.axes import hidden_axis, labels_axis, vocab_axis
from triptych.nn.encoder_heads import EncoderWithHead, SpanHead, decode
from triptych.nn.parts import Part


class RobertaConfig(BertConfig):
    """Configuration of RoBERTa. Positions are counted from `pad_token_id` + 1, and the padding has position
    `pad_token_id`, so 512 tokens need `max_position_embeddings` 514.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "roberta"

    def __init__(
        self,
        vocab_size: int = 50265,
        *,
        max_position_embeddings: int = 512,
        pad_token_id: int | None = 1,
        bos_token_id: int | None = 0,
        eos_token_id: int | None = 2,
        **kwargs: Any,
    ) -> None:
        self.bos_token_id, self.eos_token_id = bos_token_id, eos_token_id
        super().__init__(
            vocab_size, max_position_embeddings=max_position_embeddings, pad_token_id=pad_token_id, **kwargs
        )


class RobertaEmbeddings(BertEmbeddings):
    def positions(self, input_ids: Any, words: Any) -> Any:
        """Return positions counted over the tokens that are not padding, from `pad_token_id` + 1."""
        ops, pad = self.ops, self.config.pad_token_id or 0
        if input_ids is None:
            return at.positions(ops, words) + (pad + 1)
        real = ops.cast(input_ids != pad, "int32")
        return ops.cumsum(real) * real + pad


class RobertaModel(BertModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    embeddings_part = RobertaEmbeddings


class RobertaWithHead(EncoderWithHead):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    base_model_prefix = "roberta"

    def build_backbone(self) -> None:
        self.roberta = self.make.block(self, RobertaModel, add_pooling_layer=False)


class RobertaLMHead(Part):
    def setup(self) -> None:
        make, hidden, vocab = self.make, hidden_axis(self.config), vocab_axis(self.config)
        self.bias = make.vector(self, "bias", vocab)
        self.dense = make.dense(self, hidden, hidden)
        self.layer_norm = make.layer_norm(self, hidden, self.config.layer_norm_eps)
        self.decoder = make.vocab_head(self, hidden, vocab, bias="bias")

    def call(self, hidden: Any, table: Any) -> Any:
        return decode(self, self.layer_norm(fn.activation(self.ops, "gelu", self.dense(hidden))), table)


class RobertaForMaskedLM(RobertaWithHead):
    """RoBERTa that predicts masked tokens; the decoder is tied unless the config says not."""

    task = "MaskedLM"

    def build_head(self, config: Any) -> None:
        self.lm_head = self.make.block(self, RobertaLMHead)

    def score(self, backbone: Any) -> Any:
        return self.lm_head(backbone.last_hidden_state, table=self.words())


class RobertaClassificationHead(Part):
    """A classifier of the first token; ELECTRA has it too."""

    activation: str = ""

    def setup(self) -> None:
        make, hidden = self.make, hidden_axis(self.config)
        self.dense = make.dense(self, hidden, hidden)
        self.dropout = make.dropout(self, self.config.head_dropout)
        self.out_proj = make.dense(self, hidden, labels_axis(self.config))

    def call(self, hidden: Any) -> Any:
        dense = self.dense(self.dropout(hidden[:, 0]))
        return self.out_proj(self.dropout(fn.activation(self.ops, self.activation, dense)))


class RobertaForSequenceClassification(RobertaWithHead):
    """RoBERTa that classifies or scores a text, from its first token."""

    task = "SequenceClassification"

    def build_head(self, config: Any) -> None:
        self.classifier = self.make.block(self, RobertaClassificationHead, activation="tanh")

    def score(self, backbone: Any) -> Any:
        return self.classifier(backbone.last_hidden_state)


class RobertaForTokenClassification(RobertaWithHead):
    """RoBERTa that classifies every token."""

    task = "TokenClassification"


class RobertaForQuestionAnswering(SpanHead, RobertaWithHead):
    """RoBERTa that finds a span."""


FAMILIES = {
    "roberta": declared(
        RobertaConfig,
        RobertaModel,
        RobertaForMaskedLM,
        RobertaForSequenceClassification,
        RobertaForTokenClassification,
        RobertaForQuestionAnswering,
        ignorable=IGNORABLE,
    )
}
