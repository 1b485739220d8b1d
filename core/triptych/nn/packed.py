"""What layers compute with a packed matrix: it is decoded where it is used, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from triptych.errors import ArgumentError
from triptych.weights.codecs.base import Codec

AT_ONCE = 2**18
"""How many elements are decoded at a time: few enough that they stay in the processor's cache."""
FEW, AT_ONCE_BY_BLOCKS = 4, 2**20
"""How many rows may be multiplied at most for a product block by block to pay, and how many elements at a time."""
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
    compiles = ops.compiles()
    few = not compiles and matrix.codec.has_blocks_of_codes and prod(ops.shape(x)[:-1]) <= FEW
    at_once = AT_ONCE_COMPILED if compiles else AT_ONCE_BY_BLOCKS if few else AT_ONCE
    made = []
    for start, stop in _blocks(matrix, at_once):
        some = list(parts) if (start, stop) == (0, matrix.rows) else matrix.codec.rows_of(parts, start, stop)
        made.append((_by_blocks if few else _decoded)(ops, matrix, some, x))
    return made[0] if len(made) == 1 else ops.concat(made, -1)


def _decoded(ops: Any, matrix: Matrix, parts: Sequence[Any], x: Any) -> Any:
    """Return the products with `x` of rows that are decoded."""
    scaled = matrix.codec.row_scale(ops, parts)
    if scaled is None:
        return ops.project(x, ops.cast(matrix.codec.decode(ops, parts, matrix.columns), x.dtype))
    codes, scale = scaled  # fewer products than elements are multiplied by the scales
    return ops.cast(ops.cast(ops.project(x, ops.cast(codes, x.dtype)), "float32") * scale, x.dtype)


def _by_blocks(ops: Any, matrix: Matrix, parts: Sequence[Any], x: Any) -> Any:
    """Return the products with `x`, summed up block by block: then the scales are multiplied by fewer numbers.

    That pays where `x` is of few rows, since no element is decoded.
    """
    blocks = matrix.codec.blocks_of_codes(ops, parts, matrix.columns)
    count = blocks.scale.shape[1]
    rows = ops.transpose(ops.reshape(ops.cast(x, "float32"), (-1, count, x.shape[-1] // count)), (1, 2, 0))
    total, start = 0, 0
    for codes in blocks.codes:
        stop = start + codes.shape[-1]
        total += ops.matmul(ops.transpose(ops.cast(codes, "float32"), (1, 0, 2)), rows[:, start:stop])
        start = stop
    total = ops.transpose(total, (2, 1, 0)) * blocks.scale  # [rows of x, rows, blocks]
    made = ops.sum_last(total)[..., 0]
    if blocks.offset is not None:
        sums = ops.sum_last(ops.transpose(rows, (2, 0, 1)))[..., 0]
        made = made + ops.project(sums, blocks.offset)
    return ops.cast(ops.reshape(made, (*ops.shape(x)[:-1], -1)), x.dtype)


def _blocks(matrix: Matrix, at_once: int) -> Iterator[tuple[int, int]]:
    step = matrix.codec.row_step or matrix.rows
    height = max(step, at_once // matrix.columns // step * step)
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
