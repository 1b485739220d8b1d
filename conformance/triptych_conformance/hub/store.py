"""Repositories of the test hub, on disk: content-addressed objects, commits with a parent, and references.

<root>/objects/<sha256>                       contents of files
<root>/repos/<org>--<name>/settings.json      private, gated, readers
<root>/repos/<org>--<name>/commits/<oid>.json parent, title, message, date, tree
<root>/repos/<org>--<name>/refs.json          {"refs/heads/main": oid, "refs/tags/v1": oid, "refs/pr/1": oid}
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

LFS_BYTES = 10_000_000
LFS_PATTERNS = ("*.safetensors", "*.bin", "*.h5", "*.msgpack", "*.gguf", "*.npz", "*.pt", "*.onnx")
ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS).encode()
ZERO_TIME = 1_700_000_000


class StoreError(Exception):
    """An answer other than 2xx: `status` and `code` are those that the Hub sends (`X-Error-Code`)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class Entry:
    """One file of a tree: `oid` is git's blob id (of the pointer, for an LFS file), `sha256` that of the content."""

    size: int
    sha256: str
    oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    date: str
    tree: dict[str, Entry]


@dataclass
class Settings:
    private: bool = False
    gated: bool = False
    readers: list[str] = field(default_factory=list)


def git_oid(content: bytes) -> str:
    """Return git's object id of a blob: SHA-1 over its header and `content`."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """Return the pointer file that git stores for an LFS object."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def is_lfs(path: str, size: int) -> bool:
    return size > LFS_BYTES or (size > 0 and any(fnmatch.fnmatch(path, pattern) for pattern in LFS_PATTERNS))


