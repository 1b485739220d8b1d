"""The GGUF format up to its tensors: a checked, bounded reader of metadata and tensor declarations.

Format: the GGUF specification of the ggml project (`docs/gguf.md`), versions 2 and 3, little-endian. The reader is
ours because that of the package gguf makes several arrays per token (2.5 seconds and much memory for a small model) and
does not end on the counts that a damaged file may declare.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
)
from triptych.files.json import remedy_for
from triptych.files.regular import OwnedBytes, open_regular
from triptych.formats.gguf import types
from triptych.tensors.limits import MAX_HEADER_BYTES, MAX_TENSORS

MAX_STRINGS = 4_000_000
MAX_KEY = 65_535
MAX_NAME = 64
MAX_RANK = 4
MAX_LENGTH = 2**40
DEFAULT_ALIGNMENT = 32

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}


@dataclass(frozen=True)
class TensorInfo:
    """One declared tensor: numpy's shape (GGUF lists axes the other way round), ggml type, first byte and length."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    nbytes: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key (numbers, text, lists of text, and arrays of numbers), tensors by name, the file and its size."""

    path: Path
    source: OwnedBytes
    size: int
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


def read_header(path: Path) -> GgufHeader:
    """Read and check everything before the tensors of `path`.

    Raises:
        MissingFileError, TruncatedCheckpointError, CorruptCheckpointError, LimitError, UnsupportedFormatError;
        MissingBackendError: quantised tensors, and no package gguf.
    """
    with open_regular(path) as file:
        source = OwnedBytes(file, path)
        cursor = _Cursor(file, os.fstat(file.fileno()).st_size, path)
        tensor_count, key_count = _counts(cursor)
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = cursor.text(MAX_KEY)
            if key in metadata:
                raise cursor.corrupt("has a metadata key twice.", "each key once", repr(key))
            metadata[key] = cursor.value()
        declared = [_declaration(cursor) for _ in range(tensor_count)]
    return GgufHeader(path, source, cursor.size, metadata, _placed(declared, _alignment(metadata, cursor), cursor))


