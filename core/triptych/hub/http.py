"""How triptych calls huggingface_hub: the retries that it lacks, answers watched, every failure as one clear error.

huggingface_hub 2 retries each request of an upload, and goes on with a file that broke off: that is left to it. It asks
once for a list of files, a repository, a branch or a commit, and for a file where the answer is 5xx, and waits as long
as a Retry-After says. A response hook on its HTTP session, which acts only within `watched`, hands such answers to
`retried` instead.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from triptych.errors import (
    HubAccessError,
    HubError,
    HubNotFoundError,
    HubOfflineError,
    TriptychError,
    UnsafeCheckpointError,
)

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
ATTEMPTS = 4
LONGEST_WAIT = 30.0
"""Seconds: how long one Retry-After can make a load wait."""
_MOST_ANSWERS = 100
_LATER = (408, 429, 500, 502, 503, 504)
_PLAIN_ETAG = re.compile(r'(?:W/)?"?[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"?')

logger = logging.getLogger(__name__)
_answers: ContextVar[list[int] | None] = ContextVar("triptych_hub_answers", default=None)
_install = threading.Lock()


class _Later(Exception):
    """The Hub answered that it cannot serve now: `wait` seconds, if it said how long."""

    def __init__(self, status: int, url: str, wait: float | None) -> None:
        super().__init__(f"HTTP status {status} for {url}")
        self.wait = wait


@contextmanager
def watched() -> Iterator[None]:
    """Within this context, answers to this thread that ask to come again later are raised, as are unsafe ones."""
    from huggingface_hub import get_session

    with _install:
        hooks = get_session().event_hooks["response"]
        if _check not in hooks:
            hooks.append(_check)
    token = _answers.set([0])
    try:
        yield
    finally:
        _answers.reset(token)


def _check(response: httpx2.Response) -> None:
    count = _answers.get()
    if count is None:
        return
    count[0] += 1
    if response.status_code in _LATER:
        said = response.headers.get("Retry-After", "")
        raise _Later(response.status_code, str(response.url), float(said) if said.isdecimal() else None)
    if count[0] > _MOST_ANSWERS:  # the client resumes a broken download for as long as it receives anything
        raise HubError(f"A download from {response.url.host} broke off {_MOST_ANSWERS} times.", remedy="try again")
    for name in ("ETag", "X-Linked-ETag"):  # the client makes a path of them
        etag = response.headers.get(name)
        if etag is not None and "/resolve/" in response.url.path and not _PLAIN_ETAG.fullmatch(etag):
            raise UnsafeCheckpointError(
                f"{response.url.host} names a file of the cache by a path.", expected="a hash", received=repr(etag)[:80]
            )


def retried(call: Callable[[], T]) -> T:
    """Return `call()`, tried `ATTEMPTS` times when the Hub is busy, in trouble or breaks off, with pauses between.

    A file that breaks off is no reason to begin again: huggingface_hub has gone on with it five times.
    """
    import httpx2

    for attempt in range(ATTEMPTS):
        try:
            with watched():
                return call()
        except (_Later, httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError) as error:
            if attempt == ATTEMPTS - 1 or _was_resumed(error):
                raise
            asked = error.wait if isinstance(error, _Later) else None
            wait = min(2.0**attempt if asked is None else asked, LONGEST_WAIT)
            logger.warning("%s: trying again in %g s", error, wait)
            time.sleep(wait)
    raise AssertionError("unreachable")


def _was_resumed(error: Exception) -> bool:
    """Return whether `error` is of a file that broke off; one of a lost connection (ReadError) is not resumed."""
    import httpx2

    if not isinstance(error, httpx2.RemoteProtocolError):
        return False
    return error.request.method == "GET" and "/api/models/" not in error.request.url.path


def unreachable(error: BaseException) -> bool:
    """Return whether `error` says that there is no network, rather than what the Hub thinks of the request."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, (httpx2.TransportError, OfflineModeIsEnabled, HubOfflineError))


