"""Requests and answers of the test hub, apart from sockets."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from triptych_conformance.hub.store import StoreError


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
