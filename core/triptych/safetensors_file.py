"""The safetensors format: a checked, lazy reader and a streaming writer.

Format: 8 bytes little-endian header length, a JSON object, then the tensors one after the other without holes
(safetensors README, "Format"). The checks are ours because the released library accepts duplicate names, writes
non-contiguous arrays wrongly, and knows no bfloat16 or float8 in numpy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from triptych import dtypes, strictjson
from triptych.errors import (
    ArgumentError,
    CorruptCheckpointError,
    LimitError,
    SaveError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
)
from triptych.regular import MappedBytes, OwnedBytes, hold, open_regular

MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 1_000_000
MAX_RANK = 32
MAX_NAME = 4096
AHEAD_BYTES = 2**28
"""Two tensors that are larger together are not in memory at the same time while they are written."""
ALIGNMENT = 64
"""Tensors start at a multiple of this where their sizes allow: TensorFlow and JAX then use a mapped file as it is."""


@dataclass(frozen=True)
class TensorRef:
    """A tensor that has not been read yet: name, numpy dtype, shape, and how to read it.

    `read()` returns a C-contiguous array of that dtype and shape. It may be a copy-on-write view of a mapped file:
    writing to it is allowed and never reaches the file.

    `span` is (file, first byte, end) where such views of two tensors may be of the same memory.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    span: tuple[object, int, int] | None = None

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @classmethod
    def of(cls, name: str, array: np.ndarray) -> TensorRef:
        """Return a reference to an array in memory."""
        return cls(name, array.dtype, tuple(array.shape), lambda: array)


@dataclass(frozen=True)
class SafetensorsFile:
    """The header of one file: references by name, and the metadata strings."""

    path: Path
    tensors: dict[str, TensorRef]
    metadata: dict[str, str]


