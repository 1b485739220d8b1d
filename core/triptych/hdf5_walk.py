"""What an HDF5 file holds: its groups, attributes and datasets, checked, without reading any data.

Format: HDF5 File Format Specification 3.0; libhdf5 (through h5py) parses groups, headers and attributes. Links by which
a file can make it read another file, or run in circles, are refused before they are followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t

from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    TriptychError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
)
from triptych.hdf5_storage import Storage, Stored, unsafe
from triptych.hdf5_strings import HeapStrings
from triptych.safetensors_file import MAX_HEADER_BYTES, MAX_NAME

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 64
MAX_ENTRIES = 100_000
"""Groups and datasets together."""
_MAX_ROOT_ATTRIBUTES = 1024
_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "an external link"}


@dataclass(frozen=True)
class Contents:
    """Datasets by path, the string lists of groups by path ("" is the root), and the root's single strings."""

    datasets: dict[str, Stored]
    lists: dict[str, list[str]]
    strings: dict[str, str]


def check_superblock(file: BinaryIO, size: int, path: Path, remedy: str) -> None:
    """Check signature and length, which libhdf5 takes less strictly (it accepts a prefix, and bytes after the end)."""
    head = file.read(64)
    if not head.startswith(SIGNATURE):
        kind = TruncatedCheckpointError if SIGNATURE.startswith(head) else CorruptCheckpointError
        raise kind(f"{path} is no HDF5 file.", expected="the HDF5 signature", received=repr(head[:8]), remedy=remedy)
    if len(head) < 64:
        raise TruncatedCheckpointError(f"{path} is too short.", received=f"{size} bytes", remedy=remedy)
    version = head[8]
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
        self.seen: set[int] = {h5o.get_info(self.root).addr}
        self.storage = Storage(size, path)
        self.characters = 0

    def run(self) -> Contents:
        self.lists[""] = self._list(self.root, "layer_names") or []
        stack: list[tuple[str, int, h5g.GroupID]] = [("", 1, self.root)]
        while stack:
            prefix, depth, group = stack.pop()
            for link in self._links(group):
                path = f"{prefix}/{link}" if prefix else link
                child = self._open(group, link, path)
                if isinstance(child, h5d.DatasetID):
                    self.datasets[path] = self.storage.describe(child, path)
                elif depth >= MAX_DEPTH:
                    raise LimitError(f"{self.path} is nested too deeply.", expected=f"at most {MAX_DEPTH} groups")
                else:
                    names = self._list(child, "weight_names")
                    self.lists |= {} if names is None else {path: names}
                    stack.append((path, depth + 1, child))
        self.storage.check_overlap()
        return Contents(self.datasets, self.lists, self._root_strings())

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
            raise unsafe(self.path, path, _LINKS.get(kind, "a link of an unknown kind"))
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
        kind, count = attribute.get_type(), attribute.get_space().get_simple_extent_npoints()
        if len(attribute.shape) > 1 or count > MAX_ENTRIES or count * kind.get_size() > self.size:
            raise LimitError(f"{self.path} has too many entries in {name}.", expected=f"at most {MAX_ENTRIES}")
        if not count:
            return []  # an empty list has no type of its own: numpy makes it one of floats
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
