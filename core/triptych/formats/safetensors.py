"""The safetensors format: a lazy reader, whose headers the format's own parser checks, and a streaming writer.

Format: 8 bytes little-endian header length, a JSON object, then the tensors one after the other without holes
(safetensors README, "Format"). Ours is what the released library lacks: it keeps one of two tensors of a name, has no
bounds on names and shapes, writes non-contiguous arrays wrongly, and knows no bfloat16 or float8 in numpy.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, deserialize

from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    SaveError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
)
from triptych.files.atomic import write_through
from triptych.files.json import parse_json, remedy_for
from triptych.files.regular import MappedBytes, OwnedBytes, hold, open_regular
from triptych.tensors import dtypes
from triptych.tensors.limits import MAX_ELEMENTS, MAX_HEADER_BYTES, MAX_NAME, MAX_RANK, MAX_TENSORS
from triptych.tensors.ref import ALIGNMENT, RangeReader, TensorRef, bytes_ahead

_FIELDS = {"dtype", "shape", "data_offsets"}


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
        head = file.read(8)
        text = _read_header(file, head, size, path)
    _check_number(text.count(b'"data_offsets"'), path)  # before it costs as many objects
    header = parse_json(text, f"The header of {path}", CorruptCheckpointError)
    metadata = header.pop("__metadata__", None) or {}
    _check_number(len(header), path)
    types = {name: _dtype(name, entry, path) for name, entry in header.items()}
    _check_by_library(head + text, path)
    _check_end(max((entry["data_offsets"][1] for entry in header.values()), default=0), size - 8 - len(text), path)
    start = 8 + len(text)
    tensors = {name: _located(name, types[name], entry, source, start) for name, entry in header.items()}
    return SafetensorsFile(path, tensors, metadata)


def _read_header(file: BinaryIO, head: bytes, size: int, path: Path) -> bytes:
    if len(head) < 8:
        raise TruncatedCheckpointError(
            f"{path} is too short.", expected="at least 8 bytes", received=f"{size} bytes", remedy="get the file again"
        )
    length = int.from_bytes(head, "little")
    if length > MAX_HEADER_BYTES:
        remedy = remedy_for(head + file.read(200)) or "get the file again"
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
            remedy=remedy_for(head + file.read(200)) or "get the file again",
        )
    return file.read(length)


def _check_number(tensors: int, path: Path) -> None:
    if tensors > MAX_TENSORS:
        raise LimitError(f"{path} declares too many tensors.", expected=f"<= {MAX_TENSORS}", received=str(tensors))


def _dtype(name: str, entry: Any, path: Path) -> np.dtype:
    """Return the dtype of the tensor `name`; the library takes arrays and other fields too, and other dtypes."""
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise CorruptCheckpointError(
            f"Tensor {name[:80]!r} of {path} is badly declared.",
            expected="an object of dtype, shape and data_offsets",
            received=repr(entry)[:120],
        )
    dtype = dtypes.SAFETENSORS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise UnsupportedFormatError(
            f"Tensor {name[:80]!r} of {path} has an unknown dtype.",
            expected=", ".join(dtypes.SAFETENSORS),
            received=repr(entry["dtype"])[:80],
        )
    return dtype


def _complaint(content: bytes) -> str:
    """Return what the library's parser has against a file, or against its header alone; "" if nothing."""
    try:
        deserialize(content)
    except SafetensorError as error:
        return str(error)
    return ""


_EXAMPLE = b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
_DATA_MISSING = _complaint(len(_EXAMPLE).to_bytes(8, "little") + _EXAMPLE)
"""What the parser says of a right header without its data, in the words of the version that is installed."""


def _check_by_library(header: bytes, path: Path) -> None:
    """Raise `CorruptCheckpointError` if the format's own parser refuses the first bytes of a file, up to its data.

    The parser takes a whole file and copies it, or opens a path, where another file may be by now. So it gets the very
    bytes that were read, and may miss the data, which it looks for after everything else.
    """
    complaint = _complaint(header)
    if complaint not in ("", _DATA_MISSING):
        raise CorruptCheckpointError(
            f"The header of {path} is wrong.",
            expected="what safetensors accepts: each tensor of its shape's size, one after the other",
            received=complaint[:240],
            remedy="get the file again",
        )


def _check_end(end: int, available: int, path: Path) -> None:
    if end > available:
        raise TruncatedCheckpointError(
            f"{path} ends before its tensors do.",
            expected=f"{end} bytes of data",
            received=f"{available} bytes",
            remedy="get the file again",
        )
    if end < available:
        raise CorruptCheckpointError(
            f"{path} has bytes after its last tensor.", expected=f"{end} bytes of data", received=f"{available} bytes"
        )


def _located(
    name: str, dtype: np.dtype, entry: Mapping[str, Any], source: MappedBytes | OwnedBytes, start: int
) -> TensorRef:
    """Return the tensor that a checked header declares; `start` is the first byte of the data."""
    shape = tuple(entry["shape"])
    elements = math.prod(max(length, 1) for length in shape)  # numpy multiplies the lengths of empty tensors too
    if len(name) > MAX_NAME or len(shape) > MAX_RANK or elements > MAX_ELEMENTS:
        raise LimitError(
            f"Tensor {name[:80]!r} of {source.path} has a name or shape beyond the limits.",
            expected=f"at most {MAX_NAME} characters, {MAX_RANK} axes and {MAX_ELEMENTS} elements",
            received=f"{len(name)} characters, shape {list(shape)}"[:120],
        )
    return TensorRef(name, dtype, shape, RangeReader(source, start + entry["data_offsets"][0], dtype, shape))


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
