"""Checking what a load reads against the manifest of its folder.

It compares the bytes that it uses, when it has them: each tensor in memory of its own, config.json and the like as
they were parsed. So nothing that is done to a file between check and use gets through.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.checkpoints.manifest import (
    Entry,
    FileRecord,
    has_same_weights,
    manifest_name,
    read_manifest,
)
from triptych.checkpoints.opening import Checkpoint
from triptych.errors import ArgumentError, IntegrityError, MissingFileError
from triptych.files.json import shown_to
from triptych.files.paths import CONFIG_NAME, GENERATION_CONFIG_NAME
from triptych.tensors.checked import checked

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LISTED = 4
"""How many tensors a message names."""


@dataclass(frozen=True)
class Wanted:
    """What a caller asks to be checked: the manifest, and that it is the one of `digest` if that is not None."""

    digest: str | None = None

    @property
    def argument(self) -> str:
        return "verify=True" if self.digest is None else "digest="


def wanted(verify: object, digest: object) -> Wanted | None:
    """Return what the arguments `verify` and `digest` ask for; None for nothing.

    Raises:
        ArgumentError: they are no such arguments.
    """
    if not isinstance(verify, bool):
        raise ArgumentError("verify is neither True nor False.", received=repr(verify)[:80])
    if digest is None:
        return Wanted() if verify else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ArgumentError(
            "digest is none.",
            expected="sha256: and 64 hexadecimal digits in lower case, as `triptych verify` prints it",
            received=repr(digest)[:90],
        )
    return Wanted(digest)


def take_wanted(kwargs: dict[str, Any]) -> Wanted | None:
    """Remove `verify` and `digest` from `kwargs`, and return what they ask for."""
    return wanted(kwargs.pop("verify", False), kwargs.pop("digest", None))


def refuse_gguf(file: object, asked: Wanted | None) -> None:
    """Raise `ArgumentError` if a load of a GGUF file is to be verified."""
    _refuse_unrecorded(f"{file} is a GGUF file", asked, "write a folder of it: `triptych convert --manifest`")


def refuse_adapter(path: object, asked: Wanted | None) -> None:
    """Raise `ArgumentError` if a load of an adapter is to be verified."""
    _refuse_unrecorded(f"{path} holds an adapter", asked, "load its model with it, then model.load_adapter(path)")


def _refuse_unrecorded(what: str, asked: Wanted | None, remedy: str) -> None:
    if asked is not None:
        raise ArgumentError(
            f"{what}, of which there is no manifest.",
            expected="a folder or repository of a model that was saved with manifest=True",
            received=asked.argument,
            remedy=f"leave {asked.argument} out, or {remedy}",
        )


def read_beside(variant: str | None) -> tuple[str, ...]:
    """Return the files that a load which verifies reads beside config.json and the weights, where they are there."""
    return (GENERATION_CONFIG_NAME, manifest_name(variant))


@dataclass
class Verified:
    """A folder whose manifest was found, and fits what was read of it.

    - `wanted`: what had been asked for.
    """

    folder: Path
    entry: Entry
    wanted: Wanted
    heads: Mapping[str, str] = field(default_factory=dict)
    """Names in the folder, for the moment of a commit -> those in the manifest."""

    def watching(self) -> AbstractContextManager[None]:
        """Refuse every small file of the folder that is read meanwhile and is not as the manifest says."""
        return shown_to(self.saw)

    def saw(self, path: Path, data: bytes) -> None:
        """Raise `IntegrityError` if the manifest does not say that `path` holds `data`; code must be of the folder."""
        if not _is_of(path, self.folder):
            if path.suffix == ".py":
                raise _unlisted(path, self.folder)
            return
        name = self.heads.get(path.name, path.name)
        if name not in self.entry.files:
            raise _unlisted(path, self.folder)
        if not self.entry.matches(name, data):
            raise _differs(path, self.entry.files[name], FileRecord.of(data))


def _is_of(path: Path, folder: Path) -> bool:
    try:
        return os.path.samefile(path.parent, folder)
    except OSError:
        return True


@dataclass
class Watch:
    """What was read of a folder until it is known which entry of the manifest is meant."""

    folder: Path
    seen: list[tuple[Path, bytes]] = field(default_factory=list)

    def watching(self) -> AbstractContextManager[None]:
        return shown_to(lambda path, data: self.seen.append((path, data)))

    def verified(self, asked: Wanted, variant: str | None, checkpoint: Checkpoint) -> tuple[Verified, Checkpoint]:
        """Return what the manifest says of what was read, and `checkpoint`, whose tensors are compared when they are
        read.

        Raises:
            MissingFileError: there is no manifest, or not the config that it records. IntegrityError: something
            differs. What `read_manifest` raises.
        """
        name = manifest_name(variant)
        entries = read_manifest(self.folder, variant)
        if not entries:
            raise MissingFileError(
                f"{self.folder} has no {name}, which {asked.argument} needs.",
                expected=name,
                received="no manifest",
                remedy=f"save it with manifest=True (`triptych convert --manifest`), or leave {asked.argument} out",
            )
        entry = _meant(entries, checkpoint, self.folder / name)
        if asked.digest not in (None, entry.digest):
            raise IntegrityError(
                f"{self.folder} is not the checkpoint of this digest.",
                expected=asked.digest or "",
                received=f"{entry.digest}, the digest of its {name}",
                remedy="get the checkpoint again, or look at what changed before you pin the new digest",
            )
        read = (CONFIG_NAME, GENERATION_CONFIG_NAME)
        absent = [n for n in read if n in entry.files and not os.path.lexists(self.folder / n)]
        if absent:
            raise MissingFileError(
                f"{self.folder} has no {', '.join(absent)}, which its manifest records.",
                remedy="get the checkpoint again",
            )
        actual = checkpoint.files[-1].name
        found = Verified(self.folder, entry, asked, {actual: entry.weights})
        for path, data in self.seen:
            found.saw(path, data)
        return found, _checked(checkpoint, entry)


def _meant(entries: tuple[Entry, ...], checkpoint: Checkpoint, manifest: Path) -> Entry:
    """Return the entry of the save that the weights are of."""
    save = checkpoint.save_id
    if save is None:  # a file of msgpack does not say
        fitting = [entry for entry in entries if entry.weights == checkpoint.files[-1].name]
        if len(fitting) > 1:  # as a save that was killed leaves them; whichever is meant, the tensors are compared
            fitting = [e for e in fitting if has_same_weights(manifest.parent, e)] or fitting
    else:
        fitting = [entry for entry in entries if entry.save == save]
    if not fitting:
        raise IntegrityError(
            f"{manifest} is of another save than the weights.",
            expected=f"save {', '.join(entry.save for entry in entries)}, of {entries[0].weights}",
            received=f"{checkpoint.source}, of {'save ' + save if save else 'no save that it names'}",
            remedy="get the checkpoint again, or save it with manifest=True",
        )
    return fitting[0]


def _checked(checkpoint: Checkpoint, entry: Entry) -> Checkpoint:
    """Return `checkpoint`, each of whose tensors is compared with the manifest when it is read.

    Raises:
        IntegrityError: other tensors, dtypes or shapes are declared.
    """
    said = {name: (record.dtype, record.shape) for name, record in entry.tensors.items()}
    found = {name: (ref.dtype.name, ref.shape) for name, ref in checkpoint.items()}
    if said != found or checkpoint.flavour not in (None, entry.flavour):
        names = sorted(n for n in said.keys() | found.keys() if said.get(n) != found.get(n))
        raise IntegrityError(
            f"{checkpoint.source} does not declare the tensors that the manifest records.",
            expected="; ".join(f"{n}: {said.get(n, 'none')}" for n in names[:_LISTED]) or f"those of {entry.flavour}",
            received="; ".join(f"{n}: {found.get(n, 'none')}" for n in names[:_LISTED]) or f"{checkpoint.flavour}",
            remedy="get the checkpoint again",
        )
    refs = {n: checked(ref, entry.tensors[n].sha256, checkpoint.source) for n, ref in checkpoint.items()}
    return Checkpoint(
        refs, checkpoint.metadata, checkpoint.source, checkpoint.flavour, checkpoint.files, checkpoint.save_id
    )


def _unlisted(path: Path, folder: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} would be read, and the manifest of {folder} does not record it.",
        expected="only files of the save whose manifest it is",
        received=path.name,
        remedy="remove the file, or save the model with manifest=True",
    )


def _differs(path: Path, said: FileRecord, found: FileRecord) -> IntegrityError:
    return IntegrityError(
        f"{path} is not the file that the manifest records.",
        expected=f"{said.size} bytes, SHA-256 {said.sha256}",
        received=f"{found.size} bytes, SHA-256 {found.sha256}",
        remedy="get the checkpoint again, or save it with manifest=True if the change is meant",
    )
