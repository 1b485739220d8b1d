"""The staging folder of a save, and what earlier saves that were killed left behind.

A staging folder is called `.triptych-save-<id>-<process id>-<place>`, where a place is what process ids mean something
in. Its `record.json` lists the files that the save is about to make and to replace, with their identities, so that a
list that somebody planted deletes nothing. Correctness rests on unused names and atomic renames alone; the locks only
keep two savers from making work for each other, and nothing depends on their working.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from triptych.checkpoints.resolve import Pointer, is_of_one_save, own_pointer, read_index
from triptych.errors import ConfigError, TriptychError, UnreadableFileError
from triptych.files.atomic import TEMPORARY, Access, create, flush, flush_folder, write_new
from triptych.files.json import read_config, read_json
from triptych.files.paths import is_plain
from triptych.files.regular import Identity
from triptych.formats.kinds import LAYOUTS, SAFETENSORS, WEIGHT_SUFFIXES, is_reserved_variant

try:
    import fcntl
except ImportError:  # Windows: saves are as safe, but two savers may leave files for the next save to remove
    fcntl = None  # type: ignore[assignment]

PREFIX = ".triptych-save-"
PAIRED = "adapter_"
"""How the names of files begin that are saved by `Area.commit_pair`."""
_STALE_SECONDS = 3600
_LOCK_SECONDS = 30
_ID_DIGITS = 8
_NAME = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{{_ID_DIGITS}}}-([0-9]+)-([0-9a-f]+)")
_RECORD = "record.json"
_PAIR, _REPLACED = "pair.json", "replaced"
_running: set[str] = set()
"""Names of the staging folders of the saves that this process is doing."""


@dataclass(frozen=True)
class Area:
    """A staging folder in use, inside the folder that is saved to."""

    folder: Path
    path: Path

    @property
    def id(self) -> str:
        """Eight hexadecimal digits, of this save alone."""
        return self.path.name.removeprefix(PREFIX)[:_ID_DIGITS]

    def stage(self, name: str, data: bytes, access: Access) -> Path:
        """Write a file of the staging folder through to the disk, to be renamed into place."""
        file = self.path / name
        file.unlink(missing_ok=True)
        write_new(file, data, access)
        return file

    def put(self, name: str, data: bytes) -> None:
        """Replace the file `name` of the folder by `data`, in one rename."""
        file = self.folder / name
        os.replace(self.stage(name, data, Access.like([file])), file)

    def twin(self, file: Path) -> Path:
        """Return a second name of `file`, in the staging folder: a hard link, or a copy where there are none."""
        twin = self.path / f"twin-{file.name}"
        twin.unlink(missing_ok=True)
        try:
            os.link(file, twin)
        except OSError:
            with file.open("rb") as source, create(twin, Access.like([file])) as target:
                shutil.copyfileobj(source, target, 2**24)
                flush(target)
        return twin

    def record(self, creates: Mapping[str, Path], supersedes: Iterable[str]) -> None:
        """Write down, before the first of them is touched, which names will be made and of which staged files they
        will be, and which files of the folder will be replaced."""
        content = {
            "creates": {name: _mark(file) for name, file in creates.items()},
            "supersedes": {name: _mark(self.folder / name) for name in supersedes},
        }
        self.stage(_RECORD, json.dumps(content).encode(), Access())

    def commit_pair(self, files: Sequence[str], removes: Sequence[str]) -> None:
        """Put the staged `files` into the folder as one step, in their order, where there is a file of the name of the
        last; `removes` are gone then.

        The last one's name is free in between, so that a reader finds all old files, all new ones, or no last one; for
        that moment `pending_pair` says where the new ones are. The step is the rename that takes the old one away.
        """
        self.stage(_PAIR, json.dumps({"files": list(files), "removes": list(removes)}).encode(), Access())
        flush_folder(self.path)
        os.replace(self.folder / files[-1], self.path / _REPLACED)
        finish_pair(self.folder, self.path)


@dataclass(frozen=True)
class Pair:
    """What a save has committed by `Area.commit_pair` and not finished.

    - `path`: its staging folder, which holds those of `files` that are not in their place yet.
    - `removes`: files that count no more.
    """

    path: Path
    files: tuple[str, ...]
    removes: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, path: Path) -> Pair | None:
        """Return that of the staging folder `path`; None if there is none, or if something was saved since.

        Raises:
            UnreadableFileError: the system refuses to tell.
        """
        if not os.path.lexists(path / _REPLACED):
            return None
        try:
            values = read_json(path / _PAIR, ConfigError)
        except UnreadableFileError:
            raise
        except TriptychError:
            return None
        files, removes = values.get("files"), values.get("removes")
        if not isinstance(files, list) or not isinstance(removes, list) or not files:
            return None
        if not all(isinstance(n, str) and n.startswith(PAIRED) and is_plain(n) for n in [*files, *removes]):
            return None  # somebody planted it
        return None if os.path.lexists(folder / files[-1]) else cls(path, tuple(files), tuple(removes))


def finish_pair(folder: Path, path: Path) -> None:
    """Finish what `Area.commit_pair` of the staging folder `path` began, if it had committed; it can be tried again.

    Raises:
        OSError: the system refuses.
    """
    pair = Pair.of(folder, path)
    if pair is None:
        return
    for name in pair.files:
        if name == pair.files[-1]:
            for other in pair.removes:
                (folder / other).unlink(missing_ok=True)
            flush_folder(folder)
        if (path / name).exists():
            os.replace(path / name, folder / name)
    flush_folder(folder)


def pending_pair(folder: Path) -> Pair | None:
    """Return the pair that has committed and is not finished in `folder`."""
    for path in sorted(folder.glob(f"{PREFIX}*")):
        with suppress(OSError):
            if (pair := Pair.of(folder, path)) is not None:
                return pair
    return None


@contextmanager
def area(folder: Path) -> Iterator[Area]:
    """Make a staging folder, held locked until it is removed at the end, whatever happens.

    What `settle` cannot finish then stays recorded in it, for the next save.
    """
    path = folder / f"{PREFIX}{secrets.token_hex(_ID_DIGITS // 2)}-{os.getpid()}-{_place()}"
    _running.add(path.name)
    try:
        with ExitStack() as held:
            with locked(folder):  # else another save could take the folder for a dead one's before it is locked
                path.mkdir()
                held.enter_context(_lock(path, wait=0))
            yield Area(folder, path)
    finally:
        _running.discard(path.name)
        settled = False
        try:
            with suppress(OSError):
                settled = settle(folder, path)
        finally:
            _remove(path, settled or not os.path.lexists(path / _RECORD))


def _remove(path: Path, settled: bool) -> None:
    """Remove a staging folder, or all of it but the record; once more after an error, which may pass, or a signal.

    A pair that has committed is finished first.
    """
    try:
        finish_pair(path.parent, path)
        _try_to_remove(path, settled)
    except BaseException as error:
        with suppress(OSError):
            finish_pair(path.parent, path)
            _try_to_remove(path, settled)
        if not isinstance(error, OSError):
            raise


def _try_to_remove(path: Path, settled: bool) -> None:
    if settled:
        shutil.rmtree(path)
        return
    for file in path.iterdir():
        if file.name != _RECORD:
            file.unlink()


def _place() -> str:
    """Return where process ids mean what they mean here, the machine and on Linux the namespace, as a hash."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` against other savers; go on without the lock after half a minute."""
    with _lock(folder, wait=_LOCK_SECONDS):
        yield


