"""Between numpy arrays and torch tensors, without copies and bit-exact for every dtype of safetensors."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch

from triptych.errors import UnsupportedFormatError

_DTYPES: dict[np.dtype, torch.dtype] = {
    np.dtype(np.bool_): torch.bool,
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.int8): torch.int8,
    np.dtype(np.uint16): torch.uint16,
    np.dtype(np.int16): torch.int16,
    np.dtype(np.uint32): torch.uint32,
    np.dtype(np.int32): torch.int32,
    np.dtype(np.uint64): torch.uint64,
    np.dtype(np.int64): torch.int64,
    np.dtype(np.float16): torch.float16,
    np.dtype(ml_dtypes.bfloat16): torch.bfloat16,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
    np.dtype(np.complex64): torch.complex64,
    np.dtype(ml_dtypes.float8_e4m3fn): torch.float8_e4m3fn,
    np.dtype(ml_dtypes.float8_e5m2): torch.float8_e5m2,
    np.dtype(ml_dtypes.float8_e8m0fnu): torch.float8_e8m0fnu,
}
_NUMPY = {theirs: ours for ours, theirs in _DTYPES.items()}
_BITS = {1: (np.uint8, torch.uint8), 2: (np.int16, torch.int16)}


def native_dtype(dtype: np.dtype) -> torch.dtype:
    """Return the torch dtype of a numpy dtype."""
    return _DTYPES[np.dtype(dtype)]


def numpy_dtype(dtype: torch.dtype) -> np.dtype:
    """Return the numpy (or ml_dtypes) dtype of a torch dtype.

    Raises:
        UnsupportedFormatError: numpy has none (quantised types).
    """
    if dtype not in _NUMPY:
        raise UnsupportedFormatError(
            "This dtype has no counterpart in a checkpoint.", expected=", ".join(map(str, _NUMPY)), received=str(dtype)
        )
    return _NUMPY[dtype]


def to_native(array: np.ndarray) -> torch.Tensor:
    """Return a tensor over the array's own memory."""
    if _is_of_ml_dtypes(array.dtype):  # torch takes its bits, not its name
        bits, theirs = _BITS[array.dtype.itemsize]
        return torch.from_numpy(array.view(bits)).view(native_dtype(array.dtype))
    return torch.from_numpy(array)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return an array with the tensor's values, over its own memory where that is on the CPU and contiguous.

    Raises:
        UnsupportedFormatError: sparse, quantised, or without values (meta).
    """
    if tensor.is_meta or tensor.layout is not torch.strided:
        kind = "meta" if tensor.is_meta else str(tensor.layout)
        raise UnsupportedFormatError("The tensor has no values to read.", expected="a dense tensor", received=kind)
    dtype = numpy_dtype(tensor.dtype)
    tensor = tensor.detach().cpu().contiguous()
    if _is_of_ml_dtypes(dtype):
        return tensor.view(_BITS[dtype.itemsize][1]).numpy().view(dtype)
    return tensor.numpy()


def _is_of_ml_dtypes(dtype: np.dtype) -> bool:
    return dtype.isbuiltin == 2  # registered with numpy; their kinds differ
