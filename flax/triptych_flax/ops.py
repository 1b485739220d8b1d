"""The functions that `triptych.nn.functional` needs, in JAX. Dtypes may be given by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from triptych.errors import ArgumentError
from triptych.nn.blocks import in_blocks, weighted
from triptych.nn.threefry import unrolled
from triptych_flax.internals import is_traced

CAUSAL_KERNEL = False
"""Whether `fused_attention` can be told that it is causal, and then needs no bias."""
GROWING_CACHE = False
"""Whether a cache of keys and values grows from call to call, or has a fixed size."""
CALLS_WITH_LENGTH = True
"""Whether processors of users are called with the number of tokens: `(input_ids, scores, cur_len)`."""


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


def without_gradient(vectors: Any, ids: Any, padding: int) -> Any:
    """Return `vectors` [..., H] of `ids` [...], which those of `padding` get no gradient by."""
    return jnp.where((jnp.asarray(ids) == padding)[..., None], jax.lax.stop_gradient(vectors), vectors)


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


def sum_last(x: Any) -> Any:
    return jnp.sum(x, axis=-1, keepdims=True)


def max_last(x: Any) -> Any:
    return jnp.max(x, axis=-1, keepdims=True)


def argsort(x: Any, descending: bool) -> Any:
    """Return where the sorted values of the last axis are; equal ones stay in their order."""
    return jnp.argsort(x, axis=-1, descending=descending, stable=True)


def put_along(x: Any, indices: Any) -> Any:
    """Return what has x[row, place] at [row, indices[row, place]]: the inverse of `take_along` of a permutation."""
    return jnp.put_along_axis(jnp.zeros_like(x), indices, x, axis=-1, inplace=False)


def column(x: Any, position: Any) -> Any:
    """Return x[:, position] as [rows, 1]; a position outside is the nearest one, where it is traced."""
    return jnp.take(x, jnp.clip(position, 0, x.shape[1] - 1), axis=1)[:, None]


def counts(indices: Any, counted: Any, size: int) -> Any:
    """Return int32 [rows, size]: how often each number is in its row of indices [rows, places], where `counted`."""
    counted = jnp.broadcast_to(counted, indices.shape)
    rows = jnp.arange(indices.shape[0])[:, None]
    found = jnp.zeros((indices.shape[0], size), jnp.int32)
    return found.at[rows, jnp.where(counted, indices, 0)].add(counted.astype(jnp.int32))


def add_at(x: Any, columns: Any, values: Any) -> Any:
    """Return x [rows, size] with values [rows, n] added in these columns [n], none of them twice."""
    return x.at[:, columns].add(values)


def concat(parts: Sequence[Any], axis: int) -> Any:
    return jnp.concatenate(list(parts), axis=axis)


def gather(x: Any, indices: Any) -> Any:
    return jnp.asarray(x)[indices]


def rows_of(x: Any, rows: Any) -> Any:
    return jnp.take(x, rows, axis=0)


def pick(x: Any, indices: Any) -> Any:
    return x[jnp.arange(x.shape[0]), indices]


def constant(value: Any, like: Any) -> Any:
    return jnp.asarray(value)


def zeros(shape: Sequence[Any], dtype: Any, like: Any = None) -> Any:
    return jnp.zeros(tuple(shape), dtype)


def write(buffer: Any, values: Any, start: Any) -> Any:
    return jax.lax.dynamic_update_slice_in_dim(buffer, values, start, axis=2)


WORD = "uint32"
"""The integers in which `triptych.nn.threefry` computes words of 32 bits."""


def word(value: int) -> Any:
    """Return a word of 32 bits as an array without axes."""
    return jnp.asarray(np.uint32(value))


def shift(x: Any, bits: int) -> Any:
    """Return words shifted by `bits` to the left, or to the right where it is negative; zeros come in."""
    return x << np.uint32(bits) if bits > 0 else x >> np.uint32(-bits)


def rotated(x: Any, bits: Any) -> Any:
    """Return words rotated by `bits` to the left."""
    return x << bits | x >> (np.uint32(32) - bits)


def repeated(function: Any, times: int, state: Any) -> Any:
    """Return `state` as `function(ops, state)` makes it anew so many times.

    As a loop it is compiled in a third of the time; so JAX's own generator does, on a CPU.
    """
    ops, state = sys.modules[__name__], jax.tree.map(jnp.uint32, state)
    if jax.default_backend() == "cpu":
        return jax.lax.fori_loop(0, times, lambda _, values: function(ops, values), state)
    return unrolled(ops, function, times, state)


def signed(x: Any) -> Any:
    """Return the integers with a sign that have the bits of words."""
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def counted(function: Any, count: Any, like: Any, *words: Any) -> tuple[Any, ...]:
    """Return what `function(ops, counter, *words)` does for the words 0 to `count` - 1, one by one."""
    return (_counted if compiles() else _counted_compiled)(function, count, *words)


def _counted(function: Any, count: int, *words: Any) -> Any:
    return function(sys.modules[__name__], jax.lax.iota(jnp.uint32, count), *words)


_counted_compiled = jax.jit(_counted, static_argnums=(0, 1))


def masked(x: Any, kept: Any, scale: float) -> Any:
    """Return `x` times `scale` where it is `kept`, and 0 elsewhere."""
    return jnp.where(kept, x * scale, 0)  # XLA's loop over a product with the mask takes seven times as long on a CPU


def fuses(dropout: Any) -> bool:
    """Return whether `fused_attention` drops what this layer does."""
    return True


def put(buffer: Any, column: Any, position: Any) -> Any:
    """Return `buffer` [R, L, ...] with `column` [R, ...] at `position` of the second axis."""
    return jax.lax.dynamic_update_slice_in_dim(buffer, column.astype(buffer.dtype)[:, None], position, axis=1)


def take_along(x: Any, indices: Any) -> Any:
    return jnp.take_along_axis(x, indices, axis=-1)


def topk(x: Any, k: int) -> tuple[Any, Any]:
    values, indices = jax.lax.top_k(x, k)
    return values, indices


def log_softmax(x: Any) -> Any:
    return jax.nn.log_softmax(x, axis=-1)


def exp(x: Any) -> Any:
    return jnp.exp(x)


def log(x: Any) -> Any:
    return jnp.log(x)


def all(x: Any) -> Any:
    return jnp.all(x)


def any(x: Any, axis: int | None = None) -> Any:
    return jnp.any(x, axis)


def invert(x: Any) -> Any:
    return jnp.logical_not(x)


def minimum_of(x: Any) -> Any:
    """Return the least along the last axis, which stays with length 1."""
    return jnp.min(x, axis=-1, keepdims=True)


def repeat(x: Any, times: int) -> Any:
    return jnp.repeat(x, times, axis=0)


def bits(x: Any, shift: int, mask: int) -> Any:
    """Return the bits of the bytes `x` above `shift` that are in `mask`."""
    return x >> np.uint8(shift) & np.uint8(mask)


def bitcast(x: Any, dtype: Any) -> Any:
    """Return the bytes `x` [..., N] as numbers of `dtype`: [..., N] of one byte each, or [...] of N."""
    return jax.lax.bitcast_convert_type(x, jnp.dtype(dtype))


def while_loop(condition: Any, body: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `state` as `body` makes it anew while `condition` holds; both take its parts."""
    return jax.lax.while_loop(lambda s: condition(*s), lambda s: body(*s), state)


