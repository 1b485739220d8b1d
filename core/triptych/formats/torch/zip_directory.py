"""A strict reader of zip directories, for archives that torch.save wrote or that a zip tool repacked.

Zip readers differ in which of two contradicting statements they believe (central or local header, count or size, which
of two records of one name), so files are made that one reader finds harmless and the next does not. This one accepts a
file only if both headers agree and the records lie one after the other from byte 0 up to the directory. Names are only
looked up, never used as paths. Format: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    TriptychError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
)

MAX_RECORDS = 100_000
MAX_DIRECTORY_BYTES = 2**25
STORED, DEFLATED = 0, 8

_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_MAX_COMMENT = 2**16
_ALLOWED_FLAGS = 0x80E
"""Deflate options (bits 1 and 2), data descriptor (3), UTF-8 names (11); all others are encryption or patches."""


@dataclass(frozen=True, slots=True)
class Record:
    """One file of an archive: `stored` bytes at `start`, which are `size` bytes after inflating, of checksum `crc`.

    A `crc` of 0 says nothing: torch.save writes it where it shall compute none (`set_crc32_options(False)`,
    `skip_data`).
    """

    name: str
    start: int
    stored: int
    size: int
    crc: int
    method: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """A central header; `header` is where the local one starts."""

    name: bytes
    flags: int
    method: int
    crc: int
    stored: int
    size: int
    header: int


def read_directory(file: BinaryIO, size: int, path: Path) -> dict[str, Record]:
    """Return the records of the archive by name; their contents are not read.

    Raises:
        TruncatedCheckpointError, CorruptCheckpointError, LimitError, UnsupportedFormatError.
    """
    count, length, start, end = _end_record(file, size, path)
    if start + length != end:
        raise _corrupt(path, f"a directory that ends at byte {end}", f"byte {start + length}")
    if count > MAX_RECORDS or length > MAX_DIRECTORY_BYTES:
        raise LimitError(
            f"{path} has too many records.", expected=f"<= {MAX_RECORDS}", received=f"{count} in {length} bytes"
        )
    file.seek(start)
    try:
        entries = _entries(file.read(length), count, path)
    except struct.error as cause:
        raise _corrupt(path, "whole headers", str(cause)) from cause
    records: dict[str, Record] = {}
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.header):
        if not position <= entry.header < start or (not records and entry.header):
            raise _corrupt(path, "records one after the other, from byte 0", f"a header at byte {entry.header}")
        record = _record(file, entry, path)
        if record.start + record.stored > start:
            raise _corrupt(path, "records that end before the directory", f"{record.name[:80]!r} behind it")
        if record.name in records:
            raise _corrupt(path, "each name once", f"{record.name[:80]!r} twice")
        records[record.name] = record
        position = record.start + record.stored
    return records


def inflate(file: BinaryIO, record: Record, path: Path) -> bytes:
    """Return the contents of a record; needs `record.size` bytes of memory and never more.

    Raises:
        CorruptCheckpointError: the contents are longer or shorter, or are not what the checksum says.
    """
    file.seek(record.start)
    data = file.read(record.stored)
    if record.method == STORED:
        check_crc(record, zlib.crc32(data), path)
        return data
    try:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        data = stream.decompress(data, record.size + 1)
    except zlib.error as cause:
        raise _corrupt(path, "deflated data", f"{record.name[:80]!r}: {cause}") from cause
    if len(data) != record.size or not stream.eof or stream.unused_data or zlib.crc32(data) != record.crc:
        raise _corrupt(path, "data of the size and checksum announced", f"other data in {record.name[:80]!r}")
    return data


def check_crc(record: Record, crc: int, path: Path) -> None:
    """Raise `CorruptCheckpointError` if the contents of a stored record, whose checksum is `crc`, are not its own."""
    if record.crc and crc != record.crc:
        raise _corrupt(path, f"data of checksum {record.crc:#010x} in {record.name[:80]!r}", f"{crc:#010x}")


def _corrupt(path: Path, expected: str, received: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        f"{path} is a damaged zip archive.", expected=expected, received=received, remedy="get the file again"
    )


def _end_record(file: BinaryIO, size: int, path: Path) -> tuple[int, int, int, int]:
    """Return the number of records, length and start of the directory, and where it must end."""
    tail_length = min(size, _END.size + _MAX_COMMENT)
    file.seek(size - tail_length)
    tail = file.read(tail_length)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) - found < _END.size:
        raise TruncatedCheckpointError(
            f"{path} ends before its zip directory does.",
            expected="an end record",
            received=f"{size} bytes without one",
            remedy="get the file again",
        )
    _, disk, disk_start, here, count, length, start, comment = _END.unpack_from(tail, found)
    end = size - tail_length + found
    if disk or disk_start or here != count or found + _END.size + comment != len(tail):
        raise _corrupt(path, "one whole archive and nothing after it", "another end record")
    locator = end - _LOCATOR.size
    file.seek(max(locator, 0))
    if locator < 0 or not (data := file.read(_LOCATOR.size)).startswith(b"PK\x06\x07"):
        return count, length, start, end
    return _end_record64(file, (count, length, start), data, locator, path)


def _end_record64(
    file: BinaryIO, narrow: tuple[int, int, int], data: bytes, locator: int, path: Path
) -> tuple[int, int, int, int]:
    _, disk, end, disks = _LOCATOR.unpack(data)
    if disk or disks != 1 or end + _END64.size != locator:
        raise _corrupt(path, "a zip64 end record before its locator", f"one at byte {end}")
    file.seek(end)
    mark, length, _, _, disk, disk_start, here, *wide = _END64.unpack(file.read(_END64.size))
    if mark != b"PK\x06\x06" or length != _END64.size - 12 or disk or disk_start or here != wide[0]:
        raise _corrupt(path, "a zip64 end record", "another record")
    for short, long, full in zip(narrow, wide, (2**16 - 1, 2**32 - 1, 2**32 - 1), strict=True):
        if short not in (long, full):
            raise _corrupt(path, "end records that agree", f"{short} and {long}")
    return wide[0], wide[1], wide[2], end


def _entries(data: bytes, count: int, path: Path) -> list[_Entry]:
    entries: list[_Entry] = []
    position = 0
    while position < len(data):
        fields = _CENTRAL.unpack_from(data, position)
        mark, _, _, flags, method, _, _, crc, stored, size, name, extra, comment, disk, _, _, header = fields
        position += _CENTRAL.size
        if mark != b"PK\x01\x02" or disk or position + name + extra + comment > len(data):
            raise _corrupt(path, "a directory of whole headers", "something else")
        wide = _wide(data[position + name : position + name + extra], (size, stored, header))
        entry = _Entry(data[position : position + name], flags, method, crc, wide[1], wide[0], wide[2])
        _check_method(entry, path)
        entries.append(entry)
        position += name + extra + comment
    if len(entries) != count:
        raise _corrupt(path, f"{count} records", f"{len(entries)}")
    return entries


def _wide(extra: bytes, fields: tuple[int, ...]) -> list[int]:
    """Return `fields` with those that do not fit 32 bits taken from the zip64 extra field (header 1)."""
    values, position = b"", 0
    while position + 4 <= len(extra) and not values:
        kind, length = struct.unpack_from("<2H", extra, position)
        values = extra[position + 4 : position + 4 + length] if kind == 1 else b""
        position += 4 + length
    result = []
    for field in fields:
        if field == 2**32 - 1:
            field, values = struct.unpack_from("<Q", values)[0], values[8:]
        result.append(field)
    return result


def _check_method(entry: _Entry, path: Path) -> None:
    problem: TriptychError | None = None
    name = ascii(entry.name[:80])
    if entry.method not in (STORED, DEFLATED) or entry.flags & ~_ALLOWED_FLAGS:
        problem = UnsupportedFormatError(
            f"Record {name} of {path} is encrypted or compressed in a way that is not read.",
            expected="method 0 (stored) or 8 (deflated)",
            received=f"method {entry.method}, flags {entry.flags:#x}",
            remedy="save it again with torch.save",
        )
    elif entry.stored != entry.size if entry.method == STORED else entry.stored > 2 * entry.size + 1024:
        problem = _corrupt(path, f"{entry.size} bytes in {name}", f"{entry.stored}")
    if problem is not None:
        raise problem


def _record(file: BinaryIO, entry: _Entry, path: Path) -> Record:
    """Check the local header against the central one; only it says where the data start."""
    file.seek(entry.header)
    head = file.read(_LOCAL.size + len(entry.name))
    if len(head) != _LOCAL.size + len(entry.name):
        raise _corrupt(path, "a local header", f"the end of the file at byte {entry.header}")
    mark, _, flags, method, _, _, _, _, _, name, extra = _LOCAL.unpack_from(head)
    if mark != b"PK\x03\x04" or (flags, method, name) != (entry.flags, entry.method, len(entry.name)):
        raise _corrupt(path, "headers that agree", f"another local header of {ascii(entry.name[:80])}")
    if head[_LOCAL.size :] != entry.name:
        raise _corrupt(path, f"the local name {ascii(entry.name[:80])}", ascii(head[_LOCAL.size :][:80]))
    try:
        text = entry.name.decode()
    except UnicodeDecodeError as cause:
        raise _corrupt(path, "names in UTF-8", ascii(entry.name[:80])) from cause
    start = entry.header + len(head) + extra
    return Record(text, start, entry.stored, entry.size, entry.crc, entry.method)
