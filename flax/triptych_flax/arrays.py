"""Between numpy arrays and JAX arrays, bit-exact for every dtype of safetensors, without copies where JAX allows."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from triptych.errors import ArgumentError, UnsupportedFormatError
from triptych.tensors.dtypes import NAMES
from triptych_flax import internals

DONATED = {
    "detail": "Parameters were donated to a compiled function, and hold nothing any more.",
    "expected": "arrays that were not in an argument named by donate_argnums",
    "received": "deleted arrays",
    "remedy": "model.params = state.params, of the state that the function returned",
}
"""What an `ArgumentError` says of them."""


def native_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that JAX gives an array of a numpy dtype, which is the same one.

    Raises:
        UnsupportedFormatError: it has 64 bits and JAX is set to 32.
    """
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise UnsupportedFormatError(
            "JAX would cut this dtype to 32 bits.",
            expected="a dtype of at most 32 bits",
            received=str(dtype),
            remedy='call jax.config.update("jax_enable_x64", True) first, or pass param_dtype="float32"',
        )
    return np.dtype(dtype)


def numpy_dtype(dtype: Any) -> np.dtype:
    """Return the numpy (or ml_dtypes) dtype of a JAX dtype.

    Raises:
        UnsupportedFormatError: a checkpoint cannot hold it (random keys, 4-bit integers).
    """
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended) or np.dtype(dtype) not in NAMES:
        raise UnsupportedFormatError(
            "This dtype has no counterpart in a checkpoint.", expected=", ".join(map(str, NAMES)), received=str(dtype)
        )
    return np.dtype(dtype)


def to_native(array: np.ndarray) -> jax.Array:
    """Return a JAX array, over the array's own memory if that is on the CPU and starts at a multiple of 64 bytes."""
    native_dtype(array.dtype)
    return jax.device_put(array)


def to_numpy(tensor: Any) -> np.ndarray:
    """Return an array with the tensor's values, over its own memory where that is on the CPU.

    Raises:
        UnsupportedFormatError: it has no values (a shape), is no array, of a dtype that no checkpoint holds, or in part
            on devices of other processes.
        ArgumentError: it was donated.
    """
    if isinstance(tensor, jax.ShapeDtypeStruct) or not hasattr(tensor, "dtype"):
        raise UnsupportedFormatError("The tensor has no values to read.", expected="an array", received=str(tensor))
    numpy_dtype(tensor.dtype)
    if internals.is_deleted(tensor):
        raise ArgumentError(**DONATED)
    if isinstance(tensor, jax.Array) and not _is_adopted(tensor):
        if not tensor.is_fully_addressable:
            raise UnsupportedFormatError("Parts of the array are not here.", expected="devices of this process alone",
                                         received=str(tensor.sharding))  # fmt: skip
        tensor = tensor.copy()  # JAX keeps what it makes for numpy as long as the array lives
    return np.asarray(tensor)


def _is_adopted(tensor: jax.Array) -> bool:
    """Return whether an array is in memory that numpy can see: that of the CPU, and of one device."""
    devices: Any = tensor.sharding.device_set
    return len(devices) == 1 and all(device.platform == "cpu" for device in devices)
