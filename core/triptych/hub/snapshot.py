"""Loading from the Hub: one look-up names a commit and its files; everything else is of that commit.

    snapshot = find_snapshot("org/model", HubOptions())
    folder = snapshot.fetch(["config.json", "model.safetensors"])

Requests: none when `revision` is a commit whose list is in the cache, or offline; else one for the look-up. `fetch`
asks for nothing that is in the cache, and for a missing file twice (a HEAD and a GET, which huggingface_hub's cache
needs). A push in between never mixes two versions. A file that was damaged in the cache counts as missing.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.errors import (
    ArgumentError,
    HubError,
    HubOfflineError,
    MissingFileError,
    UnsafeCheckpointError,
)
from triptych.files.paths import is_inside
from triptych.hub.cache import COMMIT, FileRecord, RepositoryCache, record
from triptych.hub.http import explained, failures, part_of, retried, unreachable

WORKERS = 8
_NAME = re.compile(
    r"(?:[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?/)?[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubOptions:
    """How to ask the Hub, as in `from_pretrained`. `revision` is a branch, a tag, refs/pr/N or a commit (None: main).

    `token` is a string, True (the saved one is required), False (none is sent) or None (the saved one, if there is
    one). `cache_dir` is huggingface_hub's by default. `proxies` must be None.

    Raises:
        ArgumentError: an option of a wrong type or value.
    """

    revision: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: str | os.PathLike[str] | None = None
    force_download: bool = False
    local_files_only: bool = False
    proxies: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.proxies is not None:
            raise ArgumentError(
                "proxies is not supported: huggingface_hub has no proxies of single requests since its version 1.",
                remedy="set HTTPS_PROXY in the environment, or call huggingface_hub.set_client_factory",
            )
        revision = self.revision
        if revision is not None and not (isinstance(revision, str) and is_inside(revision)):
            raise ArgumentError(
                "revision is no name.", expected="a branch, tag or commit", received=repr(revision)[:80]
            )
        if not isinstance(self.token, (str, bool, type(None))) or self.token == "":
            raise ArgumentError("token is no token.", expected="a string, True, False or None")
        if not isinstance(self.cache_dir, (str, os.PathLike, type(None))):
            raise ArgumentError("cache_dir is no path.", received=repr(self.cache_dir)[:80])
        if self.force_download and self.local_files_only:
            raise ArgumentError("force_download and local_files_only contradict each other.", remedy="pass one of them")


def given_token(token: str | bool | None, use_auth_token: str | bool | None) -> str | bool | None:
    """Return the token that is meant by `token` and the deprecated `use_auth_token`.

    Raises:
        ArgumentError: both are given.
    """
    if use_auth_token is None:
        return token
    if token is not None:
        raise ArgumentError("token and use_auth_token are one argument.", remedy="pass token alone")
    warnings.warn("use_auth_token is deprecated: pass token instead.", FutureWarning, stacklevel=4)
    return use_auth_token


def is_repo_id(name: object) -> bool:
    """Return whether `name` is "name" or "org/name" by the Hub's rules: letters, digits, - _ . within, 96 at most each.

    A local folder of that name goes first and is not looked for here.
    """
    named = isinstance(name, str) and _NAME.fullmatch(name) is not None
    return named and "--" not in str(name) and ".." not in str(name) and not str(name).endswith(".git")


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository. `commit` has 40 hexadecimal digits; `files` are the names of its files, offline of
    those that are in the cache; `folder` is where they lie or will lie, and need not exist before `fetch`."""

    repo_id: str
    commit: str
    files: tuple[str, ...]
    folder: Path
    options: HubOptions = field(repr=False)
    offline: bool = False
    records: Mapping[str, FileRecord] = field(default_factory=dict, repr=False)

    def fetch(self, names: Iterable[str], complete: bool = True) -> Path:
        """Return `folder`, with the files `names` of this commit in it; those not in the cache are downloaded.

        With `complete` False more is to follow, and the cache does not yet note that `revision` names this commit.
        Downloads run in parallel, are held against size and hash in the look-up, and repeated once if they are damaged.

        Raises:
            MissingFileError: the commit has no such file. HubOfflineError: it is not in the cache, and there is no
            network. HubError: it could not be downloaded, or came damaged twice. UnsafeCheckpointError: a name that
            leads outside.
        """
        wanted, there = list(dict.fromkeys(names)), frozenset(self.files)
        for name in wanted:
            self._check_name(name, there)
        problems = self._problems(wanted)
        if problems and self.offline:
            raise self._unavailable(problems)
        missing = wanted if self.options.force_download else list(problems)
        if missing:
            self._download(missing, problems)
        if complete and not self.offline:
            self._remember()
        return self.folder

    def _check_name(self, name: str, there: frozenset[str]) -> None:
        if not isinstance(name, str) or not is_inside(name):
            raise UnsafeCheckpointError("A file name leads outside its repository.", received=repr(name)[:120])
        if name not in there and not self.offline:
            raise MissingFileError(
                f"{self.repo_id} has no {name} at {self.options.revision or 'main'} (commit {self.commit}).",
                received=", ".join(self.files[:8]) or "no files",
                remedy="check the name, subfolder, variant and revision",
            )

    def _problems(self, names: list[str]) -> dict[str, str]:
        """Return what is wrong with cached files, by name; most are hashed once only, see `RepositoryCache.damage`."""
        with ThreadPoolExecutor(WORKERS) as pool:
            found = dict(zip(names, pool.map(self._problem, names), strict=True))
        return {name: problem for name, problem in found.items() if problem}

    def _problem(self, name: str) -> str:
        path, known = self.folder / name, self.records.get(name, FileRecord())
        try:
            if path.is_file():
                return _cache(self.repo_id, self.options).damage(path, known)
        except FileNotFoundError:
            pass  # another process is just mending it
        return "not in the cache"

    def _unavailable(self, problems: Mapping[str, str]) -> HubOfflineError:
        return HubOfflineError(
            f"{self.repo_id} cannot be loaded without the Hub.",
            expected=f"{', '.join(problems)} of commit {self.commit} in the cache",
            received="; ".join(f"{name}: {problem}" for name, problem in list(problems.items())[:4]),
            remedy="load it once with a network, without local_files_only and HF_HUB_OFFLINE",
        )

    def _remember(self) -> None:
        try:
            _cache(self.repo_id, self.options).remember(self.options.revision or "main", self.commit, self.records)
        except OSError as error:  # a cache that cannot be written still serves what is in it
            logger.info("The cache could not be written: %s", error)

    def _download(self, names: list[str], problems: Mapping[str, str]) -> None:
        from huggingface_hub.utils import tqdm

        total = sum(self.records[name].size or 0 for name in names)
        description = f"Fetching {len(names)} files of {self.repo_id}"
        with tqdm(total=total, unit="B", unit_scale=True, desc=description, disable=None) as bar:
            part, pool = part_of(bar), ThreadPoolExecutor(min(WORKERS, len(names)))
            try:
                for done in [pool.submit(self._download_one, name, part, problems.get(name, "")) for name in names]:
                    done.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _download_one(self, name: str, bar: type, problem: str) -> None:
        """Download `name`; when it comes damaged, once more, in place of the damaged file and of its blob."""
        path = self.folder / name
        damaged = problem if path.is_file() else ""
        if damaged:
            logger.warning("%s of %s is damaged in the cache (%s): it is downloaded again", name, self.repo_id, damaged)
        try:
            for _ in range(2):
                force = self.options.force_download or (bool(damaged) and path.is_file())
                if damaged and not path.is_symlink():  # where the client has no links, it replaces no file
                    path.unlink(missing_ok=True)
                damaged = self._transfer(name, bar, force)
                if not damaged:
                    return
        except failures() as error:
            self._discard(name)
            raise explained(error, self.repo_id, name) from error
        self._discard(name)
        raise HubError(
            f"{name} of {self.repo_id} came damaged twice.",
            expected=f"the file of commit {self.commit}",
            received=damaged,
            remedy="try again; if it stays so, the Hub or a proxy serves something else, so tell its owner",
        )

    def _transfer(self, name: str, bar: type, force: bool) -> str:
        """Download `name` into the cache and return what is wrong with it, "" if nothing."""
        from huggingface_hub import hf_hub_download

        where, token = str(_cache_dir(self.options)), self.options.token
        options: dict[str, Any] = {"cache_dir": where, "token": token, "force_download": force, "tqdm_class": bar}
        try:
            path = retried(lambda: hf_hub_download(self.repo_id, name, revision=self.commit, **options))
        except OSError as error:
            if type(error) is OSError and error.errno is None:
                return str(error).partition("\n")[0]  # the client counted bytes
            raise
        if Path(path) != self.folder / name:
            raise HubError(f"The Hub gave {name} of another commit.", expected=self.commit, received=str(path))
        return self._problem(name)

    def _discard(self, name: str) -> None:
        """Remove `name` from the cache if it is damaged: no later load shall find it there."""
        path = self.folder / name
        if path.is_symlink() or path.is_file():
            if self._problem(name):
                _cache(self.repo_id, self.options).remove(path)


