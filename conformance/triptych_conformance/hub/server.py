"""A hub on 127.0.0.1 for tests, spoken to by the real huggingface_hub client.

    hub.create("org/model"); hub.commit("org/model", {"config.json": b"{}"})
    hub.requests, hub.count("*/resolve/*", method="HEAD"), hub.reset()
    hub.fault("*/resolve/*/config.json", status=503, times=2)
    hub.after(1, "/api/models/*", lambda: hub.commit("org/model", {"config.json": b"[]"}))

It does not offer Xet: uploads need HF_HUB_DISABLE_XET=1, since huggingface_hub with hf_xet installed asks for nothing
else (and then even cuts upload_folder into several commits); `client` sets it. The hub and its CDN are two servers,
since the client follows redirects to its own hub differently from those to another host.
"""

from __future__ import annotations

import fnmatch
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep  # the real one, also where a test takes the client's pauses away
from typing import Any

from triptych_conformance.hub.api import Api
from triptych_conformance.hub.store import Commit, Settings, Store
from triptych_conformance.hub.wire import Account, Question, Reply

WRITER, READER, STRANGER = "hf_writer", "hf_reader", "hf_stranger"
ACCOUNTS = {
    WRITER: Account("ada", orgs=("org",)),
    READER: Account("ben", writes=False),
    STRANGER: Account("eve"),
}


@dataclass(frozen=True)
class Request:
    """One answered request; `path` has no query, `headers` are the client's, with names in lower case."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str] = field(repr=False)


@dataclass
class Fault:
    """What goes wrong for requests of `method` (any, if None) whose path fits `pattern`, `times` times.

    status: the answer is an error, with `headers`. delay: seconds before the answer. stall: seconds in the middle of
    the body. cut: the connection closes after so many bytes of the body. resize: so many bytes more or fewer, and
    Content-Length and X-Linked-Size lie along. flip: one bit of the body is wrong. headers alone: they are replaced.
    """

    pattern: str
    method: str | None = None
    times: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    stall: float = 0
    cut: int | None = None
    resize: int = 0
    flip: bool = False

    def apply(self, reply: Reply) -> None:
        if self.status is not None:
            reply.status, reply.body, reply.headers = self.status, b'{"error": "a fault of the test"}', {}
        reply.headers |= self.headers
        if self.resize and reply.status in (200, 206):
            wanted = len(reply.body) + self.resize
            reply.body = reply.body[:wanted].ljust(wanted, b"x")
        if self.resize and "X-Linked-Size" in reply.headers:
            reply.headers["X-Linked-Size"] = str(int(reply.headers["X-Linked-Size"]) + self.resize)
        if self.flip and reply.body:
            reply.body = reply.body[:-1] + bytes([reply.body[-1] ^ 1])


@dataclass
class Hook:
    pattern: str
    left: int
    run: Callable[[], object]


class Hub:
    """The store, the two servers, what was asked of them, and what shall go wrong."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.api = Api(self.store, dict(ACCOUNTS))
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.hooks: list[Hook] = []
        self._lock = threading.Lock()
        self._servers = [_Server(self, self.api.answer), _Server(self, self.api.answer_cdn)]
        self.api.endpoint, self.api.cdn = (server.address for server in self._servers)
        self.endpoint = self.api.endpoint
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening: whoever asks later finds the network unreachable."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
            server.hang_up()

    # repositories, without HTTP

    def create(self, repo_id: str, private: bool = False, gated: bool = False, readers: tuple[str, ...] = ()) -> None:
        self.store.create(repo_id, Settings(private, gated, list(readers)))

    def commit(
        self, repo_id: str, files: Mapping[str, bytes | None], revision: str = "main", message: str = "a commit"
    ) -> str:
        changes = {path: None if data is None else self.store.entry(path, data) for path, data in files.items()}
        return self.store.commit(repo_id, changes, revision, title=message)

    def commit_folder(self, repo_id: str, folder: Path) -> str:
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return self.commit(repo_id, files)

    def tree(self, repo_id: str, revision: str = "main") -> dict[str, Any]:
        return self.store.tree(repo_id, revision)

    def read(self, repo_id: str, path: str, revision: str = "main") -> bytes:
        return self.store.get(self.store.tree(repo_id, revision)[path].sha256)

    def head(self, repo_id: str, revision: str = "main") -> str:
        return self.store.resolve(repo_id, revision)

    def tag(self, repo_id: str, tag: str, revision: str = "main") -> None:
        self.store.add_ref(repo_id, f"refs/tags/{tag}", revision)

    def branch(self, repo_id: str, branch: str, revision: str = "main") -> None:
        self.store.add_ref(repo_id, f"refs/heads/{branch}", revision)

    def log(self, repo_id: str, revision: str = "main") -> list[Commit]:
        return list(self.store.log(repo_id, revision))

    # faults and counts

    def fault(self, pattern: str, **settings: Any) -> Fault:
        self.faults.append(Fault(pattern, **settings))
        return self.faults[-1]

    def after(self, k: int, pattern: str, run: Callable[[], object]) -> None:
        """Run `run` once, after the k-th request from now that fits `pattern` is answered from the old state, and
        before the client can have read that answer."""
        self.hooks.append(Hook(pattern, k, run))

    def reset(self) -> None:
        """Forget the requests, the faults and the hooks."""
        self.requests, self.faults, self.hooks = [], [], []

    def count(self, pattern: str = "*", method: str | None = None) -> int:
        return sum(_fits(r.method, r.path, pattern, method) for r in self.requests)

    # called by the servers

    def take_faults(self, method: str, path: str) -> list[Fault]:
        with self._lock:
            found = [f for f in self.faults if f.times != 0 and _fits(method, path, f.pattern, f.method)]
            for fault in found:
                fault.times = None if fault.times is None else fault.times - 1
            return found

    def finish(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)
            due = [hook for hook in self.hooks if fnmatch.fnmatch(request.path, hook.pattern)]
            for hook in due:
                hook.left -= 1
        for hook in due:
            if hook.left == 0:
                hook.run()


def _fits(method: str, path: str, pattern: str, wanted: str | None) -> bool:
    return wanted in (None, method) and fnmatch.fnmatch(path, pattern)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: Hub, answer: Callable[[Question], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub, self.answer = hub, answer
        self._lines: set[socket.socket] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self._lines.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._lines.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep open for their next request."""
        for line in list(self._lines):
            with suppress(OSError):  # the client was faster
                line.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server; anything else is printed and answered by a closed line."""
        import sys

        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        hub, path = self.server.hub, self.path.partition("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        question = Question(self.command, self.path, headers, self._body())
        faults = hub.take_faults(self.command, path)
        reply = self.server.answer(question)
        for fault in faults:
            fault.apply(reply)
        sleep(sum(fault.delay for fault in faults))
        hub.finish(Request(self.command, path, reply.status, headers))
        self._send(reply, faults)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, reply: Reply, faults: list[Fault]) -> None:
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = min((f.cut for f in faults if f.cut is not None), default=None)
        body = reply.body if cut is None else reply.body[:cut]
        middle = len(body) // 2
        self.wfile.write(body[:middle])
        sleep(sum(fault.stall for fault in faults))
        self.wfile.write(body[middle:])
        if cut is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_WR)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the hub keeps its own record."""
