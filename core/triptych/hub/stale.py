"""Which weights of a repository give way to what is pushed: the rule of `triptych.checkpoints.beside`, on the Hub."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from triptych.checkpoints.beside import STALE
from triptych.checkpoints.manifest import manifest_name
from triptych.checkpoints.resolve import pointer_to, read_index, rivals
from triptych.errors import TriptychError
from triptych.formats.kinds import LAYOUTS, SAVE_ID, Format
from triptych.hub.snapshot import Snapshot

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stale:
    """Paths in the repository: `names` are gone after the push, of which `renamed` have another name then."""

    names: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


def stale_weights(
    there: Snapshot, subfolder: str, files: Iterable[str], variant: str | None, remove_stale: bool
) -> Stale:
    """Return which weights of `variant` in `subfolder` give way to `files`: none if there are no weights among these.

    Those of the same format are deleted. Of the others, each that some reader would take in place of what is pushed is
    renamed, or deleted where its index says that a save of triptych wrote it; `remove_stale` deletes all. A manifest of
    the weights that were there goes with them.
    """
    pushed = set(files)
    head = _head(pushed, variant)
    if head is None:
        return Stale()
    format, sharded = head
    present = {os.path.basename(name) for name in there.files if os.path.dirname(name) == subfolder}
    usual = {name for other in LAYOUTS for name in other.names(variant)}
    made = {name for name in present if pointer_to(name, variant)}  # of a local save that was pushed as it was
    gone = made | (present & (usual if remove_stale else set(format.names(variant))))
    found = _Indexes(there, subfolder)
    winning = [name for name in rivals(format, variant, sharded) if name in present - gone]
    gone |= {name for name in winning if found.save_id(name) is not None}
    aside = [name for name in winning if name not in gone]
    for index in sorted(name for name in gone if name.endswith(".json")):
        gone |= present & found.shards(index)
    gone |= {manifest_name(variant)} & present  # of the weights that are replaced
    gone -= pushed
    place = f"{subfolder}/" if subfolder else ""
    renamed = {place + name: place + _free(name, present) for name in aside}
    for name, new in renamed.items():
        logger.warning(
            "%s of %s would be read in place of what is pushed: it is called %s from now on; remove_stale=True deletes "
            "such files", name, there.repo_id, new,
        )  # fmt: skip
    return Stale(tuple(sorted({*(place + name for name in gone), *renamed})), renamed)


def _head(files: set[str], variant: str | None) -> tuple[Format, bool] | None:
    """Return the format of the weights among `files`, and whether they have an index; None if there are none."""
    for name in files:
        if pointer := pointer_to(name, variant):
            return pointer.format, name.endswith(".json")
    for format in LAYOUTS:
        single, index = format.names(variant)
        if single in files or index in files:
            return format, single not in files
    return None


def _free(name: str, present: set[str]) -> str:
    """Return the name under which `name` is kept."""
    numbers = ("", *range(2, len(present) + 3))
    return next(new for number in numbers if (new := f"{name}{STALE}{number}") not in present)


@dataclass(frozen=True)
class _Indexes:
    """The indexes of a folder of a repository; one that is damaged names nothing."""

    there: Snapshot
    subfolder: str

    def shards(self, name: str) -> set[str]:
        return set(self._read(name)[0].values())

    def save_id(self, name: str) -> object:
        return self._read(name)[1].get(SAVE_ID) if name.endswith(".json") else None

    def _read(self, name: str) -> tuple[Mapping[str, str], Mapping[str, object]]:
        path = f"{self.subfolder}/{name}" if self.subfolder else name
        folder: Path = self.there.fetch([path], complete=False)
        try:
            return read_index(folder / path)
        except TriptychError as error:
            logger.warning("%s of %s is damaged, so its shards stay: %s", path, self.there.repo_id, error)
            return {}, {}
