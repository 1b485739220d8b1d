"""How a model finds labels in a batch of `fit`, and the parts of its output to compare with them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.nn.heads import targets_of
from triptych.nn.outputs import ModelOutput

OWN_LOSS = ("auto", "auto_with_warning", "passthrough")
"""What `compile` takes as a loss and means that of the model."""
_NO_SCORES = ("loss", "hidden_states", "attentions")
_OUTPUTS = {
    "start_positions": {"start_positions": "start_logits", "end_positions": "end_logits"},
    "sentence_order_label": {"labels": "prediction_logits", "sentence_order_label": "sop_logits"},
    "next_sentence_label": {"labels": "prediction_logits", "next_sentence_label": "seq_relationship_logits"},
    "mc_labels": {"labels": "logits", "mc_labels": "mc_logits"},
}
"""A label that tells the task -> each label of it, and the output with which it is compared."""


class Training:
    """Part of `TFPreTrainedModel`: `compile` and the steps of `fit`."""

    _batch_seeded: Any
    _using_dummy_loss: bool | None = None
    _label_to_output_map: ClassVar[Mapping[str, str] | None] = None

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Prepare for `fit` and `evaluate`, as Keras does; without `loss`, or with "auto", the model's own is used.

        The labels are among the inputs, or `y`: an array, or a dict by the names of the call's arguments. Metrics
        compare them, as they are, with the logits; in question answering each metric is there for start and end.
        """
        loss = None if isinstance(loss, str) and loss in OWN_LOSS else loss
        self._using_dummy_loss = loss is None
        every, weighted = self._for_each_target(metrics), self._for_each_target(weighted_metrics)
        super().compile(optimizer, loss, loss_weights, every, weighted, *args, **kwargs)  # type: ignore[misc]

    def train_step(self, data: Any) -> Any:
        with self._batch_seeded():
            return super().train_step(self._labelled(data))  # type: ignore[misc]

    def test_step(self, data: Any) -> Any:
        return super().test_step(self._labelled(data))  # type: ignore[misc]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the loss of `fit`: the compiled one, or the mean of the model's own where there is none.

        Raises:
            ArgumentError: sample weights, and the loss is the model's own.
        """
        if self.loss is not None or not isinstance(y_pred, ModelOutput) or "loss" not in y_pred:  # type: ignore[attr-defined]
            return super().compute_loss(x, *self._compared(x, y, y_pred), sample_weight, training)  # type: ignore[misc]
        if sample_weight is not None:
            raise ArgumentError("The model's own loss takes no weights.", received="sample_weight or class_weight",
                                remedy="compile the model with a loss")  # fmt: skip
        return tf.reduce_mean(y_pred["loss"]) + sum(self.losses)  # type: ignore[attr-defined]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().compute_metrics(x, *self._compared(x, y, y_pred), sample_weight)  # type: ignore[misc]

    def get_label_to_output_name_mapping(self) -> dict[str, str]:
        """Return label -> the output with which it is compared, where the names do not say; a class may state its
        own as `_label_to_output_map`."""
        if self._label_to_output_map is not None:
            return dict(self._label_to_output_map)
        found = (outputs for label, outputs in _OUTPUTS.items() if label in self._called_with())
        return dict(next(found, {}))

    def _called_with(self) -> list[str]:
        return list(inspect.signature(self.call).parameters)  # type: ignore[attr-defined]

    @property
    def _targets(self) -> dict[str, str]:
        """Each argument of a call that is a label -> the output with which it is compared."""
        called = self._called_with()
        known = {**targets_of(called), **self.get_label_to_output_name_mapping()}
        return {name: known.get(name, name) for name in called if name in known or "label" in name}

    def _for_each_target(self, metrics: Any) -> Any:
        """Return a list of metrics for each of several targets, where Keras would ask for that; else as they are."""
        outputs = list(self._targets.values())
        if not isinstance(metrics, (list, tuple)) or len(outputs) < 2 or len(metrics) == len(outputs):
            return metrics
        return {name: [_copy(metric) for metric in metrics] for name in outputs}

    def _labelled(self, data: Any) -> Any:
        """Return a batch of `fit`, with the targets among the inputs if the loss is the model's own."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        targets = self._targets
        if self.loss is not None or isinstance(x, (list, tuple)):  # type: ignore[attr-defined]
            return data
        inputs = dict(x) if isinstance(x, Mapping) else {self._called_with()[0]: x}
        if "return_loss" in self._called_with():
            inputs.setdefault("return_loss", True)
        if y is None or not targets:
            return (inputs, y, sample_weight) if "return_loss" in inputs else data
        labels = {next(iter(targets)): y} if len(targets) == 1 else {}
        if isinstance(y, Mapping):
            labels = {next((n for n in targets if targets[n] == name), name): value for name, value in y.items()}
        if not labels or not set(labels) <= set(targets):
            raise ArgumentError("Which labels are these?", expected=f"a dict of {', '.join(targets)}",
                                received=str(list(labels) or type(y).__name__))  # fmt: skip
        return {**labels, **inputs}, y, sample_weight

    def _compared(self, x: Any, y: Any, y_pred: Any) -> tuple[Any, Any]:
        """Return the targets, of `y` or else of the inputs `x`, and the parts of an output to compare with them."""
        if not isinstance(y_pred, ModelOutput):
            return y, y_pred
        targets = self._targets
        if y is None and isinstance(x, Mapping):
            y = {name: x[name] for name in targets if name in x} or None
            y = next(iter(y.values())) if y and len(targets) == 1 else y
        parts = [value for name, value in y_pred.items() if name not in _NO_SCORES]
        if isinstance(y, Mapping):
            y = {targets.get(name, name): value for name, value in y.items()}
            if len(y) == 1 and next(iter(y)) not in y_pred:
                return next(iter(y.values())), parts[0]
            return y, {name: y_pred[name] for name in y}
        if isinstance(y, (list, tuple)):
            return y, parts[: len(y)]
        if len(targets) == 1:
            return y, y_pred.get(next(iter(targets.values())), parts[0])
        return y, parts[0] if len(parts) == 1 else parts


def _copy(metric: Any) -> Any:
    """Return a metric with a state of its own."""
    return type(metric).from_config(metric.get_config()) if isinstance(metric, keras.metrics.Metric) else metric