def failures() -> tuple[type[Exception], ...]:
    """Return what huggingface_hub and its HTTP library raise for reasons outside of this program."""
    import httpx2

    return (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, RuntimeError, _Later, TriptychError)


def explained(error: Exception, repo_id: str, what: str) -> TriptychError:
    """Return the triptych error for `error`, which came up while asking for `what` of `repo_id`."""
    from huggingface_hub import errors as hub

    if isinstance(error, TriptychError):
        return error
    if isinstance(error, (hub.LocalEntryNotFoundError, ValueError, RuntimeError)) and isinstance(
        error.__cause__, failures()
    ):
        return explained(error.__cause__, repo_id, what)
    reason = f"{type(error).__name__}: {str(error).strip()}"[:400]
    if isinstance(error, _Later):
        later = "try again later; what is in the cache loads with local_files_only=True"
        return HubError(f"The Hub did not serve {what} of {repo_id}.", received=str(error), remedy=later)
    if isinstance(error, (hub.HfHubHTTPError, hub.LocalTokenNotFoundError)):
        return _refused(error, repo_id, what, reason)
    if unreachable(error):
        return HubOfflineError(
            f"The Hub could not be reached for {what} of {repo_id}.",
            received=reason,
            remedy="check the connection, and HTTPS_PROXY and HF_ENDPOINT in the environment",
        )
    if isinstance(error, OSError) and error.errno is not None:
        remedy = "make room, or pass a cache_dir that can be written"
        return HubError(f"{what} of {repo_id} could not be written to the cache.", received=reason, remedy=remedy)
    remedy = "check that HF_ENDPOINT is a Hub and no proxy or login page answers for it"
    return HubError(f"The answer about {what} of {repo_id} was unexpected.", received=reason, remedy=remedy)


def _refused(error: Any, repo_id: str, what: str, reason: str) -> HubError:
    """Return the error for an answer of the Hub; the classes are huggingface_hub's, by the header X-Error-Code."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    received = reason.replace("\n", " ")
    login = "log in with `hf auth login`, or pass a token that is allowed to"
    if isinstance(error, hub.GatedRepoError):
        remedy = f"ask for access, or accept the conditions, at {constants.ENDPOINT}/{repo_id}; {login}"
        return HubAccessError(f"{repo_id} is gated.", received=received, remedy=remedy)
    if isinstance(error, hub.RepositoryNotFoundError):
        detail = f"There is no repository {repo_id}, and no local folder of that name, or it is private."
        return HubNotFoundError(detail, received=received, remedy=f"check the name; {login}")
    if isinstance(error, hub.RevisionNotFoundError):
        remedy = "check revision: a branch, a tag or a commit of 40 hexadecimal digits"
        return HubNotFoundError(f"{repo_id} has no such revision.", received=received, remedy=remedy)
    if isinstance(error, hub.EntryNotFoundError):
        return HubNotFoundError(f"{repo_id} lists {what} and does not have it.", received=received, remedy="try again")
    status = error.response.status_code if isinstance(error, hub.HfHubHTTPError) else 401
    if status in (401, 403):
        return HubAccessError(f"The Hub refused {what} of {repo_id}.", received=received, remedy=login)
    return HubError(f"The Hub did not serve {what} of {repo_id}.", received=received, remedy="try again later")


def part_of(bar: Any) -> type:
    """Return what huggingface_hub takes for the class of a progress bar, and what moves `bar` for every file."""
    lock = threading.Lock()

    class Part:
        def __init__(self, *_: object, **__: object) -> None:
            """Take the arguments of a tqdm; the total of all parts is known to `bar`."""

        def __enter__(self) -> Part:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def update(self, n: float | None = 1) -> None:
            with lock:
                bar.update(n)

        def update_transfer(self, n: float | None = 1) -> None:
            """Bytes on the network are not counted apart from those written."""

        def set_postfix_str(self, *_: object, **__: object) -> None:
            """One bar has one rate, its own."""

        set_transfer_postfix_str = set_postfix_str

        def close(self) -> None:
            """`bar` outlives its parts."""

    return Part
