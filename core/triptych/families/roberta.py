"""RoBERTa (Liu et al., 2019, https://arxiv.org/abs/1907.11692): BERT's blocks with other positions and heads."""

from __future__ import annotations

from typing import Any

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
    BertPooler,
    BertSelfAttention,
    BertSelfOutput,
)
from triptych.nn import attention as at
from triptych.nn import functional as fn
from triptych.nn.axes import hidden_axis, labels_axis, vocab_axis
from triptych.nn.encoder_heads import ChoiceHead, EncoderWithHead, MaskedHead, NextTokenHead, SpanHead, decode
from triptych.nn.parts import Part
from triptych.nn.seeding import again

RobertaSelfAttention, RobertaSelfOutput, RobertaAttention = BertSelfAttention, BertSelfOutput, BertAttention
RobertaIntermediate, RobertaOutput, RobertaLayer = BertIntermediate, BertOutput, BertLayer
RobertaEncoder, RobertaPooler = BertEncoder, BertPooler


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
        super().__init__(
            vocab_size,
            max_position_embeddings=max_position_embeddings,
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            **kwargs,
        )

    @property
    def learned_positions(self) -> int:
        return super().learned_positions - (self.pad_token_id or 0) - 1


class RobertaEmbeddings(BertEmbeddings):
    def padded_position(self) -> int | None:
        return self.config.pad_token_id

    def positions(self, input_ids: Any, words: Any, past: Any) -> Any:
        """Return positions counted over the tokens that are not padding, from `past` + `pad_token_id` + 1."""
        ops, pad = self.ops, self.config.pad_token_id or 0
        if input_ids is None:
            return at.positions(ops, words) + (past + pad + 1)
        real = ops.cast(input_ids != pad, "int32")
        return (ops.cumsum(real) + past) * real + pad


class RobertaModel(BertModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    embeddings_part = RobertaEmbeddings


class RobertaWithHead(EncoderWithHead):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    base_model_prefix = "roberta"

    def build_backbone(self) -> None:
        self.roberta = self.make.block(self, RobertaModel, add_pooling_layer=self.pooled)


class RobertaLMHead(Part):
    """Scores of the vocabulary. `table` is the word embeddings, for a framework where a tied decoder has no weights."""

    def setup(self) -> None:
        make, hidden, vocab = self.make, hidden_axis(self.config), vocab_axis(self.config)
        self.bias = make.vector(self, "bias", vocab)
        self.dense = make.dense(self, hidden, hidden)
        self.layer_norm = make.layer_norm(self, hidden, self.config.layer_norm_eps)
        self.decoder = make.vocab_head(self, hidden, vocab, bias="bias")

    def call(self, features: Any, table: Any = None) -> Any:
        """Return [B, Q, vocab] from [B, Q, H]."""
        return decode(self, self.layer_norm(fn.activation(self.ops, "gelu", self.dense(features))), table)


class RobertaForMaskedLM(MaskedHead, RobertaWithHead):
    """RoBERTa that predicts masked tokens; the decoder is tied unless the config says not."""

    other_tasks = ("PreTraining",)

    def build_head(self, config: Any) -> None:
        self.lm_head = self.make.block(self, RobertaLMHead)

    def score(self, backbone: Any) -> Any:
        return self.lm_head(backbone.last_hidden_state, table=self.words())


class RobertaForCausalLM(NextTokenHead, RobertaWithHead):
    """RoBERTa that predicts the next token; its head is that of `RobertaForMaskedLM`."""

    def build_head(self, config: Any) -> None:
        self.lm_head = self.make.block(self, RobertaLMHead)

    def score(self, backbone: Any) -> Any:
        return self.lm_head(backbone.last_hidden_state, table=self.words())


class RobertaClassificationHead(Part):
    """A classifier of the first token."""

    activation = "tanh"

    def setup(self) -> None:
        make, hidden = self.make, hidden_axis(self.config)
        self.dense = make.dense(self, hidden, hidden)
        own = self.config.classifier_dropout
        self.dropout = make.dropout(self, self.config.hidden_dropout_prob if own is None else own)
        self.out_proj = make.dense(self, hidden, labels_axis(self.config))

    def call(self, features: Any) -> Any:
        """Return [B, labels] from [B, Q, H]."""
        dense = self.dense(self.dropout(features[:, 0]))
        return self.out_proj(again(self.dropout, fn.activation(self.ops, self.activation, dense)))


class RobertaForSequenceClassification(RobertaWithHead):
    """RoBERTa that classifies or scores a text, from its first token."""

    task = "SequenceClassification"

    def build_head(self, config: Any) -> None:
        self.classifier = self.make.block(self, RobertaClassificationHead)

    def score(self, backbone: Any) -> Any:
        return self.classifier(backbone.last_hidden_state)


_choose: Any = ChoiceHead.call


class RobertaForMultipleChoice(ChoiceHead, RobertaWithHead):
    """RoBERTa that chooses one of several texts, from the pooled first token of each."""

    def dropout_rate(self) -> float:
        return float(self.config.hidden_dropout_prob)

    def call(
        self, input_ids: Any = None, token_type_ids: Any = None, attention_mask: Any = None, labels: Any = None,
        position_ids: Any = None, head_mask: Any = None, inputs_embeds: Any = None,
        output_attentions: bool | None = None, output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """As `ChoiceHead.call`, with the inputs in another order."""
        return _choose(
            self, input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds, labels,
            output_attentions, output_hidden_states, return_dict,
        )  # fmt: skip


class RobertaForTokenClassification(RobertaWithHead):
    """RoBERTa that classifies every token."""

    task = "TokenClassification"


class RobertaForQuestionAnswering(SpanHead, RobertaWithHead):
    """RoBERTa that finds a span."""


FAMILIES = {
    "roberta": declared(
        RobertaConfig,
        RobertaModel,
        RobertaForCausalLM,
        RobertaForMaskedLM,
        RobertaForSequenceClassification,
        RobertaForMultipleChoice,
        RobertaForTokenClassification,
        RobertaForQuestionAnswering,
        ignorable=IGNORABLE,
    )
}
