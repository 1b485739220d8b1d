"""Type and shape of an HDF5 dataset, and where its elements lie in the file; checked before anything of them is read.

Source: HDF5 File Format Specification 3.0, section IV.A.2: dataspace, datatype, data layout and filter pipeline
messages, in the versions of the first form of HDF5.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from triptych.errors import CorruptCheckpointError, LimitError, TruncatedCheckpointError, UnsupportedFormatError
from triptych.formats.hdf5.structures import MAX_ENTRIES, UNDEFINED, Chunk, Message, Structures
from triptych.tensors.limits import MAX_ELEMENTS, MAX_RANK

DATASPACE, DATATYPE, EXTERNAL, LAYOUT, FILTERS = 0x01, 0x03, 0x07, 0x08, 0x0B
"""Types of messages."""
DEFLATE, SHUFFLE = 1, 2
"""The two filters that are read."""
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_COMPACT, _CONTIGUOUS, _CHUNKED, _VIRTUAL = range(4)
_MAX_EXPANSION, _FREE_EXPANSION = 1024, 2**20
_FLOATS = {
    np.dtype(np.float16): (15, 16, 10, 5, 10, 15),
    BFLOAT16: (15, 16, 7, 8, 7, 127),
    np.dtype(np.float32): (31, 32, 23, 8, 23, 127),
    np.dtype(np.float64): (63, 64, 52, 11, 52, 1023),
}
"""Place of the sign, bits, place and bits of the exponent, bits of the mantissa, bias."""


def _descriptions() -> dict[bytes, np.dtype]:
    """Return the numpy dtype by what a datatype message says after its version and class."""
    found = {}
    for order, code in enumerate("<>"):
        for size in (1, 2, 4, 8):
            for sign, kind in ((0, "u"), (8, "i")):
                head = struct.pack("<BBBBI", 0, order | sign, 0, 0, size)
                found[head + struct.pack("<HH", 0, 8 * size)] = np.dtype(f"{code}{kind}{size}")
        for dtype, (sign, bits, place, exponent, mantissa, bias) in _FLOATS.items():
            if dtype == BFLOAT16 and order:
                continue  # its numpy dtype has no byte order
            head = struct.pack("<BBBBI", 1, order | 0x20, sign, 0, dtype.itemsize)
            body = struct.pack("<HHBBBBI", 0, bits, place, exponent, 0, mantissa, bias)
            found[head + body] = dtype if dtype == BFLOAT16 else dtype.newbyteorder(code)
    return found


_DTYPES = _descriptions()


@dataclass(frozen=True)
class Stored:
    """Where the elements of a dataset are: `data` is a byte offset, the bytes (a few kB, in the header), or chunks.

    `dtype` is that of the file, in the file's byte order. `filters` are the codes in the order of writing.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    data: int | bytes | tuple[Chunk, ...]
    chunk_shape: tuple[int, ...] = ()
    filters: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_shape(body: bytes) -> tuple[int, ...] | None:
    """Return the lengths that a dataspace message tells; None if it is in a newer form or tells none."""
    version, rank = body[0], body[1]
    if version != 1:
        return None
    if rank > MAX_RANK:
        raise LimitError(f"An HDF5 dataset has {rank} axes.", expected=f"at most {MAX_RANK}")
    return struct.unpack_from(f"<{rank}Q", body, 8)


