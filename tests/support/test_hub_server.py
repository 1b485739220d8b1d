"""The test hub, held against the real huggingface_hub client: what it serves and refuses, and how its faults look."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from triptych_conformance.hub.client import environment
from triptych_conformance.hub.server import READER, STRANGER, WRITER, Hub

# How huggingface_hub 2.4 uploads LFS files is deprecated in its own HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "org/model"
BIG = os.urandom(1000) * 11_000
WEIGHTS = bytes(range(256)) * 400


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(token=WRITER)


@pytest.fixture
def model(hub: Hub) -> str:
    """A repository with a file in git, one in LFS and one in a folder; returns its commit."""
    hub.create(REPO)
    sha = hub.commit(REPO, {"config.json": b'{"a": 1}', "model.safetensors": WEIGHTS, "sub/vocab.txt": b"a\nb\n"})
    hub.reset()
    return sha


# what the client writes


def test_upload_folder_makes_one_commit_of_small_and_large_files(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    contents = {"config.json": b"{}", "model.safetensors": WEIGHTS, "big.dat": BIG, "sub/empty.txt": b""}
    for name, content in contents.items():
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_bytes(content)
    assert api.create_repo(REPO, private=True).repo_id == REPO
    done = api.upload_folder(repo_id=REPO, folder_path=tmp_path / "up", commit_message="all of it")
    assert [commit.title for commit in hub.log(REPO)] == ["all of it", "initial commit"]
    assert done.oid == hub.head(REPO) == hub.log(REPO)[0].oid
    assert {name: hub.read(REPO, name) for name in contents} == contents
    assert {name for name, entry in hub.tree(REPO).items() if entry.lfs} == {"model.safetensors", "big.dat"}
    assert hub.count("/cdn/*", method="PUT") == hub.count("*/verify", method="POST") == 2
    assert hub.count("*/commit/main") == hub.count("*/preupload/main") == 1


def test_what_is_there_is_not_uploaded_again(hub: Hub, api: HfApi, model: str) -> None:
    same = [CommitOperationAdd("config.json", b'{"a": 1}'), CommitOperationAdd("copy.safetensors", WEIGHTS)]
    api.create_commit(REPO, same, commit_message="a copy")
    assert hub.count("/cdn/*", method="PUT") == 0
    assert hub.tree(REPO)["copy.safetensors"].sha256 == hub.tree(REPO)["model.safetensors"].sha256
    api.create_commit(REPO, [CommitOperationAdd("config.json", b'{"a": 1}')], commit_message="nothing")
    assert len(hub.log(REPO)) == 3


def test_deletions_of_files_and_folders(hub: Hub, api: HfApi, model: str) -> None:
    api.create_commit(REPO, [CommitOperationDelete("sub/"), CommitOperationDelete("config.json")], commit_message="-")
    assert set(hub.tree(REPO)) == {".gitattributes", "model.safetensors"}
    with pytest.raises(EntryNotFoundError, match="doesn't exist"):
        api.create_commit(REPO, [CommitOperationDelete("config.json")], commit_message="-")


def test_a_commit_onto_a_head_that_moved_is_refused(hub: Hub, api: HfApi, model: str) -> None:
    hub.commit(REPO, {"other.txt": b"1"})
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        api.create_commit(REPO, [CommitOperationAdd("a.txt", b"a")], commit_message="-", parent_commit=model)
    assert caught.value.response.status_code == 412
    done = api.create_commit(REPO, [CommitOperationAdd("a", b"a")], commit_message="-", parent_commit=hub.head(REPO))
    assert hub.log(REPO)[0].oid == done.oid


def test_a_pull_request_leaves_main_alone(hub: Hub, api: HfApi, model: str) -> None:
    change = CommitOperationAdd("config.json", b'{"a": 2}')
    by_stranger = api.create_commit(REPO, [change], commit_message="better", create_pr=True, token=STRANGER)
    assert by_stranger.pr_revision == "refs/pr/1" and by_stranger.pr_num == 1
    assert hub.head(REPO) == model
    path = hf_hub_download(REPO, "config.json", revision="refs/pr/1")
    assert Path(path).read_bytes() == b'{"a": 2}'
    refs = api.list_repo_refs(REPO, include_pull_requests=True)
    assert [ref.target_commit for ref in refs.pull_requests or []] == [by_stranger.oid]


def test_branches_and_tags(hub: Hub, api: HfApi, model: str) -> None:
    api.create_tag(REPO, tag="v1")
    api.create_branch(REPO, branch="feature/x", revision="v1")
    api.create_branch(REPO, branch="feature/x", exist_ok=True)
    api.create_commit(REPO, [CommitOperationAdd("b.txt", b"b")], commit_message="on it", revision="feature/x")
    assert hub.head(REPO) == hub.head(REPO, "v1") == model != hub.head(REPO, "feature/x")
    assert api.model_info(REPO, revision="feature/x").sha == hub.head(REPO, "feature/x")
    assert "b.txt" in api.list_repo_files(REPO, revision="feature/x")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(REPO, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(REPO, [CommitOperationAdd("b", b"b")], commit_message="-", revision="no-such-branch")
    assert [commit.commit_id for commit in api.list_repo_commits(REPO)] == [c.oid for c in hub.log(REPO)]


def test_model_cards_are_validated(hub: Hub, api: HfApi, model: str) -> None:
    good, bad = b"---\nlicense: mit\n---\n# A model", b"---\nlicense: [mit\n---\n"
    api.create_commit(REPO, [CommitOperationAdd("README.md", good)], commit_message="a card")
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.create_commit(REPO, [CommitOperationAdd("README.md", bad)], commit_message="a card")
    assert hub.read(REPO, "README.md") == good


def test_who_may_write(hub: Hub, api: HfApi, model: str) -> None:
    assert api.whoami()["name"] == "ada"
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(REPO)
    for token, status in ((STRANGER, 403), (READER, 403), (False, 401), ("hf_wrong", 401)):
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_commit(REPO, [CommitOperationAdd("a", b"a")], commit_message="-", token=token)
        assert caught.value.response.status_code == status
    assert hub.head(REPO) == model


# what the client reads


def test_a_download_is_one_head_and_one_get(hub: Hub, model: str) -> None:
    hf_hub_download(REPO, "config.json")
    assert [(r.method, r.status) for r in hub.requests] == [("HEAD", 200), ("GET", 200)]
    hub.reset()
    path = hf_hub_download(REPO, "model.safetensors", token=WRITER)
    assert [(r.method, r.status, r.path[:5]) for r in hub.requests] == [("HEAD", 302, "/org/"), ("GET", 200, "/cdn/")]
    assert "authorization" in hub.requests[0].headers and "authorization" not in hub.requests[1].headers
    assert Path(path).read_bytes() == WEIGHTS
    hub.reset()
    assert hf_hub_download(REPO, "model.safetensors", revision=model) == path
    assert hub.requests == []


def test_snapshots_are_downloaded_in_parallel(hub: Hub) -> None:
    hub.create(REPO)
    hub.commit(REPO, {f"{i}.txt": b"%d" % i for i in range(16)})
    hub.fault("*/resolve/*", method="GET", delay=0.3)
    started = time.perf_counter()
    folder = Path(snapshot_download(REPO, max_workers=8))
    assert time.perf_counter() - started < 17 * 0.3 * 0.75
    assert sorted(p.name for p in folder.iterdir()) == sorted([".gitattributes", *(f"{i}.txt" for i in range(16))])


def test_information_about_files(hub: Hub, api: HfApi, model: str) -> None:
    siblings = {s.rfilename: s for s in api.model_info(REPO, files_metadata=True).siblings or []}
    weights, config = siblings["model.safetensors"], hub.tree(REPO)["config.json"]
    assert weights.lfs is not None and weights.lfs.sha256 == hub.tree(REPO)["model.safetensors"].sha256
    assert (siblings["config.json"].size, siblings["config.json"].blob_id) == (config.size, config.oid)
    tree = {item.path: item for item in api.list_repo_tree(REPO)}
    assert set(tree) == {".gitattributes", "config.json", "model.safetensors", "sub"}
    assert [item.path for item in api.list_repo_tree(REPO, "sub")] == ["sub/vocab.txt"]
    assert [item.path for item in api.get_paths_info(REPO, ["config.json", "none"])] == ["config.json"]
    assert api.file_exists(REPO, "config.json") and not api.file_exists(REPO, "none")


def test_missing_things_are_told_apart(hub: Hub, model: str) -> None:
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(REPO, "none.json")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(REPO, "config.json", revision="none")
    for token in (False, WRITER):
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("org/none", "config.json", token=token)


def test_private_repositories_look_missing_to_others(hub: Hub) -> None:
    hub.create("org/secret", private=True, readers=("ben",))
    hub.commit("org/secret", {"config.json": b"{}"})
    for token in (WRITER, READER):
        assert Path(hf_hub_download("org/secret", "config.json", token=token, force_download=True)).read_bytes()
        assert HfApi(token=token).model_info("org/secret").private
    for token, status in ((STRANGER, 404), (False, 401)):
        with pytest.raises(RepositoryNotFoundError) as caught:
            HfApi(token=token).model_info("org/secret")
        assert caught.value.response.status_code == status
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(token="hf_wrong").model_info("org/secret")


def test_gated_repositories_show_their_list_and_not_their_files(hub: Hub) -> None:
    hub.create("org/gated", gated=True, readers=("ben",))
    hub.commit("org/gated", {"config.json": b"{}"})
    assert HfApi(token=False).model_info("org/gated").gated == "auto"
    for token, status in ((STRANGER, 403), (False, 401)):
        with pytest.raises(GatedRepoError, match="restricted") as caught:
            hf_hub_download("org/gated", "config.json", token=token)
        assert caught.value.response.status_code == status
    assert hf_hub_download("org/gated", "config.json", token=READER)


def test_the_cache_serves_offline(hub: Hub, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hf_hub_download(REPO, "config.json")
    hub.reset()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hf_hub_download(REPO, "config.json") == path
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download(REPO, "model.safetensors")
    with pytest.raises(OfflineModeIsEnabled):
        HfApi().model_info(REPO)
    assert hub.requests == []


def test_another_process_is_pointed_at_the_hub(hub: Hub, model: str, tmp_path: Path) -> None:
    code = f"from huggingface_hub import hf_hub_download as get; print(get({REPO!r}, 'config.json'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(hub, tmp_path / "theirs"),
        capture_output=True,
        text=True,
        check=True,
    )
    path = Path(done.stdout.strip())
    assert tmp_path / "theirs" in path.parents and path.read_bytes() == b'{"a": 1}'
    assert hub.count("*/config.json") == 2


# faults


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The client's pauses, recorded and not taken."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


CONFIG = "*/config.json"


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        ({"status": 401, "headers": {"X-Error-Code": "RepoNotFound"}}, RepositoryNotFoundError, 1),
        ({"status": 403, "headers": {"X-Error-Code": "GatedRepo"}}, GatedRepoError, 1),
        ({"status": 404, "headers": {"X-Error-Code": "EntryNotFound"}}, EntryNotFoundError, 1),
        ({"status": 404, "headers": {"X-Error-Code": "RevisionNotFound"}}, RevisionNotFoundError, 1),
        ({"status": 500}, LocalEntryNotFoundError, 7),
        ({"status": 503}, LocalEntryNotFoundError, 7),
        ({"status": 429, "headers": {"Retry-After": "1"}}, LocalEntryNotFoundError, 7),
        ({"method": "GET", "resize": 4}, OSError, 2),
        ({"method": "GET", "cut": 0}, Exception, 7),
    ],
)
def test_lasting_faults_as_the_client_shows_them(
    hub: Hub, model: str, impatient: list[float], fault: dict[str, Any], error: type[Exception], requests: int
) -> None:
    hub.fault(CONFIG, **fault)
    with pytest.raises(error):
        hf_hub_download(REPO, "config.json")
    assert hub.count(CONFIG) == requests
    hub.faults.clear()
    assert Path(hf_hub_download(REPO, "config.json")).read_bytes() == b'{"a": 1}'


@pytest.mark.parametrize(
    ("fault", "pauses"),
    [
        ({"status": 503, "times": 3}, [1, 2]),
        ({"status": 429, "times": 2, "headers": {"Retry-After": "30"}}, [31]),
        ({"method": "GET", "status": 429, "times": 1, "headers": {"Retry-After": "7"}}, [8]),
    ],
)
def test_passing_faults_are_waited_out_by_the_client(
    hub: Hub, model: str, impatient: list[float], fault: dict[str, Any], pauses: list[float]
) -> None:
    hub.fault(CONFIG, **fault)
    assert Path(hf_hub_download(REPO, "config.json")).read_bytes() == b'{"a": 1}'
    assert impatient == pauses


def test_a_cut_body_is_resumed_where_it_broke_off(
    hub: Hub, model: str, impatient: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 500)  # what it keeps of a cut body
    hub.fault("/cdn/*", method="GET", cut=1000, times=2)
    assert Path(hf_hub_download(REPO, "model.safetensors")).read_bytes() == WEIGHTS
    asked = [(r.headers.get("range"), r.status) for r in hub.requests if r.path.startswith("/cdn/")]
    assert asked == [(None, 200), ("bytes=1000-", 206), ("bytes=2000-", 206)]


def test_a_flipped_bit_passes_the_client(hub: Hub, model: str) -> None:
    hub.fault("/cdn/*", flip=True, times=1)
    assert Path(hf_hub_download(REPO, "model.safetensors")).read_bytes() == WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1])


def test_a_slow_answer_is_a_timeout(hub: Hub, model: str) -> None:
    hub.fault(CONFIG, delay=1, times=1)
    with pytest.raises(Exception, match="timed out"):
        HfApi().get_hf_file_metadata(url=f"{hub.endpoint}/{REPO}/resolve/main/config.json", timeout=0.2)
    hub.fault("/cdn/*", stall=0.3, times=1)
    started = time.perf_counter()
    hf_hub_download(REPO, "model.safetensors")
    assert time.perf_counter() - started > 0.3


def test_a_push_between_two_requests(hub: Hub, model: str) -> None:
    hub.after(2, CONFIG, lambda: hub.commit(REPO, {"model.safetensors": b"new"}))
    config = hf_hub_download(REPO, "config.json")
    assert hub.head(REPO) != model
    weights = hf_hub_download(REPO, "model.safetensors")
    assert Path(weights).read_bytes() == b"new"
    assert Path(config).parent.name == model != Path(weights).parent.name  # the mixture that a pinned commit prevents
