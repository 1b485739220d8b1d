"""Verifying the checkpoints that some files belong to, each once and with all that its folder holds.

`triptych verify` reads what a load of the folder would take. A repository holds all that lies in it, so here every
format and variant is read, and a file that no load would take is a fault.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from triptych.adapters.config import ADAPTER_CONFIG_NAME
from triptych.adapters.folder import WEIGHTS_NAMES as ADAPTERS
from triptych.adapters.state import parsed
from triptych.checkpoints.holding import hold
from triptych.checkpoints.opening import is_gguf
from triptych.checkpoints.resolve import is_of_one_save, pointer_in
from triptych.checkpoints.staging import PREFIX, live_files, pending, variants
from triptych.checkpoints.verifying import Wanted
from triptych.errors import (
    ArgumentError,
    ConfigError,
    InconsistentCheckpointError,
    IntegrityError,
    MissingFileError,
    TriptychError,
    UnsupportedFormatError,
)
from triptych.files.json import read_config
from triptych.files.paths import CONFIG_NAME, GENERATION_CONFIG_NAME, regular_inside
from triptych.formats.kinds import LAYOUTS, Format
from triptych.formats.opening import open_file
from triptych.tensors.ref import TensorRef
from triptych.tools.comparing import check_whole, digest
from triptych.tools.editing import open_draft
from triptych.tools.verifying import has_manifest, verify_folder

Advance = Callable[[int], None]

_SHARD = re.compile(r".*-\d+-of-\d+(\..*)?")


@dataclass
class Examined:
    """What was found of the checkpoint at `place`: it is whole if there are no `problems`.

    - `tensors`, `nbytes`: how many were read, in all formats and variants together.
    - `notes`: what is no fault, and yet good to know.
    """

    place: Path
    tensors: int = 0
    nbytes: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Read:
    """The tensors of one format and variant, and the hash of each."""

    format: str
    variant: str | None
    tensors: Mapping[str, TensorRef]
    hashes: Mapping[str, str]


def places_of(files: Iterable[Path]) -> list[Path]:
    """Return the checkpoints that `files` belong to, each once: folders with weights, and GGUF files.

    A file belongs to the checkpoint in its folder, and a folder is itself one; those without weights are left out.
    What a killed save left belongs to the folder that was saved to.
    """
    found = {file if is_gguf(file) or file.is_dir() else file.parent for file in files}
    found = {place.parent if place.name.startswith(PREFIX) else place for place in found}
    return sorted(place for place in found if (place.is_dir() and weight_names(place)) or place.is_file())


def deleted_files() -> list[Path]:
    """Return the files that the next commit of git deletes or renames, in this folder and below; hooks are not told.

    Raises:
        ArgumentError: this is no folder of a repository, or git is not installed.
    """
    command = ["git", "diff", "--cached", "--name-only", "--no-renames", "--diff-filter=D", "--relative", "-z"]
    try:
        done = subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as cause:
        said = cause.stderr.decode(errors="replace") if isinstance(cause, subprocess.CalledProcessError) else str(cause)
        raise ArgumentError("git does not say what is deleted.", expected="a folder of a repository of git",
                            received=said.strip().partition("\n")[0]) from cause  # fmt: skip
    return [Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name]


def weight_names(folder: Path) -> set[str]:
    """Return the names in `folder` that are those of weights, shards or indexes of some format, read or not, of
    adapters, and of what killed saves left."""
    return {path.name for path in folder.iterdir() if path.name.startswith(PREFIX) or _is_weights(path.name)}


def _is_weights(name: str) -> bool:
    if name in ADAPTERS or is_of_one_save(name):
        return True
    for kind in LAYOUTS:
        if re.fullmatch(rf"{re.escape(kind.single)}\.index(\.[\w-]+)?\.json", name):
            return True
        if name.startswith(kind.stem) and name.endswith(kind.suffix):
            between = name[len(kind.stem) : -len(kind.suffix)]
            if _SHARD.fullmatch(between) or re.fullmatch(r"(\.[\w-]+)?", between):
                return True
    return False


def nbytes_of(place: Path) -> int:
    """Return the bytes of the weight files at `place`."""
    files = [place] if is_gguf(place) else [place / name for name in weight_names(place)]
    return sum(file.stat().st_size for file in files if file.is_file())


def verify_place(place: Path, advance: Advance = lambda nbytes: None) -> Examined:
    """Read a GGUF file, or everything that the folder `place` holds of a model or an adapter; one tensor is in memory.

    Args:
        advance: called with the bytes of each tensor.
    """
    result = Examined(place)
    if is_gguf(place):
        _attempt(result, lambda: _read(result, place, None, LAYOUTS, advance))
        return result
    _attempt(result, lambda: _check_files(result))
    sets = [_attempt(result, lambda v=variant, k=kinds: _read(result, place, v, k, advance))  # type: ignore[misc]
            for variant, kinds in _sets(place)]  # fmt: skip
    _compare(result, [one for one in sets if one is not None])
    for variant in variants(place):
        if has_manifest(place, variant):
            _attempt(result, lambda v=variant: _check_manifest(place, v))  # type: ignore[misc]
    for name in ADAPTERS:
        if (place / name).exists():
            _attempt(result, lambda name=name: _read_adapter(result, name, advance))  # type: ignore[misc]
    return result


def _attempt(result: Examined, act: Callable[[], _Read | None]) -> _Read | None:
    """Do one step; its error is a problem, and the others are done all the same."""
    try:
        return act()
    except (TriptychError, OSError) as error:
        if str(error) not in result.problems:  # a config that cannot be read stops every format
            result.problems.append(str(error))
        return None


def _sets(folder: Path) -> Iterator[tuple[str | None, tuple[Format, ...]]]:
    """Yield each variant and format that `folder` holds, as what to open it by."""
    names = weight_names(folder)
    for variant in sorted(variants(folder), key=lambda variant: variant or ""):
        if _points(folder, variant):
            yield variant, LAYOUTS  # wherever config.json leads
            continue
        yield from ((variant, (kind,)) for kind in LAYOUTS if names & set(kind.names(variant)))


def _points(folder: Path, variant: str | None = None) -> bool:
    """Return whether config.json names the weights of `variant`."""
    try:
        config = regular_inside(folder, CONFIG_NAME)
        return config is not None and pointer_in(read_config(config), variant) is not None
    except TriptychError:  # which is the problem of every format
        return False


def _check_files(result: Examined) -> None:
    """Look for files that no load takes, and for what killed saves left."""
    folder = result.place
    if regular_inside(folder, GENERATION_CONFIG_NAME) is not None:
        read_config(folder / GENERATION_CONFIG_NAME)
    left = sorted(name for name in weight_names(folder) if name.startswith(PREFIX))
    pointer = pending(folder)
    if left or pointer is not None:
        raise InconsistentCheckpointError(
            f"{folder} holds what a killed save left.",
            expected="the files of finished saves",
            received=", ".join(left) or f"a config.json that names {pointer.target if pointer else ''}",
            remedy=f"triptych gc {folder}",
        )
    stale = sorted(weight_names(folder) - live_files(folder, outranked=True) - {*ADAPTERS, *_pointed(folder)})
    if stale:
        raise InconsistentCheckpointError(
            f"{folder} holds weights that no load takes.",
            expected="the shards that an index names; and an index, or a single file, not both",
            received=", ".join(stale[:8]) + (f" and {len(stale) - 8} more" if len(stale) > 8 else ""),
            remedy="remove them, if the rest is the save that you mean; else save the checkpoint again",
        )


def _pointed(folder: Path) -> set[str]:
    """Return the files that config.json names as the weights, as transformers may."""
    if not _points(folder):
        return set()
    return {file.name for file in hold(folder).checkpoint.files}


def _read(result: Examined, place: Path, variant: str | None, kinds: tuple[Format, ...], advance: Advance) -> _Read:
    """Read all tensors of one format and variant, after a plan of their load has been made."""
    try:
        draft = open_draft(place, variant, kinds)
    except UnsupportedFormatError as error:
        if is_gguf(place):
            raise
        checkpoint = hold(place, variant=variant, order=kinds).checkpoint  # the files are sound, then, or this raises
        _note(result, f"names are not checked: {error}")
        return _hashed(result, _Read(kinds[0].name, variant, checkpoint, {}), advance)
    plan = check_whole(draft)
    for note in draft.notes:
        _note(result, note)
    for weight in plan.missing if plan is not None else ():
        _note(result, f"no weights for the head: {weight.name}")
    if not is_gguf(place):
        _check_ties(place, draft.config or {})
    return _hashed(result, _Read(draft.format.name, variant, draft.tensors, {}), advance)


def _check_ties(folder: Path, config: Mapping[str, object]) -> None:
    """Raise if the weights contradict what config.json says of ties: `config` is what it would have to say."""
    file = regular_inside(folder, CONFIG_NAME)
    said = {} if file is None else read_config(file)
    if wrong := sorted(key for key, value in config.items() if said.get(key) != value):
        raise ConfigError(
            f"{file} says that weights are tied which the files hold with values of their own.",
            expected=", ".join(f"{key} {config[key]}" for key in wrong),
            received=", ".join(f"{key} {said.get(key, 'not there, so tied')}" for key in wrong),
            remedy="write it into config.json; or, if they should be tied, save the model again",
        )


def _check_manifest(folder: Path, variant: str | None) -> None:
    _, differences = verify_folder(folder, Wanted(), variant)
    if differences:
        listed = "; ".join(map(str, differences[:4]))
        raise IntegrityError(
            f"{folder} is not what its manifest records.",
            expected="the files of the save that wrote the manifest",
            received=listed + (f"; and {len(differences) - 4} more" if len(differences) > 4 else ""),
            remedy="restore the files; or, if they are as you mean them, save or convert the checkpoint again",
        )


def _note(result: Examined, note: str) -> None:
    if note not in result.notes:
        result.notes.append(note)


def _hashed(result: Examined, read: _Read, advance: Advance) -> _Read:
    hashes = {}
    for name, ref in read.tensors.items():
        hashes[name] = digest(ref)
        advance(ref.nbytes)
        result.tensors += 1
        result.nbytes += ref.nbytes
    return replace(read, hashes=hashes)


def _compare(result: Examined, sets: list[_Read]) -> None:
    """Find the formats whose values are not those of the first of their variant: one of the two is old."""
    first: dict[str | None, _Read] = {}
    for other in sets:
        one = first.setdefault(other.variant, other)
        if differing := _differing(one, other):
            listed = ", ".join(differing[:4]) + (f" and {len(differing) - 4} more" if len(differing) > 4 else "")
            error = InconsistentCheckpointError(
                f"{result.place} holds one model in {one.format} and another in {other.format}.",
                expected="the same values in every format",
                received=f"different ones for {listed}",
                remedy="remove the files that are old, or write them again with triptych convert",
            )
            result.problems.append(str(error))


def _differing(one: _Read, other: _Read) -> list[str]:
    """Return the names of tensors with the same dtype and shape in both, and different values."""

    def kind(read: _Read, name: str) -> object:
        return read.tensors[name].dtype, read.tensors[name].shape

    shared = [name for name in other.tensors if name in one.tensors and kind(one, name) == kind(other, name)]
    return [name for name in shared if one.hashes[name] != other.hashes[name]]


def _read_adapter(result: Examined, name: str, advance: Advance) -> _Read:
    file = regular_inside(result.place, name)
    if file is None:
        raise MissingFileError(f"{result.place / name} is gone.", expected="a folder that nobody changes meanwhile",
                               received="no file", remedy="verify it again")  # fmt: skip
    if regular_inside(result.place, ADAPTER_CONFIG_NAME) is None:
        _note(result, f"there is no {ADAPTER_CONFIG_NAME}")
    else:
        read_config(result.place / ADAPTER_CONFIG_NAME)
    tensors = open_file(file).tensors
    try:
        parsed(tensors, str(file))
    except UnsupportedFormatError as error:
        _note(result, f"names are not checked: {error}")
    return _hashed(result, _Read(name, None, tensors, {}), advance)
