"""The quantised types of llama.cpp's files: the bits of the file, in no more bytes than there.

A row is a number of blocks, each a few scales and the codes of 32 or 256 elements. The blocks of 32 are taken apart,
codes and scales each in an array of their own, since those of a few bytes are slow to compute with; those of 256 stay
as they are, so that the one part is uint8 [rows, bytes of a row]. The layouts are those of the ggml project
(`ggml-common.h`, `ggml-quants.c`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from triptych.weights.codecs.base import Codec, Part

_U8, _I8, _F16 = (np.dtype(t) for t in (np.uint8, np.int8, np.float16))


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

    @abstractmethod
    def taken_apart(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the parts of a matrix that a file holds as uint8 [rows, bytes of a row]."""


class SmallBlocks(Blocks):
    """Blocks of 32 elements: a float16 scale, and with `has_minimum` another one of what code 0 stands for."""

    elements = 32
    code_bytes: ClassVar[int]
    code_dtype: ClassVar[np.dtype] = _U8
    has_minimum: ClassVar[bool] = False

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        blocks = columns // self.elements
        codes = Part("", self.code_dtype, (rows, blocks * self.code_bytes))
        more = (Part("_min", _F16, (rows, blocks)),) if self.has_minimum else ()
        return codes, Part("_scale", _F16, (rows, blocks)), *more

    def taken_apart(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        blocks = rows.reshape(len(rows), -1, self.size)
        scales = self.size - self.code_bytes
        codes = np.ascontiguousarray(blocks[..., scales:]).view(self.code_dtype)
        halves = np.ascontiguousarray(blocks[..., :scales]).view(_F16)
        more = (np.ascontiguousarray(halves[..., place]) for place in range(scales // 2))
        return codes.reshape(len(rows), -1), *more

    def decode(self, ops: Any, parts: Sequence[Any], columns: int) -> Any:
        codes = ops.reshape(parts[0], (-1, columns // self.elements, self.code_bytes))
        wide = self.values(ops, codes) * ops.cast(parts[1], "float32")[..., None]
        if self.has_minimum:
            wide = wide + ops.cast(parts[2], "float32")[..., None]
        return ops.reshape(wide, (-1, columns))

    @abstractmethod
    def values(self, ops: Any, codes: Any) -> Any:
        """Return what the scales are multiplied by, float32 [rows, blocks, 32], of [rows, blocks, code_bytes]."""


@dataclass(frozen=True, repr=False)
class Q8_0(SmallBlocks):
    """32 int8 and their scale."""

    kind, size, code_bytes, code_dtype = 8, 34, 32, _I8

    def values(self, ops: Any, codes: Any) -> Any:
        return ops.cast(codes, "float32")


@dataclass(frozen=True, repr=False)
class Q4_0(SmallBlocks):
    """32 codes from -8 to 7, and their scale."""

    kind, size, code_bytes = 2, 18, 16

    def values(self, ops: Any, codes: Any) -> Any:
        return ops.cast(_nibbles(ops, codes), "float32") - 8.0


@dataclass(frozen=True, repr=False)
class Q4_1(SmallBlocks):
    """32 codes from 0 to 15, their scale and their minimum."""

    kind, size, code_bytes, has_minimum = 3, 20, 16, True

    def values(self, ops: Any, codes: Any) -> Any:
        return ops.cast(_nibbles(ops, codes), "float32")


class SuperBlocks(Blocks):
    """Blocks of 256 elements, as the file has them."""

    elements = 256

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        return (Part("", _U8, (rows, columns // self.elements * self.size)),)

    def taken_apart(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        return (rows,)

    def decode(self, ops: Any, parts: Sequence[Any], columns: int) -> Any:
        blocks = ops.reshape(parts[0], (-1, columns // self.elements, self.size))
        return ops.reshape(self.values(ops, blocks), (-1, columns))

    @abstractmethod
    def values(self, ops: Any, blocks: Any) -> Any:
        """Return the elements as float32, in an array that reads in their order, of uint8 [rows, blocks, size]."""


def _half(ops: Any, two_bytes: Any) -> Any:
    """Return the float16 of the last axis, [..., 1], as float32."""
    return ops.cast(ops.bitcast(two_bytes, "float16"), "float32")[..., None]


def _nibbles(ops: Any, packed: Any) -> Any:
    """Return the low and then the high bits of bytes: [..., 2 * bytes]."""
    return ops.concat([ops.bits(packed, 0, 15), ops.bits(packed, 4, 15)], -1)


@dataclass(frozen=True, repr=False)
class Q4_K(SuperBlocks):
    """256 codes from 0 to 15 in 8 groups, whose scales and minima have 6 bits and a scale of their own."""

    kind, size = 12, 144

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
class Q6_K(SuperBlocks):
    """256 codes from -32 to 31 in 16 groups, whose scales are int8 and have a scale of their own."""

    kind, size = 14, 210

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
