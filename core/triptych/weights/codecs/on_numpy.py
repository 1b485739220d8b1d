"""The functions that codecs decode with, on numpy: for files, and for weights that a model gives up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def shape(x: Any) -> Any:
    return x.shape


def reshape(x: Any, shape: Sequence[int]) -> Any:
    return x.reshape(shape)


def transpose(x: Any, axes: Sequence[int]) -> Any:
    return x.transpose(axes)


def concat(parts: Sequence[Any], axis: int) -> Any:
    return np.concatenate(parts, axis)


def cast(x: Any, dtype: str) -> Any:
    return x.astype(dtype)


def repeat(x: Any, times: int) -> Any:
    return np.repeat(x, times, axis=0)


def bits(x: Any, shift: int, mask: int) -> Any:
    return x >> np.uint8(shift) & np.uint8(mask)


def bitcast(x: Any, dtype: str) -> Any:
    new = np.ascontiguousarray(x).view(dtype)
    return new if new.itemsize == x.itemsize else new[..., 0]
