"""Which files of a Hub repository a config or a model needs; what is local already never reaches the network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from triptych.checkpoints.resolve import nothing_found, pointed_at, pointer_in, preferred, read_index
from triptych.errors import ArgumentError, HubOfflineError, TriptychError
from triptych.files.json import read_config
from triptych.files.paths import CONFIG_NAME, check_subfolder
from triptych.formats.kinds import LAYOUTS, Format
from triptych.hub.snapshot import HubOptions, Snapshot, find_snapshot, given_token, is_repo_id

_HUB_ARGUMENTS = tuple(field.name for field in fields(HubOptions))
_WITHOUT_EFFECT = ("resume_download", "mirror", "_from_auto", "_from_pipeline", "_commit_hash")
"""Arguments of transformers 4: downloads are always resumed, there are no mirrors, and a load looks up one commit."""


@dataclass(frozen=True)
class HubFolder(os.PathLike[str]):
    """The cached folder of one commit, which is a path like any other; its text is the name of the repository.

    `whole` says that the weights are there, and not the config alone; `bare`, that nothing is: it was looked up.
    """

    snapshot: Snapshot
    whole: bool = False
    bare: bool = False

    @property
    def repo_id(self) -> str:
        return self.snapshot.repo_id

    def __fspath__(self) -> str:
        return str(self.snapshot.folder)

    def __str__(self) -> str:
        return self.repo_id


def names_in(place: Any, subfolder: str = "") -> set[str]:
    """Return the names of the files in `subfolder` of a folder or, of a repository's commit, on the Hub."""
    if isinstance(place, HubFolder):
        return {name.removeprefix(_join(subfolder, "")) for name in place.snapshot.files if _is_in(name, subfolder)}
    folder = os.path.join(place, subfolder)
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


