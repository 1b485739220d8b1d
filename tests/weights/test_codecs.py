"""Codecs of packed weights: against the package gguf, and how near they come to what they packed."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from triptych import ArgumentError
from triptych.weights.codecs import on_numpy
from triptych.weights.codecs.base import Codec
from triptych.weights.codecs.fp8 import Fp8, Fp8Blocks
from triptych.weights.codecs.gguf import BY_KIND, Blocks
from triptych.weights.codecs.integers import Int4, Int8

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("codec", BY_KIND.values(), ids=lambda codec: codec.name)
def test_blocks_of_gguf_are_what_its_own_package_says(codec: Blocks) -> None:
    rows = RNG.integers(0, 256, (6, 512 // codec.elements * codec.size), np.uint8)
    halves = RNG.normal(size=(6, 512 // codec.elements, 2)).astype(np.float16).view(np.uint8)
    scales = {"q6_k": slice(208, 210), "q4_1": slice(0, 4), "q4_k": slice(0, 4)}.get(codec.name, slice(0, 2))
    blocks = rows.reshape(6, -1, codec.size)
    blocks[..., scales] = halves.reshape(6, -1, 4)[..., : scales.stop - scales.start]
    parts = codec.taken_apart(rows)
    assert [(part.dtype, part.shape) for part in parts] == [(p.dtype, p.shape) for p in codec.parts(6, 512)]
    assert sum(part.nbytes for part in parts) == rows.nbytes
    expected = gguf.dequantize(rows, gguf.GGMLQuantizationType(codec.kind))
    assert (codec.decode(on_numpy, parts, 512) == expected).all()
    some = codec.rows_of(parts, 2, 4)
    assert (codec.decode(on_numpy, some, 512) == expected[2:4]).all()


@pytest.mark.parametrize(
    "codec, near",
    [(Int8(), 1 / 250), (Int4(), 1 / 14), (Int4(64), 1 / 14), (Fp8Blocks(48, 40), 1 / 14), (Fp8(), 1 / 14),
     (Fp8(True), 1 / 14)],
    ids=["int8", "int4", "int4 of 64", "fp8 blocks", "fp8", "fp8 rows"],
)  # fmt: skip
def test_a_matrix_comes_back_nearly(codec: Codec, near: float) -> None:
    matrix = RNG.normal(size=(100, 128)).astype(np.float32)
    matrix[3] = 0
    parts = codec.encode(matrix)
    assert [(part.dtype, part.shape) for part in parts] == [(p.dtype, p.shape) for p in codec.parts(100, 128)]
    back = codec.decode(on_numpy, parts, 128)
    assert np.abs(back - matrix).max() <= np.abs(matrix).max() * near
    assert (back[3] == 0).all()
    step = codec.row_step
    if step:
        assert (codec.decode(on_numpy, codec.rows_of(parts, step, 100), 128) == back[step:]).all()


def test_what_no_scale_can_hold_is_refused() -> None:
    for codec in (Int8(), Int4(), Fp8(), Fp8Blocks()):
        with pytest.raises(ArgumentError, match="not finite"):
            codec.encode(np.array([[np.nan] * 32], np.float32))
    with pytest.raises(ArgumentError, match="too large for the scales of int4"):
        Int4().encode(np.array([[3e38] * 16 + [-3e38] * 16], np.float32))
    with pytest.raises(ArgumentError, match="only reads"):
        BY_KIND[3].encode(np.zeros((1, 32), np.float32))
    for size in (3, 0, "x"):
        with pytest.raises(ArgumentError, match="group_size is impossible"):
            Int4(size)  # type: ignore[arg-type]
