"""What an HDF5 file holds: its groups, attributes and datasets, found by one pass over all links, without recursion.

Source: HDF5 File Format Specification 3.0, section IV.A.2: symbol table, link and attribute messages.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from triptych.errors import CorruptCheckpointError, LimitError, UnsupportedFormatError
from triptych.formats.hdf5.storage import LAYOUT, Storage, Stored, read_shape
from triptych.formats.hdf5.structures import Message, Structures
from triptych.tensors.limits import MAX_NAME

MAX_DEPTH = 64
_LINK_INFO, _LINK, _ATTRIBUTE, _SYMBOL_TABLE, _ATTRIBUTE_INFO = 0x02, 0x06, 0x0C, 0x11, 0x15
_LINKS = {1: "a soft link", 64: "an external link"}
_STRING, _VARIABLE = 3, 9


@dataclass(frozen=True)
class Attribute:
    """One attribute, undecoded: the dataspace and datatype messages, and the data."""

    shape: tuple[int, ...] | None
    kind: bytes
    data: bytes


@dataclass(frozen=True)
class Contents:
    """Datasets by path, the lists of weight names by group, and what the root has: names, links and strings.

    `names` is None if the root has no list of layers.
    """

    datasets: dict[str, Stored]
    lists: dict[str, list[str]]
    names: list[str] | None
    top: frozenset[str]
    strings: dict[str, str]


class Walk:
    """Reads the whole structure of one file."""

    def __init__(self, structures: Structures) -> None:
        self.structures, self.path = structures, structures.path
        self.storage = Storage(structures)
        self.datasets: dict[str, Stored] = {}
        self.lists: dict[str, list[str]] = {}
        self.seen: set[int] = set()

    def run(self) -> Contents:
        root = self.structures.root()
        self.seen.add(root)
        messages = self.structures.messages(root)
        attributes = self._attributes(messages)
        names = self._list(attributes, "layer_names")
        links = self._links(messages, "")
        top = frozenset(name for name, _ in links)
        if names is not None:
            self._visit([("", 1, links)])
        strings = {key: self._strings(value)[0] for key, value in attributes.items() if _is_string(value)}
        return Contents(self.datasets, self.lists, names, top, strings)

    def _visit(self, stack: list[tuple[str, int, list[tuple[str, int]]]]) -> None:
        while stack:
            prefix, depth, links = stack.pop()
            for link, header in links:
                path = self._path(prefix, link, header)
                messages = self.structures.messages(header)
                if any(message.kind == LAYOUT for message in messages):
                    self.datasets[path] = self.storage.describe(messages, path)
                    continue
                if depth >= MAX_DEPTH:
                    raise LimitError(f"{self.path} is nested too deeply.", expected=f"at most {MAX_DEPTH} groups")
                names = self._list(self._attributes(messages), "weight_names")
                if names is not None:
                    self.lists[path] = names
                stack.append((path, depth + 1, self._links(messages, path)))
        self.storage.check_overlap()

    def _path(self, prefix: str, link: str, header: int) -> str:
        path = f"{prefix}/{link}" if prefix else link
        self.structures.count_characters(len(path))
        if link in ("", ".", "..") or "/" in link:
            raise CorruptCheckpointError(f"{self.path} has a bad name.", received=repr(path)[:120])
        if len(path) > MAX_NAME:
            raise LimitError(f"{self.path} has a name of {len(path)} characters.", expected=f"at most {MAX_NAME}")
        if header in self.seen:
            raise CorruptCheckpointError(f"{self.path} holds one object under two names.", received=repr(path)[:120])
        self.seen.add(header)
        self.structures.check_entries(len(self.seen))
        return path

    def _links(self, messages: list[Message], path: str) -> list[tuple[str, int]]:
        """Return name and header address of what a group holds."""
        for kind, body in messages:
            if kind == _LINK and body[1] & 8 and body[2]:
                raise self.structures.unsafe(path, _LINKS.get(body[2], "a link of an unknown kind"))
        kinds = {message.kind: message.body for message in messages}
        if _LINK_INFO in kinds or _LINK in kinds:
            raise self.structures.newer("a group of links")
        if _SYMBOL_TABLE not in kinds:
            raise UnsupportedFormatError(f"{self.path} holds something else than arrays.", received=repr(path)[:120])
        tree, heap = struct.unpack_from("<QQ", kinds[_SYMBOL_TABLE])
        links = self.structures.links(tree, heap, path)
        if len({name for name, _ in links}) != len(links):
            raise CorruptCheckpointError(f"{self.path} has two objects of one name.", received=repr(path)[:120])
        return sorted(links)

    def _attributes(self, messages: list[Message]) -> dict[str, Attribute]:
        if any(message.kind == _ATTRIBUTE_INFO for message in messages):
            raise self.structures.newer("attributes outside their object")
        return dict(self._attribute(message.body) for message in messages if message.kind == _ATTRIBUTE)

    def _attribute(self, body: bytes) -> tuple[str, Attribute]:
        """Parse an attribute message, whose parts are padded to 8 bytes in version 1 only."""
        version, flags, *sizes = struct.unpack_from("<BBHHH", body)
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise self.structures.newer(f"attribute {version}, flags {flags}")
        starts = [9 if version == 3 else 8]
        for size in sizes:
            starts.append(starts[-1] + (-(-size // 8) * 8 if version == 1 else size))
        name, kind, space = (body[start : start + size] for start, size in zip(starts, sizes, strict=False))
        return name.rstrip(b"\0").decode(), Attribute(read_shape(space), kind, body[starts[3] :])

    def _list(self, attributes: dict[str, Attribute], name: str) -> list[str] | None:
        """Read a list of strings, which Keras splits over name0, name1, ... where it exceeds 63 kB."""
        if name in attributes:
            return self._strings(attributes[name])
        names: list[str] = []
        number = 0
        while f"{name}{number}" in attributes:
            names += self._strings(attributes[f"{name}{number}"])
            number += 1
        return names if number else None

    def _strings(self, attribute: Attribute) -> list[str]:
        shape, kind, data = attribute.shape, attribute.kind, attribute.data
        if shape is None or len(shape) > 1:
            raise CorruptCheckpointError(f"{self.path} has a bad list of names.", received=f"shape {shape}")
        count = math.prod(shape)
        if not count:
            return []  # an empty list has no type of its own: numpy makes it one of floats
        self.structures.check_entries(count)
        (size,) = struct.unpack_from("<I", kind, 4)
        if kind[0] & 15 == _STRING and size and count * size <= len(data):
            names = [data[at : at + size].rstrip(b"\0").decode() for at in range(0, count * size, size)]
        elif _is_variable(kind) and count * size <= len(data):
            names = [self.structures.string(*struct.unpack_from("<IQI", data, at)) for at in range(0, count * 16, 16)]
        else:
            raise CorruptCheckpointError(
                f"{self.path} has a bad list of names.", expected=f"{count} strings", received=f"{len(data)} bytes"
            )
        self.structures.count_characters(sum(map(len, names)))
        return names


def _is_variable(kind: bytes) -> bool:
    """Return whether a datatype message tells strings of variable length."""
    return kind[0] & 15 == _VARIABLE and kind[1] & 15 == 1 and kind[4:8] == b"\x10\0\0\0"


def _is_string(attribute: Attribute) -> bool:
    return attribute.shape == () and (attribute.kind[0] & 15 == _STRING or _is_variable(attribute.kind))
