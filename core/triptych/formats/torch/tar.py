"""The tar archives that torch.save wrote before torch 0.2.

Three members, in any order. `storages`: a pickled number; for each storage a pickled (key, location, storage type), 8
bytes with the number of elements and the elements; then pickled views (key, key of the whole, first element, elements).
`tensors`: a pickled number; for each tensor a pickled (key, storage key, tensor type), 8 bytes with the rank, the
lengths, the strides and the offset, 8 bytes each. `pickle`: the object, with keys of tensors as persistent ids.
Sources: torch 2.13, `torch/serialization.py`, `_legacy_load`; tar headers: POSIX.1-2017, pax, "ustar Interchange
Format".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from triptych.errors import CorruptCheckpointError, TriptychError, TruncatedCheckpointError
from triptych.formats.torch.pickle import Unpickler
from triptych.formats.torch.storage import Extent, Files
from triptych.formats.torch.values import Storage, TorchTensor, is_natural, make_tensor, storage_dtype
from triptych.tensors.limits import MAX_RANK

_BLOCK = 512
_MAX_MEMBERS = 64


def read_tar(file: BinaryIO, files: Files) -> tuple[object, Mapping[str, Extent]]:
    """Return the pickled object and the storages by key; no tensor is read.

    Raises:
        UnsafeCheckpointError, UnsupportedFormatError, CorruptCheckpointError, TruncatedCheckpointError, LimitError.
    """
    members = _members(file, files)
    missing = {"storages", "tensors", "pickle"} - set(members)
    if missing:
        raise _corrupt(files, "members storages, tensors and pickle", f"no {', '.join(sorted(missing))}")
    reader = _TarReader(file, files)
    try:
        return reader.read(members), reader.extents
    except TriptychError:
        raise
    except (ValueError, struct.error) as cause:
        raise _corrupt(files, "what torch.save wrote", str(cause)) from cause


def _corrupt(files: Files, expected: str, received: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        f"{files.path} is a damaged tar archive.", expected=expected, received=received, remedy="get the file again"
    )


def _members(file: BinaryIO, files: Files) -> dict[str, tuple[int, int]]:
    """Return where the contents of each member start and end."""
    members: dict[str, tuple[int, int]] = {}
    position = 0
    while any(header := _header(file, files, position)):
        name, kind = header[:100].rstrip(b"\0"), header[156:157]
        digits = header[124:136].strip(b"\0 ")
        if not re.fullmatch(rb"[0-7]{1,12}", digits) or len(members) == _MAX_MEMBERS:
            raise _corrupt(files, f"at most {_MAX_MEMBERS} members, each below 8 GiB", ascii(name))
        start, end = position + _BLOCK, position + _BLOCK + int(digits, 8)
        if end > files.size:
            raise _truncated(files, f"{end} bytes")
        if kind == b"x":
            _check_extension(file, end - start, files)
        elif kind in (b"0", b"\0") and name.decode("latin-1") not in members:
            members[name.decode("latin-1")] = start, end
        else:
            raise _corrupt(files, "plain files, each name once", f"{ascii(name)} of type {kind!r}")
        position = end + -end % _BLOCK
    return members


def _header(file: BinaryIO, files: Files, position: int) -> bytes:
    """Return a block of zeros at the end, or a header whose checksum is right."""
    file.seek(position)
    header = file.read(_BLOCK)
    if len(header) != _BLOCK:
        raise _truncated(files, f"a header at byte {position}")
    checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if any(header) and header[148:156].strip(b"\0 ").lstrip(b"0") != b"%o" % checksum:
        raise _corrupt(files, f"a header with checksum {checksum:o}", ascii(header[148:156]))
    return header


def _check_extension(file: BinaryIO, length: int, files: Files) -> None:
    """Python writes times into pax extension headers; names and sizes there would replace those of the next header."""
    text = file.read(length) if length <= 16 * _BLOCK else b" size="
    if not re.fullmatch(rb"(?:[0-9]+ [mac]time=[^=\n]*\n)*", text):
        raise _corrupt(files, "pax headers with times only", "another one")


def _truncated(files: Files, expected: str) -> TruncatedCheckpointError:
    return TruncatedCheckpointError(
        f"{files.path} ends inside its tar archive.",
        expected=expected,
        received=f"{files.size} bytes",
        remedy="get the file again",
    )


class _TarReader:
    """The three members of one archive. Wrong kinds of values raise ValueError or struct.error."""

    def __init__(self, file: BinaryIO, files: Files) -> None:
        self._file, self._files = file, files
        self._unpickler = Unpickler(file, str(files.path), self._persistent)
        self._storages: dict[int, Storage] = {}
        self._tensors: dict[int, TorchTensor] = {}
        self.extents: dict[str, Extent] = {}

    def read(self, members: Mapping[str, tuple[int, int]]) -> object:
        top: object = None
        for name, read in (("storages", self._read_storages), ("tensors", self._read_tensors), ("pickle", None)):
            start, end = members[name]
            self._file.seek(start)
            top = self._unpickler.load() if read is None else read()
            if self._file.tell() > end:
                raise ValueError(f"more than the {end - start} bytes of {name}")
        return top

    def _persistent(self, identifier: object) -> object:
        key = _key(identifier)
        value = self._tensors.get(key) or self._storages.get(key)
        if value is None:
            raise ValueError("a persistent id without tensor or storage")
        return value

    def _fields(self, count: int) -> tuple[object, ...]:
        fields = self._unpickler.load()
        if not isinstance(fields, tuple) or len(fields) != count:
            raise ValueError(f"something else than {count} fields")
        return fields

    def _read_storages(self) -> None:
        for _ in range(_natural(self._unpickler.load())):
            key, _, kind = self._fields(3)
            dtype = storage_dtype(kind)
            extent = self._files.counted(self._file, self._file.tell(), dtype)
            self._add(_key(key), dtype, extent)
            self._file.seek(extent.start + extent.size)
        views = self._unpickler.load()
        for view in views if isinstance(views, list) else [None]:
            if not isinstance(view, tuple) or len(view) != 4:
                raise ValueError("a view of a storage without four fields")
            whole = self._storages.get(_key(view[1]))
            first, count = _natural(view[2]), _natural(view[3])
            if whole is None or first + count > whole.count:
                raise ValueError("a view outside its storage")
            start = self.extents[whole.key].start + first * whole.dtype.itemsize
            self._add(_key(view[0]), whole.dtype, Extent(self._files, start, count * whole.dtype.itemsize))

    def _add(self, key: int, dtype: np.dtype, extent: Extent) -> None:
        if key in self._storages:
            raise ValueError(f"storage {key} twice")
        self._storages[key] = Storage(str(key), dtype, extent.size // dtype.itemsize)
        self.extents[str(key)] = extent

    def _read_tensors(self) -> None:
        for _ in range(_natural(self._unpickler.load())):
            key, storage, _ = self._fields(3)
            (rank,) = struct.unpack("<i4x", self._file.read(8))
            if not 0 <= rank <= MAX_RANK:
                raise ValueError(f"a tensor of rank {rank}")
            numbers = struct.unpack(f"<{2 * rank + 1}q", self._file.read(8 * (2 * rank + 1)))
            whole = self._storages.get(_key(storage))
            self._tensors[_key(key)] = make_tensor(whole, None, numbers[-1], numbers[:rank], numbers[rank:-1])


def _natural(value: object) -> int:
    if not isinstance(value, int) or not is_natural(value):
        raise ValueError("a number that is not natural")
    return value


def _key(value: object) -> int:
    """Keys are addresses, as integers or as decimal text."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,20}", value):
        value = int(value)
    return _natural(value)
