"""How a model finds labels in a batch of `fit`, and the parts of its output to compare with them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.modeling.serving import IDS_AND_MASKS
from triptych.nn.heads import targets_of
from triptych.nn.outputs import ModelOutput
from triptych_tf import internals

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
        if loss is None:
            internals.forget_loss(self)
        every, weighted = self._for_each_target(metrics), self._for_each_target(weighted_metrics)
        super().compile(optimizer, loss, loss_weights, every, weighted, *args, **kwargs)  # type: ignore[misc]

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as `keras.Model.fit` does. Here and in its relatives inputs and labels may be any mappings, such as
        what a tokenizer returns.

        Raises:
            ArgumentError: weights of samples or classes, and no labels that they could belong to.
        """
        return super().fit(**self._plain("fit", args, kwargs))  # type: ignore[misc]

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        return super().evaluate(**self._plain("evaluate", args, kwargs))  # type: ignore[misc]

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        return super().predict(**self._plain("predict", args, kwargs))  # type: ignore[misc]

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        return super().train_on_batch(**self._plain("train_on_batch", args, kwargs))  # type: ignore[misc]

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        return super().test_on_batch(**self._plain("test_on_batch", args, kwargs))  # type: ignore[misc]

    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        return super().predict_on_batch(**self._plain("predict_on_batch", args, kwargs))  # type: ignore[misc]

    def _plain(self, method: str, args: Any, kwargs: Any) -> dict[str, Any]:
        """Return the arguments of a method of Keras by name, each mapping as a dict, and labels apart from the inputs
        where there are weights, which Keras would forget without labels."""
        bound = inspect.signature(getattr(keras.Model, method)).bind(self, *args, **kwargs)
        given = dict([*bound.arguments.items()][1:]) | bound.arguments.get("kwargs", {})
        given.pop("kwargs", None)
        for name in {"x", "y", "validation_data"} & given.keys():
            given[name] = _as_dicts(given[name])
        weights = [name for name in ("sample_weight", "class_weight") if given.get(name) is not None]
        x = given.get("x")
        if weights and given.get("y") is None and not _has_labels_itself(x):
            labels = {name: x[name] for name in self._targets if name in x} if isinstance(x, Mapping) else {}
            if not labels:
                expected = f"y, or {' or '.join(self._targets) or 'labels'} among the inputs"
                raise ArgumentError(f"There are no labels that {weights[0]} could belong to.", expected=expected)
            given["x"] = {name: value for name, value in x.items() if name not in labels}
            given["y"] = next(iter(labels.values())) if len(labels) == 1 else labels
        return given

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
        loss = tf.reduce_mean(y_pred["loss"]) + sum(self.losses)  # type: ignore[attr-defined]
        return internals.scaled_for_replicas(loss)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().compute_metrics(x, *self._compared(x, y, y_pred), sample_weight)  # type: ignore[misc]

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Build metrics, as Keras does where a strategy distributes batches: of a mean of the batches of its replicas,
        so that ids are no integers, and labels among the inputs would be of another task."""
        if data_batch is not None:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data_batch)
            if isinstance(x, Mapping):
                labels = {name: x[name] for name in self._targets if name in x}
                y = y if y is not None or not labels else labels
                x = {name: tf.cast(value, tf.int32) if name in IDS_AND_MASKS else value
                     for name, value in x.items() if name not in labels}  # fmt: skip
            data_batch = (x, y, sample_weight)
        super()._symbolic_build(iterator, data_batch)  # type: ignore[misc]

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


def _as_dicts(value: Any) -> Any:
    """Return a mapping as a dict, and a tuple of them as a tuple of dicts; Keras knows no other mappings."""
    if isinstance(value, tuple):
        return tuple(_as_dicts(one) for one in value)
    return dict(value) if isinstance(value, Mapping) else value


def _has_labels_itself(x: Any) -> bool:
    """Return whether `fit` takes labels from `x`, a dataset or generator, and not from `y`."""
    return not isinstance(x, (Mapping, list, tuple, np.ndarray)) and not tf.is_tensor(x)
