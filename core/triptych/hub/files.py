"""Single files of a folder or of a repository, by the names that transformers has for it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from triptych.checkpoints.resolve import read_index
from triptych.errors import (
    ArgumentError,
    CorruptCheckpointError,
    HubAccessError,
    HubError,
    HubNotFoundError,
    HubOfflineError,
    MissingFileError,
)
from triptych.files.json import read_json
from triptych.files.paths import check_subfolder, is_inside
from triptych.hub.fetching import take_hub_arguments
from triptych.hub.snapshot import HubOptions, find_snapshot

_COMMIT_IN_PATH = re.compile(r"(?:^|/)snapshots/([0-9a-f]{40})(?:/|$)")
_WITHOUT_EFFECT = ("resume_download", "user_agent", "_commit_hash", "mirror")
_UNITS = {"GIB": 2**30, "MIB": 2**20, "KIB": 2**10, "GB": 10**9, "MB": 10**6, "KB": 10**3}


def cached_file(path_or_repo_id: str | os.PathLike[str], filename: str, **kwargs: Any) -> str | None:
    """Return the path of one file: see `cached_files`; None where that returns none."""
    found = cached_files(path_or_repo_id, [filename], **kwargs)
    return found[0] if found else None


def cached_files(
    path_or_repo_id: str | os.PathLike[str], filenames: Iterable[str], subfolder: str = "", **kwargs: Any
) -> list[str] | None:
    """Return the paths of files of a local folder, or of a repository, whose files are fetched into the cache.

    Args:
        kwargs: `revision`, `token`, `cache_dir`, `force_download` and `local_files_only`: see
            `triptych.hub.snapshot.HubOptions`. `_raise_exceptions_for_gated_repo`, `..._for_missing_entries` and
            `..._for_connection_errors`, each True: with False None is returned instead.

    Raises:
        ArgumentError: an unknown argument, or another `repo_type` than "model". MissingFileError: a file is not there.
        HubError and its subclasses: of the Hub.
    """
    kinds = {"gated_repo": HubAccessError, "missing_entries": MissingFileError, "connection_errors": HubOfflineError}
    silent = tuple(error for kind, error in kinds.items() if not kwargs.pop(f"_raise_exceptions_for_{kind}", True))
    options = _options(kwargs)
    check_subfolder(subfolder)
    names = [f"{subfolder}/{name}" if subfolder else name for name in filenames]
    try:
        return [str(_found(path_or_repo_id, names, options) / name) for name in names]
    except silent:
        return None


def _found(path: str | os.PathLike[str], names: list[str], options: HubOptions) -> Path:
    """Return the folder in which all of `names` are."""
    if not os.path.isdir(path):
        return find_snapshot(os.fspath(path), options).fetch(names)
    lacking = [name for name in names if not (is_inside(name) and (Path(path) / name).is_file())]
    if lacking:
        raise MissingFileError(f"{path} has no {', '.join(lacking)}.", remedy="check the folder and the name")
    return Path(path)


def _options(kwargs: dict[str, Any]) -> HubOptions:
    token = kwargs.pop("use_auth_token", None)
    options = HubOptions(**{**({} if token is None else {"token": token}), **take_hub_arguments(kwargs)})
    kind = kwargs.pop("repo_type", None)
    if kind not in (None, "model"):
        raise ArgumentError("Files of models alone are fetched.", expected="repo_type='model'", received=repr(kind),
                            remedy="use huggingface_hub.hf_hub_download")  # fmt: skip
    unknown = sorted(set(kwargs) - {*_WITHOUT_EFFECT})
    if unknown:
        raise ArgumentError("There are no such arguments.", received=", ".join(unknown))
    return options


def has_file(path_or_repo: str | os.PathLike[str], filename: str, **kwargs: Any) -> bool:
    """Return whether a folder, or a repository that can be read, has a file; it is not fetched.

    Raises:
        HubError: there is no such repository, or it could not be asked.
    """
    options = _options(kwargs)
    if os.path.isdir(path_or_repo):
        return (Path(path_or_repo) / filename).is_file()
    return filename in find_snapshot(os.fspath(path_or_repo), options).files


def get_checkpoint_shard_files(
    pretrained_model_name_or_path: str | os.PathLike[str], index_filename: str, subfolder: str = "", **kwargs: Any
) -> tuple[list[str], dict[str, Any]]:
    """Return the paths of the shards that the index at the path `index_filename` names, and what the index says.

    The second has the index's metadata, `all_checkpoint_keys` and `weight_map` (weight -> file).

    Raises:
        MissingFileError, CorruptCheckpointError, UnsafeCheckpointError: of the index. As `cached_files`: of the shards.
    """
    index = Path(index_filename)
    if not index.is_file():
        raise MissingFileError(f"There is no index {index}.")
    weight_map = dict(read_index(index)[0])
    metadata = dict(read_json(index, CorruptCheckpointError).get("metadata") or {})
    shards = sorted(set(weight_map.values()))
    paths = cached_files(pretrained_model_name_or_path, shards, subfolder, **kwargs) or []
    return paths, {**metadata, "all_checkpoint_keys": list(weight_map), "weight_map": weight_map}


def create_and_tag_model_card(
    repo_id: str, tags: Iterable[str] | None = None, token: str | None = None, ignore_metadata_errors: bool = False
) -> Any:
    """Return the model card of a repository, or a new one, with `tags` added; a `huggingface_hub.ModelCard`."""
    from huggingface_hub import ModelCard, ModelCardData
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    try:
        card = ModelCard.load(repo_id, token=token, ignore_metadata_errors=ignore_metadata_errors)
    except (EntryNotFoundError, RepositoryNotFoundError):
        card = ModelCard.from_template(ModelCardData(tags=[], library_name="triptych"))
    card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *(tags or ())]))
    return card


def is_offline_mode() -> bool:
    """Return whether HF_HUB_OFFLINE keeps this process from the network."""
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


def is_remote_url(url_or_filename: str) -> bool:
    """Return whether the text is a URL."""
    return re.match(r"https?://", str(url_or_filename)) is not None


def extract_commit_hash(resolved_file: str | None, commit_hash: str | None = None) -> str | None:
    """Return `commit_hash`, or the commit that the path of a file in the cache names, or None."""
    if resolved_file is None or commit_hash is not None:
        return commit_hash
    found = _COMMIT_IN_PATH.search(Path(resolved_file).as_posix())
    return found and found.group(1)


def download_url(url: str, proxies: Mapping[str, str] | None = None) -> str:
    """Return the path of a temporary file with what `url` serves.

    Raises:
        ArgumentError: no URL, or `proxies`. HubError: it could not be read.
    """
    import httpx2

    HubOptions(proxies=proxies)
    if not is_remote_url(url):
        raise ArgumentError("This is no URL.", expected="http:// or https://", received=repr(url)[:80])
    handle, path = tempfile.mkstemp()
    try:
        with httpx2.stream("GET", url, follow_redirects=True) as response, os.fdopen(handle, "wb") as file:
            response.raise_for_status()
            for part in response.iter_bytes():
                file.write(part)
    except httpx2.HTTPError as cause:
        os.unlink(path)
        kind = HubNotFoundError if getattr(getattr(cause, "response", None), "status_code", 0) == 404 else HubError
        raise kind(f"{url} could not be read.", received=str(cause)[:200]) from cause
    return path


def convert_file_size_to_int(size: int | str) -> int:
    """Return a number of bytes: an int as it is, or a whole number before GiB, MiB, KiB, GB, MB or KB.

    A small `b` at the end counts bits: "8Gb" is 10^9 bytes.

    Raises:
        ArgumentError: no size.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        return size
    text = str(size).strip()
    unit = next((unit for unit in _UNITS if text.upper().endswith(unit)), None)
    try:
        number = int(text[: -len(unit or "")])
    except ValueError:
        number = None
    if unit is None or number is None:
        raise ArgumentError("This is no size.", expected='bytes, or text such as "5GB"', received=repr(size)[:80])
    in_bits = text.endswith("b") and not unit.endswith("IB")
    return number * _UNITS[unit] // (8 if in_bits else 1)
