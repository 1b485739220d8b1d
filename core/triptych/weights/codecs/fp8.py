"""float8_e4m3fn with scales: of a whole matrix, of each row, or of blocks of rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from triptych.errors import ArgumentError
from triptych.weights.codecs.base import Codec, Part, finite

_F8, _F32 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(np.float32)
LARGEST = 448.0
"""The largest number of float8_e4m3fn."""


@dataclass(frozen=True, repr=False)
class Fp8Blocks(Codec):
    """weight = code * scale of its block: codes [rows, columns], scales float32 [blocks of rows, blocks of columns].

    The last blocks may be smaller. This is how repositories with `quant_method: fp8` and `weight_block_size` have it.
    """

    rows: int = 128
    columns: int = 128

    def __post_init__(self) -> None:
        if not all(type(n) is int and n > 0 for n in (self.rows, self.columns)):
            raise ArgumentError("weight_block_size is impossible.", expected="two positive numbers, such as [128, 128]",
                                received=f"{[self.rows, self.columns]}"[:80])  # fmt: skip

    @property
    def name(self) -> str:
        return "fp8"

    @property
    def row_step(self) -> int:  # type: ignore[override]
        return self.rows

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        blocks = (-(-rows // self.rows), -(-columns // self.columns))
        return Part("", _F8, (rows, columns)), Part("_scale_inv", _F32, blocks)

    def encode(self, matrix: np.ndarray) -> tuple[np.ndarray, ...]:
        codes, scales = (np.empty(part.shape, part.dtype) for part in self.parts(*matrix.shape))
        for i, j in np.ndindex(*scales.shape):
            place = np.s_[i * self.rows : (i + 1) * self.rows, j * self.columns : (j + 1) * self.columns]
            block = finite(matrix[place])
            scales[i, j] = np.abs(block).max() / LARGEST or 1
            codes[place] = (block / scales[i, j]).astype(_F8)
        return codes, scales

    def rows_of(self, parts: Sequence[Any], start: int, stop: int) -> list[Any]:
        codes, scales = parts
        return [codes[start:stop], scales[start // self.rows : -(-stop // self.rows)]]

    def decode(self, ops: Any, parts: Sequence[Any], columns: int) -> Any:
        codes, scales = parts
        rows = codes.shape[0]
        tall = ops.repeat(scales, self.rows)[:rows]
        wide = ops.transpose(ops.repeat(ops.transpose(tall, (1, 0)), self.columns)[:columns], (1, 0))
        return ops.cast(codes, "float32") * wide


@dataclass(frozen=True, repr=False)
class Fp8(Codec):
    """weight = code * scale: one float32 for the matrix, or if `by_row` one for each row, [rows, 1].

    `suffix` is what files call the scale: `_scale`, [1], in compressed-tensors; `_scale_inv`, [], where the method is
    fp8.
    """

    by_row: bool = False
    suffix: str = "_scale"

    @property
    def name(self) -> str:
        return "fp8"

    @property
    def row_step(self) -> int:  # type: ignore[override]
        return 1 if self.by_row else 0

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        shape = (rows, 1) if self.by_row else (1,) if self.suffix == "_scale" else ()
        return Part("", _F8, (rows, columns)), Part(self.suffix, _F32, shape)

    def encode(self, matrix: np.ndarray) -> tuple[np.ndarray, ...]:
        wide = finite(matrix)
        largest = np.abs(wide).max(axis=1 if self.by_row else None)
        scale = np.where(largest == 0, 1, largest / LARGEST).astype(np.float32)
        scale = scale.reshape(self.parts(*matrix.shape)[1].shape)
        return (wide / scale).astype(_F8), scale

    def rows_of(self, parts: Sequence[Any], start: int, stop: int) -> list[Any]:
        codes, scale = parts
        return [codes[start:stop], scale[start:stop] if self.by_row else scale]

    def decode(self, ops: Any, parts: Sequence[Any], columns: int) -> Any:
        codes, scale = parts
        return ops.cast(codes, "float32") * scale
