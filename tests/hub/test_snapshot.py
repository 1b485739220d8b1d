"""Loading from the Hub: how many requests, which version, what of the cache, and what each fault becomes."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, hf_hub_download, snapshot_download

from triptych import (
    ArgumentError,
    HubAccessError,
    HubError,
    HubNotFoundError,
    HubOfflineError,
    MissingFileError,
    TriptychError,
    UnsafeCheckpointError,
    open_checkpoint,
)
from triptych.hub import cache
from triptych.hub.cache import FileRecord
from triptych.hub.http import ATTEMPTS, LONGEST_WAIT
from triptych.hub.snapshot import HubOptions, Snapshot, find_snapshot, is_repo_id
from triptych_conformance.hub.client import environment
from triptych_conformance.hub.server import READER, STRANGER, WRITER, Hub

REPO = "org/bert"
PLAIN = ["config.json", "model.safetensors"]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of triptych and of huggingface_hub, recorded and not taken; the hub's own are real."""
    taken: list[float] = []
    monkeypatch.setattr("time.sleep", taken.append)
    return taken


@pytest.fixture
def bert(hub: Hub, golden: Path) -> str:
    """REPO with a real BERT of one file; returns its commit."""
    hub.create(REPO)
    sha = hub.commit_folder(REPO, golden / "bert-mlm/pt-safetensors")
    hub.reset()
    return sha


def load(names: list[str] = PLAIN, repo_id: str = REPO, **options: Any) -> Snapshot:
    snapshot = find_snapshot(repo_id, HubOptions(**options))
    assert snapshot.fetch(names) == snapshot.folder
    return snapshot


def offline(**options: Any) -> Snapshot:
    return load(local_files_only=True, **options)


def same(snapshot: Snapshot, hub: Hub, names: list[str] = PLAIN) -> bool:
    return all((snapshot.folder / n).read_bytes() == hub.read(snapshot.repo_id, n, snapshot.commit) for n in names)


def cache_files() -> set[str]:
    root = Path(constants.HF_HUB_CACHE)
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir() and ".locks" not in p.parts}


# numbers of requests


def test_cold_is_one_look_up_and_a_head_and_a_get_for_each_file(hub: Hub, bert: str) -> None:
    snapshot = load()
    assert [(r.method, r.status) for r in hub.requests][0] == ("GET", 200)
    assert hub.count("/api/*") == 1 and hub.count(f"/api/models/{REPO}/revision/main") == 1
    assert hub.count("*", "HEAD") == hub.count("*/resolve/*/config.json", "GET") + hub.count("/cdn/*", "GET") == 2
    assert len(hub.requests) == 1 + 2 * len(PLAIN)
    assert snapshot.commit == bert and same(snapshot, hub)
    assert snapshot.files == tuple(sorted(hub.tree(REPO)))


def test_warm_is_one_request(hub: Hub, bert: str) -> None:
    load()
    hub.reset()
    assert same(load(), hub)
    assert [r.path for r in hub.requests] == [f"/api/models/{REPO}/revision/main"]


def test_a_second_fetch_asks_only_for_what_is_missing(hub: Hub, golden: Path) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, golden / "bert-mlm/pt-safetensors-sharded")
    snapshot = find_snapshot(REPO, HubOptions())
    index = json.loads((snapshot.fetch(["config.json", "model.safetensors.index.json"]) / "config.json").read_bytes())
    assert index["model_type"] == "bert" and len(hub.requests) == 1 + 2 * 2
    shards = [name for name in snapshot.files if name.endswith(".safetensors")]
    folder = snapshot.fetch(shards)
    assert len(shards) == 6 and len(hub.requests) == 1 + 2 * 2 + 2 * 6
    assert len(open_checkpoint(folder)) == len(open_checkpoint(golden / "bert-mlm/pt-safetensors-sharded"))
    assert snapshot.fetch([]) == folder and len(hub.requests) == 17


def test_files_in_folders(hub: Hub, bert: str) -> None:
    hub.commit(REPO, {"a/b/config.json": b"{}"})
    assert same(load(["a/b/config.json"]), hub, ["a/b/config.json"])
    assert find_snapshot(REPO, HubOptions(local_files_only=True)).files == ("a/b/config.json",)


