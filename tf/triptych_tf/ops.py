"""The functions that `triptych.nn.functional` needs, in Keras on TensorFlow. Dtypes may be given by name."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from triptych.nn import seeding
from triptych.nn.blocks import in_blocks, weighted
from triptych.nn.threefry import unrolled
from triptych_tf import internals

CAUSAL_KERNEL = False
"""Whether `fused_attention` can be told that it is causal, and then needs no bias."""
GROWING_CACHE = False
"""Whether a cache of keys and values grows from call to call, or has a fixed size."""
CALLS_WITH_LENGTH = True
"""Whether processors of users are called with the number of tokens: `(input_ids, scores, cur_len)`."""


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


def without_gradient(vectors: Any, ids: Any, padding: int) -> Any:
    """Return `vectors` [..., H] of `ids` [...], which those of `padding` get no gradient by."""
    return tf.where((keras.ops.convert_to_tensor(ids) == padding)[..., None], tf.stop_gradient(vectors), vectors)


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


def sum_last(x: Any) -> Any:
    return tf.reduce_sum(x, axis=-1, keepdims=True)


def max_last(x: Any) -> Any:
    return tf.reduce_max(x, axis=-1, keepdims=True)


def argsort(x: Any, descending: bool) -> Any:
    """Return where the sorted values of the last axis are; equal ones stay in their order."""
    return tf.argsort(x, axis=-1, direction="DESCENDING" if descending else "ASCENDING", stable=True)


def put_along(x: Any, indices: Any) -> Any:
    """Return what has x[row, place] at [row, indices[row, place]]: the inverse of `take_along` of a permutation."""
    return tf.tensor_scatter_nd_update(tf.zeros_like(x), _with_rows(indices), x)


def column(x: Any, position: Any) -> Any:
    """Return x[:, position] as [rows, 1]; a position outside is the nearest one, where it is traced."""
    return tf.gather(x, tf.clip_by_value(position, 0, x.shape[1] - 1), axis=1)[:, None]


def counts(indices: Any, counted: Any, size: int) -> Any:
    """Return int32 [rows, size]: how often each number is in its row of indices [rows, places], where `counted`."""
    counted = tf.broadcast_to(counted, tf.shape(indices))
    places = _with_rows(tf.where(counted, indices, 0))
    return tf.scatter_nd(places, tf.cast(counted, tf.int32), (tf.shape(indices)[0], size))


def add_at(x: Any, columns: Any, values: Any) -> Any:
    """Return x [rows, size] with values [rows, n] added in these columns [n], none of them twice."""
    places = tf.broadcast_to(columns, (tf.shape(x)[0], tf.shape(columns)[0]))
    return tf.tensor_scatter_nd_add(x, _with_rows(places), tf.broadcast_to(values, tf.shape(places)))


def _with_rows(indices: Any) -> Any:
    """Return indices [rows, places] as pairs of row and index."""
    rows = tf.range(tf.shape(indices)[0], dtype=indices.dtype)[:, None]
    return tf.stack([tf.broadcast_to(rows, tf.shape(indices)), indices], axis=-1)


def concat(parts: Sequence[Any], axis: int) -> Any:
    return tf.concat(list(parts), axis)


def gather(x: Any, indices: Any) -> Any:
    return tf.gather(x, indices)


def rows_of(x: Any, rows: Any) -> Any:
    return tf.gather(x, rows)


def pick(x: Any, indices: Any) -> Any:
    return tf.gather(x, indices, batch_dims=1)


def constant(value: Any, like: Any) -> Any:
    return tf.convert_to_tensor(value)


def zeros(shape: Sequence[Any], dtype: Any, like: Any = None) -> Any:
    return tf.zeros(tuple(shape), _dtype(dtype))


def write(buffer: Any, values: Any, start: Any) -> Any:
    return keras.ops.slice_update(buffer, (0, 0, start, 0), values)


WORD = "uint32"
"""The integers in which `triptych.nn.threefry` computes words of 32 bits."""


def word(value: int) -> Any:
    """Return a word of 32 bits as an array without axes."""
    return tf.constant(value, tf.uint32)


def shift(x: Any, bits: int) -> Any:
    """Return words shifted by `bits` to the left, or to the right where it is negative; zeros come in."""
    function = tf.bitwise.left_shift if bits > 0 else tf.bitwise.right_shift
    return function(x, tf.constant(abs(bits), tf.uint32))


def rotated(x: Any, bits: int) -> Any:
    """Return words rotated by `bits` to the left."""
    return shift(x, bits) + shift(x, bits - 32)


def repeated(function: Any, times: int, state: Any) -> Any:
    """Return `state` as `function(ops, state)` makes it anew so many times."""
    return unrolled(sys.modules[__name__], function, times, state)


def signed(x: Any) -> Any:
    """Return the integers with a sign that have the bits of words."""
    return tf.bitcast(x, tf.int32)


def counted(function: Any, count: Any, like: Any, *words: Any) -> tuple[Any, ...]:
    """Return what `function(ops, counter, *words)` does for the words 0 to `count` - 1, one by one.

    XLA makes one loop of it, which takes a tenth of the time; so that it compiles few of them, for powers of two.
    """
    if isinstance(count, int):
        exponent = _LEAST if count <= 1 << _LEAST else (count - 1).bit_length()
    else:
        exponent = tf.reduce_sum(tf.cast(count > 2 ** tf.range(_LEAST, 31), tf.int32)) + _LEAST
    counter = tf.cast(tf.range(2**exponent), tf.uint32)
    found = _compiled(function, *(tf.TensorSpec(one.shape, one.dtype) for one in words))(counter, *words)
    return tuple(part[:count] for part in found)


_LEAST = 10


@functools.cache
def _compiled(function: Any, *words: Any) -> Any:
    ops = sys.modules[__name__]

    @tf.function(jit_compile=True, autograph=False, input_signature=[tf.TensorSpec([None], tf.uint32), *words])
    def compiled(*inputs: Any) -> Any:
        return function(ops, *inputs)

    return compiled


def masked(x: Any, kept: Any, scale: float) -> Any:
    """Return `x` times `scale` where it is `kept`, and 0 elsewhere."""
    return x * (tf.cast(kept, x.dtype) * scale)


def fuses(dropout: Any) -> bool:
    """Return whether `fused_attention` drops what this layer does."""
    return True


def put(buffer: Any, column: Any, position: Any) -> Any:
    """Return `buffer` [R, L, ...] with `column` [R, ...] at `position` of the second axis."""
    start = (0, position, *[0] * (len(buffer.shape) - 2))
    return keras.ops.slice_update(buffer, start, tf.cast(column, buffer.dtype)[:, None])


def take_along(x: Any, indices: Any) -> Any:
    return tf.gather(x, indices, axis=-1, batch_dims=len(x.shape) - 1)


def topk(x: Any, k: int) -> tuple[Any, Any]:
    values, indices = tf.math.top_k(x, k)
    return values, indices


def log_softmax(x: Any) -> Any:
    return tf.nn.log_softmax(x, axis=-1)


def exp(x: Any) -> Any:
    return tf.exp(x)


def log(x: Any) -> Any:
    return tf.math.log(x)


def all(x: Any) -> Any:
    return tf.reduce_all(x)


def any(x: Any, axis: int | None = None) -> Any:
    return tf.reduce_any(x, axis)


def invert(x: Any) -> Any:
    return tf.logical_not(x)


def minimum_of(x: Any) -> Any:
    """Return the least along the last axis, which stays with length 1."""
    return tf.reduce_min(x, axis=-1, keepdims=True)


def repeat(x: Any, times: int) -> Any:
    return tf.repeat(x, times, axis=0)


def bits(x: Any, shift: int, mask: int) -> Any:
    """Return the bits of the bytes `x` above `shift` that are in `mask`."""
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(x, tf.cast(shift, x.dtype)), tf.cast(mask, x.dtype))


def bitcast(x: Any, dtype: Any) -> Any:
    """Return the bytes `x` [..., N] as numbers of `dtype`: [..., N] of one byte each, or [...] of N."""
    return tf.bitcast(x, _dtype(dtype))


def while_loop(condition: Any, body: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `state` as `body` makes it anew while `condition` holds; both take its parts."""
    leaves = tf.nest.flatten(state)
    places = [place for place, leaf in enumerate(leaves) if leaf is not None]

    def whole(values: Sequence[Any]) -> Any:
        full = [None] * len(leaves)
        for place, value in zip(places, values, strict=True):
            full[place] = value
        return tf.nest.pack_sequence_as(state, full)

    def flat(values: Any) -> list[Any]:
        return [leaf for leaf in tf.nest.flatten(values) if leaf is not None]

    found = tf.while_loop(
        lambda *values: condition(*whole(values)), lambda *values: flat(body(*whole(values))), flat(state)
    )
    return whole(found)  # type: ignore[no-any-return]


