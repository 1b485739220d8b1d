"""What an HDF5 file holds: its groups, attributes and datasets, checked, without reading any data.

Format: HDF5 File Format Specification 3.0; libhdf5 (through h5py) parses the structure. Everything by which a file can
make libhdf5 read another file is refused before it is opened: soft and external links, external storage, virtual
datasets. The data are not read through libhdf5 at all: here only the byte ranges are found. So nothing of a file is
inflated, converted or allocated by the library, and a size that a dataset declares is checked before it is believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t

from triptych import dtypes
from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    TriptychError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedFormatError,
)
from triptych.hdf5_strings import HeapStrings
from triptych.safetensors_file import MAX_HEADER_BYTES, MAX_NAME, MAX_RANK

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 64
MAX_ENTRIES = 100_000
"""Groups and datasets together."""
_MAX_ROOT_ATTRIBUTES = 1024
_MAX_EXPANSION, _FREE_EXPANSION = 1024, 2**20
_DEFLATE, _SHUFFLE = 1, 2
_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "an external link"}


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

    `dtype` is that of the file, in the file's byte order. `filters` are 1 (deflate) and 2 (shuffle), as applied in
    writing.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    data: int | np.ndarray | tuple[Chunk, ...]
    chunk_shape: tuple[int, ...] = ()
    filters: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Contents:
    """Datasets by path, the string lists of groups by path ("" is the root), and the root's single strings."""

    datasets: dict[str, Stored]
    lists: dict[str, list[str]]
    groups: frozenset[str]
    strings: dict[str, str]


def check_superblock(file: BinaryIO, size: int, path: Path, remedy: str) -> None:
    """Check signature and length, which libhdf5 takes less strictly (it accepts a prefix, and bytes after the end)."""
    head = file.read(64)
    if not head.startswith(SIGNATURE):
        kind = TruncatedCheckpointError if SIGNATURE.startswith(head) else CorruptCheckpointError
        raise kind(f"{path} is no HDF5 file.", expected="the HDF5 signature", received=repr(head[:8]), remedy=remedy)
    version = head[8] if len(head) == 64 else -1
    fields = {0: (13, 24, 40), 1: (13, 28, 44), 2: (9, 12, 28), 3: (9, 12, 28)}.get(version)
    if fields is None or head[fields[0]] != 8:
        raise UnsupportedFormatError(f"{path} has an unknown HDF5 superblock.", received=f"version {version}")
    base, end = (int.from_bytes(head[at : at + 8], "little") for at in fields[1:])
    if end > size:
        raise TruncatedCheckpointError(
            f"{path} ends too early.", expected=f"{end} bytes", received=f"{size} bytes", remedy=remedy
        )
    if end < size or base:
        raise CorruptCheckpointError(
            f"{path} has bytes around its contents.", expected=f"{end} bytes from byte 0", received=f"{size} bytes"
        )


