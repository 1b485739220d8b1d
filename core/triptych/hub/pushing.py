"""Pushing to the Hub: all files of one push, and the removal of the weights they replace, are one commit.

    push_files(Push("org/model", tags=["mine"]), {"config.json": path, "model.safetensors": path})

The files of the repository are looked up once; the commit names the commit that was found as its parent, so the Hub
refuses it if somebody else has pushed in between. It is sent again after a failure for the same reason: made twice it
cannot be.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.errors import ArgumentError, HubError
from triptych.files.json import read_config
from triptych.files.paths import CONFIG_NAME, check_inside, check_subfolder
from triptych.formats.kinds import COMPANIONS
from triptych.hub.cache import COMMIT
from triptych.hub.cards import new_card, tagged
from triptych.hub.http import explained, failures, retried
from triptych.hub.remote_code import mapped
from triptych.hub.snapshot import HubOptions, Snapshot, find_snapshot, given_token, is_repo_id
from triptych.hub.stale import Stale, stale_weights

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

CARD = "README.md"
_CHANGED = 412

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Push:
    """Where and how to push, as in `push_to_hub`.

    Raises:
        ArgumentError: an argument of a wrong type or value.
    """

    repo_id: str
    commit_message: str | None = None
    commit_description: str | None = None
    private: bool | None = None
    token: str | bool | None = field(default=None, repr=False)
    create_pr: bool = False
    revision: str | None = None
    tags: Sequence[str] | str | None = None
    subfolder: str = ""

    def __post_init__(self) -> None:
        if not is_repo_id(self.repo_id):
            raise ArgumentError(
                "repo_id is no name of a repository.", expected="name or org/name", received=repr(self.repo_id)[:80]
            )
        HubOptions(revision=self.revision, token=self.token)
        if self.revision is not None and COMMIT.fullmatch(self.revision):
            raise ArgumentError(
                "revision is a commit.", expected="a branch, or refs/pr/N", remedy="a commit cannot be added to"
            )
        check_subfolder(self.subfolder)
        for name in ("commit_message", "commit_description"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise ArgumentError(f"{name} is no text.", received=repr(getattr(self, name))[:80])
        listed = isinstance(self.tags, (str, list, tuple, type(None)))
        if not listed or not all(isinstance(tag, str) and tag and tag.isprintable() for tag in self.tags or ()):
            raise ArgumentError("tags are no tags.", expected="texts of one line", received=repr(self.tags)[:80])

    @property
    def all_tags(self) -> list[Any]:
        """The tags as a list, each once."""
        return list(dict.fromkeys([self.tags] if isinstance(self.tags, str) else self.tags or ()))

    @property
    def makes_branch(self) -> bool:
        return self.revision not in (None, "main") and not self.create_pr and not self.revision.startswith("refs/")

    def place(self, name: str) -> str:
        """Return the path in the repository of the file that is called `name` locally."""
        return name if name == CARD or not self.subfolder else f"{self.subfolder}/{name}"


class PushToHubMixin:
    """`push_to_hub` for whatever has `save_pretrained`: configs and models."""

    def push_to_hub(
        self,
        repo_id: str,
        use_temp_dir: bool | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        max_shard_size: int | str | None = None,
        create_pr: bool = False,
        safe_serialization: bool | None = None,
        revision: str | None = None,
        commit_description: str | None = None,
        tags: Sequence[str] | str | None = None,
        *,
        subfolder: str = "",
        variant: str | None = None,
        remove_stale: bool = False,
        **save_arguments: Any,
    ) -> CommitInfo:
        """Save into a temporary folder and push it, as one commit, to the repository `repo_id`, made if need be.

        Weights of the same variant and format are replaced. Those of other formats stay, unless some reader would take
        them in place of the new ones: then the same commit calls them `<name>.stale`, or deletes them where an index
        says that triptych wrote them.

        Args:
            use_temp_dir: False saves into the folder of the repository's name below the working directory instead, and
                pushes what that changed.
            commit_message: "Upload model", "Upload config" or "Upload <class>" by default.
            private: of a new repository; one that exists stays as it is.
            token: as in `from_pretrained`; it must be allowed to write.
            max_shard_size, safe_serialization, variant, save_arguments: for `save_pretrained`, if given.
            create_pr: open a pull request instead of adding to the branch.
            revision: the branch, made if need be, or refs/pr/N; main by default.
            tags: for the model card, beside `model_tags`; of a card that exists, they are added to the metadata.
            subfolder: where in the repository the files go.
            remove_stale: delete the weights of all other formats.
            save_arguments: also the deprecated `use_auth_token`, `repo_path_or_name`, `repo_url`, `organization`.

        Returns:
            huggingface_hub's `CommitInfo`.

        Raises:
            ArgumentError, SaveError: before any request. HubAccessError: the token may not write. HubNotFoundError,
            HubOfflineError. HubError: the Hub failed, or somebody pushed at the same time. All of the commit is made or
            none; where the Hub broke off while it was made, the repository shows which.
        """
        repo_id, token = _without_deprecated(repo_id, token, save_arguments)
        push = self._push(
            repo_id, commit_message, commit_description, private, token, create_pr, revision, tags, subfolder
        )
        given = {"max_shard_size": max_shard_size, "safe_serialization": safe_serialization, "variant": variant}
        save_arguments |= {name: value for name, value in given.items() if value is not None}
        save = partial(self.save_pretrained, **save_arguments)  # type: ignore[attr-defined]
        if use_temp_dir is False:
            folder = Path(push.repo_id.rpartition("/")[2])
            before = self._get_files_timestamps(folder)
            save(folder)
            return push_files(push, _changed(folder, before), variant, remove_stale)
        with tempfile.TemporaryDirectory(prefix="triptych-push-") as place:
            save(place)
            return push_files(push, _changed(Path(place), {}), variant, remove_stale)

    def _push(self, *arguments: Any, **named: Any) -> Push:
        """Return a push with the defaults of this class: its commit message and its `model_tags`."""
        push = Push(*arguments, **named)
        message = push.commit_message or f"Upload {_kind(type(self).__name__)}"
        return replace(push, commit_message=message, tags=[*(getattr(self, "model_tags", None) or ()), *push.all_tags])

    def _push_of_save(self, asked: bool, folder: object, arguments: Mapping[str, Any]) -> Push | None:
        """Return the push that `save_pretrained(folder, push_to_hub=asked, **arguments)` means; None if it means none.

        Raises:
            ArgumentError: an unknown argument, or one of a push that is not asked for.
        """
        default = Path(os.fspath(folder)).name if isinstance(folder, (str, os.PathLike)) else ""
        given = dict(arguments)
        repo_id, token = _without_deprecated(given.pop("repo_id", default), given.pop("token", None), given)
        names = [field.name for field in fields(Push)]
        unknown = sorted(set(given) - set(names))
        of_a_push = sorted(name for name, value in given.items() if value is not None and value is not False)
        of_a_push += ["repo_id"] * (repo_id != default)
        if unknown or (of_a_push and not asked):
            raise ArgumentError(
                f"save_pretrained does not know these arguments{'' if unknown else ' without push_to_hub=True'}.",
                expected=f"with push_to_hub=True: {', '.join(names)}",
                received=", ".join(unknown or of_a_push),
                remedy="remove them, or check their spelling",
            )
        return self._push(repo_id=repo_id, token=token, **given) if asked else None

    # what save_pretrained of other people's classes calls

    def _create_repo(
        self,
        repo_id: str,
        private: bool | None = None,
        token: str | bool | None = None,
        repo_url: str | None = None,
        organization: str | None = None,
    ) -> str:
        """Make the repository if need be, and return its full name."""
        from huggingface_hub import HfApi

        old = {"repo_url": repo_url, "organization": organization}
        repo_id, token = _without_deprecated(repo_id, token, {k: v for k, v in old.items() if v is not None})
        push = Push(repo_id, private=private, token=token)
        try:
            return retried(lambda: HfApi(token=token).create_repo(push.repo_id, private=private, exist_ok=True)).repo_id
        except failures() as error:
            raise explained(error, repo_id, "the push") from error

    def _get_files_timestamps(self, working_dir: str | os.PathLike[str]) -> dict[str, float]:
        """Return when each file of a folder was written, by name."""
        folder = Path(working_dir)
        return {path.name: path.stat().st_mtime for path in folder.iterdir()} if folder.is_dir() else {}

    def _upload_modified_files(
        self,
        working_dir: str | os.PathLike[str],
        repo_id: str,
        files_timestamps: Mapping[str, float],
        commit_message: str | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        revision: str | None = None,
        commit_description: str | None = None,
    ) -> CommitInfo:
        """Push what of `working_dir` was written after `files_timestamps` were taken."""
        push = self._push(repo_id, commit_message, commit_description, None, token, create_pr, revision)
        return push_files(push, _changed(Path(working_dir), files_timestamps))


def _kind(class_name: str) -> str:
    """Return what the default commit message calls a thing of this class."""
    kinds = {"Model": "model", "Config": "config", "Tokenizer": "tokenizer", "Processor": "processor"}
    return next((kind for part, kind in kinds.items() if part in class_name), class_name)


_DEPRECATED = ("use_auth_token", "repo_path_or_name", "repo_url", "organization")
_WITHOUT_EFFECT = ("ignore_metadata_errors", "save_jinja_files")


def _without_deprecated(repo_id: str, token: Any, arguments: dict[str, Any]) -> tuple[str, Any]:
    """Take the deprecated arguments out of `arguments`, and return what `repo_id` and `token` are with them."""
    for name in _WITHOUT_EFFECT:
        arguments.pop(name, None)
    old = {name: arguments.pop(name) for name in _DEPRECATED if name in arguments}
    old = {name: value for name, value in old.items() if value is not None}
    for name in sorted(old.keys() - {"use_auth_token"}):
        warnings.warn(f"{name} is deprecated: pass repo_id instead.", FutureWarning, stacklevel=3)
    token = given_token(token, old.get("use_auth_token"))
    if "repo_url" in old:
        repo_id = "/".join(str(old["repo_url"]).rstrip("/").split("/")[-2:])
    elif "repo_path_or_name" in old:
        repo_id = Path(str(old["repo_path_or_name"])).name
    organization = old.get("organization")
    return (f"{organization}/{repo_id.rpartition('/')[2]}" if organization else repo_id), token


def _changed(folder: Path, before: Mapping[str, float]) -> dict[str, Path]:
    """Return the files of `folder` that were written after the times `before`, by name; without times, those below its
    folders too."""
    found = [path for path in (folder.iterdir() if before else folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: path for name, path in names.items() if path.stat().st_mtime > before.get(name, -1.0)}


def make_repo(push: Push) -> str:
    """Make the repository that is pushed to, if there is none, and return its name with its owner.

    Raises:
        HubError and its subclasses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=push.token, library_name="triptych")
    try:
        return retried(lambda: api.create_repo(push.repo_id, private=push.private, exist_ok=True)).repo_id
    except failures() as error:
        raise explained(error, push.repo_id, "the push") from error


