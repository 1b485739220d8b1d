"""The tensor types of GGUF: which are numpy's own, and dequantising the others with the package `gguf`.

Numbers and names: the GGUF specification of the ggml project, `enum ggml_type`.
"""

from __future__ import annotations

import functools
import math
from types import ModuleType

import ml_dtypes
import numpy as np

from triptych.errors import MissingBackendError

PLAIN: dict[int, np.dtype] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f2"),
    28: np.dtype("<f8"),
    30: np.dtype(ml_dtypes.bfloat16),
}
"""Types that are read as they are. All others come as float32."""


def dtype_of(kind: int) -> np.dtype:
    """Return the dtype in which tensors of type `kind` are read."""
    return PLAIN.get(kind, np.dtype(np.float32))


@functools.cache
def block_of(kind: int) -> tuple[int, int] | None:
    """Return elements and bytes of one block of type `kind`; an unquantised type has blocks of one element.

    None for an unknown type, and for one that the package gguf cannot dequantise.

    Raises:
        MissingBackendError: the type is quantised and the package gguf is not installed.
    """
    if kind in PLAIN:
        return 1, PLAIN[kind].itemsize
    gguf = _library()
    try:
        quantisation = gguf.GGMLQuantizationType(kind)
        elements, size = gguf.GGML_QUANT_SIZES[quantisation]
        gguf.dequantize(np.zeros((1, size), np.uint8), quantisation)
    except (ValueError, KeyError, NotImplementedError):
        return None
    return int(elements), int(size)


def decoded(data: np.ndarray, kind: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the bytes `data` (uint8, one axis) of a tensor of type `kind` as an array [*shape] of `dtype_of(kind)`."""
    if kind in PLAIN:
        return data.view(PLAIN[kind]).reshape(shape)
    gguf = _library()
    rows = data.reshape(math.prod(shape[:-1]), -1)
    with np.errstate(all="ignore"):  # damaged scales may overflow; the values are then what the file says
        return gguf.dequantize(rows, gguf.GGMLQuantizationType(kind)).reshape(shape)


def _library() -> ModuleType:
    try:
        import gguf
    except ImportError as cause:
        raise MissingBackendError(
            "Quantised tensors of GGUF cannot be read.",
            expected="the package gguf",
            received=str(cause),
            remedy="pip install 'triptych[gguf]'",
        ) from cause
    return gguf
