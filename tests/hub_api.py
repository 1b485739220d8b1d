"""What the test hub answers: the part of the Hub's HTTP API that huggingface_hub 2 speaks for models.

Each function takes the request as read from the wire and returns a `Reply`; nothing here knows about sockets.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_store import Entry, Settings, Store, StoreError, is_lfs

KEYWORDS = {"revision", "tree", "paths-info", "preupload", "commit", "commits", "branch", "tag", "refs", "auth-check"}


@dataclass
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Question:
    """One request: `parts` is its path, split at / and then unquoted; `user` is None without a token."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    parts: list[str] = field(init=False)
    query: dict[str, list[str]] = field(init=False)
    user: Account | None = None

    def __post_init__(self) -> None:
        split = urlsplit(self.path)
        self.parts = [unquote(part) for part in split.path.strip("/").split("/")]
        self.query = parse_qs(split.query)

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Account:
    name: str
    writes: bool = True
    orgs: tuple[str, ...] = ()


def as_json(content: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(content).encode(), {"Content-Type": "application/json"})


def failure(error: StoreError, commit: str | None = None) -> Reply:
    """Return the answer to a failed request, with the error headers by which huggingface_hub tells them apart."""
    reply = as_json({"error": error.message}, error.status)
    reply.headers |= {"X-Error-Message": error.message}
    if error.code:
        reply.headers["X-Error-Code"] = error.code
    if commit is not None:
        reply.headers["X-Repo-Commit"] = commit
    return reply