def test_one_progress_bar_counts_the_bytes_of_all_files(hub: Hub, bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import utils

    bars: list[Any] = []

    class Bar(utils.tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings | {"disable": False, "file": io.StringIO()})
            bars.append(self)

    monkeypatch.setattr(sys.modules["huggingface_hub.utils.tqdm"], "tqdm", Bar)
    load()
    load()
    assert [(bar.n, bar.total) for bar in bars] == [(sum(hub.tree(REPO)[n].size for n in PLAIN),) * 2]


def test_a_commit_in_the_cache_needs_no_request(hub: Hub, bert: str) -> None:
    load(revision=bert)
    assert hub.count("/api/*") == 1
    hub.reset()
    assert same(load(revision=bert), hub)
    assert hub.requests == []
    load(["generation_config.json"], revision=bert)  # a file more of a commit that is known
    assert [r.method for r in hub.requests] == ["HEAD", "GET"]


def test_a_commit_that_snapshot_download_left_needs_no_request(hub: Hub, bert: str) -> None:
    snapshot_download(REPO, revision=bert)
    hub.reset()
    snapshot = load(revision=bert)
    assert hub.requests == [] and same(snapshot, hub) and set(snapshot.files) == set(hub.tree(REPO))
    (snapshot.folder / "config.json").unlink()
    assert same(load(revision=bert), hub)
    assert [r.method for r in hub.requests] == ["GET", "HEAD"]  # its blob is there still


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_is_no_request(hub: Hub, bert: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    hub.commit(REPO, {"config.json": b"{}"})
    hub.reset()
    if how == "environment":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = load(local_files_only=how == "argument")
    assert hub.requests == [] and snapshot.commit == bert and snapshot.files == tuple(PLAIN)


def test_an_unreachable_hub_is_one_failed_request(hub: Hub, bert: str, caplog: pytest.LogCaptureFixture) -> None:
    load()
    hub.close()
    snapshot = load()
    assert snapshot.commit == bert and snapshot.offline and same(snapshot, hub)
    assert "could not be reached" in caplog.text
    with pytest.raises(HubOfflineError, match=r"(?s)generation_config.json.*not in the cache.*Remedy"):
        snapshot.fetch(["generation_config.json"])
    with pytest.raises(HubOfflineError, match="could not be reached"):
        find_snapshot("org/other", HubOptions())


def test_what_another_program_cached_is_used(hub: Hub, bert: str) -> None:
    for name in PLAIN:
        hf_hub_download(REPO, name)
    hub.reset()
    assert same(load(), hub) and len(hub.requests) == 1
    assert Path(hf_hub_download(REPO, "config.json", local_files_only=True)).is_file()


def test_what_triptych_cached_is_used_by_huggingface_hub(hub: Hub, bert: str) -> None:
    snapshot = load()
    hub.reset()
    assert Path(hf_hub_download(REPO, PLAIN[1], local_files_only=True)) == snapshot.folder / PLAIN[1]
    from huggingface_hub import scan_cache_dir

    report = scan_cache_dir(constants.HF_HUB_CACHE)
    assert not report.warnings and [repo.repo_id for repo in report.repos] == [REPO]


# versions


def test_a_push_in_between_mixes_nothing(hub: Hub, bert: str) -> None:
    hub.after(2, "*/config.json", lambda: hub.commit(REPO, {"config.json": b"{}", "model.safetensors": b"new"}))
    hub.after(1, "/api/*", lambda: hub.commit(REPO, {"model.safetensors": b"newer"}))
    snapshot = find_snapshot(REPO, HubOptions())
    snapshot.fetch(PLAIN[:1])
    snapshot.fetch(PLAIN[1:])
    assert snapshot.commit == bert != hub.head(REPO) and len(hub.log(REPO)) == 4
    assert same(snapshot, hub)
    assert load().commit == hub.head(REPO)


def test_revisions(hub: Hub, bert: str) -> None:
    hub.tag(REPO, "v1")
    hub.branch(REPO, "feature/x")
    moved = hub.commit(REPO, {"config.json": b"{}"}, revision="feature/x")
    assert [load(revision=r).commit for r in (None, "main", "v1", "feature/x", bert)] == [bert] * 3 + [moved, bert]
    assert [offline(revision=r).commit for r in (None, "v1", "feature/x", moved)] == [bert, bert, moved, moved]
    with pytest.raises(HubNotFoundError, match="no such revision.*Remedy: check revision"):
        load(revision="v2")
    with pytest.raises(HubOfflineError, match="revision v2 in the cache"):
        offline(revision="v2")


def test_pull_requests(hub: Hub, bert: str) -> None:
    hub.store.open_pr(REPO, "main")
    proposed = hub.commit(REPO, {"config.json": b"{}"}, revision="refs/pr/1")
    assert load(revision="refs/pr/1").commit == proposed == offline(revision="refs/pr/1").commit != load().commit


def test_a_failed_load_of_a_new_commit_leaves_the_old_one_for_offline(hub: Hub, bert: str) -> None:
    load()
    hub.commit(REPO, {"config.json": b"{}"})
    hub.fault("*/resolve/*", status=500)
    with pytest.raises(HubError):
        load()
    assert offline().commit == bert


def test_force_download_asks_for_everything_again(hub: Hub, bert: str) -> None:
    snapshot = load()
    hub.reset()
    assert same(load(force_download=True), hub) and hub.count("*", "HEAD") == 2 and hub.count() == 5
    hub.close()
    with pytest.raises(HubOfflineError):
        load(force_download=True)
    assert same(snapshot, hub)


# who may read


def test_private_and_gated_repositories(hub: Hub, golden: Path) -> None:
    for repo_id, settings in (("org/private", {"private": True}), ("org/gated", {"gated": True})):
        hub.create(repo_id, readers=("ben",), **settings)
        hub.commit_folder(repo_id, golden / "bert-mlm/pt-safetensors")
        for token in (WRITER, READER):
            assert same(load(repo_id=repo_id, token=token, cache_dir=hub.store.root / token), hub)
    for token in (STRANGER, False, None):
        with pytest.raises(HubNotFoundError, match="or it is private.*hf auth login"):
            load(repo_id="org/private", token=token)
        with pytest.raises(HubAccessError, match="is gated.*accept the conditions, at http.*/org/gated"):
            load(repo_id="org/gated", token=token)
    with pytest.raises(HubAccessError, match="hf auth login"):
        load(repo_id="org/gated", token="hf_wrong")
    assert all("authorization" not in r.headers for r in hub.requests if r.path.startswith("/cdn/"))


def test_the_saved_token(hub: Hub, bert: str) -> None:
    with pytest.raises(HubAccessError, match="hf auth login"):
        load(token=True)
    Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True, exist_ok=True)
    Path(constants.HF_TOKEN_PATH).write_text(WRITER)
    for token, sent in ((True, True), (None, True), (False, False)):
        hub.reset()
        load(token=token)
        assert ["authorization" in r.headers for r in hub.requests if "/api/" in r.path] == [sent]


def test_missing_repositories_and_files(hub: Hub, bert: str) -> None:
    with pytest.raises(HubNotFoundError, match="no repository org/none, and no local folder"):
        load(repo_id="org/none")
    hub.reset()
    with pytest.raises(MissingFileError, match="has no tf_model.h5 at main .*model.safetensors"):
        load(["tf_model.h5"])
    assert len(hub.requests) == 1
    for name in ("../x", "/etc/passwd", "a\\..\\b", "C:x", "", ".", "a//b", "a\0"):
        with pytest.raises(UnsafeCheckpointError):
            load([name])


# faults

CONFIG, LOOK_UP, DATA = "*/resolve/*/config.json", "/api/models/*", "/cdn/*"
LASTING: dict[str, tuple[dict[str, Any], type[HubError], str]] = {
    "look-up 401": ({"pattern": LOOK_UP, "status": 401}, HubAccessError, "refused the list.*hf auth login"),
    "look-up 403": ({"pattern": LOOK_UP, "status": 403}, HubAccessError, "hf auth login"),
    "look-up 404": ({"pattern": LOOK_UP, "status": 404}, HubError, "404.*Remedy"),
    "look-up 429": ({"pattern": LOOK_UP, "status": 429}, HubError, "429.*try again later.*local_files_only"),
    "look-up 500": ({"pattern": LOOK_UP, "status": 500}, HubError, "500.*try again later"),
    "look-up cut": ({"pattern": LOOK_UP, "cut": 10}, HubOfflineError, "could not be reached"),
    "look-up short": ({"pattern": LOOK_UP, "resize": -10}, HubError, "unexpected.*HF_ENDPOINT"),
    "head 401": ({"pattern": CONFIG, "status": 401}, HubAccessError, "refused config.json.*hf auth login"),
    "head 403": ({"pattern": CONFIG, "status": 403}, HubAccessError, "hf auth login"),
    "head 404": (
        {"pattern": CONFIG, "status": 404, "headers": {"X-Error-Code": "EntryNotFound"}},
        HubNotFoundError,
        "lists config.json and does not have it",
    ),
    "head 429": ({"pattern": CONFIG, "status": 429}, HubError, "did not serve config.json.*429"),
    "head 503": ({"pattern": CONFIG, "status": 503}, HubError, "503.*try again later"),
    "get 500": ({"pattern": DATA, "status": 500}, HubError, "did not serve model.safetensors.*500"),
    "get 403": ({"pattern": DATA, "status": 403}, HubAccessError, "model.safetensors"),
    "get cut": ({"pattern": DATA, "cut": 0}, HubOfflineError, "could not be reached for model.safetensors"),
    "get short": ({"pattern": DATA, "resize": -7}, HubError, "damaged twice.*size"),
    "get long": ({"pattern": DATA, "resize": 7}, HubError, "damaged twice"),
    "size lies": ({"pattern": CONFIG, "resize": 7}, HubError, "damaged twice.*bytes instead of"),
    "get flipped": ({"pattern": DATA, "flip": True}, HubError, "damaged twice.*instead of.*Remedy: try again"),
    "config flipped": ({"pattern": CONFIG, "flip": True}, HubError, "config.json.*damaged twice.*a content of hash"),
}


@pytest.mark.parametrize("name", LASTING)
def test_lasting_faults_become_clear_errors_and_leave_no_trace(hub: Hub, bert: str, name: str) -> None:
    settings, expected, message = LASTING[name]
    hub.fault(**settings)
    for _ in range(2):
        with pytest.raises(expected, match=message) as caught:
            load()
        assert type(caught.value) is expected and caught.value.remedy
        assert caught.value.__cause__ is not None or "damaged" in str(caught.value)
    assert not [file for file in cache_files() if file.endswith((".incomplete", ".tmp"))]
    hub.reset()
    assert same(load(), hub)
    assert len(hub.requests) <= 5


PASSING: dict[str, tuple[dict[str, Any], int, list[float]]] = {
    "look-up 503": ({"pattern": LOOK_UP, "status": 503, "times": 2}, 2, [1, 2]),
    "look-up 429": ({"pattern": LOOK_UP, "status": 429, "times": 1, "headers": {"Retry-After": "7"}}, 1, [7]),
    "a long wait": (
        {"pattern": LOOK_UP, "status": 429, "times": 1, "headers": {"Retry-After": "3600"}},
        1,
        [LONGEST_WAIT],
    ),
    "head 503": ({"pattern": CONFIG, "method": "HEAD", "status": 503, "times": 3}, 3, [1, 2, 4]),
    "get 503": ({"pattern": DATA, "status": 503, "times": 1}, 2, [1]),
    "get 429": ({"pattern": DATA, "status": 429, "times": 1, "headers": {"Retry-After": "3600"}}, 2, [LONGEST_WAIT]),
    "get cut": ({"pattern": DATA, "cut": 1000, "times": 2}, 2, [1, 1]),
    "get short": ({"pattern": DATA, "resize": -7, "times": 1}, 2, []),
    "size lies": ({"pattern": CONFIG, "resize": 7, "times": 2}, 2, []),
    "get flipped": ({"pattern": DATA, "flip": True, "times": 1}, 2, []),
    "config flipped": ({"pattern": CONFIG, "method": "GET", "flip": True, "times": 1}, 2, []),
}


@pytest.mark.parametrize("name", PASSING)
def test_passing_faults_are_got_over(hub: Hub, bert: str, name: str, pauses: list[float]) -> None:
    settings, extra, waits = PASSING[name]
    hub.fault(**settings)
    assert same(load(), hub)
    assert (len(hub.requests), pauses) == (5 + extra, waits)


def test_attempts_are_bounded(hub: Hub, bert: str, pauses: list[float]) -> None:
    hub.fault(LOOK_UP, status=429, headers={"Retry-After": "86400"})
    with pytest.raises(HubError):
        load()
    assert len(hub.requests) == ATTEMPTS and pauses == [LONGEST_WAIT] * (ATTEMPTS - 1)


def test_a_download_that_always_breaks_off_ends(hub: Hub, bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 16)
    hub.fault(DATA, cut=16)  # each answer is progress, so the client itself would go on for hours
    with pytest.raises(HubError, match="broke off 100 times"):
        load()


def test_a_slow_hub_is_an_unreachable_one(hub: Hub, bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.fault(LOOK_UP, delay=1, times=1)
    with pytest.raises(HubOfflineError, match="Timeout"):
        load()
    hub.reset()
    load()
    hub.fault(LOOK_UP, delay=1, times=1)
    assert load().offline


@pytest.mark.parametrize(
    "headers",
    [{"ETag": '"../../../../pwned"'}, {"ETag": '"/tmp/pwned"'}, {"X-Linked-ETag": '"..\\\\x"'}, {"ETag": '""'}],
)
def test_an_etag_that_is_a_path_is_refused(hub: Hub, bert: str, tmp_path: Path, headers: dict[str, str]) -> None:
    hub.fault(CONFIG, headers=headers)
    with pytest.raises(UnsafeCheckpointError, match="by a path"):
        load(["config.json"])
    assert not list(tmp_path.rglob("*pwned*")) and not Path("/tmp/pwned").exists()


def test_another_commit_than_the_one_asked_for_is_refused(hub: Hub, bert: str) -> None:
    hub.fault(CONFIG, headers={"X-Repo-Commit": "0" * 40})
    with pytest.raises(HubError, match="of another commit"):
        load(["config.json"])
    hub.reset()
    other = hub.commit(REPO, {"a": b"a"})
    answer = json.dumps({"id": REPO, "sha": other, "siblings": []}).encode()
    monkey_reply(hub, LOOK_UP, answer)
    with pytest.raises(HubError, match=f"commit '{other}' for revision '{bert}'"):
        load(revision=bert)


def monkey_reply(hub: Hub, pattern: str, body: bytes) -> None:
    fault = hub.fault(pattern)

    def apply(reply: Any) -> None:
        reply.status, reply.body = 200, body

    fault.apply = apply  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>log in</html>", b"[]", b"null", b"{}", b'{"id": 1}', b'{"id": "a", "sha": "../x"}']
    + [b'{"id": "a", "sha": 5}', b'{"id": "a", "sha": "%s", "siblings": [1]}' % (b"0" * 40)]
    + [b'{"id": "a", "sha": "%s", "siblings": [{"rfilename": "x", "lfs": 3}]}' % (b"0" * 40), b"\xff\xfe"],
)
def test_answers_that_are_none(hub: Hub, bert: str, body: bytes) -> None:
    monkey_reply(hub, LOOK_UP, body)
    with pytest.raises(HubError, match="unexpected.*Remedy: check that HF_ENDPOINT"):
        load()


# the cache


def blob_of(snapshot: Snapshot, name: str) -> Path:
    return Path(os.path.realpath(snapshot.folder / name))


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    age(path)


def age(path: Path) -> None:
    """Change the time of modification, whose clock may be coarser than the test is quick."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 1))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed since, as if each load were a process of its own."""
    names: list[str] = []

    def damage(known: FileRecord, path: Path) -> str:
        names.append(path.name)
        return right(known, path)

    right = FileRecord.damage
    monkeypatch.setattr(FileRecord, "damage", damage)
    monkeypatch.setattr(cache, "_checked", type("Forgetful", (set,), {"add": lambda *_: None})())
    return names


@pytest.mark.parametrize("harm", [truncate, lambda path: os.truncate(path, 0), Path.unlink, flip])
def test_a_damaged_cache_is_mended_online_and_told_offline(hub: Hub, bert: str, harm: Callable[[Path], object]) -> None:
    snapshot = load()
    harm(blob_of(snapshot, "model.safetensors"))
    with pytest.raises(
        HubOfflineError, match=r"model.safetensors: (\d+ bytes instead|not in the cache|a content of hash)"
    ):
        offline()
    hub.reset()
    assert same(load(), hub) and hub.count() == 3
    assert same(offline(), hub)


def test_a_file_of_the_cache_is_hashed_once_and_again_when_it_changed(hub: Hub, bert: str, hashed: list[str]) -> None:
    snapshot = load()
    assert sorted(hashed) == PLAIN
    assert same(load(), hub) and same(offline(), hub) and sorted(hashed) == PLAIN
    age(blob_of(snapshot, "model.safetensors"))
    assert same(offline(), hub) and same(load(), hub) and hashed[2:] == ["model.safetensors"]
    flip(blob_of(snapshot, "config.json"))
    hub.reset()
    assert same(load(), hub) and hub.count("*", "GET") == 2 and hub.count("*/config.json", "GET") == 1


@pytest.mark.parametrize("name", PLAIN)
def test_what_another_program_cached_is_held_against_the_names_of_its_blobs(
    name: str, hub: Hub, bert: str, caplog: pytest.LogCaptureFixture
) -> None:
    for file in PLAIN:
        hf_hub_download(REPO, file)
    snapshot = offline()
    assert snapshot.records == {} and same(snapshot, hub)
    flip(blob_of(snapshot, name))
    with pytest.raises(HubOfflineError, match=f"{name}: a content of hash .* instead of .*Remedy: load it once with"):
        offline()
    assert same(load(), hub) and f"{name} of {REPO} is damaged in the cache" in caplog.text


@pytest.mark.parametrize("writable", [True, False])
def test_a_cache_that_cannot_be_written_is_still_checked(
    writable: bool, hub: Hub, bert: str, hashed: list[str]
) -> None:
    for name in PLAIN:
        hf_hub_download(REPO, name)
    blobs = [blob_of(offline(), name) for name in PLAIN]
    repository = blobs[0].parents[1]
    shutil.rmtree(repository / "triptych")
    (repository / "triptych").write_text("no folder")
    if not writable:
        Path(constants.HF_ASSETS_CACHE).write_text("no folder")
    hashed.clear()
    assert same(offline(), hub) and same(offline(), hub)
    assert sorted(hashed) == sorted(PLAIN * (1 if writable else 2))
    flip(blobs[1])
    with pytest.raises(HubOfflineError, match="model.safetensors: a content of hash"):
        offline()


@pytest.mark.parametrize("content", ["", "../../x", "g" * 40, "0" * 40, "\udcff"])
def test_a_damaged_reference_is_no_commit(hub: Hub, bert: str, content: str) -> None:
    snapshot = load()
    reference = snapshot.folder.parents[1] / "refs/main"
    assert reference.read_text() == bert
    reference.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(HubOfflineError, match="revision main in the cache"):
        offline()
    assert load().commit == bert == reference.read_text()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"files": 3}', b'{"files": {"a": 1}}', b"\xff", b'{"files": {"a": []}}']
)
def test_a_damaged_list_is_asked_for_again(hub: Hub, bert: str, content: bytes) -> None:
    snapshot = load(revision=bert)
    (snapshot.folder.parents[1] / f"triptych/{bert}.json").write_bytes(content)
    hub.reset()
    assert same(load(revision=bert), hub) and hub.count("/api/*") == hub.count() == 1
    assert same(load(revision=bert), hub) and hub.count() == 1


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_cache_that_cannot_be_written_serves(hub: Hub, bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    before = cache_files()
    hub.branch(REPO, "other")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert same(load(revision="other"), hub) and cache_files() == before
    monkeypatch.setattr("shutil.move", full)
    with pytest.raises(HubError, match="could not be written to the cache.*No space left.*cache_dir") as caught:
        load(["generation_config.json"])
    assert isinstance(caught.value, OSError) and cache_files() == before


def test_cache_dir(hub: Hub, bert: str, tmp_path: Path) -> None:
    snapshot = load(cache_dir=tmp_path / "mine")
    assert tmp_path / "mine" in snapshot.folder.parents and not Path(constants.HF_HUB_CACHE).exists()
    assert offline(cache_dir=str(tmp_path / "mine")).folder == snapshot.folder
    with pytest.raises(HubOfflineError):
        offline()


def test_without_symbolic_links(hub: Hub, bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    hub.fault(DATA, flip=True, times=1)
    snapshot = load()
    assert same(snapshot, hub) and not any(p.is_symlink() for p in snapshot.folder.iterdir())


def test_the_store_that_repositories_share_is_inside(hub: Hub, golden: Path) -> None:
    """What huggingface_hub 2 makes of a file from Xet: a link to a link into <cache>/blobs."""
    hub.create(REPO)
    hub.commit_folder(REPO, golden / "bert-mlm/pt-safetensors-sharded")
    snapshot = find_snapshot(REPO, HubOptions())
    folder = snapshot.fetch(snapshot.files)
    blob = blob_of(snapshot, "model-00001-of-00006.safetensors")
    shared = Path(constants.HF_HUB_CACHE) / "blobs/ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    shutil.move(blob, shared)
    blob.symlink_to(shared)
    with pytest.raises(UnsafeCheckpointError):
        open_checkpoint(folder)
    (shared.parents[1] / ".huggingface-shared-blobs").write_text("1")
    assert len(open_checkpoint(folder)) > 10


LOADER = (
    "import sys; from triptych.hub.snapshot import *; "
    "s = find_snapshot(sys.argv[1], HubOptions()); print(s.fetch(sys.argv[2:]))"
)


@pytest.mark.parametrize("flipped", [0, 1])
def test_two_processes_load_at_once_into_a_cold_cache(hub: Hub, bert: str, tmp_path: Path, flipped: int) -> None:
    hub.fault("*/resolve/*", method="GET", delay=0.5)
    hub.fault(DATA, stall=1.0)
    hub.fault(DATA, flip=True, times=flipped)
    command = [sys.executable, "-c", LOADER, REPO, *PLAIN]
    env = environment(hub, tmp_path / "both")
    running = [subprocess.Popen(command, env=env, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    folders = {out.strip() for out, _ in ended}
    assert len(folders) == 1
    assert all((Path(next(iter(folders))) / name).read_bytes() == hub.read(REPO, name) for name in PLAIN)
    assert hub.count("/api/*") == 2 and hub.count("*", "HEAD") >= 4
    if not flipped:
        assert hub.count("*", "GET") == 2 + 2  # two look-ups; each file once, the other process waits for it


# arguments


@pytest.mark.parametrize("name", ["bert", "org/bert", "a/b.c-d_e", "A" * 96, "_a/b_", "0/0"])
def test_names_of_repositories(name: str) -> None:
    assert is_repo_id(name)


@pytest.mark.parametrize(
    "name",
    ["", "a/b/c", "/a", "a/", "./a", "../a", "a--b", "a..b", "a/b.git", "-a", "a-", ".a", "a.", "a b", "é", "a\n"]
    + ["A" * 97, "C:\\x", "~/x", None, 3, Path("a/b"), b"a/b", "http://x"],
)
def test_what_is_no_name_of_a_repository(name: object) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    assert not is_repo_id(name)
    with pytest.raises(ArgumentError):
        find_snapshot(name, HubOptions())  # type: ignore[arg-type]
    if isinstance(name, str):
        with pytest.raises(HFValidationError):
            validate_repo_id(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proxies": {"https": "x"}}, "HTTPS_PROXY"),
        ({"revision": "../x"}, "revision"),
        ({"revision": ""}, "revision"),
        ({"revision": 3}, "revision"),
        ({"token": 3}, "token"),
        ({"token": ""}, "token"),
        ({"cache_dir": 3}, "cache_dir"),
        ({"force_download": True, "local_files_only": True}, "contradict"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        HubOptions(**options)


def test_importing_asks_nothing_of_huggingface_hub() -> None:
    modules = "triptych.hub.snapshot, triptych.hub.http"
    code = f"import sys, {modules}; print([m for m in sys.modules if m.startswith(('huggingface', 'httpx'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_of_the_hub_are_of_the_operating_system_too() -> None:
    for error in (HubError, HubNotFoundError, HubAccessError, HubOfflineError):
        assert issubclass(error, TriptychError) and issubclass(error, OSError)