def compiles() -> bool:
    """Return whether what is computed now is recorded, to run later and with other values."""
    return not tf.executing_eagerly()


def known(x: Any) -> int | None:
    return int(x) if isinstance(x, (int, tf.Tensor)) and hasattr(x, "numpy") else None


def table(embedding: Any) -> Any:
    return keras.ops.convert_to_tensor(embedding.embeddings)


def makes_parameters(module: Any) -> bool:
    """Return whether a layer makes its variables in this call; here it never does."""
    return False


def fused_attention(
    query: Any, key: Any, value: Any, bias: Any, scale: float, dropout: Any, causal: bool = False
) -> Any:
    """Return context [B, N, Q, D], and keep no probabilities, unless `dropout` drops some; see
    `triptych.nn.attention.attend`.

    `keras.ops.dot_product_attention` keeps the scores in TensorFlow, and refuses its argument `flash_attention`.
    """
    ops = sys.modules[__name__]
    if _drops(dropout):
        return weighted(ops, query, key, value, bias, scale, dropout)[0]
    return in_blocks(ops, _loop, query, key, value, bias, scale)


def _drops(dropout: Any) -> bool:
    return bool(dropout.rate) and internals.training_of(dropout)


def _loop(function: Callable[..., Any], blocks: Sequence[Any], whole: Sequence[Any]) -> Any:
    @tf.custom_gradient
    def block(*inputs: Any) -> tuple[Any, Any]:
        def gradients(upstream: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                result = function(*inputs)
            return tape.gradient(result, inputs, upstream)

        return function(*inputs), gradients

    return tf.map_fn(
        lambda own: block(*own, *whole), tuple(blocks), fn_output_signature=blocks[0].dtype, parallel_iterations=1
    )


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
    call = seeding.replaying(internals.with_all_parts(layer), layer)
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
            outputs = call(*positional, **{**named, "training": True})
        if not made:
            after.extend(scope.get_current_value(state) for state in states)
            made.append(keras.tree.map_structure(lambda x: x is not None, outputs))  # and not the outputs themselves
        return [x for x in keras.tree.flatten(outputs) if x is not None]

    found = iter(tf.recompute_grad(run)(*(leaves[place] for place in places)))
    for state, value in zip(states, after, strict=True):
        state.assign(value)
    return keras.tree.map_structure(lambda there: next(found) if there else None, made[0])