def find_snapshot(repo_id: str, options: HubOptions) -> Snapshot:
    """Return the commit that `options.revision` names, and its files, by at most one request.

    Without a network (HF_HUB_OFFLINE, local_files_only, or nobody answers) it is the commit that the cache has for it.

    Raises:
        ArgumentError: no repository name. HubNotFoundError: no such repository or revision. HubAccessError: it may not
        be read. HubOfflineError: without a network, and not in the cache. HubError: the Hub failed.
    """
    from huggingface_hub import is_offline_mode

    if not is_repo_id(repo_id):
        raise ArgumentError(
            "This is no name of a repository.", expected="name or org/name", received=repr(repo_id)[:80]
        )
    if options.local_files_only or is_offline_mode():
        return _from_cache(repo_id, options)
    cache, revision = _cache(repo_id, options), options.revision or "main"
    known = _known_records(repo_id, cache, revision, options) if COMMIT.fullmatch(revision) else None
    if known is not None:
        return _snapshot(repo_id, revision, known, options)
    try:
        return _look_up(repo_id, options)
    except failures() as error:
        if unreachable(error) and not options.force_download and cache.commit_of(revision) is not None:
            logger.warning("The Hub could not be reached (%s): loading %s from the cache", error, repo_id)
            return _from_cache(repo_id, options)
        raise explained(error, repo_id, "the list of files") from error


