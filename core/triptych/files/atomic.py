"""Files that appear whole or not at all, and are not easier to read than those they replace."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".triptych-tmp"
"""How the names of files end that are not whole yet, where they cannot have a folder of their own."""


@dataclass(frozen=True)
class Access:
    """Who may use a file: its permission bits and its group. None: as the umask and the folder say."""

    mode: int | None = None
    group: int | None = None

    @classmethod
    def like(cls, files: Iterable[Path]) -> Access:
        """Return the access that all of the existing `files` grant; that of a new file if there are none."""
        found = []
        for file in files:
            with suppress(FileNotFoundError):
                found.append(file.stat())
        if not found or os.name == "nt":
            return cls()
        mode = 0o777
        for status in found:
            mode &= status.st_mode
        return cls(mode, found[0].st_gid)

    def give(self, descriptor: int) -> None:
        """Let the open file have this access; where the group cannot be given, it may do what everybody may."""
        if self.mode is None or self.group is None:
            return
        mode = self.mode
        if os.fstat(descriptor).st_gid != self.group:
            try:
                os.fchown(descriptor, -1, self.group)
            except PermissionError:
                mode &= ~0o070 | (mode & 0o007) << 3
        os.fchmod(descriptor, mode)


def create(file: Path, access: Access) -> BinaryIO:
    """Make `file`, which must not exist, and open it for writing and reading."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(file, flags, 0o666 if access.mode is None else 0o600)
    stream = os.fdopen(descriptor, "w+b")
    try:
        access.give(descriptor)
    except BaseException:
        stream.close()
        raise
    return stream


def write_new(file: Path, data: bytes, access: Access) -> None:
    """Write `data` to `file`, which must not exist, through to the disk."""
    with create(file, access) as stream:
        stream.write(data)
        flush(stream)


def write_atomically(file: Path, data: bytes) -> None:
    """Replace `file` by `data` in one rename; a reader sees the old or the new contents, never a part."""
    with whole_file(file) as stream:
        stream.write(data)


@contextmanager
def whole_file(file: Path) -> Iterator[BinaryIO]:
    """Open what replaces `file` in one rename at the end, for writing and reading; if the block fails nothing does."""
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with create(temporary, Access.like([file])) as stream:
            yield stream
            flush(stream)
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(file.parent)


@contextmanager
def whole_folder(folder: Path, replaced: Collection[str]) -> Iterator[Path]:
    """Make a folder, to be filled, that takes the place of `folder` at the end; if the block fails nothing does.

    What `folder` holds beside the names `replaced` moves into the new one. Where there is one already it is away for a
    moment, between two renames.
    """
    absent = [parent for parent in (folder.parent, *folder.parent.parents) if not parent.exists()]
    token = secrets.token_hex(4)
    new, old = (folder.with_name(f".{folder.name}.{token}.{kind}{TEMPORARY}") for kind in ("new", "old"))
    try:
        new.mkdir(parents=True)
        yield new
        _flush_tree(new)
        _take_place(new, folder, old)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):
            for parent in absent:
                parent.rmdir()
        raise
    flush_folder(folder.parent)
    if old.exists():
        for entry in old.iterdir():
            if entry.name not in replaced:
                os.rename(entry, folder / entry.name)
        shutil.rmtree(old)


def _take_place(new: Path, folder: Path, old: Path) -> None:
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(new, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise


def _flush_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            with open(Path(place) / name, "rb+") as stream:
                flush(stream)
        flush_folder(Path(place))


def flush(stream: BinaryIO) -> None:
    """Write an open file through to the disk: Python's own buffer first."""
    stream.flush()
    os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Write the names in `folder` through to the disk, where the system can (Windows cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_through(file: BinaryIO, data: memoryview, piece: int = 2**24) -> None:
    """Write `data`, and have the system begin to put it on the disk, so that the flush at the end waits for less."""
    for start in range(0, len(data), piece):
        file.write(data[start : start + piece])
        if len(data) >= piece and hasattr(os, "posix_fadvise"):
            file.flush()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
