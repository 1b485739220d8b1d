"""The functions that `triptych.nn.functional` needs, in JAX. Dtypes may be given by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from triptych_flax.internals import is_traced

FUSED_ATTENTION = False
"""Whether there is a function for the whole of attention: `fused_attention`."""
GROWING_CACHE = False
"""Whether a cache of keys and values grows from call to call, or has a fixed size."""


def shape(x: Any) -> Any:
    return x.shape


def reshape(x: Any, shape: Sequence[Any]) -> Any:
    return jnp.reshape(x, tuple(shape))


def transpose(x: Any, axes: Sequence[int]) -> Any:
    return jnp.transpose(x, tuple(axes))


def matmul(x: Any, y: Any) -> Any:
    return jnp.matmul(x, y)


def project(x: Any, rows: Any) -> Any:
    """Return the products of `x` [..., H] and each of `rows` [V, H], [..., V], for which no matrix is transposed."""
    return jnp.einsum("...h,vh->...v", x, rows)


def softmax(x: Any, dtype: Any) -> Any:
    return jax.nn.softmax(x.astype(dtype), axis=-1).astype(x.dtype)


def cast(x: Any, dtype: Any) -> Any:
    return jnp.asarray(x).astype(dtype)


def lowest(dtype: Any) -> float:
    return float(jnp.finfo(dtype).min)


def is_integer(x: Any) -> bool:
    return not jnp.issubdtype(x.dtype, jnp.inexact)


def is_half(x: Any) -> bool:
    return x.dtype in (jnp.bfloat16, jnp.float16)


def take(x: Any, indices: Sequence[int], axis: int) -> Any:
    return jnp.take(x, jnp.asarray(indices, jnp.int32), axis=axis)


def arange(length: Any, like: Any) -> Any:
    return jnp.arange(length)


def where(condition: Any, x: Any, y: Any) -> Any:
    return jnp.where(condition, x, y)


def zeros_like(x: Any) -> Any:
    return jnp.zeros_like(x)


def sum(x: Any) -> Any:
    return jnp.sum(x)


def mean(x: Any) -> Any:
    return jnp.mean(x)


def gelu(x: Any, approximate: bool) -> Any:
    return jax.nn.gelu(x, approximate=approximate)


def relu(x: Any) -> Any:
    return jax.nn.relu(x)


def sigmoid(x: Any) -> Any:
    return jax.nn.sigmoid(x)


def tanh(x: Any) -> Any:
    return jnp.tanh(x)


def softplus(x: Any) -> Any:
    return jax.nn.softplus(x)


def cross_entropy(logits: Any, labels: Any) -> Any:
    scores = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.take_along_axis(scores, labels.astype(jnp.int32)[:, None], axis=-1)[:, 0]


def mean_last(x: Any) -> Any:
    return jnp.mean(x, axis=-1, keepdims=True)


def rsqrt(x: Any) -> Any:
    return jax.lax.rsqrt(x)


def cos(x: Any) -> Any:
    return jnp.cos(x)


def sin(x: Any) -> Any:
    return jnp.sin(x)


def max(x: Any) -> Any:
    return jnp.max(x)


def argmax(x: Any) -> Any:
    return jnp.argmax(x, axis=-1)


def maximum(x: Any, y: Any) -> Any:
    return jnp.maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    return jnp.minimum(x, y)


def cumsum(x: Any) -> Any:
    return jnp.cumsum(x, axis=-1)


def concat(parts: Sequence[Any], axis: int) -> Any:
    return jnp.concatenate(list(parts), axis=axis)


def gather(x: Any, indices: Any) -> Any:
    return jnp.asarray(x)[indices]


def pick(x: Any, indices: Any) -> Any:
    return x[jnp.arange(x.shape[0]), indices]


def constant(value: Any, like: Any) -> Any:
    return jnp.asarray(value)


def zeros(shape: Sequence[Any], dtype: Any) -> Any:
    return jnp.zeros(tuple(shape), dtype)


def write(buffer: Any, values: Any, start: Any) -> Any:
    return jax.lax.dynamic_update_slice_in_dim(buffer, values, start, axis=2)


def known(x: Any) -> int | None:
    return None if is_traced(x) else int(x)


def table(embedding: Any) -> Any:
    return embedding.embedding


def makes_parameters(module: Any) -> bool:
    """Return whether a module makes its parameters in this call: it makes those of the layers that are called."""
    return bool(module.is_mutable_collection("params"))


def is_training(layer: Any) -> bool:
    """Return True: JAX takes gradients of any call, and computes nothing anew where nobody asks for one."""
    return True


def checkpointing(options: Any = None) -> Any:
    """Return `flax.linen.remat`."""
    return nn.remat


def recomputed(stack: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call `layer`, of which `stack` keeps only inputs and outputs for the gradient."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def run(layer: Any, *inputs: Any) -> Any:
        values = list(leaves)
        for place, value in zip(places, inputs, strict=True):
            values[place] = value
        positional, named = jax.tree.unflatten(structure, values)
        return layer(*positional, **named)

    return nn.remat(run)(layer, *(leaves[place] for place in places))
