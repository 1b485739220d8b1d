"""Which files of a Hub repository a config or a model needs; what is local already never reaches the network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych import strictjson
from triptych.errors import ConfigError, HubOfflineError, MissingFileError
from triptych.formats import LAYOUTS, Format
from triptych.resolve import POINTER, check_subfolder, preferred, read_index, safe_name

if TYPE_CHECKING:
    from triptych.hub import HubOptions, Snapshot

_CONFIG = "config.json"
_HUB_ARGUMENTS = ("revision", "token", "cache_dir", "force_download", "local_files_only", "proxies")
_INDEX_END = ".index.json"


@dataclass(frozen=True)
class HubFolder(os.PathLike[str]):
    """The cached folder of one commit, which is a path like any other; its text is the name of the repository."""

    repo_id: str
    commit: str
    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return self.repo_id


def take_hub_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Remove the arguments that concern the Hub from `kwargs`, and return them."""
    return {name: kwargs.pop(name) for name in _HUB_ARGUMENTS if name in kwargs}


def fetch_config(path: Any, subfolder: str, arguments: Mapping[str, Any]) -> Any:
    """Return `path` if it is local, else the cached folder of the repository of that name, with its config.json.

    Raises:
        ArgumentError, MissingFileError, HubError and its subclasses.
    """
    snapshot = _snapshot(path, subfolder, arguments)
    if snapshot is None:
        return path
    return _folder(snapshot, [_join(subfolder, _CONFIG)])


def fetch_model(
    path: Any,
    subfolder: str,
    arguments: Mapping[str, Any],
    variant: str | None = None,
    order: Sequence[Format] = LAYOUTS,
) -> Any:
    """Return `path` if it is local, else the cached folder of a repository, with config.json and the weights it needs.

    All files are of one commit. The cache notes the commit as that of `revision` once all are there.

    Raises:
        As `fetch_config`, `formats.read_order` and `resolve.find_weights`.
    """
    snapshot = _snapshot(path, subfolder, arguments)
    if snapshot is None:
        return path
    here = {name.removeprefix(_join(subfolder, "")) for name in snapshot.files if _is_in(name, subfolder)}
    pointer = _pointer(snapshot, _join(subfolder, _CONFIG)) if _CONFIG in here else None
    name = pointer if pointer is not None and variant is None else preferred(here, variant, order)
    if name is None:
        raise _nothing(snapshot, here, variant, order)
    wanted = [_join(subfolder, name)]
    if name.endswith(_INDEX_END):  # every file is fetched once, even if force_download is set
        index = snapshot.fetch(wanted, complete=False) / wanted[0]
        wanted = [_join(subfolder, shard) for shard in sorted(set(read_index(index)[0].values()))]
    return _folder(snapshot, wanted)


def _snapshot(path: Any, subfolder: str, arguments: Mapping[str, Any]) -> Snapshot | None:
    """Return the snapshot that `path` names, or None for what is, or could only be, a local path."""
    options = _options(arguments)
    check_subfolder(subfolder)
    if not isinstance(path, str) or Path(path).exists():
        return None
    from triptych.hub import find_snapshot, is_repo_id

    return find_snapshot(path, options) if is_repo_id(path) else None


def _options(arguments: Mapping[str, Any]) -> HubOptions:
    from triptych.hub import HubOptions

    assert {field.name for field in fields(HubOptions)} == set(_HUB_ARGUMENTS)
    return HubOptions(**arguments)


def _folder(snapshot: Snapshot, names: Sequence[str]) -> HubFolder:
    return HubFolder(snapshot.repo_id, snapshot.commit, snapshot.fetch(names))


def _pointer(snapshot: Snapshot, config: str) -> str | None:
    """Return the file that config.json names as the weights; it is checked, as it comes from the repository."""
    folder = snapshot.fetch([config], complete=False)
    name = strictjson.read(folder / config, ConfigError).get(POINTER)
    suffixes = tuple(f"{format.suffix}{end}" for format in LAYOUTS for end in ("", _INDEX_END))
    return None if name is None else safe_name(name, folder / config, suffixes)


def _nothing(snapshot: Snapshot, present: set[str], variant: str | None, order: Sequence[Format]) -> Exception:
    expected = " or ".join(format.names(variant)[0] for format in order) + ", or the index of one"
    received = ", ".join(sorted(present)[:8]) or "no files"
    of = f" of variant {variant!r}" if variant else ""
    if snapshot.offline:
        return HubOfflineError(
            f"The cache holds no weights{of} of {snapshot.repo_id}.",
            expected=expected,
            received=received,
            remedy="load it once with a network, without local_files_only and HF_HUB_OFFLINE",
        )
    return MissingFileError(
        f"{snapshot.repo_id} holds no weights{of} at commit {snapshot.commit}.",
        expected=expected,
        received=received,
        remedy="check subfolder, variant and revision, and which formats you allow",
    )


def _is_in(name: str, subfolder: str) -> bool:
    return name.startswith(_join(subfolder, ""))


def _join(subfolder: str, name: str) -> str:
    return f"{subfolder}/{name}" if subfolder else name
