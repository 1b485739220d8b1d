"""from_pretrained by repository id, in all three frameworks: what is loaded, and how many requests it takes."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from hub_models import REPO, assert_same, framework, model_class
from triptych import (
    ArgumentError,
    AutoConfig,
    BertConfig,
    HubAccessError,
    HubError,
    HubNotFoundError,
    HubOfflineError,
    MissingFileError,
    UnsafeCheckpointError,
    UnsupportedFormatError,
)
from triptych_conformance.hub.server import READER, STRANGER, Hub


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def bert(hub: Hub, golden: Path) -> Path:
    """REPO with the golden BERT; returns the folder it was made of."""
    folder = golden / "bert-mlm/pt-safetensors"
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    hub.reset()
    return folder


@framework
def test_a_cold_load_is_one_look_up_and_two_requests_per_file(framework: str, hub: Hub, bert: Path) -> None:
    cls = model_class(framework)
    model = cls.from_pretrained(REPO)
    assert_same(model, cls.from_pretrained(bert))
    assert hub.count() == 1 + 2 * 2
    assert model.config.name_or_path == REPO


@framework
def test_a_warm_load_is_one_request_and_an_offline_one_none(framework: str, hub: Hub, bert: Path) -> None:
    cls = model_class(framework)
    cls.from_pretrained(REPO)
    hub.reset()
    cls.from_pretrained(REPO)
    assert hub.count() == 1
    cls.from_pretrained(REPO, local_files_only=True)
    cls.from_pretrained(REPO, revision=hub.head(REPO))
    assert hub.count() == 1


@framework
def test_auto_classes_look_up_once(framework: str, hub: Hub, bert: Path) -> None:
    model = model_class(framework, "AutoModelForMaskedLM").from_pretrained(REPO)
    assert hub.count() == 1 + 2 * 2
    assert_same(model, model_class(framework).from_pretrained(bert))
    assert model.config.name_or_path == REPO


@pytest.mark.parametrize("load", [AutoConfig.from_pretrained, BertConfig.from_pretrained])
def test_a_config_alone_needs_one_file(load: Any, hub: Hub, bert: Path) -> None:
    config = load(REPO, hidden_act="relu")
    assert hub.count() == 1 + 2
    assert config.hidden_act == "relu"
    assert config.name_or_path == REPO
    assert config.vocab_size == BertConfig.from_pretrained(bert).vocab_size


@framework
@pytest.mark.parametrize(
    ("layout", "files"), [("pt-safetensors-sharded", "*.safetensors"), ("tf-h5", "*.h5"), ("pt-bin", "*.bin")]
)
def test_every_layout_loads_in_every_framework(framework: str, layout: str, files: str, hub: Hub, golden: Path) -> None:
    folder = golden / "bert-mlm" / layout
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    cls = model_class(framework)
    model = cls.from_pretrained(REPO)
    assert_same(model, cls.from_pretrained(folder))
    index = len(list(folder.glob("*.index.json")))
    assert hub.count() == 1 + 2 * (1 + index + len(list(folder.glob(files))))


@framework
def test_safetensors_go_first_and_nothing_else_is_fetched(
    framework: str, hub: Hub, bert: Path, golden: Path, tmp_path: Path
) -> None:
    for layout in ("pt-bin", "tf-h5", "flax-msgpack"):
        hub.commit_folder(REPO, golden / "bert-mlm" / layout)
    model_class(framework).from_pretrained(REPO)
    assert hub.count() == 1 + 2 * 2
    assert not hub.count("*.bin*") + hub.count("*.h5*") + hub.count("*.msgpack*")


@framework
def test_quantised_weights_are_refused_before_they_are_fetched(
    framework: str, hub: Hub, bert: Path, tmp_path: Path
) -> None:
    config = json.loads((bert / "config.json").read_text()) | {"quantization_config": {"quant_method": "awq"}}
    shutil.copytree(bert, tmp_path / "folder")
    (tmp_path / "folder/config.json").write_text(json.dumps(config))
    hub.commit_folder(REPO, tmp_path / "folder")
    hub.reset()
    with pytest.raises(UnsupportedFormatError, match="awq"):
        model_class(framework, "AutoModel").from_pretrained(REPO)
    assert hub.count("*config.json") > 0 == hub.count("*safetensors")


@framework
def test_use_safetensors_refuses_the_rest(framework: str, hub: Hub, golden: Path) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, golden / "bert-mlm/pt-bin")
    with pytest.raises(MissingFileError, match=r"pytorch_model\.bin"):
        model_class(framework).from_pretrained(REPO, use_safetensors=True)
    assert not hub.count("*.bin*")


@framework
def test_subfolder_variant_and_pull_request(framework: str, hub: Hub, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    shutil.copy(bert / "config.json", tmp_path / "in/deep/config.json")
    shutil.copy(bert / "model.safetensors", tmp_path / "in/deep/model.half.safetensors")
    hub.create("org/parts")
    commit = hub.commit_folder("org/parts", tmp_path / "in")
    hub.branch("org/parts", "other")
    cls = model_class(framework)
    like = cls.from_pretrained(bert)
    hub.store.open_pr("org/parts", "main")
    for revision in ("other", commit, "refs/pr/1"):
        assert_same(cls.from_pretrained("org/parts", subfolder="deep", variant="half", revision=revision), like)
    with pytest.raises(MissingFileError, match="half"):
        cls.from_pretrained("org/parts", subfolder="deep")
    with pytest.raises(HubNotFoundError, match="revision"):
        cls.from_pretrained("org/parts", subfolder="deep", revision="refs/pr/7")


@framework
def test_private_repositories_need_a_token_that_may_read(framework: str, hub: Hub, golden: Path) -> None:
    hub.create("org/secret", private=True, readers=("ben",))
    hub.commit_folder("org/secret", golden / "bert-mlm/pt-safetensors")
    cls = model_class(framework)
    for token in (None, STRANGER):
        with pytest.raises((HubNotFoundError, HubAccessError)):
            cls.from_pretrained("org/secret", token=token)
    assert cls.from_pretrained("org/secret", token=READER).load_report.missing_keys == []


@framework
def test_a_push_between_two_requests_mixes_no_versions(framework: str, hub: Hub, bert: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    model_class("pt").from_config(BertConfig.from_pretrained(bert, hidden_size=16)).save_pretrained(newer)
    hub.after(1, "*config.json*", lambda: hub.commit_folder(REPO, newer))
    cls = model_class(framework)
    first = cls.from_pretrained(REPO)
    assert_same(first, cls.from_pretrained(bert))
    assert_same(cls.from_pretrained(REPO), cls.from_pretrained(newer))


@framework
def test_a_failed_load_notes_no_commit(framework: str, hub: Hub, bert: Path) -> None:
    hub.fault("*model.safetensors*", status=503)
    cls = model_class(framework)
    with pytest.raises(HubError):
        cls.from_pretrained(REPO)
    with pytest.raises(HubOfflineError):
        cls.from_pretrained(REPO, local_files_only=True)
    hub.reset()
    assert_same(cls.from_pretrained(REPO), cls.from_pretrained(bert))


def test_force_download_fetches_every_file_once(hub: Hub, bert: Path) -> None:
    model_class("pt").from_pretrained(REPO)
    hub.reset()
    model_class("pt").from_pretrained(REPO, force_download=True)
    assert hub.count("*config.json*", "GET") == hub.count("*model.safetensors*", "GET") == 1


@pytest.mark.parametrize("name", ["../../../etc/passwd.safetensors", "/tmp/x.safetensors", "model.pkl"])
def test_a_config_cannot_name_weights_elsewhere(name: str, hub: Hub, bert: Path, tmp_path: Path) -> None:
    values = json.loads((bert / "config.json").read_text())
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/config.json").write_text(json.dumps(values | {"transformers_weights": name}))
    hub.commit_folder(REPO, tmp_path / "evil")
    with pytest.raises(UnsafeCheckpointError):
        model_class("pt").from_pretrained(REPO)


@framework
def test_a_local_folder_makes_no_request(
    framework: str, hub: Hub, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []

    def closed(*args: object) -> None:
        tried.append(args)
        raise OSError("the network is closed")

    shutil.copytree(bert, tmp_path / "org/bert")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", closed)
    cls = model_class(framework)
    for path in (REPO, tmp_path / REPO, bert):
        assert cls.from_pretrained(path).load_report.missing_keys == []
        model_class(framework, "AutoModelForMaskedLM").from_pretrained(path)
        AutoConfig.from_pretrained(path)
    with pytest.raises(MissingFileError):
        cls.from_pretrained(str(tmp_path / "nowhere"))
    assert not tried
    assert hub.count() == 0
    with pytest.raises(HubError):
        cls.from_pretrained("org/elsewhere")
    assert tried


@framework
def test_a_config_of_another_repository_is_looked_up_once(framework: str, hub: Hub, bert: Path) -> None:
    hub.create("org/config")
    hub.commit("org/config", {"config.json": (bert / "config.json").read_bytes()})
    hub.reset()
    model = model_class(framework, "AutoModelForMaskedLM").from_pretrained(REPO, config="org/config")
    assert hub.count("/api/models/org/config*") == hub.count(f"/api/models/{REPO}*") == 1
    assert model.load_report.missing_keys == []


@pytest.mark.parametrize("path", ["a" * 300, "a\0b", "../up", "C:\\x", "/nowhere/at/all", "org/name/file"])
def test_what_is_no_repository_id_is_a_missing_folder(path: str, hub: Hub) -> None:
    with pytest.raises((MissingFileError, ArgumentError)):
        model_class("pt").from_pretrained(path)
    assert hub.count() == 0


@pytest.mark.parametrize(
    "options", [{"revision": "../x"}, {"token": 3}, {"subfolder": None}, {"subfolder": "../x"}, {"proxies": {}}]
)
def test_bad_arguments_are_refused_before_any_request(options: dict[str, Any], hub: Hub) -> None:
    with pytest.raises(ArgumentError):
        model_class("pt").from_pretrained(REPO, **options)
    assert hub.count() == 0
