"""Small functions over tensors that models of transformers 4 are written with."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych_tf.authors.checks import expect, tensor_of

__all__ = [
    "check_embeddings_within_bounds", "convert_batch_encoding", "dtype_byte_size", "expand_1d", "flatten",
    "functional_layernorm", "get_initializer", "invert_attention_mask", "load_attributes_from_hdf5_group",
    "save_attributes_to_hdf5_group", "scaled_dot_product_attention", "shape_list", "stable_softmax",
]  # fmt: skip


def get_initializer(initializer_range: float = 0.02) -> keras.initializers.TruncatedNormal:
    """Return an initializer that draws from a normal distribution, cut at two standard deviations."""
    return keras.initializers.TruncatedNormal(stddev=initializer_range)


def shape_list(tensor: Any) -> list[Any]:
    """Return the shape: numbers, and a scalar tensor for each length that is known only when the graph runs.

    Raises:
        ArgumentError: this has no shape.
    """
    if isinstance(tensor, np.ndarray):
        return list(tensor.shape)
    expect(hasattr(tensor, "shape"), "tensor", "a tensor or an array", tensor)
    running = tf.shape(tensor) if tf.is_tensor(tensor) else keras.ops.shape(tensor)
    static = list(tensor.shape) if tensor.shape.__class__ is tuple or tensor.shape.rank is not None else None
    if static is None:
        return running
    return [running[axis] if length is None else length for axis, length in enumerate(static)]


def stable_softmax(logits: Any, axis: int | None = None, name: str | None = None) -> tf.Tensor:
    """Return the softmax, over the last axis unless another is named."""
    return tf.nn.softmax(logits, axis=axis, name=name)


def functional_layernorm(inputs: Any, weight: Any, bias: Any, epsilon: float = 1e-5, axis: int = -1) -> tf.Tensor:
    """Normalise `inputs` over `axis`, then scale by `weight` [axis] and shift by `bias` [axis].

    Raises:
        ArgumentError: scale or shift is no vector; an argument is no tensor.
    """
    inputs = tensor_of("inputs", inputs)
    weight, bias = tensor_of("weight", weight, inputs), tensor_of("bias", bias, inputs)
    if weight.shape.rank != 1 or bias.shape.rank != 1:
        raise ArgumentError("A layer norm has one scale and one shift for each entry of an axis.",
                            expected="two vectors", received=f"{weight.shape} and {bias.shape}")  # fmt: skip
    mean, variance = tf.nn.moments(inputs, axes=[axis], keepdims=True)
    along = [1] * inputs.shape.rank
    along[axis] = int(weight.shape[0])
    scale, shift = tf.reshape(weight, along), tf.reshape(bias, along)
    return tf.nn.batch_normalization(inputs, mean, variance, offset=shift, scale=scale, variance_epsilon=epsilon)


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> tf.Tensor:
    """Return attention [..., Q, D] of `query` [..., Q, D], `key` and `value` [..., K, D].

    Args:
        attn_mask: added to the scores; of bool, False leaves out.
        is_causal: each position sees itself and what is before it; excludes `attn_mask`.
        scale: of the scores; by default one over the root of D.

    Raises:
        ArgumentError: dropout, or both kinds of mask; an argument is no tensor.
    """
    if dropout_p or (is_causal and attn_mask is not None):
        raise ArgumentError("This attention has no dropout, and one mask.", expected="dropout_p 0, one of the masks",
                            received=f"dropout_p {dropout_p}, is_causal {is_causal}")  # fmt: skip
    query = tensor_of("query", query)
    key, value = tensor_of("key", key, query), tensor_of("value", value, query)
    size = tf.cast(tf.shape(query)[-1], query.dtype)
    scores = tf.matmul(query, key, transpose_b=True) * (tf.math.rsqrt(size) if scale is None else scale)
    if is_causal:
        attn_mask = tf.linalg.band_part(tf.ones(tf.shape(scores)[-2:], tf.bool), -1, 0)
    if attn_mask is not None:
        mask = tf.convert_to_tensor(attn_mask)
        mask = tf.where(mask, tf.zeros((), scores.dtype), scores.dtype.min) if mask.dtype == tf.bool else mask
        scores += tf.cast(mask, scores.dtype)
    return tf.matmul(tf.nn.softmax(scores), value)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> tf.Tensor:
    """Return `input` with the axes from `start_dim` to `end_dim`, both included, as one.

    Raises:
        ArgumentError: `input` is no tensor, or has no such axes in this order.
    """
    input = tensor_of("input", input)
    rank = input.shape.rank
    there = all(-rank <= axis < rank for axis in (start_dim, end_dim))
    if not there or start_dim % rank > end_dim % rank:
        raise ArgumentError("These are no axes to join.", expected=f"two of {rank}, the first one first",
                            received=f"{start_dim} to {end_dim}")  # fmt: skip
    first, last = start_dim % rank, end_dim % rank
    if first == last:
        return input
    lengths = tf.shape(input)
    joined = tf.reduce_prod(lengths[first : last + 1], keepdims=True)
    return tf.reshape(input, tf.concat([lengths[:first], joined, lengths[last + 1 :]], axis=0))


def invert_attention_mask(encoder_attention_mask: Any) -> tf.Tensor:
    """Return what to add to attention scores: 0 where the mask is 1, the lowest number where it is 0.

    From [B, K] comes [B, 1, 1, K], from [B, Q, K] [B, 1, Q, K].

    Raises:
        ArgumentError: another number of axes, or no tensor.
    """
    mask = tensor_of("encoder_attention_mask", encoder_attention_mask)
    if mask.shape.rank not in (2, 3):
        raise ArgumentError("This is no attention mask.", expected="two or three axes", received=str(mask.shape))
    mask = tf.cast(mask, tf.float32 if not mask.dtype.is_floating else mask.dtype)
    shown = mask[:, None, None, :] if mask.shape.rank == 2 else mask[:, None, :, :]
    return (tf.ones((), mask.dtype) - shown) * mask.dtype.min


def check_embeddings_within_bounds(tensor: Any, embed_dim: int, tensor_name: str = "input_ids") -> None:
    """Raise TensorFlow's InvalidArgumentError if an index of `tensor` is `embed_dim` or above: GPUs give zeros."""
    tensor = tensor_of("tensor", tensor)
    limit = tf.cast(tensor_of("embed_dim", embed_dim), tensor.dtype)
    tf.debugging.assert_less(
        tensor, limit, message=f"{tensor_name} must be smaller than the embeddings' {embed_dim} rows"
    )