def _cache_dir(options: HubOptions) -> str | os.PathLike[str]:
    from huggingface_hub import constants

    return options.cache_dir if options.cache_dir is not None else constants.HF_HUB_CACHE


def _cache(repo_id: str, options: HubOptions) -> RepositoryCache:
    from huggingface_hub import constants

    return RepositoryCache(repo_id, _cache_dir(options), Path(constants.HF_ASSETS_CACHE) / "triptych/checked")


def _snapshot(repo_id: str, commit: str, records: Mapping[str, FileRecord], options: HubOptions) -> Snapshot:
    folder = _cache(repo_id, options).snapshot(commit)
    return Snapshot(repo_id, commit, tuple(sorted(records)), folder, options, records=records)


def _known_records(
    repo_id: str, cache: RepositoryCache, commit: str, options: HubOptions
) -> dict[str, FileRecord] | None:
    """Return the files of `commit` from an earlier look-up, or from a `snapshot_download` that left all of them."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    records = cache.records_of(commit)
    if records is not None or options.force_download:
        return records
    try:
        tree = get_cached_repo_tree(repo_id, revision=commit, cache_dir=str(_cache_dir(options)))
    except CachedRepoTreeNotFoundError:
        return None
    # It does not say which files are in LFS, so there is no hash to hold a download against, only sizes.
    records = {file.path: record(file.size, None, None) for file in tree}
    files = [(cache.snapshot(commit) / name, known) for name, known in records.items() if is_inside(name)]
    whole = len(files) == len(records) and all(p.is_file() and not known.wrong_size(p) for p, known in files)
    return records if whole else None


def _look_up(repo_id: str, options: HubOptions) -> Snapshot:
    """Ask for the commit and the files of `options.revision`: one request, if the Hub is well."""
    from huggingface_hub import HfApi, constants

    revision = options.revision or "main"
    api = HfApi(token=options.token, library_name="triptych")
    timeout = float(constants.HF_HUB_ETAG_TIMEOUT)
    try:
        info = retried(lambda: api.model_info(repo_id, revision=revision, files_metadata=True, timeout=timeout))
        commit, records = str(info.sha), {str(s.rfilename): _described(s) for s in info.siblings or []}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the description of a repository: {error}") from error
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(revision) and commit != revision):
        raise ValueError(f"commit {commit[:80]!r} for revision {revision!r}")
    return _snapshot(repo_id, commit, records, options)


def _described(sibling: Any) -> FileRecord:
    lfs = sibling.lfs
    return record(sibling.size, None, sibling.blob_id) if lfs is None else record(lfs.size, lfs.sha256, None)


def _from_cache(repo_id: str, options: HubOptions) -> Snapshot:
    cache, revision = _cache(repo_id, options), options.revision or "main"
    commit = cache.commit_of(revision)
    if commit is None or options.force_download:
        raise HubOfflineError(
            f"{repo_id} cannot be {'downloaded' if options.force_download else 'loaded'} without the Hub.",
            expected=f"revision {revision} in the cache {cache.folder.parent}",
            received="offline, by local_files_only or HF_HUB_OFFLINE",
            remedy="load it once with a network, or check repository, revision and cache_dir",
        )
    records = cache.records_of(commit) or {}
    return Snapshot(repo_id, commit, cache.files_of(commit), cache.snapshot(commit), options, True, records)