class _Cursor:
    """The file from front to back. Nothing is read or allocated beyond the file's end or the header's limit."""

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self.file, self.size, self.path = file, size, path
        self.position = 0
        self._strings = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > self.size:
            raise TruncatedCheckpointError(
                f"{self.path} ends inside its header.",
                expected=f"at least {end} bytes",
                received=f"{self.size} bytes",
                remedy="get the file again",
            )
        if end > MAX_HEADER_BYTES:
            raise LimitError(f"{self.path} has too large a header.", expected=f"at most {MAX_HEADER_BYTES} bytes")
        data = self.file.read(count)
        if len(data) != count:
            raise TruncatedCheckpointError(f"{self.path} was cut while it was read.", expected=f"{count} bytes")
        self.position = end
        return data

    def u32(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def u64(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def text(self, limit: int = MAX_HEADER_BYTES) -> str:
        self._strings += 1
        if self._strings > MAX_STRINGS:
            raise LimitError(f"{self.path} has too many strings in its metadata.", expected=f"at most {MAX_STRINGS}")
        length = self.u64()
        if length > limit:
            raise self.corrupt("has too long a name.", f"at most {limit} bytes", f"{length} bytes")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as cause:
            raise self.corrupt("has text that is not UTF-8.", "UTF-8", str(cause)) from cause

    def value(self) -> Any:
        kind = self.u32()
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self._numbers(kind, 1)[0].item()
        kind, count = self.u32(), self.u64()
        if kind == _ARRAY:
            raise UnsupportedFormatError(f"{self.path} has arrays of arrays in its metadata.")
        return [self.text() for _ in range(count)] if kind == _STRING else self._numbers(kind, count)

    def _numbers(self, kind: int, count: int) -> np.ndarray:
        if kind not in _SCALARS and kind != _BOOL:
            raise self.corrupt("has metadata of an unknown type.", "a type from 0 to 12", str(kind))
        dtype = np.dtype(_SCALARS.get(kind, "<u1"))
        values = np.frombuffer(self.take(count * dtype.itemsize), dtype)
        if kind != _BOOL:
            return values
        if (values > 1).any():
            raise self.corrupt("has a truth value that is none.", "0 or 1", str(values.max()))
        return values.astype(bool)

    def corrupt(self, detail: str, expected: str, received: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(f"{self.path} {detail}", expected=expected, received=received[:120])


def _counts(cursor: _Cursor) -> tuple[int, int]:
    """Return the numbers of tensors and of metadata keys, from the first 24 bytes."""
    magic = cursor.take(4)
    if magic != b"GGUF":
        raise CorruptCheckpointError(
            f"{cursor.path} is no GGUF file.",
            expected="the first bytes GGUF",
            received=repr(magic),
            remedy=remedy_for(magic + cursor.file.read(200)) or "get the file again",
        )
    version = cursor.u32()
    if version not in (2, 3):
        raise UnsupportedFormatError(
            f"{cursor.path} is of another version of GGUF, or big-endian.",
            expected="version 2 or 3, little-endian",
            received=f"version {version}",
            remedy="convert the original model again with a newer llama.cpp",
        )
    tensors, keys = cursor.u64(), cursor.u64()
    if max(tensors, keys) > MAX_TENSORS:
        raise LimitError(
            f"{cursor.path} declares too much.",
            expected=f"at most {MAX_TENSORS} tensors and as many keys",
            received=f"{tensors} tensors, {keys} keys",
        )
    return tensors, keys


def _declaration(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Return name, shape, type and offset of the next tensor."""
    name, rank = cursor.text(MAX_NAME), cursor.u32()
    if not 1 <= rank <= MAX_RANK:
        raise cursor.corrupt(f"has a tensor {name!r} of impossible rank.", f"1 to {MAX_RANK}", str(rank))
    lengths = [cursor.u64() for _ in range(rank)]
    if not all(1 <= length <= MAX_LENGTH for length in lengths):
        raise cursor.corrupt(f"has a tensor {name!r} of impossible shape.", f"1 to {MAX_LENGTH}", str(lengths))
    return name, tuple(reversed(lengths)), cursor.u32(), cursor.u64()


def _alignment(metadata: dict[str, Any], cursor: _Cursor) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(value) is not int or value < 8 or value % 8:
        raise cursor.corrupt("has an impossible alignment.", "a positive multiple of 8", repr(value))
    return value


def _placed(
    declared: list[tuple[str, tuple[int, ...], int, int]], alignment: int, cursor: _Cursor
) -> dict[str, TensorInfo]:
    """Check that the tensors lie one after the other, each padded to `alignment`, and fill the file."""
    base = position = -(-cursor.position // alignment) * alignment
    end = cursor.position
    tensors: dict[str, TensorInfo] = {}
    for name, shape, kind, offset in declared:
        if name in tensors:
            raise cursor.corrupt("has a tensor twice.", "each name once", repr(name))
        if base + offset != position:
            raise cursor.corrupt(f"has a hole or overlap at {name!r}.", f"offset {position - base}", f"{offset}")
        nbytes = _nbytes(name, shape, kind, cursor)
        tensors[name] = TensorInfo(name, shape, kind, position, nbytes)
        end = position + nbytes
        position = -(-end // alignment) * alignment
    _check_end(end, max(position, base), cursor)
    return tensors


def _nbytes(name: str, shape: tuple[int, ...], kind: int, cursor: _Cursor) -> int:
    block = types.block_of(kind)
    if block is None:
        raise UnsupportedFormatError(
            f"Tensor {name!r} of {cursor.path} cannot be dequantised.",
            expected="F32, F16, BF16, F64, or a type that gguf.dequantize knows",
            received=f"type {kind}",
            remedy="get the model in another quantisation, such as Q8_0 or F16",
        )
    elements, size = block
    if shape[-1] % elements:
        raise cursor.corrupt(f"has a tensor {name!r} of parts of blocks.", f"rows of {elements} times n", str(shape))
    return math.prod(shape) // elements * size


def _check_end(end: int, padded: int, cursor: _Cursor) -> None:
    if cursor.size < end:
        raise TruncatedCheckpointError(
            f"{cursor.path} ends before its tensors do.",
            expected=f"{end} bytes",
            received=f"{cursor.size} bytes",
            remedy="get the file again",
        )
    if cursor.size > padded:
        raise cursor.corrupt("has bytes after its last tensor.", f"at most {padded} bytes", f"{cursor.size} bytes")
