"""The losses that `model.loss_function` is of a class's name, as since transformers 4.46."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from triptych.errors import ArgumentError, MissingMethodError

logger = logging.getLogger("triptych")
Loss = Callable[..., Any]
IGNORED = -100
"""The label of what has no loss."""


def fixed_cross_entropy(
    source: torch.Tensor, target: torch.Tensor, num_items_in_batch: Any = None, ignore_index: int = IGNORED, **_: Any
) -> torch.Tensor:
    """Return the cross entropy of logits [N, C] and labels [N]: the mean over those that are not `ignore_index`, or the
    sum over them divided by `num_items_in_batch`, for a batch that is computed in parts."""
    if num_items_in_batch is None:
        return functional.cross_entropy(source, target, ignore_index=ignore_index)
    total = functional.cross_entropy(source, target, ignore_index=ignore_index, reduction="sum")
    count = num_items_in_batch.to(total.device) if isinstance(num_items_in_batch, torch.Tensor) else num_items_in_batch
    return total / count


def ForCausalLMLoss(  # noqa: N802
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    num_items_in_batch: Any = None,
    ignore_index: int = IGNORED,
    shift_labels: torch.Tensor | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """Return the loss, in float32, of logits [B, S, V] that score the next token: of labels [B, S], which are shifted
    here, or of `shift_labels` [B, S], which are already."""
    if shift_labels is None:
        shift_labels = functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    scores, wanted = logits.float().reshape(-1, vocab_size), shift_labels.reshape(-1).to(logits.device)
    return fixed_cross_entropy(scores, wanted, num_items_in_batch, ignore_index, **kwargs)


def ForMaskedLMLoss(  # noqa: N802
    logits: torch.Tensor,
    labels: torch.Tensor,
    vocab_size: int,
    num_items_in_batch: Any = None,
    ignore_index: int = IGNORED,
    **kwargs: Any,
) -> torch.Tensor:
    """Return the loss, in float32, of logits [B, S, V] and labels [B, S]."""
    scores, wanted = logits.float().reshape(-1, vocab_size), labels.reshape(-1).to(logits.device)
    return fixed_cross_entropy(scores, wanted, num_items_in_batch, ignore_index, **kwargs)


def ForSequenceClassificationLoss(  # noqa: N802
    labels: torch.Tensor, pooled_logits: torch.Tensor, config: Any, **kwargs: Any
) -> torch.Tensor:
    """Return the loss of logits [B, labels] by `config.problem_type`, which is set by the labels where it is None.

    Raises:
        ArgumentError: another type of problem.
    """
    count = config.num_labels
    if config.problem_type is None:
        classes = not labels.is_floating_point()
        config.problem_type = (
            "regression" if count == 1
            else "single_label_classification" if classes
            else "multi_label_classification"
        )  # fmt: skip
    labels = labels.to(pooled_logits.device)
    if config.problem_type == "regression":
        if count == 1:
            pooled_logits, labels = pooled_logits.squeeze(), labels.squeeze()
        return functional.mse_loss(pooled_logits, labels)
    if config.problem_type == "single_label_classification":
        return fixed_cross_entropy(pooled_logits.reshape(-1, count), labels.reshape(-1), **kwargs)
    if config.problem_type == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(pooled_logits, labels)
    raise ArgumentError(
        "There is no loss of this problem_type.",
        expected="regression, single_label_classification or multi_label_classification",
        received=repr(config.problem_type),
    )


def ForQuestionAnsweringLoss(  # noqa: N802
    start_logits: torch.Tensor, end_logits: torch.Tensor, start_positions: Any, end_positions: Any, **kwargs: Any
) -> torch.Tensor | None:
    """Return the mean of the losses of the two ends, logits [B, S] and positions [B] or [B, 1]; a position outside of
    the text has none. None without positions."""
    if start_positions is None or end_positions is None:
        return None
    losses = []
    for logits, positions in ((start_logits, start_positions), (end_logits, end_positions)):
        outside = logits.shape[1]
        wanted = positions.reshape(-1).to(logits.device).clamp(0, outside)
        losses.append(fixed_cross_entropy(logits, wanted, **{**kwargs, "ignore_index": outside}))
    return (losses[0] + losses[1]) / 2


def ForTokenClassification(  # noqa: N802
    logits: torch.Tensor, labels: torch.Tensor, config: Any, **kwargs: Any
) -> torch.Tensor:
    """Return the loss, in float32, of logits [B, S, labels] and labels [B, S]."""
    scores, wanted = logits.float().reshape(-1, config.num_labels), labels.reshape(-1).to(logits.device)
    return fixed_cross_entropy(scores, wanted, **kwargs)


def _of_images(*_: Any, **__: Any) -> Any:
    raise MissingMethodError(
        "There are no losses of images.",
        expected="a class for text, or for the classification of images",
        remedy="set model.loss_function to the loss of your own",
    )


LOSS_MAPPING: Mapping[str, Loss] = {
    "ForCausalLM": ForCausalLMLoss,
    "ForMaskedLM": ForMaskedLMLoss,
    "ForQuestionAnswering": ForQuestionAnsweringLoss,
    "ForSequenceClassification": ForSequenceClassificationLoss,
    "ForTokenClassification": ForTokenClassification,
    "ForImageClassification": ForSequenceClassificationLoss,
    "ForVideoClassification": ForSequenceClassificationLoss,
    "ForSegmentation": _of_images,
    "ForObjectDetection": _of_images,
}
"""The losses by what is in the name of a class."""


def loss_type(cls: type) -> str | None:
    """Return which of the losses is in the name of `cls`; of a built-in class without one, that of its task."""
    found = re.findall("|".join(LOSS_MAPPING), cls.__name__)
    task = f"For{getattr(getattr(cls, 'declared_part', None), 'task', '')}"
    return found[0] if found else task if task in LOSS_MAPPING else None


def loss_of(model: nn.Module) -> Loss:
    """Return the loss by `model.loss_type`; without one that is known, that of a causal model, with a warning."""
    named = getattr(model, "loss_type", None)
    if not isinstance(named, str) or named not in LOSS_MAPPING:
        logger.warning(
            "%s has no loss of its own by its name (loss_type %r): loss_function is that of a causal model",
            type(model).__name__, named,
        )  # fmt: skip
        named = "ForCausalLM"
    return LOSS_MAPPING[str(named)]