class Api:
    """The routes. `endpoint` and `cdn` are the addresses of the two servers, known once they are bound."""

    def __init__(self, store: Store, accounts: dict[str, Account]) -> None:
        self.store, self.accounts = store, accounts
        self.endpoint = self.cdn = ""

    def answer(self, question: Question) -> Reply:
        try:
            self._authenticate(question)
            return self._route(question)
        except StoreError as error:
            return failure(error)

    def answer_cdn(self, question: Question) -> Reply:
        """Serve and take LFS objects by their hash, without any authentication, as signed links do."""
        sha256 = question.parts[1]
        if question.method == "PUT":
            received = self.store.put(question.body)
            return Reply(200 if received == sha256 else 400)
        return ranged(question, self.store.get(sha256), {"ETag": f'"{sha256}"'})

    def _authenticate(self, question: Question) -> None:
        sent = question.headers.get("authorization")
        if sent is None:
            return
        question.user = self.accounts.get(sent.removeprefix("Bearer "))
        if question.user is None:
            raise StoreError(401, "", "Invalid credentials in Authorization header")

    def _route(self, question: Question) -> Reply:
        parts = question.parts
        if parts[0] == "api":
            fixed: dict[str, Callable[[Question], Reply]] = {
                "whoami-v2": self._whoami,
                "repos/create": self._create,
                "repos/delete": self._delete,
                "validate-yaml": self._validate_yaml,
            }
            name = "/".join(parts[1:3])
            return fixed[name](question) if name in fixed else self._model(question, parts[2:])
        if parts[-5:-2] and parts[-4:-1] == ["info", "lfs", "objects"]:
            return self._lfs(question, "/".join(parts[:-4]).removesuffix(".git"), parts[-1])
        at = parts.index("resolve") if "resolve" in parts[1:3] else 0
        if at and len(parts) > at + 2:
            return self._resolve(question, "/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :]))
        raise StoreError(404, "", "Sorry, we can't find the page you are looking for.")

    # access

    def _may_read(self, question: Question, repo_id: str, content: bool = False) -> Settings:
        """Answer as the Hub does: a private repository looks like a missing one, and both are 401 without a token."""
        user = question.user
        settings = self.store.settings(repo_id) if self.store.exists(repo_id) else None
        member = settings is not None and user is not None and self._is_member(user, repo_id, settings)
        if settings is None or (settings.private and not member):
            status, message = (401, "Invalid username or password.") if user is None else (404, "Repository not found")
            raise StoreError(status, "RepoNotFound", message)
        if content and settings.gated and not member:
            words = f"Access to model {repo_id} is restricted. You must have access to it and be authenticated to it."
            raise StoreError(401 if user is None else 403, "GatedRepo", words)
        return settings

    def _is_member(self, user: Account, repo_id: str, settings: Settings) -> bool:
        owner = repo_id.partition("/")[0] if "/" in repo_id else ""
        return owner in (user.name, *user.orgs) or user.name in settings.readers

    def _may_write(self, question: Question, repo_id: str, to_pr: bool = False) -> None:
        settings, user = self._may_read(question, repo_id), question.user
        if user is None:
            raise StoreError(401, "RepoNotFound", "Invalid username or password.")
        owner = repo_id.partition("/")[0]
        if not user.writes or not (to_pr or owner in (user.name, *user.orgs)):
            raise StoreError(403, "", f"Forbidden: you don't have the required permissions. {settings.private=}")

    # routes without a repository in their address

    def _whoami(self, question: Question) -> Reply:
        if question.user is None:
            raise StoreError(401, "", "Invalid username or password.")
        role = "write" if question.user.writes else "read"
        access = {"auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}}
        orgs = [{"type": "org", "name": name} for name in question.user.orgs]
        return as_json({"type": "user", "name": question.user.name, "orgs": orgs, **access})

    def _named(self, question: Question) -> str:
        content = question.json()
        if question.user is None:
            raise StoreError(401, "", "Invalid username or password.")
        return f"{content.get('organization') or question.user.name}/{content['name']}"

    def _create(self, question: Question) -> Reply:
        repo_id, user = self._named(question), question.user
        if user is None or not user.writes or repo_id.partition("/")[0] not in (user.name, *user.orgs):
            raise StoreError(403, "", "You don't have the rights to create a model under this namespace")
        address = {"url": f"{self.endpoint}/{repo_id}"}
        if self.store.exists(repo_id):
            return as_json({"error": "You already created this model repo", **address}, 409)
        self.store.create(repo_id, Settings(private=question.json().get("visibility") == "private"))
        return as_json(address)

    def _delete(self, question: Question) -> Reply:
        repo_id = self._named(question)
        self._may_write(question, repo_id)
        self.store.delete(repo_id)
        return as_json({})

    def _validate_yaml(self, question: Question) -> Reply:
        import yaml

        content = question.json()["content"]
        block = re.match(r"\s*---\r?\n(.*?)\r?\n?---", content, re.DOTALL)
        if block is None:
            return as_json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        try:
            valid = isinstance(yaml.safe_load(block.group(1)) or {}, dict)
        except yaml.YAMLError:
            valid = False
        errors = [] if valid else [{"message": "Invalid yaml in the metadata"}]
        return as_json({"errors": errors, "warnings": []}, 400 if errors else 200)

    # /api/models/<repo>/...

    def _model(self, question: Question, parts: list[str]) -> Reply:
        if question.parts[1] != "models" or not parts:
            raise StoreError(404, "", f"No such route: {question.path}")
        at = 1 if len(parts) == 1 or parts[1] in KEYWORDS else 2
        repo_id, rest = "/".join(parts[:at]), parts[at:]
        keyword, revision, path = (rest or ["revision"])[0], (rest[1:2] or ["main"])[0], "/".join(rest[2:])
        if question.method == "GET":
            self._may_read(question, repo_id)
            if keyword == "auth-check":
                self._may_read(question, repo_id, content=True)
                return as_json({})
            if keyword == "refs":
                return self._refs(question, repo_id)
            readers = {"revision": self._info, "tree": self._tree, "commits": self._commits}
            if keyword in readers:
                return readers[keyword](question, repo_id, revision, path)
        if keyword == "paths-info":
            return self._paths_info(question, repo_id, revision)
        writers = {"preupload": self._preupload, "commit": self._commit, "branch": self._branch, "tag": self._tag}
        if keyword not in writers:
            raise StoreError(404, "", f"No such route: {question.path}")
        self._may_write(question, repo_id, to_pr="create_pr" in question.query)
        return writers[keyword](question, repo_id, revision)

    def _info(self, question: Question, repo_id: str, revision: str, _: str) -> Reply:
        commit, settings = self.store.resolve(repo_id, revision), self.store.settings(repo_id)
        siblings: list[dict[str, Any]] = []
        for path, entry in sorted(self.store.tree(repo_id, commit).items()):
            siblings.append({"rfilename": path})
            if "blobs" in question.query:
                siblings[-1] |= {"size": entry.size, "blobId": entry.oid}
                lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}
                siblings[-1] |= {"lfs": lfs} if entry.lfs else {}
        gated = "auto" if settings.gated else False
        return as_json(
            {"_id": "0", "id": repo_id, "modelId": repo_id, "sha": commit, "private": settings.private, "gated": gated}
            | {"siblings": siblings, "tags": [], "downloads": 0, "likes": 0, "disabled": False}
        )

    def _tree(self, question: Question, repo_id: str, revision: str, folder: str) -> Reply:
        recursive = question.query.get("recursive", ["false"])[0].lower() in ("1", "true")
        tree, prefix = self.store.tree(repo_id, revision), f"{folder}/" if folder else ""
        inside = {path: entry for path, entry in tree.items() if path.startswith(prefix)}
        if folder and not inside:
            raise StoreError(404, "EntryNotFound", f"{folder} does not exist")
        folders = {path[: at.start()] for path in inside for at in re.finditer("/", path) if at.start() >= len(prefix)}
        found = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in sorted(folders)]
        found += [described(path, entry) for path, entry in sorted(inside.items())]
        return as_json([item for item in found if recursive or "/" not in str(item["path"])[len(prefix) :]])

    def _paths_info(self, question: Question, repo_id: str, revision: str) -> Reply:
        self._may_read(question, repo_id)
        form = parse_qs(question.body.decode())
        tree = self.store.tree(repo_id, revision)
        return as_json([described(path, tree[path]) for path in form.get("paths", []) if path in tree])

    def _commits(self, question: Question, repo_id: str, revision: str, _: str) -> Reply:
        return as_json(
            [
                {"id": c.oid, "authors": [], "date": c.date, "title": c.title, "message": c.message}
                for c in self.store.log(repo_id, revision)
            ]
        )

    def _refs(self, question: Question, repo_id: str) -> Reply:
        found: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        kinds = {"refs/heads/": "branches", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
        for ref, oid in self.store.refs(repo_id).items():
            prefix, kind = next(item for item in kinds.items() if ref.startswith(item[0]))
            found[kind].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid})
        return as_json(found)

    # writing

    def _preupload(self, question: Question, repo_id: str, revision: str) -> Reply:
        tree = self.store.tree(repo_id, revision)
        answers = []
        for item in question.json()["files"]:
            mode = "lfs" if is_lfs(item["path"], item["size"]) else "regular"
            known = tree.get(item["path"])
            oid = {"oid": known.etag} if known is not None else {}
            answers.append({"path": item["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
        return as_json({"files": answers, "commitOid": self.store.resolve(repo_id, revision)})

    def _lfs(self, question: Question, repo_id: str, action: str) -> Reply:
        self._may_write(question, repo_id, to_pr=True)
        content = question.json()
        if action == "verify":
            known = self.store.has(content["oid"], content["size"])
            return as_json({}) if known else as_json({"message": "not found"}, 404)
        return as_json({"transfer": "basic", "objects": [self._upload(repo_id, item) for item in content["objects"]]})

    def _upload(self, repo_id: str, item: dict[str, Any]) -> dict[str, Any]:
        if self.store.has(item["oid"], item["size"]):
            return item
        verify = f"{self.endpoint}/{repo_id}.git/info/lfs/objects/verify"
        return {**item, "actions": {"upload": {"href": f"{self.cdn}/cdn/{item['oid']}"}, "verify": {"href": verify}}}

    def _commit(self, question: Question, repo_id: str, revision: str) -> Reply:
        lines = [json.loads(line) for line in question.body.splitlines()]
        header = lines[0]["value"]
        changes = dict(self._changes(lines[1:]))
        to_pr, number = "create_pr" in question.query, 0
        with self.store.lock:
            if to_pr:
                number = self.store.open_pr(repo_id, revision)
                revision = f"refs/pr/{number}"
            words = {"title": header["summary"], "message": header["description"]}
            oid = self.store.commit(repo_id, changes, revision, parent=header.get("parentCommit"), **words)
        address = f"{self.endpoint}/{repo_id}"
        pull = {"pullRequestUrl": f"{address}/discussions/{number}"} if to_pr else {}
        return as_json({"success": True, "commitOid": oid, "commitUrl": f"{address}/commit/{oid}", **pull})

    def _changes(self, lines: list[dict[str, Any]]) -> Iterator[tuple[str, Entry | None]]:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
                if is_lfs(value["path"], len(content)):
                    raise StoreError(400, "", f"{value['path']} must be committed as an LFS file")
                yield value["path"], self.store.entry(value["path"], content, lfs=False)
            elif line["key"] == "lfsFile":
                yield value["path"], self.store.lfs_entry(value["oid"], value["size"])
            elif line["key"] in ("deletedFile", "deletedFolder"):
                yield value["path"].rstrip("/") + "/" * (line["key"] == "deletedFolder"), None
            else:
                raise StoreError(400, "", f"Unknown operation: {line['key']}")

    def _branch(self, question: Question, repo_id: str, branch: str) -> Reply:
        if question.method == "DELETE":
            self.store.remove_ref(repo_id, f"refs/heads/{branch}")
        elif branch.startswith("refs/"):
            raise StoreError(400, "", f"Invalid reference for a branch: {branch}")
        else:
            self.store.add_ref(repo_id, f"refs/heads/{branch}", question.json().get("startingPoint", "main"))
        return as_json({})

    def _tag(self, question: Question, repo_id: str, revision: str) -> Reply:
        if question.method == "DELETE":
            self.store.remove_ref(repo_id, f"refs/tags/{revision}")
        else:
            self.store.add_ref(repo_id, f"refs/tags/{question.json()['tag']}", revision)
        return as_json({})

    # files

    def _resolve(self, question: Question, repo_id: str, revision: str, path: str) -> Reply:
        self._may_read(question, repo_id, content=True)
        commit = self.store.resolve(repo_id, revision)
        entry = self.store.tree(repo_id, commit).get(path)
        if entry is None:
            return failure(StoreError(404, "EntryNotFound", "Entry not found"), commit)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry.etag}"', "Accept-Ranges": "bytes"}
        if not entry.lfs:
            return ranged(question, self.store.get(entry.sha256), headers)
        headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        name = path.rpartition("/")[2]
        return Reply(302, b"", {**headers, "Location": f"{self.cdn}/cdn/{entry.sha256}/{name}"})


def described(path: str, entry: Entry) -> dict[str, Any]:
    lfs = {"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}} if entry.lfs else {}
    return {"type": "file", "path": path, "size": entry.size, "oid": entry.oid, **lfs}


def ranged(question: Question, content: bytes, headers: dict[str, str]) -> Reply:
    """Return `content` or, for a `Range: bytes=first-`, what is left of it (206), or 416 past its end."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", question.headers.get("range", ""))
    if match is None:
        return Reply(200, content, headers)
    first, last = int(match.group(1)), int(match.group(2) or len(content) - 1)
    if first >= len(content):
        return Reply(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
    part = content[first : last + 1]
    return Reply(206, part, {**headers, "Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"})