def compiles() -> bool:
    """Return whether what is computed now is recorded, to run later and with other values."""
    return bool(is_traced(jnp.zeros(())))


def known(x: Any) -> int | None:
    return None if is_traced(x) else int(x)


def table(embedding: Any) -> Any:
    return embedding.embedding


def makes_parameters(module: Any) -> bool:
    """Return whether a module makes its parameters in this call: it makes those of the layers that are called."""
    return bool(module.is_mutable_collection("params"))


def fused_attention(
    query: Any, key: Any, value: Any, bias: Any, scale: float, dropout: Any, causal: bool = False
) -> Any:
    """Return context [B, N, Q, D], and keep no probabilities, unless `dropout` drops some; see
    `triptych.nn.attention.attend`.

    `jax.nn.dot_product_attention` keeps the scores, unless it is told to use cuDNN's kernel, for half types on GPUs.
    """
    ops = sys.modules[__name__]
    if _drops(dropout):
        return weighted(ops, query, key, value, bias, scale, dropout)[0]
    return in_blocks(ops, _loop, query, key, value, bias, scale)


def _drops(dropout: Any) -> bool:
    return bool(dropout.rate) and dropout.is_on()


def _loop(function: Callable[..., Any], blocks: Sequence[Any], whole: Sequence[Any]) -> Any:
    block = jax.checkpoint(lambda own: function(*own, *whole))
    return jax.lax.map(block, tuple(blocks))


def is_training(layer: Any) -> bool:
    """Return True: JAX takes gradients of any call, and computes nothing anew where nobody asks for one."""
    return True


def checkpointing(options: Mapping[str, Any] | None = None) -> Any:
    """Return `flax.linen.remat` with these arguments.

    Raises:
        ArgumentError: `policy` is no function, or `prevent_cse` no flag.
    """
    made = Recomputed(**(options or {}))
    if not (made.policy is None or callable(made.policy)) or not isinstance(made.prevent_cse, bool):
        raise ArgumentError("These arguments of gradient checkpointing are none.", expected="policy, a function of "
                            "jax.checkpoint_policies, and prevent_cse, True or False",
                            received=repr(options)[:80])  # fmt: skip
    return made


@dataclass(frozen=True)
class Recomputed:
    """`flax.linen.remat`, and what is kept of what a layer computes; what a module has as `gradient_checkpointing`."""

    policy: Callable[..., bool] | None = None
    prevent_cse: bool = True

    @classmethod
    def fields(cls) -> list[str]:
        """Return the names of its arguments."""
        return [field.name for field in fields(cls)]

    def __call__(self, function: Callable[..., Any]) -> Any:
        return nn.remat(function, policy=self.policy, prevent_cse=self.prevent_cse)


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

    how = stack.gradient_checkpointing
    remat = how if isinstance(how, Recomputed) else Recomputed()
    return remat(run)(layer, *(leaves[place] for place in places))
