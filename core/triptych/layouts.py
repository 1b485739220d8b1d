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


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array without values that starts at a multiple of 64 bytes, or of 2 MiB if it is large.

    TensorFlow and JAX take an array as it is if it starts at a multiple of 64, and copy any other. The system gives
    memory by pages of 2 MiB where it can: an array that starts within one gets the 512 small pages of the rest.
    """
    count = math.prod(shape) * dtype.itemsize
    boundary = 64 if count < 2**22 else 2**21
    memory = np.empty(count + boundary, np.uint8)
    start = -memory.ctypes.data % boundary
    return memory[start : start + count].view(dtype).reshape(shape)


def transposed(
    array: np.ndarray, dtype: np.dtype | None = None, block_bytes: int = 512, width: int = 8192
) -> np.ndarray:
    """Return a C-contiguous transpose of a matrix, as `dtype` if given.

    A block of rows, or of `width` columns of them, goes through a buffer whose rows are 64 bytes longer; each of its
    columns becomes `block_bytes` of a row of the result. Numpy's own copy of a transposed view takes five times as long
    (`benchmarks/load16.py`): rows of 4096 bytes all start in one set of the cache, which holds a dozen of them.
    """
    rows, columns = array.shape
    result = _aligned((columns, rows), array.dtype if dtype is None else dtype)
    height = max(1, block_bytes // result.itemsize)
    buffer = np.empty((min(rows, height), min(columns, width) + -(-64 // result.itemsize)), result.dtype)
    # As integers, which numpy copies faster than bfloat16.
    kind = f"u{result.itemsize}" if result.itemsize <= 8 else result.dtype
    filled, target = buffer.view(kind), result.view(kind)
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            block = array[top : top + height, left : left + width]
            high, wide = block.shape
            buffer[:high, :wide] = block
            target[left : left + wide, top : top + high] = filled[:high, :wide].T
    return result


def converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a C-contiguous copy of `array` as `dtype`."""
    result = _aligned(array.shape, dtype)
    result[...] = array
    return result


def permuted(array: np.ndarray, order: tuple[int, ...] | None, dtype: np.dtype | None = None) -> np.ndarray:
    """Return `array` with its axes in `order` and as `dtype`, C-contiguous; `array` itself if nothing changes."""
    dtype = array.dtype if dtype is None else dtype
    if order == (1, 0):
        return transposed(array, dtype)
    if order is not None:
        array = array.transpose(order)
    return array if order is None and dtype == array.dtype else converted(array, dtype)
