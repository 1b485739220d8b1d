"""What layers compute with a packed matrix: it is decoded where it is used, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.errors import ArgumentError
from triptych.weights.codecs.base import Codec

AT_ONCE = 2**18
"""How many elements are decoded at a time: few enough that they stay in the processor's cache."""
AT_ONCE_COMPILED = 2**22
"""The same where the computation is recorded, and each block makes the program longer."""


@dataclass(frozen=True)
class Matrix:
    """A packed matrix [rows, columns]; its parts are passed to each function."""

    codec: Codec
    rows: int
    columns: int


def project(ops: Any, matrix: Matrix, parts: Sequence[Any], x: Any) -> Any:
    """Return the products of `x` [..., columns] and each row of the matrix, [..., rows], in the dtype of `x`."""
    codec = matrix.codec
    made = []
    for start, stop in _blocks(ops, matrix):
        some = list(parts) if (start, stop) == (0, matrix.rows) else codec.rows_of(parts, start, stop)
        scaled = codec.row_scale(ops, some)
        if scaled is None:
            made.append(ops.project(x, ops.cast(codec.decode(ops, some, matrix.columns), x.dtype)))
        else:  # fewer products than elements are multiplied by the scales
            codes, scale = scaled
            wide = ops.cast(ops.project(x, ops.cast(codes, x.dtype)), "float32") * scale
            made.append(ops.cast(wide, x.dtype))
    return made[0] if len(made) == 1 else ops.concat(made, -1)


def _blocks(ops: Any, matrix: Matrix) -> Iterator[tuple[int, int]]:
    step = matrix.codec.row_step or matrix.rows
    height = max(step, (AT_ONCE_COMPILED if ops.compiles() else AT_ONCE) // matrix.columns // step * step)
    return ((top, min(matrix.rows, top + height)) for top in range(0, matrix.rows, height))


def vectors(ops: Any, matrix: Matrix, parts: Sequence[Any], ids: Any, dtype: Any) -> Any:
    """Return the rows `ids` [...] of the matrix, [..., columns], as `dtype`.

    Raises:
        ArgumentError: its scales belong to more than a row.
    """
    if matrix.codec.row_step != 1:
        raise ArgumentError("This codec packs no tables.", expected="scales within a row", received=matrix.codec.name)
    rows = [ops.gather(part, ops.reshape(ids, (-1,))) for part in parts]
    wide = ops.cast(matrix.codec.decode(ops, rows, matrix.columns), dtype)
    return ops.reshape(wide, (*ops.shape(ids), matrix.columns))


def whole(ops: Any, matrix: Matrix, parts: Sequence[Any], dtype: Any) -> Any:
    """Return the matrix [rows, columns] as `dtype`."""
    return ops.cast(matrix.codec.decode(ops, list(parts), matrix.columns), dtype)
