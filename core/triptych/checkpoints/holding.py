"""Reading a folder as one save left it, also while other processes save into it.

config.json, index and headers are read one after the other. If no file of the folder changed meanwhile, they were all
there at one moment; every moment of a save is whole, so they belong together. If something changed, they belong
together where one save id stands in all of them. Otherwise everything is read again. The tensors are read later, from
files that are held since then (`triptych.files.regular`).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from triptych.checkpoints.held import HeldFolder
from triptych.checkpoints.opening import Checkpoint, open_checkpoint
from triptych.checkpoints.resolve import pointer_in
from triptych.checkpoints.verifying import Verified, Wanted, Watch
from triptych.errors import ChangedFileError, MissingFileError, TriptychError, UnreadableFileError
from triptych.files.json import read_config
from triptych.files.paths import CONFIG_NAME, local_folder, regular_inside
from triptych.files.regular import Identity
from triptych.formats.gguf.file import open_gguf
from triptych.formats.kinds import LAYOUTS, SAVE_ID, WEIGHT_SUFFIXES, Format

PAUSES = (0.0, 0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.1, 0.2, 0.2, 0.5, 0.5)
"""Seconds to wait after each try that came upon a folder in motion."""
Loaded = TypeVar("Loaded")
_SUFFIXES = (".json", *WEIGHT_SUFFIXES)


@dataclass(frozen=True, eq=False)
class HeldModel(HeldFolder):
    """A folder whose config.json was read and whose weights were opened; `verified` if against its manifest."""

    checkpoint: Checkpoint
    verified: Verified | None = None


def hold(
    place: Any,
    *,
    subfolder: str = "",
    variant: str | None = None,
    mmap: bool = True,
    order: Sequence[Format] = LAYOUTS,
    wanted: Wanted | None = None,
) -> HeldModel:
    """Read config.json, if there is one, and open the weights of the folder `place`, all of one save.

    Args:
        place: a path, or a `fetching.HubFolder`; also that of a weight file or an index, whose folder it is then.
        variant, mmap, order: as `open_checkpoint`.
        wanted: compare what is read now, and each tensor when it is read, with the manifest. Tensors are read into
            memory of their own then, as if `mmap` were False.

    Raises:
        What `open_checkpoint` raises; ConfigError: config.json cannot be read. With `wanted`, what `Watch.verified`
        raises.
        ChangedFileError: files changed during every one of several tries.
    """
    given = given_file(place)
    folder = local_folder(place, subfolder) if given is None else given.parent
    for pause in PAUSES:
        before = _identities(folder)
        error: TriptychError | None = None
        watch, verified = Watch(folder), None
        try:
            with nullcontext() if wanted is None else watch.watching():
                config = _config(folder)
                pointer = pointer_in(config or {}, variant) if given is None else given.name
                allowed = order if given is None else LAYOUTS
                mapped = mmap and wanted is None
                checkpoint = open_checkpoint(folder, variant=variant, pointer=pointer, mmap=mapped, order=allowed)
            if wanted is not None:
                verified, checkpoint = watch.verified(wanted, variant, checkpoint)
        except TriptychError as cause:
            error = cause
        passing = isinstance(error, UnreadableFileError) and error.errno == errno.ESTALE
        if _identities(folder) == before and not passing:
            if error is not None:
                raise error
            return HeldModel(place, subfolder, config, checkpoint, verified)
        if error is None and _is_one_save(config, checkpoint):
            return HeldModel(place, subfolder, config, checkpoint, verified)
        time.sleep(pause)
    raise in_motion(folder) from error


def held_gguf(file: str | os.PathLike[str]) -> HeldModel:
    """Return the model in a GGUF file, with the config that its metadata describe.

    Raises:
        What `open_gguf` raises.
    """
    opened = open_gguf(Path(file))
    return HeldModel(Path(file).parent, "", opened.config, open_checkpoint(file))


def load_held(place: Any, load: Callable[[HeldModel], Loaded], **how: Any) -> Loaded:
    """Return `load` of the folder `place` (a `HeldModel` is taken as it is), read by `hold` with the arguments `how`.

    Where a file that could not be held has changed by the time its tensors are read, all is read again.

    Raises:
        What `hold` and `load` raise.
    """
    held = place if isinstance(place, HeldModel) else hold(place, **how)
    asked = how.pop("wanted", None)
    if held.verified is not None:
        asked = held.verified.wanted
    for pause in PAUSES:
        try:
            with watching(held):
                return load(held)
        except ChangedFileError:
            time.sleep(pause)
            held = hold(held.place, wanted=asked, **how)
    raise in_motion(held)


def watching(held: object) -> AbstractContextManager[None]:
    """Refuse what is read meanwhile of a folder that is verified and is not as its manifest says."""
    verified = held.verified if isinstance(held, HeldModel) else None
    return nullcontext() if verified is None else verified.watching()


def in_motion(folder: object) -> ChangedFileError:
    """Return the error for a folder that never holds still."""
    return ChangedFileError(
        f"{folder} was changed during each of {len(PAUSES)} tries to read it.",
        expected="files that stay the same for a moment",
        remedy="load it again when nobody saves to it, or have the savers use folders of their own",
    )


def given_file(place: Any) -> Path | None:
    """Return `place` if it is a weight file, or the index of several; None if it is anything else."""
    named = isinstance(place, (str, os.PathLike)) and os.fspath(place).endswith((".index.json", *_SUFFIXES[1:]))
    return Path(place) if named and os.path.isfile(place) else None


def _config(folder: Path) -> dict[str, Any] | None:
    file = regular_inside(folder, CONFIG_NAME)
    return None if file is None else read_config(file)


def _is_one_save(config: dict[str, Any] | None, checkpoint: Checkpoint) -> bool:
    return checkpoint.save_id is not None and (config is None or config.get(SAVE_ID) == checkpoint.save_id)


def _identities(folder: Path) -> dict[str, Identity]:
    """Return every file of `folder` that may be a config, an index or weights, and what it is known by."""
    found = {}
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(_SUFFIXES)]
    except OSError as cause:
        raise MissingFileError(
            f"{folder} cannot be listed.", received=str(cause), remedy="check that it is there and may be read"
        ) from cause
    for name in names:
        with suppress(OSError):  # gone since it was listed, or a link to nowhere
            found[name] = Identity.of(os.stat(folder / name))
    return found
