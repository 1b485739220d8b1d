"""Checking each file of a folder against its manifest."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from triptych.checkpoints.holding import PAUSES, hold, in_motion
from triptych.checkpoints.manifest import Entry, TensorRecord, file_record, manifest_name
from triptych.checkpoints.verifying import Verified, Wanted
from triptych.errors import MissingFileError, TriptychError
from triptych.files.paths import CONFIG_NAME, check_inside
from triptych.formats.kinds import WEIGHT_SUFFIXES
from triptych.formats.opening import open_file
from triptych.tensors.checked import digest_of

_THREADS = 4


@dataclass(frozen=True)
class Difference:
    """A file, or a tensor of one, that is not as the manifest says: sizes and hashes as it writes them."""

    kind: str
    name: str
    expected: str
    received: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: expected {self.expected}, received {self.received}"


def has_manifest(folder: Path, variant: str | None = None) -> bool:
    """Return whether there is a manifest of the weights of `variant` in `folder`, whatever it holds."""
    return os.path.lexists(folder / manifest_name(variant))


def verify_folder(
    folder: Path, asked: Wanted, variant: str | None = None, advance: Callable[[int], None] = lambda nbytes: None
) -> tuple[Verified, list[Difference]]:
    """Return the manifest of `folder`, and what differs from it: see `compare_files`.

    Raises:
        MissingFileError: there is no manifest. IntegrityError: it is of other tensors, of another save than the
        weights, or of another digest than the one that is asked for. What `hold` raises.
    """
    for _ in PAUSES:
        verified = hold(folder, variant=variant, wanted=asked).verified
        assert verified is not None
        differences = compare_files(verified, advance)
        if not differences or _is_there(folder, variant, verified.entry):
            return verified, differences
    raise in_motion(folder)


def _is_there(folder: Path, variant: str | None, entry: Entry) -> bool:
    """Return whether the weights are of the same save still."""
    try:
        now = hold(folder, variant=variant, wanted=Wanted()).verified
    except MissingFileError:
        return False
    except TriptychError:
        return True
    return now is not None and now.entry == entry


def compare_files(verified: Verified, advance: Callable[[int], None] = lambda nbytes: None) -> list[Difference]:
    """Return what differs from the manifest: files, each of which is read once, on several threads, and of a weight
    file that differs the tensors.

    Args:
        advance: called with the number of bytes that were hashed, on any of the threads.
    """
    names = {said: actual for actual, said in verified.heads.items()}
    places = {name: verified.folder / names.get(name, name) for name in verified.entry.files}

    def compared(name: str) -> list[Difference]:
        return _compared(verified.entry, name, places[name], advance)

    largest = sorted(places, key=lambda name: -verified.entry.files[name].size)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        found = dict(zip(largest, pool.map(compared, largest), strict=True))
    return [difference for name in places for difference in found[name]]


def _compared(entry: Entry, name: str, file: Path, advance: Callable[[int], None]) -> list[Difference]:
    said = entry.files[name]
    try:
        check_inside(file.parent, file)
        found = file_record(file, advance)
        if found != said and name == CONFIG_NAME and entry.matches(name, file.read_bytes()):
            return []
    except (TriptychError, OSError) as cause:
        return [Difference("file", name, str(said), getattr(cause, "detail", None) or str(cause))]
    if found == said:
        return []
    tensors = _tensors_of(entry, file) if name.endswith(WEIGHT_SUFFIXES) else []
    return [Difference("file", name, str(said), str(found)), *tensors]


def _tensors_of(entry: Entry, file: Path) -> list[Difference]:
    """Return the tensors of a weight file that differ; none if the file cannot be read."""
    try:
        refs = open_file(file, mmap=False).tensors
    except TriptychError:
        return []
    result = []
    for name, ref in refs.items():
        try:
            found = str(TensorRecord(ref.dtype.name, ref.shape, digest_of(ref.read())))
        except TriptychError as cause:
            found = cause.detail
        said = str(entry.tensors[name]) if name in entry.tensors else "no such tensor"
        if found != said:
            result.append(Difference("tensor", name, said, found))
    return result
