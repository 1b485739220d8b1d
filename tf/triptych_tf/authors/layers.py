"""Layers of transformers 4 that models of others are made of."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.nn import functional as fn
from triptych_tf import ops
from triptych_tf.authors.checks import expect, expect_whole
from triptych_tf.authors.functions import get_initializer, shape_list

__all__ = [
    "TFConv1D", "TFSequenceSummary", "TFSharedEmbeddings",
]  # fmt: skip


class TFConv1D(keras.layers.Layer):
    """GPT-2's projection of [..., nx] to [..., nf], whose weight is stored as [nx, nf].

    Args:
        initializer_range: standard deviation of the new weight.

    Raises:
        ArgumentError: a width is none.
    """

    def __init__(self, nf: int, nx: int, initializer_range: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        expect_whole("nf", nf, 1)
        expect_whole("nx", nx, 1)
        self.nf, self.nx, self.initializer_range = nf, nx, initializer_range

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        initial = get_initializer(self.initializer_range)
        self.weight = self.add_weight(name="weight", shape=(self.nx, self.nf), initializer=initial)
        self.bias = self.add_weight(name="bias", shape=(self.nf,), initializer="zeros")

    def call(self, x: Any) -> Any:
        return tf.matmul(x, self.weight) + self.bias


class TFSharedEmbeddings(keras.layers.Layer):
    """A table of `vocab_size` vectors that also scores hidden states against each.

    Args:
        initializer_range: standard deviation of the new weight; by default one over the root of `hidden_size`.

    Raises:
        ArgumentError: `vocab_size` or `hidden_size` is no positive number.
    """

    def __init__(
        self, vocab_size: int, hidden_size: int, initializer_range: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        expect_whole("vocab_size", vocab_size, 1)
        expect_whole("hidden_size", hidden_size, 1)
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.initializer_range = hidden_size**-0.5 if initializer_range is None else initializer_range
        warnings.warn(
            "TFSharedEmbeddings is old; keras.layers.Embedding does the same.", DeprecationWarning, stacklevel=2
        )

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        initial = get_initializer(self.initializer_range)
        self.weight = self.add_weight(name="weight", shape=(self.vocab_size, self.hidden_size), initializer=initial)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("vocab_size", "hidden_size", "initializer_range")}
        return {**super().get_config(), **own}

    def call(self, inputs: Any, mode: str = "embedding") -> Any:
        """Return the vectors of ids [...], or with `mode` "linear" the scores [..., vocab] of states [..., hidden].

        Raises:
            ArgumentError: another mode.
        """
        if mode == "embedding":
            return tf.gather(self.weight, inputs)
        if mode == "linear":
            return tf.matmul(inputs, self.weight, transpose_b=True)
        raise ArgumentError("There is no such mode.", expected="'embedding' or 'linear'", received=repr(mode))


class TFSequenceSummary(keras.layers.Layer):
    """One vector for each sequence of hidden states.

    Args:
        config: `summary_type` ("last", "first", "mean" or "cls_index"), `summary_use_proj`, `summary_proj_to_labels`,
            `summary_activation`, `summary_first_dropout` and `summary_last_dropout`, each optional.
        initializer_range: standard deviation of the new projection.

    Raises:
        ArgumentError: another summary_type, or a config without hidden_size.
    """

    KINDS = ("last", "first", "mean", "cls_index")

    def __init__(self, config: Any, initializer_range: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.summary_type = getattr(config, "summary_type", None) if hasattr(config, "summary_use_proj") else "last"
        if self.summary_type not in self.KINDS:
            raise ArgumentError("config.summary_type is unknown.", expected=", ".join(self.KINDS),
                                received=repr(self.summary_type))  # fmt: skip
        expect(hasattr(config, "hidden_size"), "config", "a config with hidden_size", config)
        self.hidden_size = config.hidden_size
        self.activation = getattr(config, "summary_activation", None)
        self.has_summary = bool(getattr(config, "summary_use_proj", False))
        if self.has_summary:
            labels = getattr(config, "num_labels", 0) if getattr(config, "summary_proj_to_labels", False) else 0
            initial = get_initializer(initializer_range)
            self.summary = keras.layers.Dense(labels or self.hidden_size, kernel_initializer=initial, name="summary")
        self.first_dropout = keras.layers.Dropout(getattr(config, "summary_first_dropout", 0.0) or 0.0)
        self.last_dropout = keras.layers.Dropout(getattr(config, "summary_last_dropout", 0.0) or 0.0)

    def build(self, input_shape: Any = None) -> None:
        if not self.built and self.has_summary:
            self.summary.build((None, self.hidden_size))

    def call(self, inputs: Any, cls_index: Any = None, training: bool | None = None) -> Any:
        """Return [B, H] of `inputs` [B, Q, H]; with "cls_index" [B, ..., H] of [B, ..., Q, H] and places [B, ...]."""
        if isinstance(inputs, (dict, list, tuple)):
            there = "hidden_states" in inputs if isinstance(inputs, dict) else len(inputs) > 0
            expect(there, "inputs", "hidden_states, and cls_index", inputs)
        if isinstance(inputs, dict):
            inputs, cls_index = inputs["hidden_states"], inputs.get("cls_index", cls_index)
        elif isinstance(inputs, (list, tuple)):
            inputs, cls_index = inputs[0], inputs[1] if len(inputs) > 1 else cls_index
        output = self.first_dropout(self._picked(inputs, cls_index), training=training)
        if self.has_summary:
            output = self.summary(output)
        if self.activation is not None:
            output = fn.activation(ops, self.activation, output)
        return self.last_dropout(output, training=training)

    def _picked(self, states: Any, cls_index: Any) -> Any:
        if self.summary_type == "mean":
            return tf.reduce_mean(states, axis=1)
        if self.summary_type in ("first", "last"):
            return states[:, 0 if self.summary_type == "first" else -1]
        if cls_index is None:
            return states[..., -1, :]
        shape = shape_list(states)
        index = tf.reshape(tf.cast(cls_index, tf.int32), shape[:-2])
        return tf.gather(states, index, batch_dims=len(shape) - 2)
