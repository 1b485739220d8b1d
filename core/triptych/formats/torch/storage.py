"""Where the storages of a torch file lie, and how a tensor is read from its storage."""

from __future__ import annotations

import dataclasses
import io
import math
import sys
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from triptych.errors import CorruptCheckpointError, LimitError, TruncatedCheckpointError
from triptych.files.regular import MappedBytes, OwnedBytes
from triptych.formats.torch.values import TorchTensor
from triptych.formats.torch.zip_directory import Record, check_crc, inflate
from triptych.tensors.limits import MAX_ELEMENTS, MAX_NAME
from triptych.tensors.ref import TensorRef

_PIECE = 2**24


class Files:
    """One file, and how its bytes are read."""

    def __init__(self, path: Path, size: int, source: MappedBytes | OwnedBytes) -> None:
        self.path, self.size, self.mapped = path, size, isinstance(source, MappedBytes)
        self._source = source

    def bytes_at(self, start: int, count: int) -> np.ndarray:
        return self._source.bytes_at(start, count)

    def counted(self, file: BinaryIO, position: int, dtype: np.dtype) -> Extent:
        """Return the storage at `position`: 8 bytes with the number of elements, little-endian, and the elements."""
        file.seek(position)
        head = file.read(8)
        size = int.from_bytes(head, "little") * dtype.itemsize
        if len(head) != 8 or position + 8 + size > self.size:
            raise TruncatedCheckpointError(
                f"{self.path} ends inside a storage.",
                expected=f"{8 + size} bytes at byte {position}",
                received=f"{self.size - position} bytes",
                remedy="get the file again",
            )
        return Extent(self, position + 8, size)


class Stored:
    """A record that is not compressed. Its checksum is compared once, when something of it is first read."""

    def __init__(self, files: Files, record: Record) -> None:
        self.files, self.record, self.mapped = files, record, files.mapped
        self._lock, self._is_checked = threading.Lock(), not record.crc

    def bytes_at(self, start: int, count: int) -> np.ndarray:
        data = self.files.bytes_at(self.record.start + start, count)
        with self._lock:
            if not self._is_checked:
                crc = zlib.crc32(data.data) if count == self.record.size else self._crc()
                check_crc(self.record, crc, self.files.path)
                self._is_checked = True
        return data

    def _crc(self) -> int:
        crc, end = 0, self.record.start + self.record.size
        for start in range(self.record.start, end, _PIECE):
            crc = zlib.crc32(self.files.bytes_at(start, min(_PIECE, end - start)).data, crc)
        return crc


@dataclass(frozen=True)
class Deflated:
    """A compressed record. It is inflated whole, each time."""

    files: Files
    record: Record

    def bytes_at(self, start: int, count: int) -> np.ndarray:
        stored = io.BytesIO(self.files.bytes_at(self.record.start, self.record.stored).data)
        data = bytearray(inflate(stored, dataclasses.replace(self.record, start=0), self.files.path))
        return np.frombuffer(data, np.uint8)[start : start + count]


@dataclass(frozen=True)
class Extent:
    """A storage: `size` bytes from byte `start` of `source`."""

    source: Files | Stored | Deflated
    start: int
    size: int
    big_endian: bool = False

    @property
    def inflated(self) -> int:
        """The bytes that must be inflated to read a tensor."""
        return self.size if isinstance(self.source, Deflated) else 0


def locate(name: str, tensor: TorchTensor, extents: Mapping[str, Extent], path: Path) -> TensorRef:
    """Return a reference to `tensor` after checking that it lies inside its storage.

    Raises:
        CorruptCheckpointError: it does not, or the storage is not there or has another size. LimitError.
    """
    if len(name) > MAX_NAME:
        raise LimitError(f"{path} has a tensor name of {len(name)} characters.", expected=f"at most {MAX_NAME}")
    storage, item = tensor.storage, tensor.dtype.itemsize
    extent = extents.get(storage.key)
    if extent is None or extent.size != storage.count * storage.dtype.itemsize:
        found = "none" if extent is None else f"{extent.size} bytes"
        raise _outside(name, path, f"a storage of {storage.count * storage.dtype.itemsize} bytes", found)
    first, count = (0, storage.count) if storage.view is None else storage.view
    start, end = first * storage.dtype.itemsize, (first + count) * storage.dtype.itemsize
    if end > extent.size:
        raise _outside(name, path, f"a view inside {extent.size} bytes", f"bytes {start} to {end}")
    _check_shape(name, tensor, path)
    start += tensor.offset * item
    if 0 not in tensor.shape and start + _span(tensor) * item > end:
        raise _outside(name, path, f"an end at byte {end} or before", f"byte {start + _span(tensor) * item}")
    reader = _Reader(extent, start, tensor)
    return TensorRef(name, tensor.dtype, tensor.shape, reader, reader.span())


def _outside(name: str, path: Path, expected: str, received: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        f"Tensor {name[:80]!r} of {path} does not lie inside its storage.",
        expected=expected,
        received=received[:120],
        remedy="get the file again",
    )


def _check_shape(name: str, tensor: TorchTensor, path: Path) -> None:
    """Refuse shapes that numpy cannot hold; it multiplies the lengths of empty tensors too."""
    if math.prod(max(length, 1) for length in tensor.shape) > MAX_ELEMENTS:
        raise LimitError(f"Tensor {name[:80]!r} of {path} is too large.", received=f"shape {tensor.shape}"[:120])


def _span(tensor: TorchTensor) -> int:
    """Return the number of elements from the first to the last, at least one."""
    return 1 + sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True))


def _swapped(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return bytes with each number reversed; a complex number is two."""
    width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    return np.ascontiguousarray(data.reshape(-1, width)[:, ::-1]).reshape(-1)


@dataclass(frozen=True)
class _Reader:
    extent: Extent
    start: int
    tensor: TorchTensor

    def __call__(self) -> np.ndarray:
        dtype, shape = self.tensor.dtype, self.tensor.shape
        if 0 in shape:
            return np.empty(shape, dtype)
        data = self.extent.source.bytes_at(self.extent.start + self.start, _span(self.tensor) * dtype.itemsize)
        if self._is_swapped():
            data = _swapped(data, dtype)
        if data.ctypes.data % dtype.itemsize:
            data = data.copy()  # frameworks require arrays aligned to their item size
        array, strides = data.view(dtype), self._strides()
        if _is_contiguous(shape, strides):
            return array.reshape(shape)
        strided = np.lib.stride_tricks.as_strided(array, shape, [stride * dtype.itemsize for stride in strides])
        return strided.copy(order="C")

    def span(self) -> tuple[object, int, int] | None:
        """Return the bytes of the file of which the array is a view; None where each read makes a copy."""
        source, shape = self.extent.source, self.tensor.shape
        if isinstance(source, Deflated) or not source.mapped or self._is_swapped():
            return None
        if 0 in shape or not _is_contiguous(shape, self._strides()):
            return None
        start = self.extent.start + self.start
        return source, start, start + _span(self.tensor) * self.tensor.dtype.itemsize

    def _is_swapped(self) -> bool:
        return self.extent.big_endian == (sys.byteorder == "little")

    def _strides(self) -> list[int]:
        pairs = zip(self.tensor.shape, self.tensor.strides, strict=True)
        return [stride if length > 1 else 0 for length, stride in pairs]


def _is_contiguous(shape: tuple[int, ...], strides: list[int]) -> bool:
    expected = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length > 1 and stride != expected:
            return False
        expected *= length
    return True
