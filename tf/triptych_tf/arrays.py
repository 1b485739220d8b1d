"""Between numpy arrays and TensorFlow tensors, bit-exact for every dtype of safetensors that TensorFlow has."""

from __future__ import annotations

from functools import cache

import numpy as np
import tensorflow as tf

from triptych.errors import UnsupportedFormatError
from triptych.tensors import dtypes


def native_dtype(dtype: np.dtype) -> tf.DType:
    """Return the TensorFlow dtype of a numpy dtype.

    Raises:
        UnsupportedFormatError: TensorFlow has none (float8_e8m0fnu).
    """
    try:
        return tf.as_dtype(np.dtype(dtype))
    except TypeError as cause:
        raise UnsupportedFormatError("TensorFlow does not have this dtype.", received=str(dtype)) from cause


def numpy_dtype(dtype: tf.DType) -> np.dtype:
    """Return the numpy (or ml_dtypes) dtype of a TensorFlow dtype.

    Raises:
        UnsupportedFormatError: a checkpoint has none (strings, quantised types).
    """
    found = np.dtype(dtype.as_numpy_dtype)
    if found not in dtypes.NAMES:
        known = ", ".join(d.name for d in dtypes.NAMES)
        raise UnsupportedFormatError(
            "This dtype has no counterpart in a checkpoint.", expected=known, received=dtype.name
        )
    return found


def to_native(array: np.ndarray) -> tf.Tensor:
    """Return a tensor over the array's own memory where that is aligned to 64 bytes, else over a copy.

    TensorFlow never writes into memory that it does not own: the first update of a variable copies it.
    """
    native_dtype(array.dtype)
    _introduced(array.dtype)
    return tf.raw_ops.Identity(input=array)  # convert_to_tensor copies numpy arrays


@cache
def _introduced(dtype: np.dtype) -> None:
    """Have TensorFlow see `dtype` once: it copies the first array of bfloat16 or float8, however large."""
    tf.raw_ops.Identity(input=np.empty(0, dtype))


def to_numpy(tensor: tf.Tensor) -> np.ndarray:
    """Return an array with the tensor's values, over its own memory where TensorFlow allows.

    Raises:
        UnsupportedFormatError: sparse, ragged, symbolic, or of a dtype that no checkpoint has.
    """
    if not isinstance(tensor, tf.Tensor) or not hasattr(tensor, "numpy"):
        received = type(tensor).__name__
        raise UnsupportedFormatError("The tensor has no values to read.", expected="a dense tensor", received=received)
    numpy_dtype(tensor.dtype)
    return np.asarray(tensor if tensor.shape.rank else tensor.numpy())  # no array is made of a bfloat16 scalar
