"""The structures of HDF5 files in their first form, in which Keras 2 wrote weights: superblock, headers, trees, heaps.

Source: HDF5 File Format Specification 3.0, sections II.A (superblock 0 and 1), III.A.1 (B-tree version 1), III.B
(symbol table node), III.D and III.E (local and global heap), IV.A.1.a (object header version 1), IV.A.2 (messages).

libhdf5 is not used for reading: version 1.14.6 loops for ever over a global heap with a damaged length, aborts the
process over damaged links of newer groups, and follows links, external storage and virtual datasets into other files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    TriptychError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedFormatError,
)
from triptych.tensors.limits import MAX_HEADER_BYTES, MAX_NAME

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1
"""An address that says: nothing is stored."""
MAX_ENTRIES = 100_000
"""Groups and datasets together; also the chunks of one dataset, the names of one list."""
_MAX_OBJECTS = 1_000_000
_GROUP_TREE, _CHUNK_TREE = 0, 1
_CONTINUATION, _SHARED, _SOFT = 0x10, 2, 2


class Message(NamedTuple):
    """One message of an object header: type, and contents."""

    kind: int
    body: bytes


@dataclass(frozen=True)
class Chunk:
    """One chunk of a dataset: index of its first element, byte range, and a bit for each filter that was skipped."""

    first: tuple[int, ...]
    start: int
    count: int
    skipped: int


@contextmanager
def classified(path: Path, remedy: str) -> Iterator[None]:
    """Turn the errors of reading beyond a structure, and of text that is no UTF-8, into `CorruptCheckpointError`."""
    try:
        yield
    except TriptychError:
        raise
    except (struct.error, IndexError, ValueError, OverflowError) as cause:
        raise CorruptCheckpointError(
            f"{path} is damaged.", expected="a readable HDF5 file", received=str(cause)[:300], remedy=remedy
        ) from cause


class Structures:
    """Reads structures from an open file of `size` bytes.

    In all, no more bytes are read than the file has twice over: structures that share bytes cost no more than others.
    """

    def __init__(self, file: BinaryIO, size: int, path: Path, remedy: str) -> None:
        self.path, self.size = path, size
        self._file, self._remedy = file, remedy
        self._heaps: dict[int, dict[int, bytes]] = {}
        self._budget = min(2 * size, MAX_HEADER_BYTES)
        self._objects = self._characters = 0
        self.ranges: list[tuple[int, int, str]] = []  # start, end, and no name: what was read

    def bad(self, what: str, received: object) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"{self.path} has a bad {what}.", received=str(received)[:120], remedy=self._remedy
        )

    def newer(self, what: str) -> UnsupportedFormatError:
        """Return the error for what only newer HDF5 files have."""
        return UnsupportedFormatError(
            f"{self.path} is an HDF5 file in a newer form than Keras 2 wrote.",
            expected="the first form of HDF5",
            received=what,
            remedy="write it again with h5py and libver='earliest'",
        )

    def unsafe(self, name: str, what: str) -> UnsafeCheckpointError:
        """Return the error for something that would make a reader open other data."""
        return UnsafeCheckpointError(
            f"{self.path} leads to other data at {name[:120]!r}.",
            expected="arrays in the file itself",
            received=what,
            remedy="do not use this checkpoint",
        )

    def read(self, start: int, count: int) -> bytes:
        self._budget -= count
        if start + count > self.size or self._budget < 0:
            raise self.bad("range", f"{count} bytes at byte {start}")
        self.ranges.append((start, start + count, ""))
        self._file.seek(start)
        return self._file.read(count)

    def _count(self, number: int) -> None:
        self._objects += number
        if self._objects > _MAX_OBJECTS:
            raise LimitError(f"{self.path} has too many entries.", expected=f"at most {_MAX_OBJECTS}")

    def count_characters(self, count: int) -> None:
        """Raise `LimitError` if all names together have more than `MAX_HEADER_BYTES`."""
        self._characters += count
        if self._characters > MAX_HEADER_BYTES:
            raise LimitError(f"{self.path} has too many long names.", expected=f"at most {MAX_HEADER_BYTES} characters")

    def check_entries(self, number: int) -> None:
        """Raise `LimitError` if a list has more than `MAX_ENTRIES`."""
        if number > MAX_ENTRIES:
            raise LimitError(
                f"{self.path} has too many entries.", expected=f"at most {MAX_ENTRIES}", received=str(number)
            )

    def root(self) -> int:
        """Check the superblock; return the address of the root's object header."""
        head = self._file.read(100)
        if not head.startswith(SIGNATURE):
            error = TruncatedCheckpointError if SIGNATURE.startswith(head) else CorruptCheckpointError
            raise error(
                f"{self.path} is no HDF5 file.", expected="its signature", received=repr(head[:8]), remedy=self._remedy
            )
        if len(head) < 100:
            raise TruncatedCheckpointError(f"{self.path} is too short.", received=f"{self.size} bytes")
        if head[8] > 1 or head[13:15] != b"\x08\x08":
            raise self.newer(f"superblock {head[8]}")
        base, _, end, _, _, header = struct.unpack_from("<6Q", head, 24 + 4 * head[8])
        if end > self.size:
            raise TruncatedCheckpointError(
                f"{self.path} ends too early.", expected=f"{end} bytes", received=f"{self.size} bytes"
            )
        if end < self.size or base:
            raise self.bad("length", f"{self.size} bytes instead of {end} from byte {base}")
        return int(header)

    def messages(self, header: int) -> list[Message]:
        """Return the messages of the object header at byte `header`."""
        version, count, _, length = struct.unpack_from("<BxHII", self.read(header, 16))
        if version != 1:
            raise self.newer(f"an object header that begins with {version}")
        blocks: list[tuple[int, int]] = [(header + 16, length)]
        found: list[Message] = []
        for start, size in blocks:
            block, position = self.read(start, size), 0
            while position + 8 <= len(block) and len(found) < count:
                kind, size, flags = struct.unpack_from("<HHB", block, position)
                body = block[position + 8 : position + 8 + size]
                if flags & _SHARED:
                    raise self.newer("a shared message")
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack_from("<QQ", body))
                found.append(Message(kind, body))
                position += 8 + size
        return found

    def _leaves(self, tree: int, kind: int, key_size: int) -> Iterator[tuple[bytes, int]]:
        """Yield key and address of what the leaves of a B-tree refer to."""
        stack: list[tuple[int, int | None]] = [(tree, None)]
        while stack:
            start, expected = stack.pop()
            signature, found, level, count = struct.unpack_from("<4sBBH", self.read(start, 24))
            if signature != b"TREE" or found != kind or (expected is not None and level != expected):
                raise self.bad("tree", f"{signature!r} of type {found} and level {level} at byte {start}")
            self._count(count)
            body, step = self.read(start + 24, count * (key_size + 8)), key_size + 8
            keys = [body[at : at + key_size] for at in range(0, len(body), step)]
            children = [int.from_bytes(body[at + key_size : at + step], "little") for at in range(0, len(body), step)]
            if level:
                stack += [(child, level - 1) for child in children]
            else:
                yield from zip(keys, children, strict=True)

    def links(self, tree: int, heap: int, group: str) -> list[tuple[str, int]]:
        """Return name and object header address of every link of a group.

        Raises:
            UnsafeCheckpointError: a soft link.
        """
        signature, size, _, start = struct.unpack_from("<4s4xQQQ", self.read(heap, 32))
        if signature != b"HEAP":
            raise self.bad("heap", f"{signature!r} at byte {heap}")
        names, found = self.read(start, size), []
        for _, node in self._leaves(tree, _GROUP_TREE, 8):
            signature, version, count = struct.unpack_from("<4sBxH", self.read(node, 8))
            if signature != b"SNOD" or version != 1:
                raise self.bad("symbol table", f"{signature!r} at byte {node}")
            self._count(count)
            for at, header, kind in struct.iter_unpack("<QQI20x", self.read(node + 8, 40 * count)):
                if (end := names.find(b"\0", at, at + MAX_NAME + 1)) < 0:
                    raise LimitError(f"{self.path} has too long a name.", expected=f"at most {MAX_NAME} bytes")
                self.count_characters(end - at)  # names may share their bytes
                name = names[at:end].decode()
                if kind == _SOFT:
                    raise self.unsafe(f"{group}/{name}", "a soft link")
                found.append((name, header))
        return found

    def chunks(self, tree: int, rank: int) -> list[Chunk]:
        """Return the chunks that the B-tree of a dataset of `rank` axes names."""
        if tree == UNDEFINED:
            return []
        found = []
        for key, start in self._leaves(tree, _CHUNK_TREE, 16 + 8 * rank):
            count, skipped, *first = struct.unpack_from(f"<II{rank}Q", key)
            found.append(Chunk(tuple(first), start, count, skipped))
        return found

    def string(self, length: int, heap: int, index: int) -> str:
        """Return object `index` of the global heap collection at byte `heap`, a name of `length` bytes."""
        if length > MAX_NAME:
            raise LimitError(f"{self.path} has a name of {length} bytes.", expected=f"at most {MAX_NAME}")
        if not length:
            return ""
        if heap not in self._heaps:
            self._heaps[heap] = self._heap(heap)
        data = self._heaps[heap].get(index, b"")
        if len(data) != length:
            raise self.bad("name", f"{len(data)} bytes instead of {length}")
        return data.decode()

    def _heap(self, start: int) -> dict[int, bytes]:
        """Return the objects of a global heap collection that are short enough for a name."""
        signature, version, size = struct.unpack_from("<4sB3xQ", self.read(start, 16))
        if signature != b"GCOL" or version != 1:
            raise self.bad("heap", f"{signature!r} at byte {start}")
        block, position, objects = self.read(start, size), 16, {}
        while position + 16 <= size:
            index, length = struct.unpack_from("<H6xQ", block, position)
            if not index:  # the free space, which is last
                break
            self._count(1)
            if length > size - position - 16:
                raise self.bad("heap", f"an object of {length} bytes")
            if length <= MAX_NAME:
                objects[index] = block[position + 16 : position + 16 + length]
            position += 16 + -(-length // 8) * 8
        return objects