@contextmanager
def _lock(path: Path, wait: float) -> Iterator[bool]:
    """Try to lock `path` for `wait` seconds, and yield whether nobody else holds it, as far as can be known."""
    if fcntl is None:
        yield True
        return
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        end = time.monotonic() + wait
        free = _try_lock(descriptor)
        while not free and time.monotonic() < end:
            time.sleep(0.02)
            free = _try_lock(descriptor)
        yield free
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Return False if somebody else holds the lock; a file system without locks cannot tell."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as cause:
        return cause.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EINTR)
    return True


def collect(own: Area) -> None:
    """Remove what saves that no longer run have left in the folder of the save `own`."""
    for path in own.folder.glob(f"{PREFIX}*"):
        with suppress(OSError):  # a living save may end, and remove its own, any moment; or it is no such folder
            if path != own.path and _is_dead(path):
                _remove(path, settle(own.folder, path))
    for path in own.folder.glob(f"*{TEMPORARY}"):
        with suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                path.unlink()


def remove_orphans(folder: Path) -> None:
    """Remove weights and indexes that have a name of one save alone, are an hour old, and that nothing names."""
    live = live_files(folder, outranked=True)
    for path in folder.iterdir():
        if is_of_one_save(path.name) and path.name not in live:
            with suppress(FileNotFoundError):
                if time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                    path.unlink()


def settle(folder: Path, path: Path) -> bool:
    """Remove every file that the save of staging folder `path` made or replaced and that no checkpoint names.

    Returns whether nothing is left to do. False while config.json still names the weights of a save that is not
    finished, and with them go those that it replaced.

    Raises:
        OSError: the system refuses to tell what is named, and nothing was removed; or to remove a file, and all others
        were.
    """
    try:
        record = read_json(path / _RECORD, ConfigError)
    except UnreadableFileError:
        raise
    except TriptychError:  # it comes just before the first of the files, and one that somebody planted counts nothing
        return True
    refusals = []
    for key in ("creates", "supersedes"):
        live, marks = live_files(folder, outranked=key == "supersedes"), record.get(key)
        for name, mark in marks.items() if isinstance(marks, dict) else ():
            try:
                if name not in live and is_plain(name) and _is_meant(folder / name, mark, key == "creates"):
                    (folder / name).unlink(missing_ok=True)
            except OSError as refusal:
                refusals.append(refusal)
    if refusals:
        raise refusals[0]
    if pending(folder) is not None:
        return False
    (path / _RECORD).unlink(missing_ok=True)
    return True


