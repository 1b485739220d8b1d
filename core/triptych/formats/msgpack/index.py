"""Where the arrays of a Flax msgpack file lie: one pass over keys and array heads.

Source: the MessagePack specification, and flax.serialization's extension types and chunked arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from triptych.errors import LimitError, UnsupportedFormatError
from triptych.formats.msgpack.cursor import Cursor
from triptych.tensors import dtypes
from triptych.tensors.limits import MAX_HEADER_BYTES, MAX_NAME, MAX_RANK

MAX_DEPTH = 64
MAX_ENTRIES = 100_000
"""Keys of all maps together. The largest Flax models have some thousands."""
CHUNKED = "__msgpack_chunked_array__"
"""First key of a map that stands for one array in chunks."""
ARRAY, COMPLEX, SCALAR = 1, 2, 3
"""Flax's extension types."""
_DTYPES = {dtype.name: dtype for dtype in dtypes.NAMES}


@dataclass(frozen=True)
class Range:
    """Elements in the file, from byte `start`: one whole array, or one chunk of it."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int


class Index:
    """One pass over the file: keys and array heads are read, the bytes of the arrays are skipped.

    `read` returns the shape of each array and where its elements are, by the keys joined with "/".
    """

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.path = cursor.path
        self.found: dict[str, tuple[tuple[int, ...], list[Range]]] = {}
        self.entries = self.characters = 0

    def read(self) -> dict[str, tuple[tuple[int, ...], list[Range]]]:
        kind, count = self.cursor.head()
        if kind != "map":
            raise self.cursor.bad("holds no tree of arrays", "a map", f"a {kind}")
        stack: list[tuple[tuple[str, ...], int, set[str]]] = [((), count, set())]
        while stack:
            prefix, left, seen = stack.pop()
            if not left:
                continue
            stack.append((prefix, left - 1, seen))
            path = (*prefix, self._key(seen))
            kind, length = self.cursor.head()
            if kind != "map":
                self._leaf(path, kind, length)
            elif not self._chunked(path, length):
                if len(path) >= MAX_DEPTH:
                    raise LimitError(f"{self.path} is nested too deeply.", expected=f"at most {MAX_DEPTH} maps")
                stack.append((path, length, set()))
        self.cursor.finish()
        return self.found

    def _key(self, seen: set[str]) -> str:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise LimitError(f"{self.path} has too many entries.", expected=f"at most {MAX_ENTRIES}")
        key = self.cursor.text(MAX_NAME)
        if key in seen or not key or "/" in key:
            raise self.cursor.bad("has a bad key", 'distinct keys without "/"', repr(key)[:80])
        seen.add(key)
        return key

    def _leaf(self, path: tuple[str, ...], kind: str, length: int) -> None:
        if kind != "ext":
            raise UnsupportedFormatError(
                f"{self.path} holds something else than arrays.",
                expected="arrays and maps of arrays",
                received=f"a {kind} at {'/'.join(path)[:80]!r}",
                remedy="save the parameters only, without optimizer state or counters",
            )
        array = self._array(length)
        self._add(path, array.shape, [array])

    def _add(self, path: tuple[str, ...], shape: tuple[int, ...], parts: list[Range]) -> None:
        name = "/".join(path)
        self.characters += len(name)
        if len(name) > MAX_NAME or self.characters > MAX_HEADER_BYTES:
            raise LimitError(f"{self.path} has names that are too long.", expected=f"at most {MAX_NAME} characters")
        self.found[name] = (shape, parts)

    def _array(self, length: int) -> Range:
        """Read the head of an extension whose payload has `length` bytes, and skip the elements."""
        cursor = self.cursor
        code = cursor.natural(1)
        if code == COMPLEX:
            raise UnsupportedFormatError(f"{self.path} holds a complex number that is no array.")
        if code not in (ARRAY, SCALAR):
            raise cursor.bad("has an unknown extension", "type 1 or 3", f"type {code}")
        outer = cursor.narrow(length)
        if cursor.head() != ("array", 3):
            raise cursor.bad("has a bad array", "shape, dtype and bytes", "something else")
        shape = self._shape(code)
        name = cursor.text(32)
        if name not in _DTYPES:
            raise UnsupportedFormatError(
                f"{self.path} has an array of an unknown dtype.", expected=", ".join(_DTYPES), received=repr(name)
            )
        kind, count = cursor.head()
        dtype, start = _DTYPES[name], cursor.position
        if kind != "bin" or count != dtype.itemsize * math.prod(shape) or cursor.left != count:
            expected = f"{dtype.itemsize * math.prod(shape)} bytes"
            raise cursor.bad("has an array that is not as long as its shape", expected, f"{kind} of {count} bytes")
        cursor.skip(count)
        cursor.widen(outer)
        return Range(dtype, shape, start)

    def _shape(self, code: int) -> tuple[int, ...]:
        kind, rank = self.cursor.head()
        if kind != "array" or (code == SCALAR and rank):
            raise self.cursor.bad("has a bad shape", "an array of lengths, empty for a scalar", f"{kind} of {rank}")
        self._check_rank(rank)
        return tuple(self._length() for _ in range(rank))

    def _check_rank(self, rank: int) -> None:
        if rank > MAX_RANK:
            raise LimitError(f"{self.path} has an array of {rank} axes.", expected=f"at most {MAX_RANK}")

    def _length(self) -> int:
        kind, value = self.cursor.head()
        if kind != "int" or value < 0:
            raise self.cursor.bad("has a bad shape", "lengths that are not negative", f"a {kind}, {value}")
        if value > 2**48:
            raise LimitError(f"{self.path} has an array that is too large.", received=f"an axis of {value}")
        return value

    def _chunked(self, path: tuple[str, ...], length: int) -> bool:
        """Read a chunked array if the map at the cursor is one; leave the cursor where it is otherwise."""
        cursor = self.cursor
        start = cursor.position
        if length != 3 or not cursor.starts_with(CHUNKED):
            return False
        if cursor.text(64) != CHUNKED or cursor.head() != ("bool", 1):
            raise cursor.bad(f"has a bad chunked array at byte {start}", "its mark to be true", "another value")
        shape = tuple(self._length() for _ in self._numbered("shape"))
        parts = []
        for _ in self._numbered("chunks"):
            kind, size = cursor.head()
            if kind != "ext":
                raise cursor.bad("has a bad chunk", "an array", f"a {kind}")
            parts.append(self._array(size))
        flat = all(len(part.shape) == 1 and part.dtype == parts[0].dtype for part in parts)
        if not parts or not flat or sum(part.shape[0] for part in parts) != math.prod(shape):
            raise cursor.bad("has chunks that do not make their array", f"shape {shape}", f"{len(parts)} chunks")
        self._add(path, shape, parts)
        return True

    def _numbered(self, name: str) -> Iterator[int]:
        """Yield 0, 1, ... before each value of the map under key `name`, whose keys must be these numbers."""
        cursor = self.cursor
        if cursor.text(64) != name:
            raise cursor.bad("has a bad chunked array", f"its {name}", "another key")
        kind, count = cursor.head()
        if kind != "map":
            raise cursor.bad("has a bad chunked array", f"{name} in a map", f"a {kind}")
        if name == "shape":
            self._check_rank(count)
        for number in range(count):
            if self._key(set()) != str(number):
                raise cursor.bad("has a bad chunked array", f"{name} {number}", "another key")
            yield number
