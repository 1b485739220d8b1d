"""What a codec is: into which arrays it packs a matrix, and how they become floating numbers again.

A codec sees a matrix as [rows, columns], rows being outputs of a layer or tokens of a table, so that one row is decoded
without the others. `decode` is written over the namespace `ops` of a backend (see `triptych.nn.functional`), or of
`triptych.weights.codecs.on_numpy`, so that every framework computes the same numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from triptych.errors import ArgumentError

BLOCK = 2**22
"""How many elements of a matrix are encoded at a time."""


@dataclass(frozen=True)
class Part:
    """One array of a packed matrix. `suffix` comes after the name of the weight; the first part has none."""

    suffix: str
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


@dataclass(frozen=True)
class BlocksOfCodes:
    """A matrix in which element (row, block, place) is code * scale + offset, of the block.

    - `codes`: bytes [rows, blocks, places], one array for each section of the places of a block.
    - `scale`, `offset`: float32 [rows, blocks]; an offset of None is 0.
    """

    codes: tuple[Any, ...]
    scale: Any
    offset: Any = None


class Codec(ABC):
    """Packs matrices. Codecs are compared by what they do, and named by text, such as "int8"."""

    row_step: ClassVar[int] = 1
    """Rows that share a scale: matrices are decoded in multiples of them; 0 if all of them do."""
    has_blocks_of_codes: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """Return what a config calls the codec."""

    def fits(self, rows: int, columns: int) -> bool:
        """Return whether a matrix of this shape can be packed."""
        return rows > 0 and columns > 0

    @abstractmethod
    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        """Return the arrays that a matrix of this shape becomes, codes first."""

    def encode(self, matrix: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the parts of a floating `matrix` [rows, columns].

        Raises:
            ArgumentError: values that are not finite, or the codec only reads.
        """
        raise ArgumentError(
            f"The codec {self.name} only reads what others packed.",
            expected="int8, int4 or fp8",
            received=self.name,
        )

    @abstractmethod
    def decode(self, ops: Any, parts: Sequence[Any], columns: int) -> Any:
        """Return float32 [rows, columns] from parts, all of them or of some rows (`rows_of`)."""

    def rows_of(self, parts: Sequence[Any], start: int, stop: int) -> list[Any]:
        """Return the parts of the rows from `start` to `stop`, multiples of `row_step` or the last row."""
        return [part[start:stop] for part in parts]

    def row_scale(self, ops: Any, parts: Sequence[Any]) -> tuple[Any, Any] | None:
        """Return codes [rows, columns] and the scale of each row [rows] by which a product with them is multiplied;
        None where scales belong to less than a row."""
        return None

    def blocks_of_codes(self, ops: Any, parts: Sequence[Any], columns: int) -> BlocksOfCodes:
        """Return the codes before they are multiplied by the scales of their blocks, if the codec has such."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<codec {self.name}>"


def blocks_of(matrix: np.ndarray) -> list[np.ndarray]:
    """Return `matrix` in float32, a block of rows at a time."""
    height = max(1, BLOCK // max(1, matrix.shape[1]))
    return [matrix[top : top + height] for top in range(0, matrix.shape[0], height)]


def finite(matrix: np.ndarray) -> np.ndarray:
    """Return `matrix` as float32.

    Raises:
        ArgumentError: a value is not finite.
    """
    wide = matrix.astype(np.float32)
    if not np.isfinite(wide).all():
        raise ArgumentError("A weight has values that are not finite, which no scale can hold.", received="nan or inf")
    return wide
