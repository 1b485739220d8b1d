"""Reading MessagePack type bytes from a file, without building the values.

Source: the MessagePack specification, "Formats". Lengths are checked against what is left before anything is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from triptych.errors import CorruptCheckpointError, LimitError, TruncatedCheckpointError

# Type byte -> kind, and the number of bytes after it that hold its length (or, for numbers, its value).
_SIZED: dict[int, tuple[str, int]] = {
    0xC0: ("nil", 0),
    0xC2: ("bool", 0),
    0xC3: ("bool", 0),
    **{0xC4 + power: ("bin", 1 << power) for power in range(3)},
    **{0xC7 + power: ("ext", 1 << power) for power in range(3)},
    0xCA: ("float", 4),
    0xCB: ("float", 8),
    **{0xCC + power: ("int", 1 << power) for power in range(4)},
    **{0xD0 + power: ("int", 1 << power) for power in range(4)},
    **{0xD4 + power: ("ext", 0) for power in range(5)},
    **{0xD9 + power: ("str", 1 << power) for power in range(3)},
    0xDC: ("array", 2),
    0xDD: ("array", 4),
    0xDE: ("map", 2),
    0xDF: ("map", 4),
}
_BYTES_PER_ITEM = {"str": 1, "bin": 1, "ext": 1, "array": 1, "map": 2}


class Cursor:
    """A position in a file, and the end of what may be read: of the file, or of the extension being read."""

    def __init__(self, file: BinaryIO, size: int, path: Path, remedy: str) -> None:
        self.path = path
        self.position = 0
        self._file, self._end, self._remedy = file, size, remedy

    @property
    def left(self) -> int:
        return self._end - self.position

    def bad(self, detail: str, expected: str, received: str) -> CorruptCheckpointError:
        """Return the error that says what is wrong near the position."""
        return CorruptCheckpointError(
            f"{self.path} {detail}, before byte {self.position}.",
            expected=expected,
            received=received,
            remedy=self._remedy,
        )

    def _need(self, count: int) -> None:
        if count > self.left:
            raise TruncatedCheckpointError(
                f"{self.path} ends too early, or an object of it is longer than what holds it.",
                expected=f"{count} bytes at byte {self.position}",
                received=f"{self.left} bytes",
                remedy=self._remedy,
            )

    def take(self, count: int) -> bytes:
        self._need(count)
        data = self._file.read(count)
        if len(data) != count:
            raise TruncatedCheckpointError(f"{self.path} was cut while it was read.", expected=f"{count} bytes")
        self.position += count
        return data

    def skip(self, count: int) -> None:
        self._need(count)
        self.position += count
        self._file.seek(self.position)

    def natural(self, width: int) -> int:
        """Read an unsigned big-endian integer of `width` bytes."""
        return int.from_bytes(self.take(width), "big")

    def head(self) -> tuple[str, int]:
        """Read a type byte and what belongs to it.

        Returns the kind (map, array, str, bin, ext, int, float, bool, nil) and a number: items of a map or array, bytes
        of a str or bin or of an ext's payload (its type byte comes first), the value of an int or bool, 0 otherwise.
        """
        byte = self.natural(1)
        if byte < 0x80 or byte >= 0xE0:
            return "int", byte if byte < 0x80 else byte - 0x100
        if byte < 0xC0:
            kind = "map" if byte < 0x90 else "array" if byte < 0xA0 else "str"
            return self._fits(kind, byte & (0x1F if kind == "str" else 0x0F))
        if byte not in _SIZED:
            raise self.bad("has a type byte that does not exist", "a MessagePack type", hex(byte))
        kind, width = _SIZED[byte]
        if kind == "int":
            return kind, int.from_bytes(self.take(width), "big", signed=byte >= 0xD0)
        if kind in ("nil", "bool", "float"):
            self.skip(width)
            return kind, byte & 1 if kind == "bool" else 0
        return self._fits(kind, self.natural(width) if width else 1 << (byte - 0xD4))

    def _fits(self, kind: str, count: int) -> tuple[str, int]:
        self._need(count * _BYTES_PER_ITEM[kind] + (kind == "ext"))
        return kind, count

    def text(self, longest: int) -> str:
        """Read a string of at most `longest` bytes."""
        kind, count = self.head()
        if kind != "str":
            raise self.bad("has a bad key or name", "a string", f"a {kind}")
        if count > longest:
            raise LimitError(f"{self.path} has a name of {count} bytes.", expected=f"at most {longest}")
        try:
            return self.take(count).decode()
        except UnicodeDecodeError as cause:
            raise self.bad("has a name that is no UTF-8", "UTF-8", str(cause)) from cause

    def starts_with(self, text: str) -> bool:
        """Return whether the string `text` (32 to 255 bytes, or less than 32) comes next, without moving."""
        data = text.encode()
        head = bytes([0xA0 + len(data)]) if len(data) < 32 else bytes([0xD9, len(data)])
        if len(head + data) > self.left:
            return False
        found = self._file.read(len(head + data)) == head + data
        self._file.seek(self.position)
        return found

    def narrow(self, count: int) -> int:
        """Let what is read end after `count` bytes; return the old end, for `widen`."""
        self._need(count)
        old, self._end = self._end, self.position + count
        return old

    def widen(self, end: int) -> None:
        self._end = end

    def finish(self) -> None:
        """Check that nothing is left."""
        if self.left:
            raise self.bad("has bytes after its end", f"{self.position} bytes", f"{self.left} more")
