"""Whole models by repository id while the Hub fails: loaded whole after a retry, or a clear error and a clean cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub_models import REPO, assert_same, framework, model_class, weights
from triptych import HubAccessError, HubError, HubOfflineError, UnsafeCheckpointError
from triptych_conformance import assert_close
from triptych_conformance.hub.client import environment
from triptych_conformance.hub.server import Hub

LOOK_UP = "/api/models/org/bert/revision/main"
CONFIG = "*/resolve/*/config.json"
WEIGHTS = "*/resolve/*/model.safetensors"
INDEX = "*/resolve/*/model.safetensors.index.json"
SHARD = "*/resolve/*/model-00002-of-*.safetensors"
BODY = "/cdn/*"
"""Where the bytes of weights come from; the other addresses answer with headers, or with small files."""

ALONE, SHARDED = 1 + 2 * 2, 1 + 2 * (2 + 3)
"""Requests of a cold load: the look-up, and a HEAD and a GET for each file."""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def folder(golden: Path) -> Path:
    return golden / "bert-mlm/pt-safetensors"


@pytest.fixture
def bert(hub: Hub, folder: Path) -> Path:
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    hub.reset()
    return folder


@pytest.fixture
def sharded(hub: Hub, folder: Path, tmp_path: Path) -> Path:
    made = tmp_path / "sharded"
    model_class("pt").from_pretrained(folder).save_pretrained(made, max_shard_size="40KB")
    assert len(list(made.glob("model-*"))) == 3
    hub.create(REPO)
    hub.commit_folder(REPO, made)
    hub.reset()
    return made


def load(framework: str = "pt", **arguments: Any) -> Any:
    return model_class(framework).from_pretrained(REPO, **arguments)


def assert_nothing_is_left(hub: Hub, folder: Path, framework: str = "pt") -> None:
    """A failed load has left nothing that a later one would take: neither offline, nor once the Hub is well again."""
    with pytest.raises(HubOfflineError):
        load(framework, local_files_only=True)
    hub.reset()
    like = model_class(framework).from_pretrained(folder)
    assert_same(load(framework), like)
    hub.reset()
    assert_same(load(framework, local_files_only=True), like)
    assert hub.count() == 0


PASSING = {
    "429 on the look-up": (LOOK_UP, {"status": 429, "headers": {"Retry-After": "1"}, "times": 2}, 2),
    "500 on the look-up": (LOOK_UP, {"status": 500, "times": 2}, 2),
    "502 on the config": (CONFIG, {"status": 502, "times": 2, "method": "HEAD"}, 2),
    "503 on the body of the config": (CONFIG, {"status": 503, "times": 1, "method": "GET"}, 2),
    "504 on the weights": (WEIGHTS, {"status": 504, "times": 3, "method": "HEAD"}, 3),
    "500 on the body of the weights": (BODY, {"status": 500, "times": 1}, 2),
    "a config cut off": (CONFIG, {"cut": 40, "times": 1, "method": "GET"}, 1),
    "weights cut off": (BODY, {"cut": 5000, "times": 1}, 1),
    "weights too short": (BODY, {"resize": -7, "times": 1}, 2),
    "weights too long": (BODY, {"resize": 7, "times": 1}, 2),
    "a bit of the weights flipped": (BODY, {"flip": True, "times": 1}, 2),
    "a bit of the config flipped": (CONFIG, {"flip": True, "times": 1, "method": "GET"}, 2),
    "a header that belies the hash": (WEIGHTS, {"headers": {"X-Linked-ETag": '"0"'}}, 0),
    "slow weights": (BODY, {"stall": 0.3, "times": 1}, 0),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_retried(fault: str, hub: Hub, bert: Path) -> None:
    pattern, settings, more = PASSING[fault]
    hub.fault(pattern, **settings)
    assert_same(load(), model_class("pt").from_pretrained(bert))
    assert hub.count() == ALONE + more


@framework
def test_a_fault_that_passes_is_retried_in_each_framework(framework: str, hub: Hub, sharded: Path) -> None:
    hub.fault(LOOK_UP, status=503, times=1)
    hub.fault(SHARD, method="HEAD", status=503, times=1)
    hub.fault(BODY, flip=True, times=1)
    assert_same(load(framework), model_class(framework).from_pretrained(sharded))
    assert hub.count() == SHARDED + 1 + 1 + 2


LASTING: dict[str, tuple[str, dict[str, Any], type[Exception], int]] = {
    "401 on the look-up": (LOOK_UP, {"status": 401}, HubAccessError, 1),
    "403 on the look-up": (LOOK_UP, {"status": 403}, HubAccessError, 1),
    "404 on the look-up": (LOOK_UP, {"status": 404}, HubError, 1),
    "429 on the look-up": (LOOK_UP, {"status": 429, "headers": {"Retry-After": "1"}}, HubError, 4),
    "500 on the look-up": (LOOK_UP, {"status": 500}, HubError, 4),
    "a look-up cut off": (LOOK_UP, {"cut": 100}, HubError, 4),
    "a look-up of other bytes": (LOOK_UP, {"flip": True}, HubError, 1),
    "401 on the weights": (WEIGHTS, {"status": 401}, HubError, 4),
    "403 on the weights": (WEIGHTS, {"status": 403}, HubAccessError, 4),
    "404 on the weights": (WEIGHTS, {"status": 404}, HubError, 4),
    "404 on the body of the weights": (BODY, {"status": 404}, HubError, 5),
    "429 on the weights": (WEIGHTS, {"status": 429}, HubError, 7),
    "500 on the body of the weights": (BODY, {"status": 500}, HubError, 11),
    "weights cut off": (BODY, {"cut": 0}, HubError, 10),
    "weights too short": (BODY, {"resize": -7}, HubError, 7),
    "weights too long": (BODY, {"resize": 7}, HubError, 7),
    "a bit of the weights flipped": (BODY, {"flip": True}, HubError, 7),
    "a bit of the config flipped": (CONFIG, {"flip": True}, HubError, 5),
    "a path for a hash": (WEIGHTS, {"headers": {"ETag": '"../../evil"'}}, UnsafeCheckpointError, 4),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_lasts_is_an_error_and_leaves_nothing(fault: str, hub: Hub, bert: Path) -> None:
    pattern, settings, error, requests = LASTING[fault]
    hub.fault(pattern, **settings)
    with pytest.raises(error, match=REPO if error is not UnsafeCheckpointError else "by a path"):
        load()
    assert hub.count() == requests
    assert_nothing_is_left(hub, bert)


@framework
@pytest.mark.parametrize("where", [INDEX, SHARD])
def test_a_part_that_never_comes_is_an_error_in_each_framework(
    framework: str, where: str, hub: Hub, sharded: Path
) -> None:
    hub.fault(where, status=503)
    with pytest.raises(HubError, match="trying|did not serve"):
        load(framework)
    assert_nothing_is_left(hub, sharded, framework)


@framework
def test_one_shard_that_stays_damaged_is_an_error_in_each_framework(framework: str, hub: Hub, sharded: Path) -> None:
    shard = hub.tree(REPO)["model-00002-of-00003.safetensors"]
    hub.fault(f"/cdn/{shard.sha256}/*", flip=True)
    with pytest.raises(HubError, match=r"model-00002-of-00003\.safetensors.*came damaged twice"):
        load(framework)
    assert_nothing_is_left(hub, sharded, framework)


@framework
@pytest.mark.parametrize("after", [LOOK_UP, INDEX, SHARD])
def test_a_push_in_between_never_mixes_two_versions(
    framework: str, after: str, hub: Hub, sharded: Path, tmp_path: Path
) -> None:
    like = model_class(framework).from_pretrained(sharded)
    newer = model_class("pt").from_pretrained(sharded)
    newer.resize_token_embeddings(newer.config.vocab_size + 5)
    newer.save_pretrained(tmp_path / "newer", max_shard_size="40KB")
    hub.after(1, after, lambda: hub.commit_folder(REPO, tmp_path / "newer"))
    assert_same(load(framework), like)
    assert hub.count() == SHARDED
    assert len(hub.log(REPO)) == 3, "the push did happen"
    assert_same(load(framework), model_class(framework).from_pretrained(tmp_path / "newer"))


def test_an_older_version_in_the_cache_outlives_a_failed_load_of_a_newer_one(
    hub: Hub, bert: Path, tmp_path: Path
) -> None:
    load()
    changed = model_class("pt").from_pretrained(bert)
    changed.resize_token_embeddings(changed.config.vocab_size + 5)
    changed.save_pretrained(tmp_path / "newer")
    hub.commit_folder(REPO, tmp_path / "newer")
    hub.fault(BODY, flip=True)
    with pytest.raises(HubError, match="came damaged twice"):
        load()
    assert_same(load(local_files_only=True), model_class("pt").from_pretrained(bert))


RUN = """
import sys, numpy as np, torch
import triptych
model = getattr(triptych, sys.argv[1]).from_pretrained("org/bert")
ids = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
if sys.argv[1].startswith(("TF", "Flax")):
    logits = np.asarray(model(ids).logits)
else:
    with torch.no_grad():
        logits = model(torch.tensor(ids)).logits.numpy()
np.save(sys.argv[2], logits)
"""


@pytest.mark.parametrize(
    "pair", [("BertForMaskedLM", "TFBertForMaskedLM"), ("TFBertForMaskedLM", "FlaxBertForMaskedLM")]
)
def test_two_processes_load_at_once_into_one_cold_cache(
    pair: tuple[str, str], hub: Hub, bert: Path, tmp_path: Path
) -> None:
    home, files = tmp_path / "cold", [tmp_path / f"{name}.npy" for name in pair]
    hub.fault(BODY, stall=1.0)  # so that the second finds the first at work
    running = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, name, str(file)], env=environment(hub, home), stderr=subprocess.PIPE
        )
        for name, file in zip(pair, files, strict=True)
    ]
    errors = [process.communicate(timeout=300)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    first, second = (np.load(file) for file in files)
    assert first.std() > 0.01
    assert_close(second, first)
    hub.reset()
    offline = load(cache_dir=home / "hub", local_files_only=True)
    assert hub.count() == 0
    assert_same(offline, model_class("pt").from_pretrained(bert))
    assert weights(offline)
