"""What the test hub answers: the part of the Hub's HTTP API that huggingface_hub 2 speaks for models.

Each function takes the request as read from the wire and returns a `Reply`; nothing here knows about sockets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from triptych_conformance.hub.store import Entry, Settings, Store, StoreError
from triptych_conformance.hub.wire import Account, Question, Reply, as_json, failure, ranged
from triptych_conformance.hub.writing import Writing

KEYWORDS = {"revision", "tree", "paths-info", "preupload", "commit", "commits", "branch", "tag", "refs", "auth-check"}


class Api(Writing):
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
            repo_id = "/".join(parts[:-4]).removesuffix(".git")
            self._may_write(question, repo_id, to_pr=True)
            return self._lfs(question, repo_id, parts[-1])
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
