"""Regular files: opened without being blocked, and known again by identity from then on.

Whoever reads a header reads the tensors later; between the two another process may put a new file under the name, or
write into this one. A mapped file is mapped at once, a file that is read piece by piece is held open, and where so many
are that descriptors would run out, it is opened again and compared.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from triptych.errors import (
    ChangedFileError,
    LimitError,
    MissingFileError,
    TriptychError,
    TruncatedCheckpointError,
    UnreadableFileError,
    UnsupportedFormatError,
)

MAX_HELD = 64
"""Files that are held open at a time, in the whole process; a system may allow as few as 256 descriptors."""
_MAX_READ = 2**30
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
"""Which Python has a name for since 3.13."""


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for reading if it is a regular file; a FIFO or device would block for ever.

    Raises:
        MissingFileError, UnsupportedFormatError. UnreadableFileError: the system refuses to open it, or to read on.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as cause:
        error = MissingFileError(f"There is no file {path}.", remedy="check the path; if it was just saved, try again")
        error.errno = cause.errno
        raise error from cause
    except OSError as cause:
        raise unreadable(path, "opened", cause) from cause
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError as cause:
        os.close(descriptor)
        raise unreadable(path, "read", cause) from cause
    if not is_regular:
        os.close(descriptor)
        raise UnsupportedFormatError(f"{path} is no weight file.", expected="a regular file", received="another kind")
    with os.fdopen(descriptor, "rb") as file:
        try:
            yield file
        except TriptychError:
            raise
        except OSError as cause:
            raise unreadable(path, "read", cause) from cause


def unreadable(path: Path, done: str, cause: OSError) -> UnreadableFileError:
    """Return the error for a file that cannot be opened, read or listed, whichever was `done`."""
    error = UnreadableFileError(
        f"{path} cannot be {done}.", received=str(cause), remedy="check who may read it, and that its disk is there"
    )
    error.errno = cause.errno
    return error


@dataclass(frozen=True)
class Identity:
    """By what a file is known again. A file that is written to, or another one under its name, differs in it.

    The time of the last change is left out: giving the file a second name changes it.
    """

    device: int
    inode: int
    size: int
    written: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def hold(file: BinaryIO, path: Path, mmap: bool) -> MappedBytes | OwnedBytes:
    """Return the bytes of the open `file`, to be read later, whatever is done to its name `path` until then.

    Args:
        mmap: map it copy-on-write (a part is then a view; truncating the file afterwards kills the process); False,
            or a system that does not map it, reads each part into owned memory when asked for.
    """
    if mmap:
        with suppress(OSError):
            return MappedBytes(file, path)
    return OwnedBytes(file, path)


class MappedBytes:
    """A file as a copy-on-write map, shared by all its tensors. It keeps no descriptor."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self.identity = Identity.of(os.fstat(file.fileno()))
        self._map = _mapped(file.fileno(), self.identity.size)

    def bytes_at(self, start: int, count: int) -> np.ndarray:
        """Return `count` bytes from byte `start`, which may be written to without reaching the file.

        Raises:
            ChangedFileError: as `check`.
        """
        self.check()
        return self._map[start : start + count]

    def check(self) -> None:
        """Raise `ChangedFileError` if the file was written to. It may have lost its name."""
        with suppress(OSError):
            now = Identity.of(os.stat(self.path))
            if (now.device, now.inode) == (self.identity.device, self.identity.inode) and now != self.identity:
                raise _changed(self.path)


class OwnedBytes:
    """A file read with ordinary reads into memory that belongs to the caller.

    It is held open if there are not `MAX_HELD` already, else opened again for each read.
    """

    _held: ClassVar[weakref.WeakSet[OwnedBytes]] = weakref.WeakSet()

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self.identity = Identity.of(os.fstat(file.fileno()))
        self._descriptor: int | None = None
        if hasattr(os, "preadv") and len(self._held) < MAX_HELD:
            self._descriptor = os.dup(file.fileno())
            self._held.add(self)
            weakref.finalize(self, os.close, self._descriptor)

    def bytes_at(self, start: int, count: int) -> np.ndarray:
        """Return `count` bytes from byte `start`.

        Raises:
            ChangedFileError: the file was written to, or another one has its name. MissingFileError.
            LimitError: the memory of this machine is smaller. UnreadableFileError: the system fails to read it.
        """
        data = _empty(count, self.path)
        if self._descriptor is not None:
            self._check(self._descriptor)
            _fill(data, self._descriptor, start, self.path)
            self._check(self._descriptor)
            return data
        with open_regular(self.path) as file:
            self._check(file.fileno())
            _fill(data, file.fileno(), start, self.path)
            self._check(file.fileno())
        return data

    def _check(self, descriptor: int) -> None:
        if Identity.of(os.fstat(descriptor)) != self.identity:
            raise _changed(self.path)


