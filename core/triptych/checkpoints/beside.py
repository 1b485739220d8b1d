"""What becomes of the weights of other formats in a folder that is saved to.

What loads is what was saved last, in every framework of triptych and for the readers of transformers. So a file that
some reader would take in place of the new weights (`resolve.rivals`) cannot keep its name. What a save of triptych
wrote, as a save id in it says, is deleted then. Anything else is somebody's: it is kept, as `<name>.stale`, which no
reader looks for. Everything else stays as it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from triptych.checkpoints import staging
from triptych.checkpoints.resolve import read_index
from triptych.errors import TriptychError
from triptych.formats.kinds import LAYOUTS, MSGPACK, SAVE_ID, Format
from triptych.formats.opening import open_file

STALE = ".stale"
"""Put behind the name of a file of somebody else that would be read in place of what was saved."""

logger = logging.getLogger("triptych")


def other_heads(format: Format, variant: str | None) -> list[str]:
    """Return the names of single files and indexes of all other formats."""
    return [name for other in LAYOUTS if other.suffix != format.suffix for name in other.names(variant)]


def replaced(folder: Path, format: Format, variant: str | None, rivals: Sequence[str], remove_stale: bool) -> list[str]:
    """Return the existing weight files, shards included, that a save of `format` replaces: all of the same format, and
    of those of other formats the `rivals` that a save of triptych wrote; with `remove_stale`, all of any format."""
    if remove_stale:
        return staging.named_files(folder, variant)
    found = set(staging.named_files(folder, variant, [format.suffix]))
    for name in rivals:
        if is_ours(folder / name):
            shards = read_index(folder / name)[0].values() if name.endswith(".json") else ()
            found |= {name, *(s for s in shards if s.endswith(MSGPACK.suffix) or is_ours(folder / s))}
    return sorted(found)


def is_ours(file: Path) -> bool:
    """Return whether a save of triptych wrote the weight file or index `file`, as far as it says: a single msgpack file
    has no place for it, and the shards of one are known by their index."""
    try:
        metadata = read_index(file)[1] if file.suffix == ".json" else open_file(file).metadata
    except (TriptychError, OSError):
        return False
    return isinstance(metadata.get(SAVE_ID), str)


def clear(folder: Path, names: Iterable[str], format: Format, variant: str | None, remove: bool = False) -> None:
    """Take the files `names`, in their order, out of the way of weights of `format`: those of the same format and those
    that a save of triptych wrote are deleted, the others set aside, unless they are to `remove` too."""
    same = format.names(variant)
    for name in names:
        file = folder / name
        if remove or name in same or is_ours(file):
            file.unlink(missing_ok=True)
        elif os.path.lexists(file):
            _set_aside(file)


def _set_aside(file: Path) -> None:
    """Give `file` a name that no reader looks for; killed in between, it has both."""
    aside, number = file.with_name(file.name + STALE), 1
    while os.path.lexists(aside) and not os.path.samestat(aside.lstat(), file.lstat()):
        number += 1
        aside = file.with_name(f"{file.name}{STALE}{number}")
    if not os.path.lexists(aside):
        staging.link(file, aside)
    file.unlink(missing_ok=True)
    logger.warning(
        "%s was not written by triptych and would be read in place of what was saved now: it is kept as %s; "
        "remove_stale=True deletes such files", file, aside.name,
    )  # fmt: skip
