"""Rows of the contract about the losses of TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_author import OwnConfig
from triptych_conformance import Backend, assert_close
from triptych_tf import utilities as tfu
from walk import row


def losses_by_hand(labels: Any, logits: Any) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -np.take_along_axis(logs, np.maximum(labels, 0)[..., None], -1)[..., 0]


LOGITS = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
LABELS = np.array([[1, -100, 3], [0, 2, -1]])


def of_loss(kind: type, **fields: Any) -> Any:
    return type("Own", (kind,), {"config": OwnConfig(**fields)})()


@row("6.19", tf="Y")
@row("6.20", tf="Y")
def the_loss_of_language_models(backend: Backend, folder: Path) -> None:
    labels = np.where(LABELS == -1, -100, LABELS)
    each = losses_by_hand(labels, LOGITS)[labels != -100]
    for kind in (tfu.TFCausalLanguageModelingLoss, tfu.TFMaskedLanguageModelingLoss):
        found = of_loss(kind).hf_compute_loss(labels, LOGITS)
        assert found.shape == (1,)
        assert_close(found, [each.mean()])
        assert_close(of_loss(kind, tf_legacy_loss=True).hf_compute_loss(labels, LOGITS), each)


@row("6.21", tf="Y")
def the_loss_of_tokens(backend: Backend, folder: Path) -> None:
    each = losses_by_hand(LABELS, LOGITS)[LABELS >= 0]
    assert_close(of_loss(tfu.TFTokenClassificationLoss).hf_compute_loss(LABELS, LOGITS), [each.mean()])


@row("6.22", tf="Y")
def the_loss_of_following_sentences(backend: Backend, folder: Path) -> None:
    labels, logits = np.array([1, -100]), LOGITS[:, 0, :2]
    each = losses_by_hand(labels, logits)
    assert_close(of_loss(tfu.TFNextSentencePredictionLoss).hf_compute_loss(labels, logits), [each[0], 0.0])


@row("6.23", tf="Y")
def the_loss_of_answers(backend: Backend, folder: Path) -> None:
    start, end = np.array([0, 2]), np.array([1, 1])
    expected = (losses_by_hand(start, LOGITS[..., 0]) + losses_by_hand(end, LOGITS[..., 1])) / 2
    found = of_loss(tfu.TFQuestionAnsweringLoss).hf_compute_loss(
        {"start_position": start, "end_position": end}, (LOGITS[..., 0], LOGITS[..., 1])
    )
    assert_close(found, expected)


@row("6.24", tf="Y")
@row("6.25", tf="Y")
def the_loss_of_sequences_and_choices(backend: Backend, folder: Path) -> None:
    labels = np.array([1, 3])
    for kind in (tfu.TFSequenceClassificationLoss, tfu.TFMultipleChoiceLoss):
        assert_close(of_loss(kind).hf_compute_loss(labels, LOGITS[:, 0]), losses_by_hand(labels, LOGITS[:, 0]))
    numbers = np.array([0.5, -1.0], np.float32)
    found = of_loss(tfu.TFSequenceClassificationLoss).hf_compute_loss(numbers, LOGITS[:, 0, :1])
    assert_close(found, (LOGITS[:, 0, 0] - numbers) ** 2)
