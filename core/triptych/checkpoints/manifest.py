"""triptych_manifest.json: the SHA-256 of each file and of each tensor of one save, in a file beside them.

    {"files": {"config.json": "570 <sha256>", "model.safetensors": "90868376 <sha256>"},
     "flavour": "pt",
     "save": "4f1c9a02",
     "tensors": {"embeddings.word_embeddings.weight": "float32 (30522,384) <sha256>"},
     "triptych_manifest": 1,
     "weights": "model.safetensors"}

A file has its size in bytes and the hash of these; a tensor, by its name in the file, dtype, shape, and the hash of its
elements in C order and little-endian bytes, whatever the format. The digest of a manifest is the SHA-256 of its text.

It is put beside the weights before the step that commits them, and holds what it held before too, under "before". Which
of the two is meant says the id of the save that stands in the weights, so it changes with them at one moment. Then what
is no more is taken out of it, and with the last entry it goes: it never says anything of weights that it is not of.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from triptych.checkpoints.resolve import OF_A_FOLDER, own_pointer, read_index
from triptych.errors import CorruptCheckpointError, MissingFileError, TriptychError
from triptych.files.atomic import write_atomically
from triptych.files.json import json_text, parse_config, parse_json, read_config
from triptych.files.paths import CONFIG_NAME, is_plain, regular_inside
from triptych.files.regular import open_regular, unreadable
from triptych.formats.kinds import SAVE_ID, WEIGHT_SUFFIXES, with_variant
from triptych.formats.opening import open_file
from triptych.tensors.checked import digest_of
from triptych.tensors.ref import TensorRef

MANIFEST_NAME = "triptych_manifest.json"
_VERSION = 1
_BLOCK = 2**20
_MAX_BYTES = 100_000_000
_HASH = r"[0-9a-f]{64}"
_FILE = re.compile(rf"(\d{{1,20}}) ({_HASH})")
_TENSOR = re.compile(rf"([a-z0-9_]{{1,40}}) \(((?:\d{{1,20}}(?:,\d{{1,20}})*)?)\) ({_HASH})")
_OURS = re.compile(r"triptych_manifest(?:\.(?P<variant>[A-Za-z0-9_-]{1,64}))?\.json")


def manifest_name(variant: str | None) -> str:
    """Return the name of the manifest of the weights of `variant`; `ArgumentError` if that is no name."""
    return with_variant(MANIFEST_NAME, variant)


@dataclass(frozen=True)
class FileRecord:
    """A file: its size in bytes and its SHA-256, in hexadecimal."""

    size: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.size} {self.sha256}"

    @classmethod
    def of(cls, data: bytes) -> FileRecord:
        return cls(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class TensorRecord:
    """A tensor: the name of its dtype, its shape, and the SHA-256 of its elements."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    def __str__(self) -> str:
        return f"{self.dtype} ({','.join(map(str, self.shape))}) {self.sha256}"


@dataclass(frozen=True)
class Entry:
    """What a manifest says of one save.

    - `save`: the id of the save.
    - `weights`: the usual name of its single file, or of its index.
    - `flavour`: whose names and layouts the tensors have; see `formats.kinds.Format`.
    """

    save: str
    weights: str
    flavour: str
    files: Mapping[str, FileRecord]
    tensors: Mapping[str, TensorRecord]

    @property
    def digest(self) -> str:
        """What a user pins: the SHA-256 of the text of a manifest of this entry alone, after "sha256:"."""
        return "sha256:" + hashlib.sha256(text_of([self])).hexdigest()

    def matches(self, name: str, data: bytes) -> bool:
        """Return whether the small file `name` holds what the entry records.

        config.json may name another save, or point at weights that are just being committed, as long as it says the
        same of the model: only saves of triptych write these keys.
        """
        record = self.files.get(name)
        if record is None or name != CONFIG_NAME:
            return record == FileRecord.of(data)
        return record in (FileRecord.of(data), FileRecord.of(_as_saved(data, self.save)))

    def _values(self) -> dict[str, Any]:
        return {
            "triptych_manifest": _VERSION,
            "save": self.save,
            "weights": self.weights,
            "flavour": self.flavour,
            "files": {name: str(record) for name, record in self.files.items()},
            "tensors": {name: str(record) for name, record in self.tensors.items()},
        }


def text_of(entries: Iterable[Entry]) -> bytes:
    """Return the text of a manifest: the first of `entries`, and before it the others."""
    first, *others = (entry._values() for entry in entries)
    return json_text(first | ({"before": others} if others else {})).encode()


def read_manifest(folder: Path, variant: str | None) -> tuple[Entry, ...]:
    """Return the entries of the manifest of `variant` in `folder`, the newest first; none if there is no manifest.

    Raises:
        CorruptCheckpointError: it is none. UnsafeCheckpointError: it is a link out of the folder.
        UnsupportedFormatError: it is no regular file. UnreadableFileError: the system refuses.
    """
    file = regular_inside(folder, manifest_name(variant))
    if file is None:
        return ()
    with open_regular(file) as stream:
        values = parse_json(stream.read(_MAX_BYTES + 1), str(file), CorruptCheckpointError)
    others = values.get("before", [])
    if not isinstance(others, list) or not all(isinstance(other, dict) for other in others):
        raise _bad(file, "before", others)
    return tuple(_entry(each, file) for each in [values, *others])


