"""Where a canonical weight lives inside a live Keras or Flax model, and which axes change place.

One table per framework. The canonical layout is PyTorch's, so its table is the identity. Every permutation here is its
own inverse, which `conformance/test_schema.py` checks together with the round trip of every name.
"""

from __future__ import annotations

import math

import numpy as np

from triptych.schema import Layout, Weight

_LEAVES: dict[str, dict[Layout, str]] = {
    "pt": {},
    "tf": {
        Layout.LINEAR: "kernel",
        Layout.CONV1D: "weight",
        Layout.EMBEDDING: "embeddings",
        Layout.NORM: "gamma",
        Layout.NORM_BIAS: "beta",
    },
    "flax": {
        Layout.LINEAR: "kernel",
        Layout.CONV1D: "weight",
        Layout.EMBEDDING: "embedding",
        Layout.NORM: "scale",
    },
}
_PERMUTATIONS: dict[str, dict[Layout, tuple[int, ...]]] = {
    "pt": {},
    "tf": {Layout.LINEAR: (1, 0)},
    "flax": {Layout.LINEAR: (1, 0)},
}


def native_path(weight: Weight, framework: str) -> tuple[str, ...]:
    """Return the path of `weight` in a live model of `framework` ("pt", "tf" or "flax")."""
    *scopes, leaf = weight.name.split(".")
    return (*scopes, _LEAVES[framework].get(weight.layout, leaf))


def permutation(layout: Layout, framework: str) -> tuple[int, ...] | None:
    """Return the axes order between canonical and native, or None where both are the same."""
    return _PERMUTATIONS[framework].get(layout)


def canonical_leaf(path: tuple[str, ...], siblings: frozenset[str], rank: int, framework: str) -> tuple[str, Layout]:
    """Return canonical name and layout of a native path whose layer's other leaves are `siblings`.

    Used to derive a schema from a live Keras or Flax model, whose leaf names tell the layer type.
    """
    *scopes, leaf = path
    layout = _derived_layout(leaf, siblings, rank, framework)
    names = dict.fromkeys((Layout.LINEAR, Layout.CONV1D, Layout.EMBEDDING, Layout.NORM), "weight")
    names |= {Layout.NORM_BIAS: "bias", Layout.BIAS: "bias"}
    return ".".join((*scopes, names.get(layout, leaf))), layout


def _derived_layout(leaf: str, siblings: frozenset[str], rank: int, framework: str) -> Layout:
    for layout, name in _LEAVES[framework].items():
        if name == leaf and (rank == 2 or layout not in (Layout.LINEAR, Layout.CONV1D)):
            return layout
    if leaf == "bias":
        return Layout.NORM_BIAS if "scale" in siblings else Layout.BIAS
    return Layout.PARAMETER


def _aligned(shape: tuple[int, ...], dtype: np.dtype, boundary: int = 64) -> np.ndarray:
    """Return an array without values that starts at a multiple of `boundary` bytes.

    TensorFlow and JAX take an array as it is if it starts at a multiple of 64, and copy any other.
    """
    count = math.prod(shape) * dtype.itemsize
    memory = np.empty(count + boundary, np.uint8)
    start = -memory.ctypes.data % boundary
    return memory[start : start + count].view(dtype).reshape(shape)


def transposed(array: np.ndarray, block_bytes: int = 512) -> np.ndarray:
    """Return a C-contiguous transpose of a matrix, written in blocks that stay in the cache.

    Numpy's own copy of a transposed view is about three times slower (`benchmarks/load.py` depends on it). Elements are
    moved as integers of their size: numpy copies its own types faster than bfloat16.
    """
    rows, columns = array.shape
    result = _aligned((columns, rows), array.dtype)
    kind = f"u{array.dtype.itemsize}" if array.dtype.itemsize <= 8 else array.dtype
    source, target = array.view(kind), result.view(kind)
    block = max(1, block_bytes // array.dtype.itemsize)
    for start in range(0, rows, block):
        target[:, start : start + block] = source[start : start + block].T
    return result


def converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a C-contiguous copy of `array` as `dtype`."""
    result = _aligned(array.shape, dtype)
    result[...] = array
    return result


def permuted(array: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    """Return `array` with its axes in `order`, C-contiguous; `array` itself if `order` is None."""
    if order is None:
        return array
    return transposed(array) if order == (1, 0) else np.ascontiguousarray(array.transpose(order))
