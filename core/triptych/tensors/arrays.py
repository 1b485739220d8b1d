"""Arrays copied to another axis order or dtype, as fast as memory allows, and aligned for the frameworks."""

from __future__ import annotations

import math

import numpy as np


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
