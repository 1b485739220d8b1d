"""Where the elements of an HDF5 dataset lie in the file, checked before anything of them is read.

External storage and virtual datasets are refused: both read other files. The elements are not read through libhdf5:
it would inflate, convert and allocate whatever the file declares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5s, h5t

from triptych import dtypes
from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedFormatError,
)
from triptych.safetensors_file import MAX_RANK

DEFLATE, SHUFFLE = 1, 2
"""Codes of the two filters that are read (HDF5 File Format Specification, filter pipeline message)."""
MAX_CHUNKS = 100_000
_MAX_EXPANSION, _FREE_EXPANSION = 1024, 2**20


@dataclass(frozen=True)
class Chunk:
    """One chunk: index of its first element, byte range, and a bit for each filter that was skipped."""

    first: tuple[int, ...]
    start: int
    count: int
    skipped: int


@dataclass(frozen=True)
class Stored:
    """Where the elements of a dataset are: `data` is a byte offset, an array (of a few kB, in the header), or chunks.

    `dtype` is that of the file, in the file's byte order. `filters` are the codes in the order of writing.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    data: int | np.ndarray | tuple[Chunk, ...]
    chunk_shape: tuple[int, ...] = ()
    filters: tuple[int, ...] = ()


class Storage:
    """Describes the datasets of one file of `size` bytes; remembers their ranges to find those that overlap."""

    def __init__(self, size: int, path: Path) -> None:
        self.path, self.size = path, size
        self._stored = 0
        self._ranges: list[tuple[int, int, str]] = []

    def describe(self, dataset: h5d.DatasetID, name: str) -> Stored:
        """Return where the elements of `dataset` are; only those in its header are read."""
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        if layout == h5d.VIRTUAL or plist.get_external_count():
            raise unsafe(self.path, name, "data in other files")
        dtype, shape = self._type(dataset.get_type(), name), self._shape(dataset.get_space(), name)
        count, stored = math.prod(shape) * dtype.itemsize, dataset.get_storage_size()
        self._stored += stored
        if self._stored > self.size:
            raise CorruptCheckpointError(f"{self.path} has less data than its datasets.", received=repr(name)[:120])
        if not count:
            return Stored(dtype, shape, np.empty(shape, dtype))
        if layout == h5d.CHUNKED:
            return self._chunked(dataset, plist, name, Stored(dtype, shape, ()))
        if stored != count:
            raise CorruptCheckpointError(
                f"Dataset {name!r} of {self.path} is not stored whole.",
                expected=f"{count} bytes",
                received=f"{stored} bytes",
            )
        if layout == h5d.CONTIGUOUS:
            return Stored(dtype, shape, self._inside(dataset.get_offset(), count, name))
        array = np.empty(shape, dtype)
        dataset.read(h5s.ALL, h5s.ALL, array)
        return Stored(dtype, shape, array)

    def check_overlap(self) -> None:
        """Raise `CorruptCheckpointError` if two of the datasets described so far share a byte."""
        for (_, end, first), (start, _, second) in pairwise(sorted(self._ranges)):
            if start < end:
                raise CorruptCheckpointError(
                    f"{self.path} has datasets that overlap.", received=f"{first[:120]!r} and {second[:120]!r}"
                )

    def _inside(self, start: int | None, count: int, name: str) -> int:
        if start is None or start + count > self.size:
            raise TruncatedCheckpointError(
                f"Dataset {name!r} of {self.path} lies outside the file.", expected=f"{count} bytes in the file"
            )
        self._ranges.append((start, start + count, name))
        return start

    def _chunked(self, dataset: h5d.DatasetID, plist: h5py.h5p.PropDCID, name: str, stored: Stored) -> Stored:
        filters = tuple(plist.get_filter(number)[0] for number in range(plist.get_nfilters()))
        if not set(filters) <= {DEFLATE, SHUFFLE} or len(filters) > 2:
            raise UnsupportedFormatError(
                f"Dataset {name!r} of {self.path} is stored with an unknown filter.",
                expected="gzip and shuffle, or none",
                received=f"filters {filters}",
                remedy="rewrite the file without them, for example with h5repack -f NONE",
            )
        chunk_shape = plist.get_chunk()
        count = math.prod(-(-length // step) for length, step in zip(stored.shape, chunk_shape, strict=True))
        self._check_expansion(count * math.prod(chunk_shape) * stored.dtype.itemsize, count, dataset, name)
        chunks: list[Chunk] = []
        if dataset.get_num_chunks() == count:
            dataset.chunk_iter(lambda c: chunks.append(Chunk(c.chunk_offset, c.byte_offset, c.size, c.filter_mask)))
        grid = {c.first for c in chunks if all(at % step == 0 for at, step in zip(c.first, chunk_shape, strict=True))}
        if len(grid) != count or any(at >= n for first in grid for at, n in zip(first, stored.shape, strict=True)):
            raise CorruptCheckpointError(f"Dataset {name!r} of {self.path} lacks chunks.", expected=f"{count} chunks")
        for chunk in chunks:
            self._inside(chunk.start, chunk.count, name)
        return Stored(stored.dtype, stored.shape, tuple(chunks), chunk_shape, filters)

    def _check_expansion(self, size: int, count: int, dataset: h5d.DatasetID, name: str) -> None:
        stored = dataset.get_storage_size()
        if size > _MAX_EXPANSION * stored + _FREE_EXPANSION or count > MAX_CHUNKS:
            raise LimitError(
                f"Dataset {name!r} of {self.path} declares far more than it stores.",
                expected=f"at most {_MAX_EXPANSION} times its {stored} bytes, in {MAX_CHUNKS} chunks",
                received=f"{size} bytes in {count} chunks",
            )

    def _type(self, kind: h5t.TypeID, name: str) -> np.dtype:
        number = kind.get_class() in (h5t.INTEGER, h5t.FLOAT)
        dtype = kind.dtype if number else None
        if dtype is None or dtype.newbyteorder("=") not in dtypes.NAMES or not kind.equal(h5t.py_create(dtype)):
            raise UnsupportedFormatError(
                f"Dataset {name!r} of {self.path} has an unknown dtype.",
                expected="integers and IEEE floats of a usual size",
                received=f"class {kind.get_class()} of {kind.get_size()} bytes",
            )
        return dtype

    def _shape(self, space: h5s.SpaceID, name: str) -> tuple[int, ...]:
        if space.get_simple_extent_type() not in (h5s.SIMPLE, h5s.SCALAR):
            raise UnsupportedFormatError(f"Dataset {name!r} of {self.path} has no shape.")
        shape = tuple(int(length) for length in space.get_simple_extent_dims())
        if len(shape) > MAX_RANK or any(length > 2**48 for length in shape):
            raise LimitError(f"Dataset {name!r} of {self.path} is too large.", received=f"shape {shape}"[:120])
        return shape


def unsafe(file: Path, name: str, what: str) -> UnsafeCheckpointError:
    """Return the error for something in a file that would make a reader open other data."""
    return UnsafeCheckpointError(
        f"{file} leads to other data at {name[:120]!r}.",
        expected="arrays in the file itself",
        received=what,
        remedy="do not use this checkpoint",
    )