def open_safetensors(path: Path, mmap: bool = True) -> SafetensorsFile:
    """Read and check the header of `path`; no tensor is read.

    Args:
        mmap: map the file copy-on-write (a tensor is then a view, and truncating the file afterwards kills the
            process); False reads each tensor into owned memory when asked for.

    Raises:
        MissingFileError, TruncatedCheckpointError, CorruptCheckpointError, LimitError, UnsupportedFormatError.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        source = hold(file, path, mmap)
        header, start = _read_header(file, size, path)
    metadata = _metadata(header.pop("__metadata__", {}), path)
    if len(header) > MAX_TENSORS:
        raise LimitError(f"{path} declares too many tensors.", expected=f"<= {MAX_TENSORS}", received=str(len(header)))
    entries = [(name, *_entry(name, value, path)) for name, value in header.items()]
    _check_cover(entries, size - start, path)
    tensors = {
        name: TensorRef(name, dtype, shape, RangeReader(source, start + begin, dtype, shape))
        for name, dtype, shape, begin, _ in entries
    }
    return SafetensorsFile(path, tensors, metadata)


def _read_header(file: BinaryIO, size: int, path: Path) -> tuple[dict[str, Any], int]:
    head = file.read(8)
    if len(head) < 8:
        raise TruncatedCheckpointError(
            f"{path} is too short.", expected="at least 8 bytes", received=f"{size} bytes", remedy="get the file again"
        )
    length = int.from_bytes(head, "little")
    if length > MAX_HEADER_BYTES:
        remedy = strictjson.hint(head + file.read(200)) or "get the file again"
        raise CorruptCheckpointError(
            f"{path} is no safetensors file.",
            expected=f"a header of at most {MAX_HEADER_BYTES} bytes",
            received=f"a length of {length}",
            remedy=remedy,
        )
    if 8 + length > size:
        raise TruncatedCheckpointError(
            f"{path} ends inside its header.",
            expected=f"at least {8 + length} bytes",
            received=f"{size} bytes",
            remedy="get the file again",
        )
    return strictjson.parse(file.read(length), f"The header of {path}", CorruptCheckpointError), 8 + length


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise CorruptCheckpointError(f"{path} has bad metadata.", expected="strings by name", received=repr(value)[:80])
    return value


def _entry(name: str, value: Any, path: Path) -> tuple[np.dtype, tuple[int, ...], int, int]:
    def bad(expected: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"Tensor {name[:80]!r} of {path} is badly declared.", expected=expected, received=repr(value)[:120]
        )

    if len(name) > MAX_NAME:
        raise LimitError(f"{path} has a tensor name of {len(name)} characters.", expected=f"at most {MAX_NAME}")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise bad("dtype, shape and data_offsets")
    shape, offsets = value["shape"], value["data_offsets"]
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise bad("a shape and two offsets of non-negative integers")
    if len(shape) > MAX_RANK or any(length > 2**48 for length in shape):
        raise LimitError(f"Tensor {name!r} of {path} is too large.", received=f"shape {shape}"[:120])
    dtype = dtypes.SAFETENSORS.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise UnsupportedFormatError(
            f"Tensor {name!r} of {path} has an unknown dtype.",
            expected=", ".join(dtypes.SAFETENSORS),
            received=repr(value["dtype"]),
        )
    count = dtype.itemsize
    for length in shape:
        count *= length
    if offsets[1] - offsets[0] != count:
        raise bad(f"a range of {count} bytes")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_cover(entries: list[tuple[str, np.dtype, tuple[int, ...], int, int]], available: int, path: Path) -> None:
    """Check that the tensors cover the data without hole or overlap, up to the last byte."""
    position = 0
    for name, _, _, begin, end in sorted(entries, key=lambda entry: (entry[3], entry[4])):
        if begin != position:
            raise CorruptCheckpointError(
                f"Tensor {name!r} of {path} leaves a hole or overlaps.",
                expected=f"a start at byte {position}",
                received=f"byte {begin}",
            )
        position = end
    if position > available:
        raise TruncatedCheckpointError(
            f"{path} ends before its tensors do.",
            expected=f"{position} bytes of data",
            received=f"{available} bytes",
            remedy="get the file again",
        )
    if position < available:
        raise CorruptCheckpointError(
            f"{path} has bytes after its last tensor.",
            expected=f"{position} bytes of data",
            received=f"{available} bytes",
        )


@dataclass(frozen=True)
class RangeReader:
    """Reads `shape` elements of `dtype` that lie one after the other from byte `start` of `source`."""

    source: MappedBytes | OwnedBytes
    start: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def __call__(self) -> np.ndarray:
        count = self.dtype.itemsize * int(np.prod(self.shape, dtype=object))
        data = self.source.bytes_at(self.start, count)
        if data.ctypes.data % self.dtype.itemsize:
            data = data.copy()  # frameworks require arrays aligned to their item size; old files may not be
        return data.view(self.dtype).reshape(self.shape)


def write_safetensors(file: BinaryIO, tensors: Iterable[TensorRef], metadata: Mapping[str, str]) -> None:
    """Write `tensors` to an open file, reading one at a time.

    The order in the file is by falling item size and then name, which keeps every tensor aligned.

    Raises:
        SaveError: a tensor is called `__metadata__`, or reads as something else than it announced.
        UnsupportedFormatError: a dtype that the format does not know.
    """
    ordered = sorted(tensors, key=lambda ref: (-ref.dtype.itemsize, ref.name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for ref in ordered:
        if ref.name in header:
            raise SaveError(f"Two tensors are called {ref.name!r}, or the name is reserved.", remedy="rename one")
        end = position + ref.nbytes
        name = dtypes.safetensors_name(ref.dtype, ref.name)
        header[ref.name] = {"dtype": name, "shape": list(ref.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for data in bytes_ahead(ordered):
        write_through(file, data)
        del data  # the next may be as large


def bytes_ahead(refs: Iterable[TensorRef]) -> Iterator[memoryview]:
    """Yield `raw_bytes` of each in order; the next tensor is read on a thread while the caller writes this one.

    So two tensors are in memory at a time, or one where both are large; the caller must not hold on to it.
    """
    with ThreadPoolExecutor(1) as reader:
        pending: Future[memoryview] | None = None
        size = 0
        for ref in refs:
            if pending is not None and size + ref.nbytes > AHEAD_BYTES:
                yield pending.result()
                pending = None
            following = reader.submit(raw_bytes, ref)
            if pending is not None:
                yield pending.result()
            pending, size = following, ref.nbytes
        if pending is not None:
            yield pending.result()


def write_through(file: BinaryIO, data: memoryview, piece: int = 2**24) -> None:
    """Write `data`, and have the system begin to put it on the disk, so that the flush at the end waits for less."""
    for start in range(0, len(data), piece):
        file.write(data[start : start + piece])
        if len(data) >= piece and hasattr(os, "posix_fadvise"):
            file.flush()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def raw_bytes(ref: TensorRef) -> memoryview:
    """Read `ref` and return its bytes, C order and native byte order; `SaveError` if the shape is not as announced."""
    # asarray first: a byte-swapped or strided array would otherwise be written as it lies in memory.
    array = np.ascontiguousarray(np.asarray(ref.read(), dtype=ref.dtype.newbyteorder("=")))
    if tuple(array.shape) != ref.shape:
        if array.size != 1 or ref.shape != ():
            raise SaveError(f"Tensor {ref.name!r} changed.", expected=f"{ref.shape}", received=f"{array.shape}")
    return array.reshape(-1).view(np.uint8).data


def parse_size(value: int | str) -> int:
    """Return a number of bytes from `value`: an int, or text such as "5GB" (10^9), "1.5GiB" (2^30), "200MB".

    Raises:
        ArgumentError: no size, or not positive.
    """
    units = {"GIB": 2**30, "MIB": 2**20, "KIB": 2**10, "GB": 10**9, "MB": 10**6, "KB": 10**3}
    try:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        text = str(value).strip()
        unit = next(u for u in units if text.upper().endswith(u))
        size = int(float(text[: -len(unit)]) * units[unit])
        if size > 0 and not text.endswith("b"):
            return size
    except (StopIteration, ValueError, OverflowError):
        pass
    raise ArgumentError(
        "max_shard_size is no size.", expected='bytes or text such as "5GB" or "200MiB"', received=repr(value)
    )