def _entry(values: Mapping[str, Any], file: Path) -> Entry:
    if values.get("triptych_manifest") != _VERSION:
        raise _bad(file, "triptych_manifest", values.get("triptych_manifest"))
    for key, pattern in (("save", r"[0-9a-f]{8}"), ("flavour", "pt|tf|flax")):
        if not isinstance(values.get(key), str) or not re.fullmatch(pattern, values[key]):
            raise _bad(file, key, values.get(key))
    if not isinstance(values.get("weights"), str) or not is_plain(values["weights"]):
        raise _bad(file, "weights", values.get("weights"))
    files = {
        name: FileRecord(int(match[1]), match[2])
        for name, match in _matched(values, "files", _FILE, file)
        if is_plain(name) or _refuse(file, name)
    }
    tensors = {
        name: TensorRecord(match[1], tuple(map(int, match[2].split(","))) if match[2] else (), match[3])
        for name, match in _matched(values, "tensors", _TENSOR, file)
    }
    return Entry(values["save"], values["weights"], values["flavour"], files, tensors)


def _matched(
    values: Mapping[str, Any], key: str, pattern: re.Pattern[str], file: Path
) -> Iterator[tuple[str, re.Match[str]]]:
    records = values.get(key)
    if not isinstance(records, dict):
        raise _bad(file, key, records)
    for name, text in records.items():
        match = pattern.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise _bad(file, f"{key}: {name[:80]}", text)
        yield name, match


def _refuse(file: Path, name: str) -> bool:
    raise _bad(file, "the name of a file", name)


def _bad(file: Path, key: str, received: object) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        f"{file} is no manifest that this version reads: {key}.",
        expected=f"what save_pretrained(manifest=True) writes, of version {_VERSION}",
        received=repr(received)[:80],
        remedy="get the file again, or save with manifest=True",
    )


def _as_saved(data: bytes, save: str) -> bytes:
    """Return the config.json `data` as the save `save` wrote it, if it says the same of the model."""
    try:
        values = parse_config(data, CONFIG_NAME)
    except TriptychError:
        return data
    plain = {key: value for key, value in values.items() if key not in OF_A_FOLDER}
    return json_text(plain | {SAVE_ID: save}).encode()


def file_record(file: Path, advance: Callable[[int], None] = lambda nbytes: None) -> FileRecord:
    """Return size and hash of `file`, read once, in pieces; `advance` is called with the bytes of each.

    Raises:
        MissingFileError, UnsupportedFormatError, UnreadableFileError.
    """
    total, hashed, block = 0, hashlib.sha256(), memoryview(bytearray(_BLOCK))
    with open_regular(file) as stream:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := stream.raw.readinto(block):  # type: ignore[attr-defined]
            hashed.update(block[:count])
            total += count
            advance(count)
    return FileRecord(total, hashed.hexdigest())


# -- what a save does


