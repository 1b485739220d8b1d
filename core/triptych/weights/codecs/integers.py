"""Integers with scales: int8 for each row, int4 for each group of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.weights.codecs.base import BlocksOfCodes, Codec, Part, blocks_of, finite

_I8, _U8, _F16, _F32 = (np.dtype(t) for t in (np.int8, np.uint8, np.float16, np.float32))


@dataclass(frozen=True, repr=False)
class Int8(Codec):
    """weight = code * scale: codes int8 [rows, columns] from -127 to 127, scales float32 [rows]."""

    @property
    def name(self) -> str:
        return "int8"

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        return Part("", _I8, (rows, columns)), Part("_scale", _F32, (rows,))

    def encode(self, matrix: np.ndarray) -> tuple[np.ndarray, ...]:
        codes, scales = np.empty(matrix.shape, np.int8), np.empty(matrix.shape[0], np.float32)
        top = 0
        for block in map(finite, blocks_of(matrix)):
            scale = np.abs(block).max(axis=1) / 127
            scale[scale == 0] = 1
            rows = slice(top, top + len(block))
            codes[rows], scales[rows] = np.rint(block / scale[:, None]), scale
            top += len(block)
        return codes, scales

    def decode(self, ops: Any, parts: Sequence[Any], columns: int) -> Any:
        codes, scales = parts
        return ops.cast(codes, "float32") * scales[:, None]

    def row_scale(self, ops: Any, parts: Sequence[Any]) -> tuple[Any, Any] | None:
        return parts[0], parts[1]


@dataclass(frozen=True, repr=False)
class Int4(Codec):
    """weight = (code - zero) * scale: codes of 4 bits, a scale (float16) and a zero (uint8) for each group of a row.

    Codes are uint8 [rows, columns / 2]. Of a group of G, byte j holds the element j in its low bits and j + G / 2 in
    its high bits, so that to unpack is to put two halves one after the other.
    """

    has_blocks_of_codes = True
    group_size: int = 32

    def __post_init__(self) -> None:
        if type(self.group_size) is not int or self.group_size < 2 or self.group_size % 2:
            raise ArgumentError("group_size is impossible.", expected="an even number, such as 32, 64 or 128",
                                received=repr(self.group_size)[:80])  # fmt: skip

    @property
    def name(self) -> str:
        return "int4"

    def fits(self, rows: int, columns: int) -> bool:
        return rows > 0 and columns > 0 and columns % self.group_size == 0

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        groups = (rows, columns // self.group_size)
        return Part("", _U8, (rows, columns // 2)), Part("_scale", _F16, groups), Part("_zero_point", _U8, groups)

    def encode(self, matrix: np.ndarray) -> tuple[np.ndarray, ...]:
        made = tuple(np.empty(part.shape, part.dtype) for part in self.parts(*matrix.shape))
        top = 0
        for block in map(finite, blocks_of(matrix)):
            for whole, part in zip(made, self._encoded(block), strict=True):
                whole[top : top + len(block)] = part
            top += len(block)
        return made

    def _encoded(self, block: np.ndarray) -> tuple[np.ndarray, ...]:
        groups = block.reshape(len(block), -1, self.group_size)
        low, high = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
        with np.errstate(over="ignore"):
            scale = ((high - low) / 15).astype(np.float16)
        if not np.isfinite(scale).all():
            raise ArgumentError("A weight is too large for the scales of int4.", expected="ranges below 900,000",
                                remedy="pack it as int8")  # fmt: skip
        scale[scale == 0] = 1
        wide = scale.astype(np.float32)
        zero = np.clip(np.rint(-low / wide), 0, 15)
        codes = np.clip(np.rint(groups / wide[..., None]) + zero[..., None], 0, 15).astype(np.uint8)
        half = self.group_size // 2
        packed = codes[..., :half] | codes[..., half:] << 4
        return packed.reshape(len(block), -1), scale, zero.astype(np.uint8)

    def blocks_of_codes(self, ops: Any, parts: Sequence[Any], columns: int) -> BlocksOfCodes:
        packed, scale, zero = parts
        packed, wide = ops.reshape(packed, (-1, scale.shape[1], self.group_size // 2)), ops.cast(scale, "float32")
        return BlocksOfCodes(
            (ops.bits(packed, 0, 15), ops.bits(packed, 4, 15)), wide, -wide * ops.cast(zero, "float32")
        )

    def decode(self, ops: Any, parts: Sequence[Any], columns: int) -> Any:
        packed, scale, zero = parts
        groups = columns // self.group_size
        packed = ops.reshape(packed, (-1, groups, self.group_size // 2))
        codes = ops.cast(ops.concat([ops.bits(packed, 0, 15), ops.bits(packed, 4, 15)], -1), "float32")
        wide = (codes - ops.cast(zero, "float32")[..., None]) * ops.cast(scale, "float32")[..., None]
        return ops.reshape(wide, (-1, columns))