class Store:
    """All repositories under `root`. Every method may be called from any thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.RLock()
        (root / "objects").mkdir(parents=True)

    # objects

    def put(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        (self.root / "objects" / sha256).write_bytes(content)
        return sha256

    def has(self, sha256: str, size: int | None) -> bool:
        path = self.root / "objects" / sha256
        there = bool(re.fullmatch("[0-9a-f]{64}", sha256)) and path.is_file()
        return there and size in (None, path.stat().st_size)

    def get(self, sha256: str) -> bytes:
        return (self.root / "objects" / sha256).read_bytes()

    def entry(self, path: str, content: bytes, lfs: bool | None = None) -> Entry:
        sha256, lfs = self.put(content), is_lfs(path, len(content)) if lfs is None else lfs
        oid = git_oid(pointer(sha256, len(content)) if lfs else content)
        return Entry(len(content), sha256, oid, lfs)

    def lfs_entry(self, sha256: str, size: int | None) -> Entry:
        if not self.has(sha256, size):
            raise StoreError(404, "", f"LFS object {sha256} was never uploaded")
        size = len(self.get(sha256)) if size is None else size
        return Entry(size, sha256, git_oid(pointer(sha256, size)), True)

    # repositories

    def _home(self, repo_id: str) -> Path:
        return self.root / "repos" / repo_id.replace("/", "--")

    def exists(self, repo_id: str) -> bool:
        return (self._home(repo_id) / "refs.json").is_file()

    def create(self, repo_id: str, settings: Settings) -> None:
        with self.lock:
            if self.exists(repo_id):
                raise StoreError(409, "", f"You already created this model repo: {repo_id}")
            (self._home(repo_id) / "commits").mkdir(parents=True)
            (self._home(repo_id) / "settings.json").write_text(json.dumps(asdict(settings)))
            self._write_refs(repo_id, {})
            tree = {".gitattributes": self.entry(".gitattributes", ATTRIBUTES)}
            self._write_ref(repo_id, "refs/heads/main", self._add(repo_id, None, "initial commit", "", tree))

    def delete(self, repo_id: str) -> None:
        with self.lock:
            shutil.rmtree(self._home(repo_id))

    def settings(self, repo_id: str) -> Settings:
        if not self.exists(repo_id):
            raise StoreError(404, "RepoNotFound", "Repository not found")
        return Settings(**json.loads((self._home(repo_id) / "settings.json").read_text()))

    # references

    def refs(self, repo_id: str) -> dict[str, str]:
        with self.lock:
            return json.loads((self._home(repo_id) / "refs.json").read_text())

    def _write_refs(self, repo_id: str, refs: Mapping[str, str]) -> None:
        (self._home(repo_id) / "refs.json").write_text(json.dumps(refs))

    def _write_ref(self, repo_id: str, name: str, oid: str) -> None:
        self._write_refs(repo_id, {**self.refs(repo_id), name: oid})

    def _ref_name(self, repo_id: str, revision: str) -> str | None:
        refs = self.refs(repo_id)
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in names if name in refs), None)

    def resolve(self, repo_id: str, revision: str) -> str:
        """Return the commit that a branch, a tag, refs/... or 40 hexadecimal digits name."""
        name = self._ref_name(repo_id, revision)
        if name is not None:
            return self.refs(repo_id)[name]
        if re.fullmatch("[0-9a-f]{40}", revision) and (self._home(repo_id) / f"commits/{revision}.json").is_file():
            return revision
        raise StoreError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def add_ref(self, repo_id: str, name: str, revision: str) -> None:
        with self.lock:
            if name in self.refs(repo_id):
                raise StoreError(409, "", f"Reference already exists: {name}")
            self._write_ref(repo_id, name, self.resolve(repo_id, revision))

    def remove_ref(self, repo_id: str, name: str) -> None:
        with self.lock:
            refs = self.refs(repo_id)
            if refs.pop(name, None) is None:
                raise StoreError(404, "RevisionNotFound", f"Reference does not exist: {name}")
            self._write_refs(repo_id, refs)

    def open_pr(self, repo_id: str, revision: str) -> int:
        with self.lock:
            number = 1 + sum(name.startswith("refs/pr/") for name in self.refs(repo_id))
            self.add_ref(repo_id, f"refs/pr/{number}", revision)
            return number

    # commits

    def commit_object(self, repo_id: str, oid: str) -> Commit:
        content = json.loads((self._home(repo_id) / f"commits/{oid}.json").read_text())
        tree = {path: Entry(**entry) for path, entry in content.pop("tree").items()}
        return Commit(oid=oid, tree=tree, **content)

    def log(self, repo_id: str, revision: str) -> Iterator[Commit]:
        oid: str | None = self.resolve(repo_id, revision)
        while oid is not None:
            commit = self.commit_object(repo_id, oid)
            yield commit
            oid = commit.parent

    def tree(self, repo_id: str, revision: str) -> dict[str, Entry]:
        return self.commit_object(repo_id, self.resolve(repo_id, revision)).tree

    def _add(self, repo_id: str, parent: str | None, title: str, message: str, tree: Mapping[str, Entry]) -> str:
        folder = self._home(repo_id) / "commits"
        seconds = ZERO_TIME + len(list(folder.iterdir()))
        date = f"2023-11-14T{seconds % 86400 // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}.000Z"
        content = {"parent": parent, "title": title, "message": message, "date": date}
        text = json.dumps({**content, "tree": {path: asdict(entry) for path, entry in sorted(tree.items())}})
        oid = hashlib.sha1((repo_id + text).encode()).hexdigest()
        (folder / f"{oid}.json").write_text(text)
        return oid

    def commit(
        self,
        repo_id: str,
        changes: Mapping[str, Entry | None],
        revision: str = "main",
        title: str = "",
        message: str = "",
        parent: str | None = None,
    ) -> str:
        """Add one commit to the branch or pull request `revision`; an entry of None deletes a file or a folder/.

        Raises:
            StoreError: 412 when `parent` is not the head any more, 404 for a revision or file that is not there.
        """
        with self.lock:
            name = self._ref_name(repo_id, revision)
            if name is None or name.startswith("refs/tags/"):
                raise StoreError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            head = self.refs(repo_id)[name]
            if parent not in (None, head):
                raise StoreError(412, "", "A commit has happened since. Please refresh and try again.")
            tree = dict(self.tree(repo_id, head))
            for path, entry in changes.items():
                if entry is not None:
                    tree[path] = entry
                elif not _remove(tree, path):
                    raise StoreError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
            oid = self._add(repo_id, head, title, message, tree)
            self._write_ref(repo_id, name, oid)
            return oid


def _remove(tree: dict[str, Entry], path: str) -> bool:
    gone = [name for name in tree if name == path or (path.endswith("/") and name.startswith(path))]
    for name in gone:
        del tree[name]
    return bool(gone)
