"""Variable-length strings of HDF5 attributes, read without libhdf5.

Source: HDF5 File Format Specification 3.0, sections IV.A.1.a (object header, version 1), IV.A.2.m (attribute message)
and III.E (global heap). libhdf5 1.14 loops for ever over a global heap with an object of a certain damaged size, and it
copies a string as often as a list names it; this reader does neither.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from triptych.errors import CorruptCheckpointError, LimitError, UnsupportedFormatError
from triptych.safetensors_file import MAX_HEADER_BYTES, MAX_NAME

_ATTRIBUTE, _CONTINUATION = 0x0C, 0x10
_SHARED = 2
_MAX_BLOCKS = 1024
_MAX_OBJECTS = 1_000_000
_REFERENCE = struct.Struct("<IQI")


class HeapStrings:
    """Reads lists of strings from an open file of `size` bytes.

    Damage shows as an error of this project, or as one of struct or of decoding, which `hdf5_walk.classified` turns.
    """

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self._file, self._size, self._path = file, size, path
        self._headers: dict[int, dict[bytes, bytes]] = {}
        self._heaps: dict[int, dict[int, bytes]] = {}
        self._objects = self._read_bytes = 0

    def read(self, header: int, name: str, count: int) -> list[str]:
        """Return the `count` strings of attribute `name` of the object whose header is at byte `header`."""
        if header not in self._headers:
            self._headers[header] = dict(map(self._attribute, self._messages(header)))
        data = self._headers[header].get(name.encode(), b"")
        references = [_REFERENCE.unpack_from(data, _REFERENCE.size * number) for number in range(count)]
        return [self._string(*reference) for reference in references]

    def _bytes(self, start: int, count: int) -> bytes:
        """Read a byte range; in all, no more than the file twice over, so that ranges may not overlap at will."""
        self._read_bytes += count
        if start + count > self._size or self._read_bytes > min(2 * self._size, MAX_HEADER_BYTES):
            raise CorruptCheckpointError(
                f"{self._path} has a bad range.", expected=f"at most {self._size} bytes", received=f"{count} at {start}"
            )
        self._file.seek(start)
        return self._file.read(count)

    def _messages(self, header: int) -> Iterator[bytes]:
        """Yield the attribute messages of the object header at byte `header`."""
        version, _, _, length = struct.unpack_from("<BxHII", self._bytes(header, 16))
        if version != 1:
            raise UnsupportedFormatError(
                f"{self._path} has names of variable length in a newer form of HDF5.",
                expected="object headers of version 1, which Keras writes",
                received=f"the byte {version}",
                remedy="write the file again with libver='earliest'",
            )
        blocks = [(header + 16, length)]
        for number, (start, size) in enumerate(blocks):
            block, position = self._bytes(start, size), 0
            while position + 8 <= len(block):
                kind, size, flags = struct.unpack_from("<HHB", block, position)
                body = block[position + 8 : position + 8 + size]
                if kind == _CONTINUATION and number < _MAX_BLOCKS:
                    blocks.append(struct.unpack_from("<QQ", body))
                if kind == _ATTRIBUTE and flags & _SHARED:
                    raise UnsupportedFormatError(f"{self._path} shares its attributes between objects.")
                if kind == _ATTRIBUTE:
                    yield body
                position += 8 + size

    def _attribute(self, body: bytes) -> tuple[bytes, bytes]:
        """Return name and data of an attribute message; its parts are padded to 8 bytes in version 1 only."""
        version, flags, *sizes = struct.unpack_from("<BBHHH", body)
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise UnsupportedFormatError(f"{self._path} has an attribute in an unknown form.", received=f"{version}")
        start = 9 if version == 3 else 8
        spans = [-(-size // 8) * 8 if version == 1 else size for size in sizes]
        return body[start : start + sizes[0]].rstrip(b"\0"), body[start + sum(spans) :]

    def _string(self, length: int, heap: int, index: int) -> str:
        if length > MAX_NAME:
            raise LimitError(f"{self._path} has a name of {length} bytes.", expected=f"at most {MAX_NAME}")
        if not length:
            return ""
        if heap not in self._heaps:
            self._heaps[heap] = self._heap(heap)
        data = self._heaps[heap].get(index, b"")
        if len(data) != length:
            raise CorruptCheckpointError(
                f"{self._path} has a bad name.", expected=f"{length} bytes", received=f"{len(data)} bytes"
            )
        return data.decode()

    def _heap(self, start: int) -> dict[int, bytes]:
        """Return the objects of a global heap collection that are short enough for a name, by index."""
        signature, version, size = struct.unpack_from("<4sB3xQ", self._bytes(start, 16))
        if signature != b"GCOL" or version != 1:
            raise CorruptCheckpointError(f"{self._path} has a bad heap.", received=f"{signature!r} at byte {start}")
        block, position, objects = self._bytes(start, size), 16, {}
        while position + 16 <= size:
            index, length = struct.unpack_from("<H6xQ", block, position)
            if not index:  # the free space, which is last
                break
            self._objects += 1
            if length > size - position - 16 or self._objects > _MAX_OBJECTS:
                raise CorruptCheckpointError(f"{self._path} has a bad heap.", received=f"an object of {length} bytes")
            if length <= MAX_NAME:
                objects[index] = block[position + 16 : position + 16 + length]
            position += 16 + -(-length // 8) * 8
        return objects
