"""The blocks of llama.cpp's files, kept byte by byte as the file has them.

A row is a number of blocks, each a few scales and the codes of 32 or 256 elements, so the one part of a matrix is uint8
[rows, bytes of a row]. The layouts are those of the ggml project (`ggml-common.h`, `ggml-quants.c`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from triptych.weights.codecs.base import Codec, Part


class Blocks(Codec):
    """Rows of blocks: `elements` in `size` bytes. `kind` is the number of the type in GGUF files."""

    kind: ClassVar[int]
    elements: ClassVar[int]
    size: ClassVar[int]

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    def fits(self, rows: int, columns: int) -> bool:
        return rows > 0 and columns > 0 and columns % self.elements == 0

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        return (Part("", np.dtype(np.uint8), (rows, columns // self.elements * self.size)),)

    def decode(self, ops: Any, parts: Sequence[Any], columns: int) -> Any:
        blocks = ops.reshape(parts[0], (-1, columns // self.elements, self.size))
        return ops.reshape(self.values(ops, blocks), (-1, columns))

    @abstractmethod
    def values(self, ops: Any, blocks: Any) -> Any:
        """Return float32 [rows, number, elements], or in a shape that reads the same, of uint8 [rows, number, size]."""


def _half(ops: Any, two_bytes: Any) -> Any:
    """Return the float16 of the last axis, [..., 1], as float32."""
    return ops.cast(ops.bitcast(two_bytes, "float16"), "float32")[..., None]


def _nibbles(ops: Any, packed: Any) -> Any:
    """Return the low and then the high bits of bytes: [..., 2 * bytes]."""
    return ops.concat([ops.bits(packed, 0, 15), ops.bits(packed, 4, 15)], -1)


@dataclass(frozen=True, repr=False)
class Q8_0(Blocks):
    """32 int8 and their scale."""

    kind, elements, size = 8, 32, 34

    def values(self, ops: Any, blocks: Any) -> Any:
        codes = ops.cast(ops.bitcast(blocks[..., 2:], "int8"), "float32")
        return codes * _half(ops, blocks[..., :2])


@dataclass(frozen=True, repr=False)
class Q4_0(Blocks):
    """32 codes from -8 to 7, and their scale."""

    kind, elements, size = 2, 32, 18

    def values(self, ops: Any, blocks: Any) -> Any:
        codes = ops.cast(_nibbles(ops, blocks[..., 2:]), "float32")
        return (codes - 8.0) * _half(ops, blocks[..., :2])


@dataclass(frozen=True, repr=False)
class Q4_1(Blocks):
    """32 codes from 0 to 15, their scale and their minimum."""

    kind, elements, size = 3, 32, 20

    def values(self, ops: Any, blocks: Any) -> Any:
        codes = ops.cast(_nibbles(ops, blocks[..., 4:]), "float32")
        return codes * _half(ops, blocks[..., :2]) + _half(ops, blocks[..., 2:4])


@dataclass(frozen=True, repr=False)
class Q4_K(Blocks):
    """256 codes from 0 to 15 in 8 groups, whose scales and minima have 6 bits and a scale of their own."""

    kind, elements, size = 12, 256, 144

    def values(self, ops: Any, blocks: Any) -> Any:
        low, middle, high = blocks[..., 4:8], blocks[..., 8:12], blocks[..., 12:16]
        scales = _six_bits(ops, low, ops.bits(high, 0, 15))
        minima = _six_bits(ops, middle, ops.bits(high, 4, 15))
        scale, minimum = scales * _half(ops, blocks[..., :2]), minima * _half(ops, blocks[..., 2:4])
        codes = ops.reshape(blocks[..., 16:], (-1, 4, 32))  # 64 elements in 32 bytes, four times
        codes = ops.reshape(ops.cast(_nibbles(ops, codes), "float32"), (-1, 8, 32))
        scale, minimum = (ops.reshape(x, (-1, 8, 1)) for x in (scale, minimum))
        return codes * scale - minimum


@dataclass(frozen=True, repr=False)
class Q6_K(Blocks):
    """256 codes from -32 to 31 in 16 groups, whose scales are int8 and have a scale of their own."""

    kind, elements, size = 14, 256, 210

    def values(self, ops: Any, blocks: Any) -> Any:
        low = ops.reshape(blocks[..., :128], (-1, 2, 64))
        high = ops.reshape(blocks[..., 128:192], (-1, 2, 32))
        lows = _nibbles(ops, low)  # of each half: four times 32 elements
        highs = ops.concat([ops.bits(high, shift, 3) for shift in (0, 2, 4, 6)], -1)
        codes = ops.reshape(_joined(ops, lows, highs) - 32.0, (-1, 16, 16))
        scale = ops.cast(ops.bitcast(blocks[..., 192:208], "int8"), "float32") * _half(ops, blocks[..., 208:])
        return codes * ops.reshape(scale, (-1, 16, 1))


def _joined(ops: Any, low: Any, high: Any) -> Any:
    """Return the numbers whose bits above the fourth are `high`, as float32, which holds them exactly."""
    return ops.cast(low, "float32") + ops.cast(high, "float32") * 16.0


def _six_bits(ops: Any, first: Any, rest: Any) -> Any:
    """Return eight numbers of 6 bits: four of the bytes `first`, and four of `rest` and what is above in `first`."""
    return ops.concat([ops.cast(ops.bits(first, 0, 63), "float32"), _joined(ops, rest, ops.bits(first, 6, 3))], -1)


BY_KIND: dict[int, Blocks] = {codec.kind: codec for codec in (Q8_0(), Q4_0(), Q4_1(), Q4_K(), Q6_K())}
"""The number of a type in GGUF files -> its codec."""
