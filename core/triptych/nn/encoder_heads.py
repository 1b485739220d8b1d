"""Models of an encoder and a head, with the inputs of BERT."""

from __future__ import annotations

from typing import Any

from triptych.nn import functional as fn
from triptych.nn.axes import hidden_axis, labels_axis
from triptych.nn.parts import Model
from triptych.nn.stack import finish, finish_span


class EncoderWithHead(Model):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

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

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return logits, and with `labels` the loss; see `triptych.nn.heads.task_output`."""
        backbone = getattr(self, self.base_model_prefix)(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, return_dict=True,
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


class SpanHead(EncoderWithHead):
    """The start and the end of an answer."""

    task = "QuestionAnswering"

    def build_head(self, config: Any) -> None:
        self.qa_outputs = self.make.dense(self, hidden_axis(config), labels_axis(config))

    def score(self, backbone: Any) -> Any:
        """Return start and end scores of every token, [B, Q, 2]."""
        return self.qa_outputs(backbone.last_hidden_state)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return start and end logits, and with both positions the loss."""
        backbone = getattr(self, self.base_model_prefix)(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        return finish_span(self, backbone, self.score(backbone), start_positions, end_positions, return_dict)