class HashedStream:
    """An open file that is written, with the hash of what was, as long as that is from the beginning to the end: so the
    file need not be read again, which the system may no longer have in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._hash, self._size, self._in_order = stream, hashlib.sha256(), 0, True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        self._size += memoryview(data).nbytes
        return self._stream.write(data)

    def record(self) -> FileRecord | None:
        """Return size and hash of the file; None if it was written in another order."""
        return FileRecord(self._size, self._hash.hexdigest()) if self._in_order else None

    def __getattr__(self, name: str) -> Any:
        self._in_order &= name in ("flush", "fileno", "tell", "name", "closed")
        return getattr(self._stream, name)


class Recorder:
    """Hashes what a save writes: each tensor when it is read to be written, each file as it is written, or where that
    is not from the beginning to the end, on a thread afterwards.

    Use it as a context, which waits for the thread.
    """

    def __init__(self) -> None:
        self._readers: dict[Callable[[], np.ndarray], Callable[[], np.ndarray]] = {}
        self._hashes: dict[Callable[[], np.ndarray], str] = {}
        self._files: dict[Path, Future[FileRecord] | FileRecord] = {}
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def watched(self, tensors: Iterable[TensorRef]) -> Iterator[TensorRef]:
        """Yield `tensors`, whose hashes are known once they were read. Those that share a reader still do."""
        for ref in tensors:
            yield replace(ref, read=self._watched(ref)) if isinstance(ref, TensorRef) else ref

    def _watched(self, ref: TensorRef) -> Callable[[], np.ndarray]:
        if ref.read not in self._readers:
            native = ref.dtype.newbyteorder("=")

            def read() -> np.ndarray:
                array = np.ascontiguousarray(np.asarray(ref.read(), dtype=native))
                self._hashes[read] = digest_of(array)
                return array

            self._readers[ref.read] = read
        return self._readers[ref.read]

    def written(self, file: Path, stream: HashedStream | None) -> None:
        """Take the hash of a file that is whole, or begin to read it."""
        known = None if stream is None else stream.record()
        self._files[file] = self._pool.submit(file_record, file) if known is None else known

    def entry(
        self,
        save: str,
        weights: str,
        flavour: str,
        staged: Mapping[str, Path],
        tensors: Iterable[TensorRef],
        others: Mapping[str, bytes],
    ) -> Entry:
        """Return the entry of the save.

        Args:
            staged: the weight files, by the names that they will have.
            tensors: what `watched` gave, of which the staged files were written.
            others: other files, by name.
        """
        hashed = {name: self._files[file] for name, file in staged.items()}
        files = {name: f if isinstance(f, FileRecord) else f.result() for name, f in hashed.items()}
        files |= {name: FileRecord.of(data) for name, data in others.items()}
        records = {ref.name: TensorRecord(ref.dtype.name, ref.shape, self._hashes[ref.read]) for ref in tensors}
        return Entry(save, weights, flavour, files, records)


def outdate(
    folder: Path,
    changed: Mapping[str, bytes],
    put: Callable[[str, bytes], None] | None = None,
    *,
    variant: str | None = None,
    committed: str | None = None,
) -> None:
    """Take out of the manifests in `folder` what is of weights that are there no more, or of other contents than the
    files `changed` have or are about to get; a manifest without an entry is removed.

    Args:
        put: replaces a file of the folder; a save has its own way.
        variant, committed: of the weights of this variant, the save that has just become the one that is there.

    Raises:
        OSError: the system refuses.
    """
    for name in _manifests(folder):
        mine = committed is not None and name == manifest_name(variant)
        try:
            entries = read_manifest(folder, (_OURS.fullmatch(name) or {"variant": None})["variant"])
        except CorruptCheckpointError:
            entries = ()
            if not mine:
                continue
        except TriptychError:  # something else has its name
            continue
        kept = [e for e in entries if (e.save == committed if mine else is_current(folder, e, name, changed))]
        if not kept:
            (folder / name).unlink(missing_ok=True)
        elif len(kept) == len(entries):
            continue
        elif put is not None:
            put(name, text_of(kept))
        else:
            write_atomically(folder / name, text_of(kept))


def _manifests(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if _OURS.fullmatch(name)]
    except OSError as cause:
        raise unreadable(folder, "read", cause) from cause


def current(folder: Path, variant: str | None, changed: Mapping[str, bytes]) -> list[Entry]:
    """Return the entries of the manifest of `variant` that are of weights that are there; none of a damaged one."""
    name = manifest_name(variant)
    try:
        return [entry for entry in read_manifest(folder, variant) if is_current(folder, entry, name, changed)]
    except TriptychError:
        return []


def is_current(folder: Path, entry: Entry, manifest: str, changed: Mapping[str, bytes]) -> bool:
    """Return whether `entry` of the file `manifest` is of weights that are in `folder`, as far as their save ids tell,
    and where they have none, as a file of msgpack, their hashes; and of what the files `changed` hold."""
    if any(not entry.matches(name, data) for name, data in changed.items() if name in entry.files):
        return False
    try:
        head = folder / _head(folder, entry, manifest)
        metadata = read_index(head)[1] if head.suffix == ".json" else open_file(head).metadata
        save = metadata.get(SAVE_ID)
        return bool(save == entry.save) if save is not None else has_same_weights(folder, entry)
    except MissingFileError:
        return False
    except (TriptychError, OSError):
        return True  # damaged weights are no reason to forget what they were


def has_same_weights(folder: Path, entry: Entry) -> bool:
    """Return whether the weight files of `folder` are those of `entry`, which are read for it.

    Raises:
        MissingFileError, UnsupportedFormatError, UnreadableFileError.
    """
    weights = {name: record for name, record in entry.files.items() if name.endswith(WEIGHT_SUFFIXES)}
    return all(file_record(folder / name) == record for name, record in weights.items())


def _head(folder: Path, entry: Entry, manifest: str) -> str:
    """Return under which name the weights of `entry` are: their usual one, or the one by which they are committed."""
    if not os.path.lexists(folder / CONFIG_NAME):
        return entry.weights
    with suppress(TriptychError):
        pointer = own_pointer(read_config(folder / CONFIG_NAME))
        if pointer is not None and pointer.final == entry.weights and manifest == manifest_name(pointer.variant):
            return pointer.target if (folder / pointer.target).is_file() else entry.weights
    return entry.weights


def of_checkpoint(folder: Path, variant: str | None, files: Collection[str]) -> list[str]:
    """Return the name of the manifest that goes with the weights `files` of a folder, in a list, if there is one."""
    return [manifest_name(variant) for entry in current(folder, variant, {}) if entry.weights in files][:1]
