"""Pushing to the Hub: all files of one push, and the deletion of the weights they replace, are one commit.

    push_files(Push("org/model", tags=["mine"]), {"config.json": path, "model.safetensors": path})

The files of the repository are looked up once; the commit names the commit that was found as its parent, so the Hub
refuses it if somebody else has pushed in between. It is sent again after a failure for the same reason: made twice it
cannot be.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.checkpoints.resolve import pointer_to, read_index
from triptych.errors import ArgumentError, HubError, TriptychError
from triptych.files.json import read_config
from triptych.files.paths import CONFIG_NAME, check_subfolder
from triptych.formats.kinds import COMPANIONS, LAYOUTS
from triptych.hub.cache import COMMIT
from triptych.hub.http import explained, failures, retried
from triptych.hub.remote_code import mapped
from triptych.hub.snapshot import HubOptions, Snapshot, find_snapshot, is_repo_id

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
    token: str | bool | None = None
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
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        create_pr: bool = False,
        revision: str | None = None,
        tags: Sequence[str] | str | None = None,
        subfolder: str = "",
        variant: str | None = None,
        **save_arguments: Any,
    ) -> CommitInfo:
        """Save into a temporary folder and push it, as one commit, to the repository `repo_id`, made if need be.

        Weights of the same variant in other layouts (other shards, older formats) are deleted in the same commit.

        Args:
            commit_message: "Upload <class>" by default.
            private: of a new repository; one that exists stays as it is.
            token: as in `from_pretrained`; it must be allowed to write.
            create_pr: open a pull request instead of adding to the branch.
            revision: the branch, made if need be, or refs/pr/N; main by default.
            tags: for the model card, beside `model_tags`. A card that exists is never changed.
            subfolder: where in the repository the files go.
            variant: as in `save_pretrained`, which gets `save_arguments`, such as `max_shard_size`, too.

        Returns:
            huggingface_hub's `CommitInfo`.

        Raises:
            ArgumentError, SaveError: before any request. HubAccessError: the token may not write. HubNotFoundError,
            HubOfflineError. HubError: the Hub failed, or somebody pushed at the same time. All of the commit is made or
            none; where the Hub broke off while it was made, the repository shows which.
        """
        push = self._push(
            repo_id, commit_message, commit_description, private, token, create_pr, revision, tags, subfolder
        )
        if variant is not None:
            save_arguments["variant"] = variant
        with tempfile.TemporaryDirectory(prefix="triptych-push-") as folder:
            self.save_pretrained(folder, **save_arguments)  # type: ignore[attr-defined]
            found = [path for path in Path(folder).rglob("*") if path.is_file()]
            files = {path.relative_to(folder).as_posix(): path for path in found}
            return push_files(push, files, variant)

    def _push(self, *arguments: Any, **named: Any) -> Push:
        """Return a push with the defaults of this class: its commit message and its `model_tags`."""
        push = Push(*arguments, **named)
        message = push.commit_message or f"Upload {type(self).__name__}"
        return replace(push, commit_message=message, tags=[*(getattr(self, "model_tags", None) or ()), *push.all_tags])

    def _push_of_save(self, asked: bool, folder: object, arguments: Mapping[str, Any]) -> Push | None:
        """Return the push that `save_pretrained(folder, push_to_hub=asked, **arguments)` means; None if it means none.

        Raises:
            ArgumentError: an unknown argument, or one of a push that is not asked for.
        """
        names = [field.name for field in fields(Push)]
        unknown = sorted(set(arguments) - set(names))
        if unknown or (arguments.keys() - {"token"} and not asked):
            raise ArgumentError(
                f"save_pretrained does not know these arguments{'' if unknown else ' without push_to_hub=True'}.",
                expected=f"with push_to_hub=True: {', '.join(names)}",
                received=", ".join(unknown or sorted(arguments)),
                remedy="remove them, or check their spelling",
            )
        if not asked:
            return None
        default = Path(os.fspath(folder)).name if isinstance(folder, (str, os.PathLike)) else ""
        return self._push(**{"repo_id": default, **arguments})


def push_files(push: Push, files: Mapping[str, Path], variant: str | None = None) -> CommitInfo:
    """Commit `files`, local paths by their names, to `push.repo_id`, and delete the weights of `variant` there that are
    not among them.

    A file called README.md is left out if the repository has one; without any, a model card is made.

    Raises:
        As `PushToHubMixin.push_to_hub`.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=push.token, library_name="triptych")
    repo_id = push.repo_id
    try:
        repo_id = retried(lambda: api.create_repo(push.repo_id, private=push.private, exist_ok=True)).repo_id
        if push.makes_branch:
            retried(lambda: api.create_branch(repo_id, branch=str(push.revision), exist_ok=True))
        with tempfile.TemporaryDirectory(prefix="triptych-push-") as work:
            options = HubOptions(revision=push.revision, token=push.token, cache_dir=Path(work) / "cache")
            there = find_snapshot(repo_id, options)
            wanted = {name: path for name, path in files.items() if name != CARD or CARD not in there.files}
            stale = _stale(there, push, wanted, variant)
            if CARD not in there.files and CARD not in files:
                wanted[CARD] = Path(work) / CARD
                wanted[CARD].write_text(_card(repo_id, push.all_tags))
            elif push.all_tags:
                logger.warning("%s has a model card, which is left as it is: the tags were not added", repo_id)
            return _commit(api, there, push, wanted, stale)
    except failures() as error:
        raise explained(error, repo_id, "the push") from error


