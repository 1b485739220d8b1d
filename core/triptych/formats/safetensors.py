"""The safetensors format: a checked, lazy reader and a streaming writer.

Format: 8 bytes little-endian header length, a JSON object, then the tensors one after the other without holes
(safetensors README, "Format"). The checks are ours because the released library accepts duplicate names, writes
non-contiguous arrays wrongly, and knows no bfloat16 or float8 in numpy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    SaveError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
)
from triptych.files.atomic import write_through
from triptych.files.json import parse_json, remedy_for
from triptych.files.regular import hold, open_regular
from triptych.tensors import dtypes
from triptych.tensors.limits import MAX_HEADER_BYTES, MAX_NAME, MAX_RANK, MAX_TENSORS
from triptych.tensors.ref import ALIGNMENT, RangeReader, TensorRef, bytes_ahead


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
            remedy="get the file again",
        )
    return parse_json(file.read(length), f"The header of {path}", CorruptCheckpointError), 8 + length


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