class Storage:
    """Describes the datasets of one file; remembers their ranges to find those that overlap."""

    def __init__(self, structures: Structures) -> None:
        self.structures = structures
        self.path, self.size = structures.path, structures.size
        self._ranges: list[tuple[int, int, str]] = []

    def describe(self, messages: list[Message], name: str) -> Stored:
        """Return where the elements of the dataset with these header messages are."""
        found = {message.kind: message.body for message in messages}
        layout = found[LAYOUT]
        version, kind = layout[0], layout[1]
        if EXTERNAL in found or (version > 3 and kind == _VIRTUAL):
            raise self.structures.unsafe(name, "data in other files")
        if version != 3:
            raise self.structures.newer(f"data layout {version}")
        if DATASPACE not in found or DATATYPE not in found:
            raise CorruptCheckpointError(f"Dataset {name!r} of {self.path} lacks its shape or type.")
        stored = Stored(self._dtype(found[DATATYPE], name), self._shape(found[DATASPACE], name), b"")
        if kind == _CHUNKED:
            return self._chunked(layout, found.get(FILTERS), name, stored)
        if kind == _CONTIGUOUS:
            start, count = struct.unpack_from("<QQ", layout, 2)
        else:
            (count,) = struct.unpack_from("<H", layout, 2)
        if count != stored.nbytes or (kind == _CONTIGUOUS and count and start == UNDEFINED):
            raise CorruptCheckpointError(
                f"Dataset {name!r} of {self.path} is not stored whole.",
                expected=f"{stored.nbytes} bytes",
                received=f"{count} bytes" if count != stored.nbytes else "none",
            )
        if kind == _CONTIGUOUS and count:
            return Stored(stored.dtype, stored.shape, self._inside(start, count, name))
        data = layout[4 : 4 + count]
        if len(data) != count or kind not in (_COMPACT, _CONTIGUOUS):
            raise CorruptCheckpointError(f"Dataset {name!r} of {self.path} has a bad layout.", received=f"class {kind}")
        return Stored(stored.dtype, stored.shape, data)

    def check_overlap(self) -> None:
        """Raise `CorruptCheckpointError` if a dataset shares bytes with another one or with a structure."""
        data_end = any_end = 0
        for start, end, name in sorted(self.structures.ranges + self._ranges):
            if start < (any_end if name else data_end):
                raise self.structures.bad("place of data", f"bytes {start} to {end} are used twice, for {name!r}")
            any_end = max(any_end, end)
            data_end = max(data_end, end if name else 0)

    def _inside(self, start: int, count: int, name: str) -> int:
        if start + count > self.size:
            raise TruncatedCheckpointError(
                f"Dataset {name!r} of {self.path} lies outside the file.", expected=f"{count} bytes in the file"
            )
        self._ranges.append((start, start + count, name))
        return start

    def _dtype(self, body: bytes, name: str) -> np.dtype:
        kind, version = body[0] & 15, body[0] >> 4
        dtype = _DTYPES.get(bytes([kind]) + body[1 : 12 if kind == 0 else 20]) if version == 1 else None
        if dtype is None:
            raise UnsupportedFormatError(
                f"Dataset {name!r} of {self.path} has an unknown dtype.",
                expected="integers and IEEE floats of a usual size",
                received=f"HDF5 datatype class {kind}, version {version}",
            )
        return dtype

    def _shape(self, body: bytes, name: str) -> tuple[int, ...]:
        shape = read_shape(body)
        if shape is None:
            raise UnsupportedFormatError(f"Dataset {name!r} of {self.path} has no shape, or one in a newer form.")
        if math.prod(max(length, 1) for length in shape) > MAX_ELEMENTS:  # numpy multiplies them for empty arrays too
            raise LimitError(f"Dataset {name!r} of {self.path} is too large.", received=f"shape {shape}"[:120])
        return shape

    def _chunked(self, layout: bytes, pipeline: bytes | None, name: str, stored: Stored) -> Stored:
        rank = len(stored.shape)
        dimensions, tree, *lengths = struct.unpack_from(f"<BQ{rank + 1}I", layout, 2)
        if dimensions != rank + 1 or lengths[-1] != stored.dtype.itemsize or 0 in lengths:
            raise CorruptCheckpointError(
                f"Dataset {name!r} of {self.path} has bad chunks.", received=str(lengths)[:120]
            )
        filters, chunk_shape = self._filters(pipeline, name), tuple(lengths[:-1])
        if not stored.nbytes:
            return stored
        count = math.prod(-(-length // step) for length, step in zip(stored.shape, chunk_shape, strict=True))
        if count > MAX_ENTRIES:
            raise LimitError(f"Dataset {name!r} of {self.path} has too many chunks.", received=str(count))
        chunks = self.structures.chunks(tree, rank)
        grid = {c.first for c in chunks if all(at % step == 0 for at, step in zip(c.first, chunk_shape, strict=True))}
        inside = all(at < length for first in grid for at, length in zip(first, stored.shape, strict=True))
        if not len(chunks) == len(grid) == count or not inside:
            raise CorruptCheckpointError(f"Dataset {name!r} of {self.path} lacks chunks.", expected=f"{count} chunks")
        for chunk in chunks:
            self._inside(chunk.start, chunk.count, name)
        self._check_expansion(count * math.prod(lengths), sum(chunk.count for chunk in chunks), name)
        return Stored(stored.dtype, stored.shape, tuple(chunks), chunk_shape, filters)

    def _check_expansion(self, size: int, stored: int, name: str) -> None:
        if size > _MAX_EXPANSION * stored + _FREE_EXPANSION:
            raise LimitError(
                f"Dataset {name!r} of {self.path} declares far more than it stores.",
                expected=f"at most {_MAX_EXPANSION} times its {stored} bytes",
                received=f"{size} bytes",
            )

    def _filters(self, body: bytes | None, name: str) -> tuple[int, ...]:
        if body is None:
            return ()
        version, count, position, codes = body[0], body[1], 8, []
        if version != 1:
            raise self.structures.newer(f"filter pipeline {version}")
        for _ in range(count):
            code, length, _, values = struct.unpack_from("<HHHH", body, position)
            codes.append(code)
            position += 8 + -(-length // 8) * 8 + 4 * (values + values % 2)
        if not set(codes) <= {DEFLATE, SHUFFLE} or len(codes) > 2:
            raise UnsupportedFormatError(
                f"Dataset {name!r} of {self.path} is stored with an unknown filter.",
                expected="gzip and shuffle, or none",
                received=f"filters {codes[:8]}",
                remedy="rewrite the file without them, for example with h5repack -f NONE",
            )
        return tuple(codes)
