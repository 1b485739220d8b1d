"""What models of a decoder and a head share; their calls differ in the order of their inputs."""

from __future__ import annotations

from typing import Any

from triptych.nn import functional as fn
from triptych.nn.axes import hidden_axis, labels_axis, vocab_axis
from triptych.nn.parts import Model


class DecoderWithHead(Model):
    """A backbone and a head: `task` names the head, `score_of` turns the backbone's output into logits."""

    def setup(self) -> None:
        self.build_backbone()
        self.build_head(self.config)

    def build_backbone(self) -> None:
        """Name the backbone, as `base_model_prefix` says."""

    def build_head(self, config: Any) -> None:
        """Name the head's layers."""

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        """Return the logits of a backbone's output."""
        raise NotImplementedError

    def words(self) -> Any:
        """Return the word embeddings."""
        raise NotImplementedError

    def width(self) -> Any:
        """Return the axis of what the head reads."""
        return hidden_axis(self.config)


class CausalHead(DecoderWithHead):
    """Predicts the next token."""

    task = "CausalLM"
    other_tasks = ("PreTraining",)

    def build_head(self, config: Any) -> None:
        self.lm_head = self.make.vocab_head(self, self.width(), vocab_axis(config))

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        """Return the scores of every place, [B, Q, vocab]."""
        return fn.scores_of_vocabulary(self.ops, self.lm_head, self.words(), backbone.last_hidden_state)


class LastTokenHead(DecoderWithHead):
    """Classifies or scores a text, from its last token."""

    task = "SequenceClassification"

    def build_head(self, config: Any) -> None:
        self.score = self.make.dense(self, self.width(), labels_axis(config), bias=False)

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        """Return the scores of every text, [B, C]."""
        return fn.last_token(self.ops, self.config, self.score(backbone.last_hidden_state), input_ids)
