"""The cache of huggingface_hub on disk: where a commit lies in it, what is known of its files, and if they are whole.

Layout: <cache>/models--<org>--<name>/{refs/<revision>, snapshots/<commit>/<file> -> ../../blobs/<etag>}
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache). triptych adds triptych/<commit>.json, the list of a
commit's files: a commit never changes, so what was looked up once need not be asked again; and, without content, a file
triptych/checked/<hash>-<size>-<mtime>-<inode> for each blob that was hashed, and need not be again while it stays so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20
_checked: set[str] = set()
"""What `RepositoryCache.damage` found right in this process, for where it can be noted nowhere else."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileRecord:
    """What the Hub says of a file: `size` in bytes, `sha256` of an LFS file, `blob` (git's object id) of any other."""

    size: int | None = None
    sha256: str | None = None
    blob: str | None = None

    def damage(self, path: Path) -> str:
        """Return what is wrong with the content of `path`, which is read whole, or "" if it is what the Hub has."""
        wrong = self.wrong_size(path)
        if wrong or (self.sha256 is None and self.blob is None):
            return wrong
        digest = hashlib.sha256() if self.sha256 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        wanted, found = self.sha256 or self.blob, digest.hexdigest()
        return "" if wanted == found else f"a content of hash {found} instead of {wanted}"

    def wrong_size(self, path: Path) -> str:
        """Return what is wrong with the size of `path`, or "" if nothing is known to be."""
        size = path.stat().st_size
        return "" if self.size in (None, size) else f"{size} bytes instead of {self.size}"


class RepositoryCache:
    """The folder of one repository in the cache `cache_dir`, which need not exist yet.

    `notes` is a folder for what `damage` found, where `cache_dir` cannot be written.
    """

    def __init__(self, repo_id: str, cache_dir: str | os.PathLike[str], notes: str | os.PathLike[str]) -> None:
        self.folder = Path(cache_dir).expanduser().resolve() / ("models--" + repo_id.replace("/", "--"))
        self._notes = (self.folder / "triptych/checked", Path(notes))

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def commit_of(self, revision: str) -> str | None:
        """Return the commit that `revision` named when it was last looked up, or None if that is not known."""
        if COMMIT.fullmatch(revision):
            return revision if self.snapshot(revision).is_dir() else None
        try:
            commit = (self.folder / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return commit if COMMIT.fullmatch(commit) and self.snapshot(commit).is_dir() else None

    def files_of(self, commit: str) -> tuple[str, ...]:
        """Return the names of the files of `commit` that lie in the cache; a link to nothing is no file."""
        folder = self.snapshot(commit)
        return tuple(sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))

    def records_of(self, commit: str) -> dict[str, FileRecord] | None:
        """Return the list of the files of `commit` that `remember` wrote, or None if it is not there or unreadable."""
        try:
            content = json.loads((self.folder / "triptych" / f"{commit}.json").read_text(encoding="utf-8"))
            return {str(name): record(*known) for name, known in content["files"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def remember(self, revision: str, commit: str, records: Mapping[str, FileRecord]) -> None:
        """Note the files of `commit`, and that `revision` names it, for times without a network.

        Raises:
            OSError: the cache cannot be written.
        """
        if all(known.sha256 or known.blob for known in records.values()):
            text = json.dumps({"files": {name: [r.size, r.sha256, r.blob] for name, r in sorted(records.items())}})
            _write_once(self.folder / "triptych" / f"{commit}.json", text)
        if revision != commit:
            _write_once(self.folder / "refs" / revision, commit)

    def damage(self, path: Path, known: FileRecord) -> str:
        """Return what is wrong with the file `path` of a snapshot, or "" if it is what the Hub has.

        It is hashed once, and again when its size, time of modification or inode are others: a change that keeps all
        three is not seen. Where `known` tells no hash, the name of the blob does.
        """
        known = known if known.sha256 or known.blob else _named(path, known.size)
        wrong = known.wrong_size(path)
        if wrong or not (known.sha256 or known.blob):
            return wrong
        status = path.stat()
        note = f"{known.sha256 or known.blob}-{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"
        if note in _checked or any((folder / note).is_file() for folder in self._notes):
            return ""
        wrong = known.damage(path)
        if not wrong:
            self._note(note)
        return wrong

    def _note(self, note: str) -> None:
        _checked.add(note)
        for folder in self._notes:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / note).touch()
                return
            except OSError as error:
                logger.info("What was checked could not be noted: %s", error)

    def remove(self, path: Path) -> None:
        """Remove the file `path` of a snapshot and the blob that it links to."""
        if path.is_symlink():
            blob = Path(os.path.normpath(path.parent / os.readlink(path)))
            if blob.parent == self.folder / "blobs":
                blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _named(path: Path, size: int | None) -> FileRecord:
    """Return what the name of the blob that `path` links to says: it is the hash of an LFS file, or git's."""
    name = Path(os.readlink(path)).name if path.is_symlink() else ""
    return record(size, name, name)


def record(size: object, sha256: object, blob: object) -> FileRecord:
    """Return what of an answer of the Hub can be held against a file; anything else is as if it had not been said."""
    return FileRecord(
        size if isinstance(size, int) and size >= 0 else None,
        sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None,
        blob if isinstance(blob, str) and COMMIT.fullmatch(blob) else None,
    )


def _write_once(path: Path, text: str) -> None:
    """Write `text` in one step, unless it is there already: a cache that cannot be written still serves loads."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