def push_files(
    push: Push,
    files: Mapping[str, Path],
    variant: str | None = None,
    remove_stale: bool = False,
    replace_card: bool = False,
) -> CommitInfo:
    """Commit `files`, local paths by their names, to `push.repo_id`, in place of the weights of `variant` there that
    are of the same format; see `stale_weights`.

    A file called README.md is left out if the repository has one, unless `replace_card`; without any, a model card is
    made.

    Raises:
        As `PushToHubMixin.push_to_hub`.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=push.token, library_name="triptych")
    repo_id = make_repo(push)
    try:
        if push.makes_branch:
            retried(lambda: api.create_branch(repo_id, branch=str(push.revision), exist_ok=True))
        with tempfile.TemporaryDirectory(prefix="triptych-push-") as work:
            options = HubOptions(revision=push.revision, token=push.token, cache_dir=Path(work) / "cache")
            there = find_snapshot(repo_id, options)
            kept = CARD in there.files and not replace_card
            wanted = {name: path for name, path in files.items() if name != CARD or not kept}
            stale = stale_weights(there, push.subfolder, wanted, variant, remove_stale)
            text = None
            if CARD not in there.files and CARD not in files:
                text = new_card(repo_id, push.all_tags)
            elif kept and push.all_tags:
                text = tagged(there, CARD, push.all_tags)
            if text is not None:
                wanted[CARD] = Path(work) / CARD
                wanted[CARD].write_text(text)
            return _commit(api, there, push, wanted, stale)
    except failures() as error:
        raise explained(error, repo_id, "the push") from error


def files_of(folder: Path, variant: str | None = None) -> dict[str, Path]:
    """Return what of `folder` belongs to its checkpoint, by name: config.json, the weights of `variant` that a load
    would take and their manifest, tokenizer files and the like, README.md, and the code that its auto_map names classes
    of.

    The headers of the weights are read, so what cannot be loaded is not pushed.

    Raises:
        MissingFileError, CorruptCheckpointError and its subclasses, UnsafeCheckpointError, ConfigError.
    """
    from triptych.checkpoints.holding import hold  # not needed by a config, which imports this module
    from triptych.checkpoints.manifest import of_checkpoint

    held, config = hold(folder, variant=variant), folder / CONFIG_NAME
    values = read_config(config) if held.config is None else held.config
    weights = held.checkpoint.files
    manifest = of_checkpoint(folder, variant, [file.name for file in weights])
    beside = [folder / name for name in (*COMPANIONS, CARD, *manifest)]
    beside += sorted(folder.glob("*.py")) if mapped(values) else []
    found = {path.name: path for path in (config, *weights, *beside) if path.is_file()}
    for path in found.values():
        check_inside(folder, path)  # else the content of any file of this machine would be published
    return found


def _commit(api: HfApi, there: Snapshot, push: Push, files: Mapping[str, Path], stale: Stale) -> CommitInfo:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    adds = [CommitOperationAdd(push.place(name), str(path)) for name, path in sorted(files.items())]
    deletes = [CommitOperationDelete(path) for path in stale.names]
    copies = [CommitOperationCopy(path, new) for path, new in stale.renamed.items()]
    where: dict[str, Any] = {"revision": push.revision, "create_pr": push.create_pr}
    api.preupload_lfs_files(there.repo_id, adds, free_memory=False, **where)  # retried, request by request, by itself

    def commit() -> CommitInfo:
        return api.create_commit(
            there.repo_id,
            [*adds, *copies, *deletes],
            commit_message=push.commit_message or "Upload with triptych",
            commit_description=push.commit_description,
            parent_commit=there.commit,
            **where,
        )

    try:
        return commit() if push.create_pr else retried(commit)  # a second pull request would be one too many
    except HfHubHTTPError as error:
        if error.response.status_code != _CHANGED:
            raise
        return _committed_or_changed(there, push, files, stale, error)


def _committed_or_changed(
    there: Snapshot, push: Push, files: Mapping[str, Path], stale: Stale, error: Exception
) -> CommitInfo:
    """Return the commit that is there now if it is what was pushed, and only its answer was lost.

    Raises:
        HubError: it is somebody else's.
    """
    from huggingface_hub import CommitInfo, constants

    now = find_snapshot(there.repo_id, there.options)
    ours = all(push.place(n) in now.files and not now.records[push.place(n)].damage(p) for n, p in files.items())
    if ours and not set(stale.names) & set(now.files):
        address = f"{constants.ENDPOINT}/{now.repo_id}/commit/{now.commit}"
        return CommitInfo(
            commit_url=address,
            commit_message=push.commit_message or "",
            commit_description=push.commit_description or "",
            oid=now.commit,
        )
    raise HubError(
        f"{there.repo_id} was changed while this push was on its way; nothing of it was committed.",
        expected=f"commit {there.commit}",
        received=f"commit {now.commit}",
        remedy="look at the newer commit, and push again",
    ) from error