@contextmanager
def classified(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever libhdf5 and h5py raise over a damaged file into `CorruptCheckpointError`."""
    try:
        yield
    except TriptychError:
        raise
    except Exception as cause:  # h5py maps libhdf5's errors to a dozen built-in classes
        raise CorruptCheckpointError(
            f"{path} is damaged.", expected="a readable HDF5 file", received=str(cause)[:300], remedy=remedy
        ) from cause


class Walk:
    """One pass over all links of an open file, without recursion."""

    def __init__(self, file: h5py.File, raw: BinaryIO, size: int, path: Path) -> None:
        self.path, self.size = path, size
        self.root = h5g.open(file.id, b"/")
        self.heap = HeapStrings(raw, size, path)
        self.datasets: dict[str, Stored] = {}
        self.lists: dict[str, list[str]] = {}
        self.groups: set[str] = set()
        self.seen: set[int] = {h5o.get_info(self.root).addr}
        self.characters = self.stored = 0

    def run(self) -> Contents:
        self.lists[""] = self._list(self.root, "layer_names") or []
        stack: list[tuple[str, int, h5g.GroupID]] = [("", 1, self.root)]
        while stack:
            prefix, depth, group = stack.pop()
            for link in self._links(group):
                path = f"{prefix}/{link}" if prefix else link
                child = self._open(group, link, path)
                if isinstance(child, h5d.DatasetID):
                    self.datasets[path] = self._dataset(child, path)
                elif depth >= MAX_DEPTH:
                    raise LimitError(f"{self.path} is nested too deeply.", expected=f"at most {MAX_DEPTH} groups")
                else:
                    self._group(child, path)
                    stack.append((path, depth + 1, child))
        return Contents(self.datasets, self.lists, frozenset(self.groups), self._root_strings())

    def _group(self, group: h5g.GroupID, path: str) -> None:
        self.groups.add(path)
        names = self._list(group, "weight_names")
        if names is not None:
            self.lists[path] = names

    def _links(self, group: h5g.GroupID) -> list[str]:
        names: list[bytes] = []

        def add(name: bytes) -> bool | None:
            names.append(name)
            return True if len(names) > MAX_ENTRIES else None  # True ends the iteration

        group.links.iterate(add)
        if len(names) + len(self.seen) > MAX_ENTRIES:
            raise LimitError(f"{self.path} has too many entries.", expected=f"at most {MAX_ENTRIES}")
        return sorted(name.decode() for name in names)

    def _open(self, group: h5g.GroupID, link: str, path: str) -> h5g.GroupID | h5d.DatasetID:
        if link in ("", ".", "..") or "/" in link:
            raise CorruptCheckpointError(f"{self.path} has a bad name.", received=repr(path)[:120])
        self._count_characters(len(path))
        if len(path) > MAX_NAME:
            raise LimitError(f"{self.path} has a name of {len(path)} characters.", expected=f"at most {MAX_NAME}")
        kind = group.links.get_info(link.encode()).type
        if kind != h5l.TYPE_HARD:
            raise _unsafe(self.path, path, _LINKS.get(kind, "a link of an unknown kind"))
        child = h5o.open(group, link.encode())
        if not isinstance(child, (h5g.GroupID, h5d.DatasetID)):
            raise UnsupportedFormatError(f"{self.path} holds something else than arrays.", received=repr(path)[:120])
        address = h5o.get_info(child).addr
        if address in self.seen:
            raise CorruptCheckpointError(f"{self.path} holds one object under two names.", received=repr(path)[:120])
        self.seen.add(address)
        return child

    def _count_characters(self, count: int) -> None:
        self.characters += count
        if self.characters > MAX_HEADER_BYTES:
            raise LimitError(f"{self.path} has too many long names.", expected=f"at most {MAX_HEADER_BYTES} characters")

    def _dataset(self, dataset: h5d.DatasetID, path: str) -> Stored:
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        if layout == h5d.VIRTUAL or plist.get_external_count():
            raise _unsafe(self.path, path, "data in other files")
        dtype, shape = self._type(dataset.get_type(), path), self._shape(dataset.get_space(), path)
        nbytes, stored = math.prod(shape) * dtype.itemsize, dataset.get_storage_size()
        self.stored += stored
        if self.stored > self.size:
            raise CorruptCheckpointError(f"{self.path} has datasets that overlap.", received=repr(path)[:120])
        if layout == h5d.CHUNKED and nbytes:
            return self._chunked(dataset, plist, path, dtype, shape)
        if stored != nbytes and nbytes:
            raise CorruptCheckpointError(
                f"Dataset {path!r} of {self.path} is not stored whole.",
                expected=f"{nbytes} bytes",
                received=f"{stored} bytes",
            )
        if not nbytes:
            return Stored(dtype, shape, np.empty(shape, dtype))
        if layout == h5d.COMPACT:
            array = np.empty(shape, dtype)
            dataset.read(h5s.ALL, h5s.ALL, array)
            return Stored(dtype, shape, array)
        return Stored(dtype, shape, self._inside(dataset.get_offset(), nbytes, path))

    def _inside(self, start: int | None, count: int, path: str) -> int:
        if start is None or start + count > self.size:
            raise TruncatedCheckpointError(
                f"Dataset {path!r} of {self.path} lies outside the file.", expected=f"{count} bytes in the file"
            )
        return start

    def _chunked(
        self, dataset: h5d.DatasetID, plist: h5py.h5p.PropDCID, path: str, dtype: np.dtype, shape: tuple[int, ...]
    ) -> Stored:
        filters = tuple(plist.get_filter(number)[0] for number in range(plist.get_nfilters()))
        if not set(filters) <= {_DEFLATE, _SHUFFLE} or len(filters) > 2:
            raise UnsupportedFormatError(
                f"Dataset {path!r} of {self.path} is stored with an unknown filter.",
                expected="gzip and shuffle, or none",
                received=f"filters {filters}",
                remedy="rewrite the file without them, for example with h5repack -f NONE",
            )
        chunk_shape = plist.get_chunk()
        count = math.prod(-(-length // step) for length, step in zip(shape, chunk_shape, strict=True))
        size, stored = count * math.prod(chunk_shape) * dtype.itemsize, dataset.get_storage_size()
        if size > _MAX_EXPANSION * stored + _FREE_EXPANSION or count > MAX_ENTRIES:
            raise LimitError(
                f"Dataset {path!r} of {self.path} declares far more than it stores.",
                expected=f"at most {_MAX_EXPANSION} times its {stored} bytes",
                received=f"{size} bytes in {count} chunks",
            )
        chunks: list[Chunk] = []
        if dataset.get_num_chunks() == count:
            dataset.chunk_iter(lambda c: chunks.append(Chunk(c.chunk_offset, c.byte_offset, c.size, c.filter_mask)))
        if len({chunk.first for chunk in chunks}) != count:
            raise CorruptCheckpointError(f"Dataset {path!r} of {self.path} lacks chunks.", expected=f"{count} chunks")
        for chunk in chunks:
            self._inside(chunk.start, chunk.count, path)
        return Stored(dtype, shape, tuple(chunks), chunk_shape, filters)

    def _type(self, kind: h5t.TypeID, path: str) -> np.dtype:
        number = kind.get_class() in (h5t.INTEGER, h5t.FLOAT)
        dtype = kind.dtype if number else None
        known = dtype is not None and dtype.newbyteorder("=") in dtypes.NAMES and kind.equal(h5t.py_create(dtype))
        if not known or dtype is None:
            raise UnsupportedFormatError(
                f"Dataset {path!r} of {self.path} has an unknown dtype.",
                expected="integers and IEEE floats of a usual size",
                received=f"class {kind.get_class()} of {kind.get_size()} bytes",
            )
        return dtype

    def _shape(self, space: h5s.SpaceID, path: str) -> tuple[int, ...]:
        if space.get_simple_extent_type() not in (h5s.SIMPLE, h5s.SCALAR):
            raise UnsupportedFormatError(f"Dataset {path!r} of {self.path} has no shape.")
        shape = tuple(int(length) for length in space.get_simple_extent_dims())
        if len(shape) > MAX_RANK or any(length > 2**48 for length in shape):
            raise LimitError(f"Dataset {path!r} of {self.path} is too large.", received=f"shape {shape}"[:120])
        return shape

    def _list(self, group: h5g.GroupID, name: str) -> list[str] | None:
        """Read a list of strings, which Keras splits over name0, name1, ... where it exceeds 63 kB."""
        if h5a.exists(group, name.encode()):
            return self._strings(group, name)
        names: list[str] = []
        number = 0
        while h5a.exists(group, f"{name}{number}".encode()):
            names += self._strings(group, f"{name}{number}")
            number += 1
        return names if number else None

    def _strings(self, group: h5g.GroupID, name: str) -> list[str]:
        attribute = h5a.open(group, name.encode())
        space = attribute.get_space()
        count = space.get_simple_extent_npoints()
        if len(attribute.shape) > 1 or count > MAX_ENTRIES or count * attribute.get_type().get_size() > self.size:
            raise LimitError(f"{self.path} has too many entries in {name}.", expected=f"at most {MAX_ENTRIES}")
        if not count:
            return []  # an empty list has no type of its own: numpy makes it one of floats
        kind = attribute.get_type()
        if kind.get_class() != h5t.STRING:
            raise CorruptCheckpointError(f"{self.path} has a bad {name}.", expected="strings")
        if kind.is_variable_str():
            names = self.heap.read(h5o.get_info(group).addr, name, count)
        else:
            values = np.empty(attribute.shape, attribute.dtype)
            attribute.read(values)
            names = [value.decode() for value in values.reshape(-1).tolist()]
        self._count_characters(sum(map(len, names)))
        return names

    def _root_strings(self) -> dict[str, str]:
        count = h5a.get_num_attrs(self.root)
        if count > _MAX_ROOT_ATTRIBUTES:
            raise LimitError(f"{self.path} has too many attributes.", expected=f"at most {_MAX_ROOT_ATTRIBUTES}")
        result = {}
        for index in range(count):
            attribute = h5a.open(self.root, index=index)
            if attribute.shape == () and attribute.get_type().get_class() == h5t.STRING:
                result[attribute.name.decode()] = self._strings(self.root, attribute.name.decode())[0]
        return result


def _unsafe(file: Path, path: str, what: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{file} leads to other data at {path[:120]!r}.",
        expected="arrays in the file itself",
        received=what,
        remedy="do not use this checkpoint",
    )
