"""The routes of the test hub by which huggingface_hub commits: preupload, LFS, commit, branches and tags."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from triptych_conformance.hub.store import Entry, Store, StoreError, is_lfs
from triptych_conformance.hub.wire import Question, Reply, as_json


class Writing:
    """A part of `Api`, which has checked that the account may write."""

    store: Store
    endpoint: str
    cdn: str

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
                yield value["path"], self.store.lfs_entry(value["oid"], value.get("size"))  # none in a copy
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
