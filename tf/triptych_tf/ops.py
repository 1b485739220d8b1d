"""The functions that `triptych.nn.functional` needs, in Keras on TensorFlow. Dtypes may be given by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from triptych_tf import internals

FUSED_ATTENTION = False
"""Whether there is a function for the whole of attention: `fused_attention`."""
GROWING_CACHE = False
"""Whether a cache of keys and values grows from call to call, or has a fixed size."""


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


def project(x: Any, rows: Any) -> Any:
    """Return the products of `x` [..., H] and each of `rows` [V, H], [..., V], for which no matrix is transposed."""
    flat = tf.reshape(x, (-1, shape(x)[-1]))
    return tf.reshape(tf.matmul(flat, rows, transpose_b=True), (*shape(x)[:-1], shape(rows)[0]))


def softmax(x: Any, dtype: Any) -> Any:
    return tf.cast(tf.nn.softmax(tf.cast(x, dtype), axis=-1), x.dtype)  # Keras warns of sequences of one token


def cast(x: Any, dtype: Any) -> Any:
    return keras.ops.cast(x, _dtype(dtype).name)


def lowest(dtype: Any) -> float:
    return float(_dtype(dtype).min)


def is_integer(x: Any) -> bool:
    return not _dtype(x.dtype).is_floating


def is_half(x: Any) -> bool:
    return _dtype(x.dtype) in (tf.bfloat16, tf.float16)


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


def mean_last(x: Any) -> Any:
    return keras.ops.mean(x, axis=-1, keepdims=True)


def rsqrt(x: Any) -> Any:
    return keras.ops.rsqrt(x)


def cos(x: Any) -> Any:
    return keras.ops.cos(x)


def sin(x: Any) -> Any:
    return keras.ops.sin(x)


def max(x: Any) -> Any:
    return keras.ops.max(x)


def argmax(x: Any) -> Any:
    return keras.ops.argmax(x, axis=-1)


def maximum(x: Any, y: Any) -> Any:
    return tf.maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    return tf.minimum(x, y)


def cumsum(x: Any) -> Any:
    return keras.ops.cumsum(x, axis=-1)


def concat(parts: Sequence[Any], axis: int) -> Any:
    return tf.concat(list(parts), axis)


def gather(x: Any, indices: Any) -> Any:
    return tf.gather(x, indices)


def pick(x: Any, indices: Any) -> Any:
    return tf.gather(x, indices, batch_dims=1)


def constant(value: Any, like: Any) -> Any:
    return tf.constant(value)


def zeros(shape: Sequence[Any], dtype: Any) -> Any:
    return tf.zeros(tuple(shape), _dtype(dtype))


def write(buffer: Any, values: Any, start: Any) -> Any:
    return keras.ops.slice_update(buffer, (0, 0, start, 0), values)


def known(x: Any) -> int | None:
    return int(x) if isinstance(x, (int, tf.Tensor)) and hasattr(x, "numpy") else None


def table(embedding: Any) -> Any:
    return keras.ops.convert_to_tensor(embedding.embeddings)


def makes_parameters(module: Any) -> bool:
    """Return whether a layer makes its variables in this call; here it never does."""
    return False


def is_training(layer: Any) -> bool:
    """Return whether `layer` is trained, in the call that is made."""
    return internals.training_of(layer)


def checkpointing(options: Any = None) -> Any:
    """Return what calls a layer so that what it computes is not kept for the gradient, but computed anew."""
    return _recomputed


def recomputed(stack: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call `layer`, of which `stack` keeps only inputs and outputs for the gradient."""
    return _recomputed(layer, *args, **kwargs)


def _recomputed(layer: Any, *args: Any, **kwargs: Any) -> Any:
    if internals.is_stateless():
        return layer(*args, **kwargs)
    leaves = keras.tree.flatten((args, kwargs))
    places = [place for place, x in enumerate(leaves) if tf.is_tensor(x) and x.dtype.is_floating]
    states = internals.state_of(layer)
    before = [tf.identity(state.value) for state in states]
    after: list[Any] = []
    made: list[Any] = []

    def run(*inputs: Any) -> list[Any]:
        for place, value in zip(places, inputs, strict=True):
            leaves[place] = value
        positional, named = keras.tree.pack_sequence_as((args, kwargs), leaves)
        # What changes in a call, such as the state of random numbers, is as it was before the first run.
        with keras.StatelessScope(zip(states, before, strict=True)) as scope:
            outputs = layer(*positional, **named, training=True)
        if not made:
            after.extend(scope.get_current_value(state) for state in states)
            made.append(keras.tree.map_structure(lambda x: x is not None, outputs))  # and not the outputs themselves
        return [x for x in keras.tree.flatten(outputs) if x is not None]

    found = iter(tf.recompute_grad(run)(*(leaves[place] for place in places)))
    for state, value in zip(states, after, strict=True):
        state.assign(value)
    return keras.tree.map_structure(lambda there: next(found) if there else None, made[0])
