"""The losses of transformers 4: mixins of models with `hf_compute_loss(labels, logits)`, and a `config`.

`config.tf_legacy_loss` leaves the loss of each label that counts, and takes no mean.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from triptych.nn import functional as fn
from triptych_tf import ops
from triptych_tf.authors.checks import tensor_of

__all__ = [
    "TFCausalLanguageModelingLoss", "TFMaskedLanguageModelingLoss", "TFMultipleChoiceLoss",
    "TFNextSentencePredictionLoss", "TFQuestionAnsweringLoss", "TFSequenceClassificationLoss",
    "TFTokenClassificationLoss", "dummy_loss",
]  # fmt: skip

_IGNORED = -100


def dummy_loss(y_true: Any, y_pred: Any) -> tf.Tensor:
    """Return `y_pred`, a loss that a model has computed, as its mean per example."""
    y_pred = tensor_of("y_pred", y_pred)
    axes = list(range(1, y_pred.shape.rank))
    return tf.reduce_mean(y_pred, axis=axes) if axes else y_pred


def _cross_entropy(labels: Any, logits: Any) -> tf.Tensor:
    """Return the cross-entropy of each label; a negative one counts as 0, to be masked."""
    wide = fn.widened(ops, tensor_of("logits", logits))
    return ops.cross_entropy(wide, tf.nn.relu(labels))


def _of_those(counting: tf.Tensor, labels: Any, logits: Any, config: Any) -> tf.Tensor:
    """Return the mean over the labels that count, [1]; with `tf_legacy_loss` the loss of each."""
    losses = _cross_entropy(labels, logits)
    if getattr(config, "tf_legacy_loss", False):
        return tf.boolean_mask(losses, counting)
    mask = tf.cast(counting, losses.dtype)
    return tf.reshape(tf.reduce_sum(losses * mask) / tf.reduce_sum(mask), (1,))


class TFCausalLanguageModelingLoss:
    """Cross-entropy of each token [B, Q]; labels of -100 do not count."""

    config: Any

    def hf_compute_loss(self, labels: Any, logits: Any) -> tf.Tensor:
        """Return the loss, [1], of `labels` [B, Q] and `logits` [B, Q, vocab]."""
        labels = tensor_of("labels", labels)
        return _of_those(labels != _IGNORED, labels, logits, self.config)


class TFMaskedLanguageModelingLoss(TFCausalLanguageModelingLoss):
    """Cross-entropy of each token [B, Q]; labels of -100 do not count."""


class TFTokenClassificationLoss:
    """Cross-entropy of each token [B, Q]; negative labels do not count."""

    config: Any

    def hf_compute_loss(self, labels: Any, logits: Any) -> tf.Tensor:
        """Return the loss, [1], of `labels` [B, Q] and `logits` [B, Q, classes]."""
        labels = tensor_of("labels", labels)
        return _of_those(labels >= 0, labels, logits, self.config)


class TFNextSentencePredictionLoss:
    """Cross-entropy of two sentences that follow each other, or not."""

    config: Any

    def hf_compute_loss(self, labels: Any, logits: Any) -> tf.Tensor:
        """Return the loss of each example, [B]; 0 where the label is -100."""
        labels = tensor_of("labels", labels)
        losses, counting = _cross_entropy(labels, logits), labels != _IGNORED
        if getattr(self.config, "tf_legacy_loss", False):
            return tf.boolean_mask(losses, counting)
        return losses * tf.cast(counting, losses.dtype)


class TFQuestionAnsweringLoss:
    """Cross-entropy of the places where an answer starts and ends."""

    def hf_compute_loss(self, labels: Any, logits: Any) -> tf.Tensor:
        """Return the loss, [B], of `labels` (start_position, end_position: [B]) and a pair of `logits` [B, Q]."""
        start, end = (tensor_of(name, labels[name]) for name in ("start_position", "end_position"))
        return (_cross_entropy(start, logits[0]) + _cross_entropy(end, logits[1])) / 2.0


class TFSequenceClassificationLoss:
    """Cross-entropy of one label for each example, or the squared error where the model has one score."""

    def hf_compute_loss(self, labels: Any, logits: Any) -> tf.Tensor:
        """Return the loss, [B], of `labels` [B] and `logits` [B, classes], or of numbers and `logits` [B, 1]."""
        labels, logits = tensor_of("labels", labels), tensor_of("logits", logits)
        if logits.shape.rank > 1 and logits.shape[1] != 1:
            return _cross_entropy(labels, logits)
        expected = tf.cast(tf.expand_dims(labels, -1) if labels.shape.rank == 1 else labels, logits.dtype)
        return tf.reduce_mean(tf.square(logits - expected), axis=-1)


class TFMultipleChoiceLoss:
    """Cross-entropy of the right one of several choices."""

    def hf_compute_loss(self, labels: Any, logits: Any) -> tf.Tensor:
        """Return the loss, [B], of `labels` [B] and `logits` [B, choices]."""
        return _cross_entropy(tensor_of("labels", labels), logits)
