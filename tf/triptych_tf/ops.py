"""The functions that `triptych.functional` needs, in Keras on TensorFlow. Dtypes may be given by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def _dtype(dtype: Any) -> tf.DType:
    return tf.as_dtype(dtype)


def shape(x: Any) -> Any:
    return keras.ops.shape(x)


def reshape(x: Any, shape: Sequence[Any]) -> Any:
    return keras.ops.reshape(x, tuple(shape))


def transpose(x: Any, axes: Sequence[int]) -> Any:
    return keras.ops.transpose(x, axes)


def matmul(x: Any, y: Any) -> Any:
    return keras.ops.matmul(x, y)


def softmax(x: Any) -> Any:
    return tf.nn.softmax(x, axis=-1)  # Keras warns of sequences of one token


def cast(x: Any, dtype: Any) -> Any:
    return keras.ops.cast(x, _dtype(dtype).name)


def lowest(dtype: Any) -> float:
    return float(_dtype(dtype).min)


def is_integer(x: Any) -> bool:
    return not _dtype(x.dtype).is_floating


def take(x: Any, indices: Sequence[int], axis: int) -> Any:
    return keras.ops.take(x, list(indices), axis=axis)


def arange(length: Any, like: Any) -> Any:
    return keras.ops.arange(length, dtype="int32")


def where(condition: Any, x: Any, y: Any) -> Any:
    return keras.ops.where(condition, x, y)


def zeros_like(x: Any) -> Any:
    return keras.ops.zeros_like(x)


def sum(x: Any) -> Any:
    return keras.ops.sum(x)


def mean(x: Any) -> Any:
    return keras.ops.mean(x)


def gelu(x: Any, approximate: bool) -> Any:
    return keras.ops.gelu(x, approximate=approximate)


def relu(x: Any) -> Any:
    return keras.ops.relu(x)


def sigmoid(x: Any) -> Any:
    return keras.ops.sigmoid(x)


def tanh(x: Any) -> Any:
    return keras.ops.tanh(x)


def softplus(x: Any) -> Any:
    return keras.ops.softplus(x)


def cross_entropy(logits: Any, labels: Any) -> Any:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