def files_of(folder: Path, variant: str | None = None) -> dict[str, Path]:
    """Return what of `folder` belongs to its checkpoint, by name: config.json, the weights of `variant` that a load
    would take, tokenizer files and the like, README.md, and the code that its auto_map names classes of.

    The headers of the weights are read, so what cannot be loaded is not pushed.

    Raises:
        MissingFileError, CorruptCheckpointError and its subclasses, UnsafeCheckpointError, ConfigError.
    """
    from triptych.checkpoints.holding import hold  # not needed by a config, which imports this module

    held, config = hold(folder, variant=variant), folder / CONFIG_NAME
    values = read_config(config) if held.config is None else held.config
    weights = held.checkpoint.files
    beside = [folder / name for name in (*COMPANIONS, CARD)]
    beside += sorted(folder.glob("*.py")) if mapped(values) else []
    return {path.name: path for path in (config, *weights, *beside) if path.is_file()}


def _stale(there: Snapshot, push: Push, files: Mapping[str, Path], variant: str | None) -> list[str]:
    """Return the paths in the repository of weights of `variant`, in any layout, that `files` replace: none if there
    are no weights among `files`."""
    present = {name for name in there.files if os.path.dirname(name) == push.subfolder}
    usual = {name for format in LAYOUTS for name in format.names(variant)}

    def is_head(name: str) -> bool:  # or of an older local save that was pushed as it was, its config pointing at it
        return name in usual or pointer_to(name, variant) is not None

    if not any(map(is_head, files)):
        return []
    found = {name for name in present if is_head(os.path.basename(name))}
    for index in sorted(name for name in found if name.endswith(".json")):
        found |= present & {push.place(shard) for shard in _shards(there, index)}
    return sorted(found - {push.place(name) for name in files})


def _shards(there: Snapshot, index: str) -> set[str]:
    """Return the shards that an index in the repository names; none if it is damaged, as for a local save."""
    folder = there.fetch([index], complete=False)
    try:
        return set(read_index(folder / index)[0].values())
    except TriptychError as error:
        logger.warning("%s of %s is damaged, so its shards are not deleted: %s", index, there.repo_id, error)
        return set()


def _card(repo_id: str, tags: Iterable[str]) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(library_name="triptych", tags=list(tags) or None).to_yaml()
    return f"""---
{data}
---

# {repo_id.rpartition("/")[2]}

Saved by triptych, for PyTorch, TensorFlow and Flax:

```python
from triptych import AutoModel  # or TFAutoModel, FlaxAutoModel

model = AutoModel.from_pretrained("{repo_id}")
```
"""


def _commit(api: HfApi, there: Snapshot, push: Push, files: Mapping[str, Path], stale: Iterable[str]) -> CommitInfo:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    adds = [CommitOperationAdd(push.place(name), str(path)) for name, path in sorted(files.items())]
    deletes = [CommitOperationDelete(path) for path in stale]
    where: dict[str, Any] = {"revision": push.revision, "create_pr": push.create_pr}
    api.preupload_lfs_files(there.repo_id, adds, free_memory=False, **where)  # retried, request by request, by itself

    def commit() -> CommitInfo:
        return api.create_commit(
            there.repo_id,
            [*adds, *deletes],
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
    there: Snapshot, push: Push, files: Mapping[str, Path], stale: Iterable[str], error: Exception
) -> CommitInfo:
    """Return the commit that is there now if it is what was pushed, and only its answer was lost.

    Raises:
        HubError: it is somebody else's.
    """
    from huggingface_hub import CommitInfo, constants

    now = find_snapshot(there.repo_id, there.options)
    ours = all(push.place(n) in now.files and not now.records[push.place(n)].damage(p) for n, p in files.items())
    if ours and not set(stale) & set(now.files):
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