def expand_1d(data: Any) -> Any:
    """Return `data` with every vector in it as a column, [n] as [n, 1]."""

    def column(one: Any) -> Any:
        return tf.expand_dims(one, -1) if tf.is_tensor(one) and one.shape.rank == 1 else one

    return tf.nest.map_structure(column, data)


def convert_batch_encoding(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Return the arguments of `fit` and the like, with the first one or `x` as a dict if it is a tokenizer's result."""
    if args and _of_tokenizer(args[0]):
        args = (dict(args[0]), *args[1:])
    elif _of_tokenizer(kwargs.get("x")):
        kwargs["x"] = dict(kwargs["x"])
    return args, kwargs


def _of_tokenizer(value: Any) -> bool:
    return any(cls.__name__ in ("BatchEncoding", "BatchFeature") for cls in type(value).__mro__)


def save_attributes_to_hdf5_group(group: Any, name: str, data: Any) -> None:
    """Write a list of byte strings as the attribute `name` of an HDF5 group, in chunks where it is long.

    Raises:
        ArgumentError: one string alone is longer than the 64512 bytes that an attribute holds; `group` is none.
    """
    expect(hasattr(group, "attrs"), "group", "a group of h5py", group)
    limit = 64512
    long = [one for one in data if len(one) > limit]
    if long:
        raise ArgumentError(
            "An attribute of HDF5 cannot hold this.", expected=f"at most {limit} bytes", received=str(long[0][:60])
        )
    count, array = 1, np.asarray(data)
    while any(chunk.nbytes > limit for chunk in np.array_split(array, count)):
        count += 1
    if count == 1:
        group.attrs[name] = data
        return
    for number, chunk in enumerate(np.array_split(array, count)):
        group.attrs[f"{name}{number}"] = chunk


def load_attributes_from_hdf5_group(group: Any, name: str) -> list[str]:
    """Return the strings that `save_attributes_to_hdf5_group` wrote.

    Raises:
        ArgumentError: `group` is none.
    """
    expect(hasattr(group, "attrs"), "group", "a group of h5py", group)
    keys = [name] if name in group.attrs else []
    while not keys or (name not in group.attrs and f"{name}{len(keys)}" in group.attrs):
        if f"{name}{len(keys)}" not in group.attrs:
            return []
        keys.append(f"{name}{len(keys)}")
    return [one.decode() if isinstance(one, bytes) else str(one) for key in keys for one in group.attrs[key]]


def dtype_byte_size(dtype: Any) -> float:
    """Return the bytes that one element takes; an eighth for bool.

    Raises:
        ArgumentError: this is no dtype.
    """
    try:
        known = tf.as_dtype(dtype)
    except TypeError as cause:
        raise ArgumentError("This is no dtype.", expected="such as tf.float32", received=repr(dtype)[:80]) from cause
    return 1 / 8 if known == tf.bool else known.size
