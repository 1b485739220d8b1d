"""Dtype names of the safetensors format and their numpy types (bfloat16 and float8 come from ml_dtypes).

Source of the names: the safetensors format description, section "Format".
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from triptych.errors import ArgumentError, UnsupportedFormatError

SAFETENSORS: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}
BFLOAT16 = SAFETENSORS["BF16"]
NAMES: dict[np.dtype, str] = {dtype: name for name, dtype in SAFETENSORS.items()}

FLOATING = frozenset(np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64))
"""Floating types that a load may cast into each other; float8 is a storage format and is left alone."""


def safetensors_name(dtype: np.dtype, tensor: str) -> str:
    """Return the format's name of `dtype` (native byte order), or raise naming `tensor`."""
    name = NAMES.get(dtype.newbyteorder("="))
    if name is None:
        raise UnsupportedFormatError(
            f"Tensor {tensor!r} cannot be stored.",
            expected="one of " + ", ".join(SAFETENSORS),
            received=f"dtype {dtype}",
            remedy="cast it first",
        )
    return name


def is_auto(dtype: object) -> bool:
    """Return whether a dtype argument is the text "auto"."""
    return isinstance(dtype, str) and dtype == "auto"


def parse_param_dtype(value: object) -> np.dtype | None:
    """Return the numpy dtype of a `param_dtype` argument; None for "auto", which follows the files.

    Accepts names ("float32", "bfloat16"), numpy and JAX dtypes, `torch.dtype` and `tf.DType`, and None for float32.
    """
    if value is None:
        return np.dtype(np.float32)
    if is_auto(value):
        return None
    name = getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)
    by_name = {dtype.name: dtype for dtype in FLOATING}
    dtype = by_name.get(str(name).removeprefix("torch."))
    if dtype is None:
        raise ArgumentError(
            "The parameters cannot have this dtype.",
            expected=f"'auto' or a floating type of {sorted(by_name)}",
            received=repr(value),
            remedy="pass param_dtype='float32', or 'auto' to follow the files",
        )
    return dtype
