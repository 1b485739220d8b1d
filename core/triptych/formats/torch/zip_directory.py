"""Directories of zip archives that torch.save wrote or that a zip tool repacked: `zipfile`, and what it does not check.

Zip readers differ in which of two contradicting statements they believe (central or local header, count or size, which
of two records of one name), so files are made that one reader finds harmless and the next does not. `zipfile` believes
one and compares few; here a file is accepted only if all agree and the records lie one after the other from byte 0 up
to the directory. Names are only looked up, never used as paths. Format: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from triptych.errors import CorruptCheckpointError, LimitError, TruncatedCheckpointError, UnsupportedFormatError

MAX_RECORDS = 100_000
MAX_DIRECTORY_BYTES = 2**25
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q4sIQI")
"""The end record of zip64, and its locator."""
_END64_REST, _LOCATOR_SIZE = 44, 20
_CENTRAL_SIZE, _CENTRAL_LENGTHS = 46, 28
"""Bytes of a header of the directory before its name, and where the lengths of name, extra field and comment stand."""
_LOCAL = struct.Struct("<4s5H3I2H")
_ALLOWED_FLAGS = 0x80E
"""Deflate options (bits 1 and 2), data descriptor (3), UTF-8 names (11); all others are encryption or patches."""
_UTF8 = 0x800


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


def read_directory(file: BinaryIO, size: int, path: Path) -> dict[str, Record]:
    """Return the records of the archive by name; their contents are not read.

    Raises:
        TruncatedCheckpointError, CorruptCheckpointError, LimitError, UnsupportedFormatError.
    """
    count, length, start = _end_record(file, size, path)
    if count > MAX_RECORDS or length > MAX_DIRECTORY_BYTES:
        raise LimitError(
            f"{path} has too many records.", expected=f"<= {MAX_RECORDS}", received=f"{count} in {length} bytes"
        )
    try:
        entries = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as cause:
        raise _corrupt(path, "a directory of whole headers", str(cause)) from cause
    if len(entries) != count or not _ends_whole(file, entries, start + length):
        raise _corrupt(path, f"a directory of {count} whole headers", f"{len(entries)}, or a part")
    records: dict[str, Record] = {}
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if not position <= entry.header_offset < start or (not records and entry.header_offset):
            raise _corrupt(path, "records one after the other, from byte 0", f"a header at byte {entry.header_offset}")
        record = _record(file, entry, path)
        position = record.start + record.stored
        if position > start:
            raise _corrupt(path, "records that end before the directory", f"{record.name[:80]!r} behind it")
        if record.name in records:
            raise _corrupt(path, "each name once", f"{record.name[:80]!r} twice")
        records[record.name] = record
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


def _end_record(file: BinaryIO, size: int, path: Path) -> tuple[int, int, int]:
    """Return the number of records, and the length and start of the directory, on which all end records agree.

    An archive with a comment is refused: its end record would have to be searched for.
    """
    file.seek(max(0, size - _END64.size - _END.size))
    tail = file.read()
    wide, end = tail[: -_END.size], tail[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        raise TruncatedCheckpointError(
            f"{path} does not end as a zip archive does.",
            expected=f"an end record in the last {_END.size} bytes",
            received=f"{size} bytes without one",
            remedy="get the file again",
        )
    _, *disks, here, count, length, start, comment = _END.unpack(end)
    agree, stop = not any(disks) and here == count and not comment, size - _END.size
    if len(wide) == _END64.size and wide[-_LOCATOR_SIZE:].startswith(b"PK\x06\x07"):
        narrow, stop = (count, length, start), stop - _END64.size
        mark, rest, _, _, *disks, here, count, length, start, _, first, place, all_disks = _END64.unpack(wide)
        agree &= (mark, rest, disks, here) == (b"PK\x06\x06", _END64_REST, [0, 0], count)
        agree &= (first, place, all_disks) == (0, stop, 1)
        limits = (2**16 - 1, 2**32 - 1, 2**32 - 1)
        agree &= all(n in pair for n, *pair in zip(narrow, (count, length, start), limits, strict=True))
    if not agree or start + length != stop:
        raise _corrupt(path, "one whole archive without a comment", "end records that contradict it or each other")
    return count, length, start


def _name(entry: zipfile.ZipInfo) -> bytes:
    """Return the name as it stands in the file."""
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437")


def _ends_whole(file: BinaryIO, entries: list[zipfile.ZipInfo], end: int) -> bool:
    """Return whether the last header of the directory is as long as it says: `zipfile` takes what there is."""
    if not entries:
        return True
    lengths = [len(part) for part in (_name(entries[-1]), entries[-1].extra, entries[-1].comment)]
    file.seek(end - sum(lengths) - _CENTRAL_SIZE + _CENTRAL_LENGTHS)
    return file.read(6) == struct.pack("<3H", *lengths)


def _record(file: BinaryIO, entry: zipfile.ZipInfo, path: Path) -> Record:
    """Check an entry of the directory, and the local header against it; only that says where the data start."""
    name, flags, method = _name(entry), entry.flag_bits, entry.compress_type
    if method not in (STORED, DEFLATED) or flags & ~_ALLOWED_FLAGS:
        raise UnsupportedFormatError(
            f"Record {ascii(name[:80])} of {path} is encrypted or compressed in a way that is not read.",
            expected="method 0 (stored) or 8 (deflated)",
            received=f"method {method}, flags {flags:#x}",
            remedy="save it again with torch.save",
        )
    stored, size = entry.compress_size, entry.file_size
    if stored != size if method == STORED else stored > 2 * size + 1024:
        raise _corrupt(path, f"{size} bytes in {ascii(name[:80])}", f"{stored}")
    file.seek(entry.header_offset)
    head = file.read(_LOCAL.size + len(name))
    if len(head) != _LOCAL.size + len(name):
        raise _corrupt(path, "a local header", f"the end of the file at byte {entry.header_offset}")
    mark, _, *local, _, _, _, _, _, length, extra = _LOCAL.unpack_from(head)
    agree = (mark, local, length) == (b"PK\x03\x04", [flags, method], len(name)) and head[_LOCAL.size :] == name
    if not agree or entry.volume or entry.filename != entry.orig_filename:
        raise _corrupt(path, "headers that agree", f"another local header of {ascii(name[:80])}")
    return Record(entry.filename, entry.header_offset + len(head) + extra, stored, size, entry.CRC, method)