def _is_meant(file: Path, mark: object, may_be_empty: bool) -> bool:
    """Return whether `file` is the weight file that a record marked, or the empty one that reserved its name."""
    if not file.name.endswith((*WEIGHT_SUFFIXES, ".json")) or not mark:
        return False
    reserved = (
        may_be_empty and file.name.endswith(WEIGHT_SUFFIXES) and os.path.lexists(file) and not file.lstat().st_size
    )
    return _mark(file) == mark or reserved


def _mark(file: Path) -> str:
    """Return the identity of a file, or of a link itself, as text; "" for what is neither, or not there."""
    try:
        status = file.lstat()
    except OSError:
        return ""
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        return ""
    known = Identity.of(status)  # without the device, whose number may differ after the next start of the system
    return f"{known.inode} {known.size} {known.written}"


def _is_dead(path: Path) -> bool:
    """Return whether the save of staging folder `path` has ended.

    A lock that is held proves that it has not. One that is free proves nothing where locks do not work, or where the
    save is of another machine: then the process is looked for, or the time of the last write tells.
    """
    with _lock(path, wait=0) as free:
        if not free:
            return False
        owner = _NAME.fullmatch(path.name)
        if owner and owner[2] == _place() and not (_runs(int(owner[1])) and _is_of_a_save(path.name, int(owner[1]))):
            return True
        return time.time() - _last_write(path) > _STALE_SECONDS


def _last_write(path: Path) -> float:
    times = [path.stat().st_mtime]
    for file in path.iterdir():
        with suppress(FileNotFoundError):
            times.append(file.lstat().st_mtime)
    return max(times)


def _is_of_a_save(name: str, pid: int) -> bool:
    """Return whether the running process `pid` may be doing the save of staging folder `name`."""
    return pid != os.getpid() or name in _running


def _runs(pid: int) -> bool:
    """Return whether there is a process `pid`, as far as can be known: on Windows, asking would be a signal to it."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def pending(folder: Path) -> Pointer | None:
    """Return the pointer of config.json, if it is one that a triptych save made and has not taken back.

    Raises:
        UnreadableFileError: the system refuses to tell.
    """
    try:
        pointer = own_pointer(read_config(folder / "config.json"))
    except UnreadableFileError:
        raise
    except TriptychError:
        return None
    return pointer if pointer is not None and (folder / pointer.target).is_file() else None


def live_files(folder: Path, outranked: bool) -> set[str]:
    """Return the names of all weight files that a reader of `folder` may follow, of every variant.

    A single file outranks its index, and safetensors outrank other formats, which are left out unless `outranked`; of
    those, which one is read depends on the reader.
    """
    live: set[str] = set()
    for variant in variants(folder):
        for format in LAYOUTS:
            single, index = format.names(variant)
            if (folder / single).exists():
                live.add(single)
            elif (folder / index).exists():
                live |= _with_shards(folder, index)
            else:
                continue
            if format is SAFETENSORS and not outranked:
                break
    pointer = pending(folder)
    return live if pointer is None else live | _with_shards(folder, pointer.target)


def variants(folder: Path) -> set[str | None]:
    """Return None and every variant that a weight file or index in `folder` is named after."""
    found: set[str | None] = {None}
    for format in LAYOUTS:
        single = re.compile(rf"{format.stem}\.([A-Za-z0-9_-]+){re.escape(format.suffix)}")
        index = re.compile(rf"{re.escape(format.single)}\.index\.([A-Za-z0-9_-]+)\.json")
        found |= {m[1] for path in folder.iterdir() if (m := single.fullmatch(path.name) or index.fullmatch(path.name))}
    return {v for v in found if v is None or (len(v) <= 64 and not is_reserved_variant(v))}


def _with_shards(folder: Path, file: str) -> set[str]:
    return {file, *(_shards(folder / file) if file.endswith(".json") and (folder / file).is_file() else ())}


def named_files(folder: Path, variant: str | None, suffixes: Sequence[str] = WEIGHT_SUFFIXES) -> list[str]:
    """Return the weight files of `folder` and `variant` that exist, in every layout, of the formats of `suffixes`; and
    those that a save has committed and not yet finished."""
    names: set[str] = set()
    for single, index in (format.names(variant) for format in LAYOUTS if format.suffix in suffixes):
        names |= {single} | _with_shards(folder, index)
    pointer = pending(folder)
    names |= _with_shards(folder, pointer.target) if pointer is not None and pointer.variant == variant else set()
    return sorted(name for name in names if os.path.lexists(folder / name))


def _shards(index: Path) -> list[str]:
    """Return the shards that an index names; none if it is damaged, so that nothing is deleted on its word.

    Raises:
        UnreadableFileError: the system refuses to tell.
    """
    try:
        return sorted(set(read_index(index)[0].values()))
    except UnreadableFileError:
        raise
    except TriptychError:
        return []


def link(staged: Path, final: Path) -> None:
    """Give a staged file a second, final name, which must not be in use; without hard links it is a rename."""
    try:
        os.link(staged, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: reserve the name, then rename onto it
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            os.replace(staged, final)
        except BaseException:
            final.unlink(missing_ok=True)
            raise