def take_hub_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Remove the arguments that concern the Hub from `kwargs`, and return them."""
    for name in _WITHOUT_EFFECT:
        kwargs.pop(name, None)
    if "use_auth_token" in kwargs:
        kwargs["token"] = given_token(kwargs.pop("token", None), kwargs.pop("use_auth_token"))
    return {name: kwargs.pop(name) for name in _HUB_ARGUMENTS if name in kwargs}


def fetch_config(path: Any, subfolder: str, arguments: Mapping[str, Any], complete: bool = True) -> Any:
    """Return `path` if it is local, else the cached folder of the repository of that name, with its config.json.

    With `complete` False the weights are to follow: `fetch_model` takes what is returned for a path.

    Raises:
        ArgumentError, MissingFileError, HubError and its subclasses.
    """
    snapshot = _snapshot(path, subfolder, arguments)
    if snapshot is None:
        return path
    snapshot.fetch([_join(subfolder, CONFIG_NAME)], complete)
    return HubFolder(snapshot)


def look_up(path: Any, subfolder: str, arguments: Mapping[str, Any]) -> Any:
    """Return `path` if it is local, else the repository of that name with nothing fetched: to see which files it has.

    `fetch_config`, `fetch_model` and `fetch_files` take what is returned for a path, and look nothing up again.

    Raises:
        ArgumentError, HubError and its subclasses.
    """
    snapshot = _snapshot(path, subfolder, arguments)
    return path if snapshot is None else HubFolder(snapshot, bare=True)


def fetch_files(path: Any, subfolder: str, arguments: Mapping[str, Any], groups: Sequence[Sequence[str]]) -> Any:
    """Return `path` if it is local, else the cached folder of the repository, with the first file of each of `groups`
    that is there.

    Raises:
        As `fetch_config`.
    """
    snapshot = _snapshot(path, subfolder, arguments)
    if snapshot is None:
        return path
    wanted = [
        [_join(subfolder, name) for name in group if _join(subfolder, name) in snapshot.files] for group in groups
    ]
    snapshot.fetch([names[0] for names in wanted if names])
    return HubFolder(snapshot, whole=True)


def fetch_model(
    path: Any,
    subfolder: str,
    arguments: Mapping[str, Any],
    variant: str | None = None,
    order: Sequence[Format] = LAYOUTS,
    beside: Sequence[str] = (),
) -> Any:
    """Return `path` if it is local, else the cached folder of a repository, with config.json and the weights it needs.

    Files that `beside` names come too, if they are there. All files are of one commit. The cache notes the commit as
    that of `revision` once all are there.

    Raises:
        As `fetch_config`; UnsafeCheckpointError, CorruptCheckpointError: of the config's pointer or the index.
    """
    begun = isinstance(path, HubFolder) and not path.whole
    snapshot = path.snapshot if begun else _snapshot(path, subfolder, arguments)
    if snapshot is None:
        return path
    here = {name.removeprefix(_join(subfolder, "")) for name in snapshot.files if _is_in(name, subfolder)}
    if CONFIG_NAME in here and (not begun or path.bare):
        snapshot.fetch([_join(subfolder, CONFIG_NAME)], complete=False)
    pointer = _pointer(snapshot, _join(subfolder, CONFIG_NAME), variant, order) if CONFIG_NAME in here else None
    name = preferred(here, variant, order) if pointer is None else pointer
    if name is None:
        raise _nothing(snapshot, here, variant, order)
    wanted = [_join(subfolder, name)]
    if name.endswith(".json"):  # every file is fetched once, even if force_download is set
        index = snapshot.fetch(wanted, complete=False) / wanted[0]
        wanted = [_join(subfolder, shard) for shard in sorted(set(read_index(index)[0].values()))]
    snapshot.fetch([*wanted, *(_join(subfolder, name) for name in beside if name in here)])
    return HubFolder(snapshot, whole=True)


def _snapshot(path: Any, subfolder: str, arguments: Mapping[str, Any]) -> Snapshot | None:
    """Return the snapshot that `path` names, or None for what is, or could only be, a local path."""
    options = HubOptions(**arguments)
    check_subfolder(subfolder)
    if isinstance(path, HubFolder) and path.bare:
        return path.snapshot
    if isinstance(path, str) and path.startswith(("http://", "https://")):
        raise ArgumentError(
            "Nothing is loaded from an address.",
            expected="a folder, or a repository of the Hub",
            received=path[:120],
            remedy="pass org/name for https://huggingface.co/org/name, or download the files",
        )
    return None if not is_repo_id(path) or os.path.exists(path) else find_snapshot(path, options)


def _pointer(snapshot: Snapshot, config: str, variant: str | None, order: Sequence[Format]) -> str | None:
    """Return the file that config.json names as the weights; it is checked, as it comes from the repository."""
    file = snapshot.folder / config
    name = pointer_in(read_config(file), variant)
    return None if name is None else pointed_at(name, file, order)


def _nothing(snapshot: Snapshot, present: set[str], variant: str | None, order: Sequence[Format]) -> TriptychError:
    if not snapshot.offline:
        return nothing_found(f"{snapshot.repo_id} at commit {snapshot.commit}", present, variant, order)
    error = nothing_found(f"The cache of {snapshot.repo_id}", present, variant, order)
    remedy = "load it once with a network, without local_files_only and HF_HUB_OFFLINE"
    return HubOfflineError(error.detail, expected=error.expected, received=error.received, remedy=remedy)


def _is_in(name: str, subfolder: str) -> bool:
    return name.startswith(_join(subfolder, ""))


def _join(subfolder: str, name: str) -> str:
    return f"{subfolder}/{name}" if subfolder else name


def fetch_beside(place: Any, subfolder: str, name: str) -> bool:
    """Bring the file `name`, beside the config.json of `place`, if that is of a repository; return whether it is there.

    Raises:
        HubError and its subclasses.
    """
    if not isinstance(place, HubFolder):
        return os.path.isfile(os.path.join(place, subfolder, name))
    if _join(subfolder, name) not in place.snapshot.files:
        return False
    place.snapshot.fetch([_join(subfolder, name)], complete=False)
    return True
