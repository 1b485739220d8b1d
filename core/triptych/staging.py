"""The staging folder of a save, and what earlier saves that were killed left behind.

A staging folder is called `.triptych-save-<id>`. Its `owner.json` says which process made it; its `record.json` lists
the names that the save was about to make and to replace. Correctness rests on unused names and atomic renames alone;
the locks only keep two savers from making work for each other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from triptych.errors import ConfigError, TriptychError
from triptych.formats import LAYOUTS, SAFETENSORS
from triptych.resolve import OWN_POINTER, POINTER, read_index
from triptych.strictjson import read as read_json

try:
    import fcntl
except ImportError:  # Windows: saves are as safe, but two savers may leave files for the next save to remove
    fcntl = None  # type: ignore[assignment]

PREFIX = ".triptych-save-"
TEMPORARY = ".triptych-tmp"
_STALE_SECONDS = 3600
_LOCK_SECONDS = 30


@dataclass(frozen=True)
class Area:
    """A staging folder in use."""

    path: Path

    def record(self, creates: Iterable[str], supersedes: Iterable[str]) -> None:
        """Write down which names are about to be made and replaced, before the first of them is."""
        _write(self.path / "record.json", {"creates": list(creates), "supersedes": list(supersedes)})


@contextmanager
def area(folder: Path, save_id: str) -> Iterator[Area]:
    """Make a staging folder, held locked until it is removed at the end, whatever happens. `settle` comes before."""
    path = folder / f"{PREFIX}{save_id}"
    try:
        with ExitStack() as held:
            with locked(folder):  # else another save could take the folder for a dead one's before it is locked
                path.mkdir()
                held.enter_context(_lock(path, wait=0))
                _write(path / "owner.json", {"host": socket.gethostname(), "pid": os.getpid()})
            yield Area(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` against other savers; go on without the lock after half a minute."""
    with _lock(folder, wait=_LOCK_SECONDS):
        yield


@contextmanager
def _lock(path: Path, wait: float) -> Iterator[bool]:
    if fcntl is None:
        yield False
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        end = time.monotonic() + wait
        held = _try_lock(descriptor)
        while not held and time.monotonic() < end:
            time.sleep(0.02)
            held = _try_lock(descriptor)
        yield held
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def collect(folder: Path) -> None:
    """Remove what saves that no longer run have left in `folder`."""
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # a living save may end, and remove its own, at any moment
            if _is_dead(path):
                settle(folder, path)
                shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"*{TEMPORARY}"):
        path.unlink(missing_ok=True)  # the lock is held: no living save is between writing and renaming it


def settle(folder: Path, path: Path) -> None:
    """Remove every file that the save of staging folder `path` made or replaced and that no checkpoint names."""
    with suppress(FileNotFoundError, ConfigError):
        record = read_json(path / "record.json", ConfigError)
        live = live_files(folder)
        remove(folder, [n for key in ("creates", "supersedes") for n in record.get(key, []) if n not in live])


def _is_dead(path: Path) -> bool:
    try:
        owner = read_json(path / "owner.json", ConfigError)
    except (FileNotFoundError, TriptychError):
        owner = {}
    with _lock(path, wait=0) as free:
        if owner.get("host") == socket.gethostname():
            return free or not _runs(owner.get("pid"))
        return free and time.time() - path.stat().st_mtime > _STALE_SECONDS or (free and not owner)


def _runs(pid: object) -> bool:
    if type(pid) is not int:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def own_pointer(folder: Path) -> str | None:
    """Return the file that config.json points at, if the pointer is one that a triptych save made."""
    try:
        target = read_json(folder / "config.json", ConfigError).get(POINTER)
    except (FileNotFoundError, ConfigError):
        return None
    good = isinstance(target, str) and OWN_POINTER.fullmatch(target) and (folder / target).is_file()
    return target if good else None  # type: ignore[return-value]


def live_files(folder: Path) -> set[str]:
    """Return the names of all weight files that a reader of `folder` may follow, of every variant.

    A single file outranks its index, and safetensors outrank other formats; of those, which one is read depends on the
    reader.
    """
    live: set[str] = set()
    for variant in _variants(folder):
        for format in LAYOUTS:
            single, index = format.names(variant)
            if (folder / single).exists():
                live.add(single)
            elif (folder / index).exists():
                live |= _with_shards(folder, index)
            else:
                continue
            if format is SAFETENSORS:
                break
    target = own_pointer(folder)
    return live if target is None else live | _with_shards(folder, target)


def _variants(folder: Path) -> set[str | None]:
    """Return None and every variant that a weight file or index in `folder` is named after."""
    found: set[str | None] = {None}
    for format in LAYOUTS:
        single = re.compile(rf"{format.stem}\.([A-Za-z0-9_-]+){re.escape(format.suffix)}")
        index = re.compile(rf"{re.escape(format.single)}\.index\.([A-Za-z0-9_-]+)\.json")
        found |= {m[1] for path in folder.iterdir() if (m := single.fullmatch(path.name) or index.fullmatch(path.name))}
    return {v for v in found if v is None or not re.fullmatch(r"g[0-9a-f]{8}|.*-\d{5}-of-\d{5}", v)}


def _with_shards(folder: Path, file: str) -> set[str]:
    return {file, *(_shards(folder / file) if file.endswith(".json") and (folder / file).is_file() else ())}


def named_files(folder: Path, variant: str | None) -> list[str]:
    """Return the weight files of `folder` and `variant` that exist, in every layout and format."""
    names: set[str] = set()
    for single, index in (format.names(variant) for format in LAYOUTS):
        names |= {single} | _with_shards(folder, index)
    target = own_pointer(folder) if variant is None else None
    names |= set() if target is None else _with_shards(folder, target)
    return sorted(name for name in names if os.path.lexists(folder / name))


def _shards(index: Path) -> list[str]:
    """Return the shards that an index names; none if it cannot be read, so that nothing is deleted on its word."""
    try:
        return sorted(set(read_index(index)[0].values()))
    except TriptychError:
        return []


def link(staged: Path, final: Path) -> None:
    """Give a staged file its final name, which must not be in use."""
    try:
        os.link(staged, final)
        staged.unlink()
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: reserve the name, then rename onto it
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(staged, final)


def remove(folder: Path, names: Iterable[str]) -> None:
    """Delete the named files; those that are gone already are no matter."""
    for name in dict.fromkeys(names):
        if isinstance(name, str) and name == os.path.basename(name):
            (folder / name).unlink(missing_ok=True)


def _write(path: Path, content: object) -> None:
    with path.open("x") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
