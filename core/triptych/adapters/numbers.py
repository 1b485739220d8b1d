"""What is computed of an adapter outside a call of the model: its first values, and its change of a matrix."""

from __future__ import annotations

import math
import zlib

import numpy as np

from triptych.adapters.targets import Target
from triptych.tensors.arrays import converted
from triptych.weights.schema import Layout

_BLOCK = 2**24
"""Bytes of a change that are in memory at a time."""


def first_values(target: Target, start: bool | str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B of a new adapter, float32; the same for a seed in each framework.

    The product is zero: of a projection B is, and A uniform in +-1 / sqrt(ins) (He et al., 2015,
    https://arxiv.org/abs/1502.01852, with a slope of sqrt 5) or, for "gaussian", normal with 1 / rank; of an embedding
    A is zero and B normal. With `start` False neither is zero.
    """
    rng = np.random.default_rng([seed, zlib.crc32(target.weight.encode())])
    a_shape, b_shape = target.shapes
    if target.is_embedding:
        a = rng.standard_normal(a_shape, np.float32) if start is False else np.zeros(a_shape, np.float32)
        return a, rng.standard_normal(b_shape, np.float32)
    if start == "gaussian":
        a = rng.standard_normal(a_shape, np.float32) / np.float32(target.rank)
    else:
        a = _uniform(rng, a_shape, target.ins)
    return a, _uniform(rng, b_shape, target.rank) if start is False else np.zeros(b_shape, np.float32)


def _uniform(rng: np.random.Generator, shape: tuple[int, int], ins: int) -> np.ndarray:
    bound = 1 / math.sqrt(ins)
    return ((rng.random(shape, np.float32) * 2 - 1) * bound).astype(np.float32)


def changed(target: Target, matrix: np.ndarray, a: np.ndarray, b: np.ndarray, sign: int = 1) -> np.ndarray:
    """Return the canonical `matrix` of a layer with the change that the adapter makes, or without it for `sign` -1.

    It is computed in float32, or in float64 where one of the arrays is, and has the dtype of `matrix`.
    """
    wide = np.result_type(*(np.float64 if one.dtype == np.float64 else np.float32 for one in (matrix, a, b)))
    left, right = (b, a) if target.layout is Layout.LINEAR else (a.T, b.T)
    left, right = wide.type(sign * target.scale) * left.astype(wide), right.astype(wide)
    result = converted(matrix, matrix.dtype)
    step = max(1, _BLOCK // (matrix.shape[1] * wide.itemsize))
    for start in range(0, matrix.shape[0], step):
        rows = slice(start, start + step)
        result[rows] = matrix[rows].astype(wide) + np.matmul(left[rows], right)
    return result