def _changed(path: Path) -> ChangedFileError:
    return ChangedFileError(
        f"{path} changed after it was opened.", expected="the file that was opened", remedy="load it again"
    )


def _empty(count: int, path: Path) -> np.ndarray:
    memory = memory_of_the_machine()
    with suppress(MemoryError):
        if memory is None or count <= memory:
            return np.empty(count, np.uint8)
    raise LimitError(
        f"A tensor of {path} is larger than the memory.",
        expected=f"at most {memory} bytes" if memory is not None else "",
        received=f"{count} bytes",
        remedy="map the file (mmap=True, the default), and read parts of the tensor",
    )


def memory_of_the_machine() -> int | None:
    """Return the bytes of memory that this machine has, or None if it does not say."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return size if size > 0 else None


def _fill(data: np.ndarray, descriptor: int, start: int, path: Path) -> None:
    done = 0
    while done < len(data):
        part = data[done : done + _MAX_READ].data
        try:
            received = _read_at(descriptor, part, start + done)
        except OSError as cause:
            raise unreadable(path, "read", cause) from cause
        if not received:
            raise _cut(path, len(data))
        done += received


def _read_at(descriptor: int, part: memoryview, start: int) -> int:
    """Read into `part` what the file has from byte `start`; return how many bytes."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [part], start)
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
        file.seek(start)
        return file.readinto(part) or 0


def _cut(path: Path, count: int) -> TruncatedCheckpointError:
    return TruncatedCheckpointError(f"{path} was cut while it was read.", expected=f"{count} bytes")


def _mapped(descriptor: int, size: int) -> np.ndarray:
    """Return the file as a private, writable map, for which no memory is set aside: it may be larger than that is.

    Python's own map keeps a duplicate of the descriptor for as long as it lives (before 3.13, always), so that a
    checkpoint of many shards could not be opened.
    """
    if not size:
        return np.empty(0, np.uint8)
    if sys.platform == "win32":
        return np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY), np.uint8)
    return np.asarray(_PrivateMap(descriptor, size))


class _PrivateMap:
    """Memory that mmap(2) returned, as an object that numpy takes for an array; unmapped when no array is left."""

    def __init__(self, descriptor: int, size: int) -> None:
        system = _system()
        flags = mmap.MAP_PRIVATE | _NORESERVE
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = system.mmap(None, size, access, flags, descriptor, 0)
        if address == ctypes.c_void_p(-1).value:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        weakref.finalize(self, system.munmap, address, size).atexit = False
        self.__array_interface__: dict[str, Any] = {
            "version": 3, "typestr": "|u1", "shape": (size,), "data": (address, False),
        }  # fmt: skip


def will_need(array: np.ndarray) -> None:
    """Let the system read the bytes of a mapped array from the disk ahead of their use, where it can."""
    if hasattr(mmap, "MADV_WILLNEED") and array.nbytes:
        first = _page(array.ctypes.data)
        _system().madvise(first, array.ctypes.data + array.nbytes - first, mmap.MADV_WILLNEED)


def is_cached(array: np.ndarray) -> bool:
    """Return whether the system has the bytes of a mapped array in memory, going by three of its pages; False where it
    does not say."""
    if not hasattr(_system(), "mincore") or not array.nbytes:
        return not array.nbytes
    start, state = array.ctypes.data, ctypes.c_ubyte()
    pages = (start, start + array.nbytes // 2, start + array.nbytes - 1)
    known = [not _system().mincore(_page(place), 1, ctypes.byref(state)) and state.value & 1 for place in pages]
    return all(known)


def _page(address: int) -> int:
    return address - address % mmap.PAGESIZE


@cache
def _system() -> ctypes.CDLL:
    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype = ctypes.c_void_p
    system.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    system.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    system.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if hasattr(system, "mincore"):
        system.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return system
