"""Models of an encoder and a head, with the inputs of BERT."""

from __future__ import annotations

from typing import Any

from triptych.errors import ArgumentError
from triptych.nn import functional as fn
from triptych.nn.axes import hidden_axis, labels_axis
from triptych.nn.parts import Model
from triptych.nn.stack import finish, finish_span
from triptych.weights.schema import Axis


class EncoderWithHead(Model):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits.

    `pooled` says whether the head reads the backbone's pooler.
    """

    pooled = False

    def setup(self) -> None:
        self.build_backbone()
        self.dropout = self.make.dropout(self, self.dropout_rate())
        self.build_head(self.config)

    def build_backbone(self) -> None:
        """Name the backbone, as `base_model_prefix` says."""

    def dropout_rate(self) -> float:
        """Return the rate of the dropout before the head."""
        return float(self.config.head_dropout)

    def build_head(self, config: Any) -> None:
        self.classifier = self.make.dense(self, hidden_axis(config), labels_axis(config))

    def encoded(self, *arrays: Any, **options: Any) -> Any:
        """Return the backbone's output; `arrays` are the arguments of its call up to `inputs_embeds`."""
        return getattr(self, self.base_model_prefix)(*arrays, **options, return_dict=True)

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None,
        head_mask: Any = None, inputs_embeds: Any = None, labels: Any = None, output_attentions: bool | None = None,
        output_hidden_states: bool | None = None, return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return logits, and with `labels` the loss; see `triptych.nn.heads.task_output`."""
        backbone = self.encoded(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        return finish(self, backbone, self.score(backbone), self.targets(labels, attention_mask), return_dict)

    def score(self, backbone: Any) -> Any:
        """Return the logits of every token, [B, Q, C]."""
        return self.classifier(self.dropout(backbone.last_hidden_state))

    def targets(self, labels: Any, attention_mask: Any) -> Any:
        """Return what the loss compares with."""
        return labels

    def words(self) -> Any:
        """Return the word embeddings."""
        return getattr(self, self.base_model_prefix).embeddings.word_embeddings


def decode(head: Any, hidden: Any, table: Any) -> Any:
    """Return scores [B, Q, vocab]: of the word embeddings and `head.bias`, or of a decoder where that is not tied."""
    scores = fn.scores_of_vocabulary(head.ops, head.decoder, table, hidden)
    return scores if head.decoder is not None else scores + head.ops.cast(head.bias, hidden.dtype)


class PooledHead(EncoderWithHead):
    """Classifies or scores a text, from the pooler."""

    task = "SequenceClassification"
    pooled = True

    def score(self, backbone: Any) -> Any:
        """Return the scores of every text, [B, C]."""
        return self.classifier(self.dropout(backbone.pooler_output))


class MaskedHead(EncoderWithHead):
    """Predicts masked tokens; a decoder also sees the states of an encoder."""

    task = "MaskedLM"

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None,
        head_mask: Any = None, inputs_embeds: Any = None, encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None, labels: Any = None, output_attentions: bool | None = None,
        output_hidden_states: bool | None = None, return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return logits [B, Q, vocab], and with `labels` the loss."""
        backbone = self.encoded(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds, encoder_hidden_states,
            encoder_attention_mask, output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        return finish(self, backbone, self.score(backbone), labels, return_dict)


class NextTokenHead(EncoderWithHead):
    """Predicts the next token: a decoder, if the config says `is_decoder`, which may see the states of an encoder."""

    task = "CausalLM"

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None,
        head_mask: Any = None, inputs_embeds: Any = None, encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None, labels: Any = None, past_key_values: Any = None,
        use_cache: bool | None = None, output_attentions: bool | None = None, output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return logits [B, Q, vocab], and with `labels` the loss; the cache is the backbone's."""
        backbone = self.encoded(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds, encoder_hidden_states,
            encoder_attention_mask, past_key_values=past_key_values, use_cache=use_cache,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        return finish(self, backbone, self.score(backbone), labels, return_dict)


class ChoiceHead(EncoderWithHead):
    """Chooses one of several texts: each gets a score."""

    task = "MultipleChoice"
    pooled = True

    def build_head(self, config: Any) -> None:
        self.classifier = self.make.dense(self, hidden_axis(config), Axis("labels", 1))

    def score(self, backbone: Any) -> Any:
        """Return the score of every text, [B * N, 1]."""
        return self.classifier(self.dropout(backbone.pooler_output))

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None,
        head_mask: Any = None, inputs_embeds: Any = None, labels: Any = None, output_attentions: bool | None = None,
        output_hidden_states: bool | None = None, return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return logits [B, N] for N texts each, and with `labels` [B] the loss.

        Ids and masks are [B, N, Q], `inputs_embeds` [B, N, Q, H]; hidden states and attentions are of B * N texts.
        """
        ops = self.ops
        rows = [texts_in_a_row(ops, x, 1) for x in (input_ids, attention_mask, token_type_ids, position_ids)]
        backbone = self.encoded(
            *rows, head_mask, texts_in_a_row(ops, inputs_embeds, 2),
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        logits = of_each_choice(ops, self.score(backbone), input_ids if inputs_embeds is None else inputs_embeds)
        return finish(self, backbone, logits, labels, return_dict)


def texts_in_a_row(ops: Any, x: Any, kept: int) -> Any:
    """Return [B * N, ...] for [B, N, ...], where `...` are the last `kept` axes; None for None."""
    return None if x is None else ops.reshape(x, (-1, *ops.shape(x)[-kept:]))


def of_each_choice(ops: Any, scores: Any, texts: Any) -> Any:
    """Return scores [B * N, 1] as [B, N], where `texts` are [B, N, ...].

    Raises:
        ArgumentError: the texts are not N for each.
    """
    rows, (_, choices, *_) = scores.shape[0], texts.shape
    if isinstance(rows, int) and isinstance(choices, int) and rows % choices:
        raise ArgumentError(
            "Among which texts is one to be chosen?", expected="ids [B, N, Q]", received=fn.described(texts)
        )
    return ops.reshape(scores, (-1, ops.shape(texts)[1]))


class SpanHead(EncoderWithHead):
    """The start and the end of an answer."""

    task = "QuestionAnswering"

    def build_head(self, config: Any) -> None:
        self.qa_outputs = self.make.dense(self, hidden_axis(config), labels_axis(config))

    def score(self, backbone: Any) -> Any:
        """Return start and end scores of every token, [B, Q, 2]."""
        return self.qa_outputs(backbone.last_hidden_state)

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None,
        head_mask: Any = None, inputs_embeds: Any = None, start_positions: Any = None, end_positions: Any = None,
        output_attentions: bool | None = None, output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return start and end logits, and with both positions the loss."""
        backbone = self.encoded(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        return finish_span(self, backbone, self.score(backbone), start_positions, end_positions, return_dict)
