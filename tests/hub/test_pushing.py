"""push_to_hub in all three frameworks, through the real client: one commit, whatever was there before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub_models import PACKAGES, assert_same, framework, model_class, weights
from triptych import (
    ArgumentError,
    BertConfig,
    HubError,
    HubNotFoundError,
    HubOfflineError,
    SaveError,
)
from triptych_conformance import assert_close
from triptych_conformance.hub.client import environment
from triptych_conformance.hub.server import READER, STRANGER, WRITER, Hub

REPO = "org/pushed"
BESIDE = {".gitattributes", "README.md", "config.json", "generation_config.json"}
"""What the repository of a pushed model holds beside its weights."""
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def folder(golden: Path) -> Path:
    return golden / "bert-mlm/pt-safetensors"


def golden_model(framework: str, folder: Path) -> Any:
    return model_class(framework).from_pretrained(folder)


def load(framework: str, **arguments: Any) -> Any:
    return model_class(framework).from_pretrained(REPO, token=WRITER, **arguments)


@framework
def test_what_one_framework_pushes_all_load(framework: str, hub: Hub, folder: Path) -> None:
    model = golden_model(framework, folder)
    info = model.push_to_hub(REPO, token=WRITER, commit_message="mine", commit_description="because")
    assert info.oid == hub.head(REPO)
    assert [c.title for c in hub.log(REPO)][:1] == ["mine"]
    assert len(hub.log(REPO)) == 2, "one commit beside the initial one"
    assert set(hub.tree(REPO)) == BESIDE | {"model.safetensors"}
    for other in PACKAGES:
        loaded = load(other)
        assert_same(loaded, model)
        assert loaded.config.architectures == ["BertForMaskedLM"]


def test_outputs_of_what_tensorflow_pushed(hub: Hub, folder: Path) -> None:
    import jax.numpy as jnp
    import tensorflow as tf
    import torch

    model = golden_model("tf", folder)
    model.push_to_hub(REPO, token=WRITER)
    ids = np.arange(12).reshape(2, 6) % model.config.vocab_size
    wanted = model(tf.constant(ids)).logits.numpy()
    with torch.no_grad():
        from_torch = load("pt")(torch.tensor(ids)).logits.numpy()
    from_flax = np.asarray(load("flax")(jnp.array(ids)).logits)
    assert_close(from_torch, wanted)
    assert_close(from_flax, wanted)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sharded": ({"max_shard_size": "40KB"}, {}),
    "private": ({"private": True}, {}),
    "subfolder": ({"subfolder": "inner/model"}, {"subfolder": "inner/model"}),
    "variant": ({"variant": "fp16"}, {"variant": "fp16"}),
    "sharded variant": ({"variant": "fp16", "max_shard_size": "40KB"}, {"variant": "fp16"}),
    "branch": ({"revision": "dev"}, {"revision": "dev"}),
    "older format": ({"safe_serialization": False}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_pushed_from_tensorflow_loaded_everywhere(case: str, hub: Hub, folder: Path) -> None:
    pushing, loading = CASES[case]
    model = golden_model("tf", folder)
    model.push_to_hub(REPO, token=WRITER, **pushing)
    for other in PACKAGES:
        assert_same(load(other, **loading), model)
    if case == "private":
        with pytest.raises(HubNotFoundError):
            model_class("pt").from_pretrained(REPO, token=STRANGER)
    if case == "branch":
        assert set(hub.tree(REPO, "main")) == {".gitattributes"}
    if "sharded" in case:
        assert sum(name.endswith(".safetensors") for name in hub.tree(REPO)) > 2


def test_a_pull_request(hub: Hub, folder: Path) -> None:
    model = golden_model("tf", folder)
    hub.create(REPO)
    info = model.push_to_hub(REPO, token=WRITER, create_pr=True)
    assert info.pr_revision == "refs/pr/1"
    assert set(hub.tree(REPO)) == {".gitattributes"}
    for other in PACKAGES:
        assert_same(load(other, revision="refs/pr/1"), model)
    changed = golden_model("pt", folder)
    changed.resize_token_embeddings(model.config.vocab_size + 3)
    changed.push_to_hub(REPO, token=WRITER, revision="refs/pr/1")
    assert_same(load("flax", revision="refs/pr/1"), changed)
    assert not hub.count("*/branch/*")


def test_a_push_from_tensorflow_asks_for_little(hub: Hub, folder: Path) -> None:
    model = golden_model("tf", folder)
    model.push_to_hub(REPO, token=WRITER)
    asked = [(r.method, r.path.removeprefix(f"/api/models/{REPO}")) for r in hub.requests]
    assert asked.count(("POST", "/api/repos/create")) == 1
    assert asked.count(("GET", "/revision/main")) == 1
    assert asked.count(("POST", "/commit/main")) == 1
    assert not [a for a in asked if "resolve" in a[1]]
    assert len(asked) <= 8, asked


LAYOUTS = [
    {"max_shard_size": "40KB"},
    {},
    {"format": "bin", "max_shard_size": "40KB"},
    {"format": "h5"},
    {"max_shard_size": "60KB"},
    {"format": "msgpack"},
    {"format": "h5", "max_shard_size": "40KB"},
    {},
]


def test_stale_weights_are_deleted_in_the_same_commit(hub: Hub, folder: Path) -> None:
    model = golden_model("pt", folder)
    other = {"model.fp16.safetensors": b"another variant", "onnx/model.onnx": b"x", "tokenizer.json": b"{}"}
    hub.create(REPO)
    hub.commit(REPO, {**other, "sub/model.safetensors": b"x"})
    kept = {*BESIDE, "sub/model.safetensors", *other}
    for number, layout in enumerate(LAYOUTS):
        with_head = model.push_to_hub(REPO, token=WRITER, remove_stale=True, **layout)
        assert len(hub.log(REPO)) == number + 3, "one commit each"
        assert with_head.oid == hub.head(REPO)
        now = set(hub.tree(REPO)) - kept
        suffix = {"bin": ".bin", "h5": ".h5", "msgpack": ".msgpack"}.get(str(layout.get("format")), ".safetensors")
        assert all(name.endswith((suffix, f"{suffix}.index.json")) for name in now), now
        assert ("max_shard_size" in layout) == any("index" in name for name in now)
        assert_same(load("flax"), model)


def test_weights_of_other_formats_stay_unless_some_reader_would_take_them(
    hub: Hub, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = golden_model("pt", folder)
    others = {name: name.encode() for name in ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack")}
    hub.create(REPO)
    hub.commit(REPO, others)
    model.push_to_hub(REPO, token=WRITER)
    kept = ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack.stale"]
    assert [hub.read(REPO, name).decode() for name in kept] == list(others)
    assert "flax_model.msgpack" not in hub.tree(REPO)
    assert "flax_model.msgpack of org/pushed would be read in place of what is pushed" in caplog.text
    assert len(hub.log(REPO)) == 3, "one commit beside the initial one and that of the others"
    safetensors = hub.read(REPO, "model.safetensors")
    model.push_to_hub(REPO, token=WRITER, safe_serialization=False)
    assert hub.read(REPO, "model.safetensors.stale") == safetensors
    assert hub.read(REPO, "pytorch_model.bin") != b"pytorch_model.bin", "of the same format: replaced"
    for other in PACKAGES:
        assert_same(load(other), model)


def test_shards_that_an_index_of_triptych_names_are_deleted(hub: Hub, folder: Path) -> None:
    model = golden_model("pt", folder)
    model.push_to_hub(REPO, token=WRITER, max_shard_size="40KB")
    model.push_to_hub(REPO, token=WRITER, format="h5")
    assert set(hub.tree(REPO)) == BESIDE | {"tf_model.h5"}


def test_the_pointer_of_an_older_save_and_a_damaged_index(hub: Hub, folder: Path) -> None:
    model = golden_model("pt", folder)
    hub.create(REPO)
    hub.commit(
        REPO,
        {
            "model.g01234567.safetensors": b"old",
            "model.safetensors.index.json": b"{damaged",
            "model-00001-of-00001.safetensors": b"nobody names me",
        },
    )
    model.push_to_hub(REPO, token=WRITER)
    gone = {"model.g01234567.safetensors", "model.safetensors.index.json"}
    assert not gone & set(hub.tree(REPO))
    assert "model-00001-of-00001.safetensors" in hub.tree(REPO)
    assert_same(load("tf"), model)


def test_a_folder_of_the_repository_s_name_instead_of_a_temporary_one(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pushed").mkdir()
    (tmp_path / "pushed/notes.txt").write_text("mine")
    model = golden_model("pt", folder)
    model.push_to_hub(REPO, False, "by position", True, WRITER, "40KB", False, True, "dev", "why", ["a tag"])
    assert hub.log(REPO, "dev")[0].title == "by position"
    assert "notes.txt" not in hub.tree(REPO, "dev")
    assert set(hub.tree(REPO, "dev")) - {".gitattributes", "README.md"} == {
        path.name for path in (tmp_path / "pushed").iterdir() if path.name != "notes.txt"
    }
    assert b"- a tag" in hub.read(REPO, "README.md", "dev")


def test_the_deprecated_arguments(hub: Hub, folder: Path) -> None:
    config = BertConfig.from_pretrained(folder)
    with pytest.warns(FutureWarning, match="use_auth_token|organization|repo_url|repo_path_or_name"):
        config.push_to_hub("pushed", use_auth_token=WRITER, organization="org", ignore_metadata_errors=True,
                           save_jinja_files=True)  # fmt: skip
    assert "config.json" in hub.tree(REPO)
    with pytest.warns(FutureWarning, match="repo_url"):
        config.push_to_hub("x", token=WRITER, repo_url="https://hub.example/org/second")
    assert "config.json" in hub.tree("org/second")
    with pytest.warns(FutureWarning, match="repo_path_or_name"):
        config.push_to_hub("x", token=WRITER, repo_path_or_name="some/where/third")
    assert "config.json" in hub.tree("ada/third")
    with pytest.raises(ArgumentError, match="token and use_auth_token are one argument"):
        config.push_to_hub(REPO, token=WRITER, use_auth_token=WRITER)


def test_a_class_without_weights_deletes_none(hub: Hub, folder: Path) -> None:
    from triptych import PushToHubMixin

    class Pipeline(PushToHubMixin):
        def save_pretrained(self, save_directory: str) -> None:
            (Path(save_directory) / "parts").mkdir()
            for name in ("model_index.json", "parts/model.txt"):
                (Path(save_directory) / name).write_text("{}")

    golden_model("pt", folder).push_to_hub(REPO, token=WRITER)
    before = set(hub.tree(REPO))
    Pipeline().push_to_hub(REPO, token=WRITER)
    assert set(hub.tree(REPO)) == before | {"model_index.json", "parts/model.txt"}


def test_a_config_deletes_no_weights(hub: Hub, folder: Path) -> None:
    golden_model("pt", folder).push_to_hub(REPO, token=WRITER, max_shard_size="40KB")
    before = set(hub.tree(REPO))
    config = BertConfig.from_pretrained(folder, layer_norm_eps=1e-6)
    config.push_to_hub(REPO, token=WRITER)
    assert set(hub.tree(REPO)) == before
    assert BertConfig.from_pretrained(REPO, token=WRITER).layer_norm_eps == 1e-6
    assert hub.log(REPO)[0].title == "Upload config"


def test_the_card_is_made_once_with_tags(hub: Hub, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    import yaml

    model = golden_model("pt", folder)
    model.add_model_tags(["own: #1", "both"])
    model.push_to_hub(REPO, token=WRITER, tags=["both", "given"])
    assert model.model_tags == ["own: #1", "both"], "v4 appended to the model's own list"
    card = hub.read(REPO, "README.md").decode()
    front = yaml.safe_load(card.split("---")[1])
    assert front == {"library_name": "triptych", "tags": ["own: #1", "both", "given"]}
    assert REPO in card
    by_hand = "---\nlicense: mit\ntags:\n- both\n---\n# By hand\n"
    hub.commit(REPO, {"README.md": by_hand.encode()})
    model.push_to_hub(REPO, token=WRITER, tags="later")
    card = hub.read(REPO, "README.md").decode()
    assert yaml.safe_load(card.split("---")[1]) == {"license": "mit", "tags": ["both", "own: #1", "later"]}
    assert card.endswith("# By hand\n")
    number = len(hub.log(REPO))
    model.push_to_hub(REPO, token=WRITER, tags="later")
    assert hub.read(REPO, "README.md").decode() == card
    assert len(hub.log(REPO)) == number + 1
    hub.commit(REPO, {"README.md": b"---\n- [unclosed\n---\n"})
    model.push_to_hub(REPO, token=WRITER, tags="later")
    assert hub.read(REPO, "README.md") == b"---\n- [unclosed\n---\n"
    assert "the tags were not added" in caplog.text


@framework
def test_save_pretrained_can_push(framework: str, hub: Hub, folder: Path, tmp_path: Path) -> None:
    model = golden_model(framework, folder)
    here = tmp_path / "pushed"
    here.mkdir()
    (here / "notes.txt").write_text("not mine")
    model.save_pretrained(here, push_to_hub=True, repo_id=REPO, token=WRITER, max_shard_size="40KB")
    assert "notes.txt" not in hub.tree(REPO)
    assert {n for n in hub.tree(REPO) if n.startswith("model")} == {p.name for p in here.glob("model*")}
    assert_same(load("pt"), model)
    model.save_pretrained(here, push_to_hub=True, token=WRITER)
    assert "model.safetensors" in hub.tree("ada/pushed"), "called as the folder"


def test_arguments_are_refused_before_anything_is_written_or_asked(hub: Hub, folder: Path, tmp_path: Path) -> None:
    model, config = golden_model("pt", folder), BertConfig.from_pretrained(folder)
    new = tmp_path / "new"
    bad_ones: list[dict[str, Any]] = [
        {"repo_id": "a/b/c"},
        *({"repo_id": REPO, "revision": revision} for revision in ("../x", "0" * 40)),
        *({"repo_id": REPO, "tags": tags} for tags in (3, [1], "a\n---\nb", [""])),
        {"repo_id": REPO, "subfolder": "../x"},
        {"repo_id": REPO, "commit_message": 3},
        {"repo_id": REPO, "token": ""},
        {"repo_id": REPO, "unknown": 1},
    ]
    for bad in bad_ones:
        for thing in (model, config):
            with pytest.raises(ArgumentError):
                thing.push_to_hub(**bad)
            with pytest.raises(ArgumentError):
                thing.save_pretrained(new, push_to_hub=True, **bad)
    for thing in (model, config):
        with pytest.raises(ArgumentError, match="without push_to_hub=True"):
            thing.save_pretrained(new, repo_id=REPO)
    with pytest.raises(ArgumentError, match="max_shard_size"):
        config.push_to_hub(REPO, max_shard_size="1GB")
    assert not new.exists()
    assert hub.count() == 0


def test_the_steps_that_classes_of_others_call(hub: Hub, folder: Path, tmp_path: Path) -> None:
    config = BertConfig.from_pretrained(folder)
    for _ in range(2):
        assert config._create_repo(REPO, private=True, token=WRITER) == REPO
    with pytest.warns(FutureWarning, match="organization"):
        assert config._create_repo("pushed", token=WRITER, organization="org") == REPO
    (tmp_path / "work").mkdir()
    (tmp_path / "work/old.json").write_text("{}")
    before = config._get_files_timestamps(tmp_path / "work")
    assert set(before) == {"old.json"} and config._get_files_timestamps(tmp_path / "nowhere") == {}
    config.save_pretrained(tmp_path / "work")
    info = config._upload_modified_files(
        tmp_path / "work", REPO, before, commit_message="new", token=WRITER, commit_description="because"
    )
    assert info.oid == hub.head(REPO) and hub.log(REPO)[0].title == "new"
    assert "config.json" in hub.tree(REPO) and "old.json" not in hub.tree(REPO)


def test_a_save_that_fails_pushes_nothing(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden_model("pt", folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SaveError, match="No space left"):
        model.push_to_hub(REPO, token=WRITER)
    assert hub.count() == 0


@pytest.mark.parametrize("token", [READER, STRANGER, False])
def test_who_may_not_write_is_told(token: Any, hub: Hub, folder: Path) -> None:
    config = BertConfig.from_pretrained(folder)
    for exists in (False, True):
        if exists:
            hub.create(REPO)
        with pytest.raises(HubError, match="hf auth login.*a token that is allowed to"):
            config.push_to_hub(REPO, token=token)
    assert set(hub.tree(REPO)) == {".gitattributes"}


def test_who_may_not_write_opens_a_pull_request(hub: Hub, folder: Path) -> None:
    hub.create(REPO)
    info = golden_model("flax", folder).push_to_hub(REPO, token=STRANGER, create_pr=True)
    assert set(hub.tree(REPO)) == {".gitattributes"}
    assert_same(load("pt", revision=info.pr_revision), golden_model("pt", folder))


def test_offline_is_said(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = BertConfig.from_pretrained(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubOfflineError):
        config.push_to_hub(REPO, token=WRITER)
    monkeypatch.undo()
    hub.close()
    with pytest.raises(HubOfflineError):
        config.push_to_hub(REPO, token=WRITER)


STEPS = {
    "create": "*/repos/create",
    "look-up": "*/revision/main",
    "preupload": "*/preupload/*",
    "lfs": "*/objects/batch",
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(step: str, status: int, hub: Hub, folder: Path) -> None:
    model = golden_model("pt", folder)
    hub.fault(STEPS[step], status=status, times=2)
    hub.fault("*/commit/main", status=status, times=1)
    model.push_to_hub(REPO, token=WRITER)
    assert len(hub.log(REPO)) == 2
    assert_same(load("tf"), model)


@pytest.mark.parametrize("step", STEPS)
def test_a_hub_that_stays_broken_is_an_error_and_no_commit(step: str, hub: Hub, folder: Path) -> None:
    model = golden_model("pt", folder)
    hub.create(REPO)
    hub.fault(STEPS[step], status=500)
    with pytest.raises(HubError, match=f"The Hub did not serve .* of {REPO}"):
        model.push_to_hub(REPO, token=WRITER)
    assert len(hub.log(REPO)) == 1


def test_a_commit_whose_answer_is_lost_is_made_once(hub: Hub, folder: Path) -> None:
    model = golden_model("pt", folder)
    hub.fault("*/commit/main", status=502, times=1)  # the test hub commits, and then answers 502
    info = model.push_to_hub(REPO, token=WRITER)
    assert len(hub.log(REPO)) == 2
    assert info.oid == hub.head(REPO)


def test_somebody_else_pushes_meanwhile(hub: Hub, folder: Path) -> None:
    model = golden_model("pt", folder)
    hub.create(REPO)
    hub.after(1, "*/preupload/*", lambda: hub.commit(REPO, {"config.json": b"{}"}))
    with pytest.raises(HubError, match="was changed while this push was on its way"):
        model.push_to_hub(REPO, token=WRITER)
    assert hub.read(REPO, "config.json") == b"{}"
    assert "model.safetensors" not in hub.tree(REPO)
    model.push_to_hub(REPO, token=WRITER)
    assert_same(load("pt"), model)


TWO = """
import sys, torch
from triptych import {cls}
model = {cls}.from_pretrained("org/pushed", token="hf_writer")
print(len(model.load_report.missing_keys), model.config.vocab_size)
"""


def test_two_processes_load_what_was_pushed_into_one_cold_cache(hub: Hub, folder: Path, tmp_path: Path) -> None:
    model = golden_model("tf", folder)
    model.push_to_hub(REPO, token=WRITER, max_shard_size="40KB")
    home = tmp_path / "cold"
    names = ("BertForMaskedLM", "FlaxBertForMaskedLM")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TWO.format(cls=name)],
            env=environment(hub, home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    done = [process.communicate(timeout=300) for process in running]
    assert [p.returncode for p in running] == [0, 0], done
    assert [out for out, _ in done] == [f"0 {model.config.vocab_size}\n"] * 2
    hub.reset()
    loaded = model_class("pt").from_pretrained(REPO, token=WRITER, cache_dir=home / "hub")
    assert_same(loaded, model)
    assert hub.count() == 1, "the cache that the two left is whole"


def test_the_index_on_the_hub_names_what_is_there(hub: Hub, folder: Path) -> None:
    golden_model("flax", folder).push_to_hub(REPO, token=WRITER, max_shard_size="40KB")
    index = json.loads(hub.read(REPO, "model.safetensors.index.json"))
    assert set(index["weight_map"].values()) <= set(hub.tree(REPO))
    assert set(index["weight_map"]) == set(weights(load("pt")))


def run(*arguments: object) -> Any:
    from typer.testing import CliRunner

    from triptych.cli import app

    return CliRunner().invoke(app, ["push", *map(str, arguments)])


def test_the_command_pushes_a_folder_as_it_is(hub: Hub, folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    golden_model("tf", folder).save_pretrained(source, max_shard_size="40KB")
    for name in ("tokenizer.json", ".env", "notes.txt", "README.md", "code.py"):
        (source / name).write_text("---\nlicense: mit\n---\n" if name == "README.md" else "{}")
    done = run(source, REPO, "--token", WRITER, "--private", "--message", "from the shell", "--json")
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["commit"] == hub.head(REPO)
    names = {*BESIDE - {".gitattributes"}, "tokenizer.json", *(p.name for p in source.glob("model*"))}
    assert set(summary["files"]) == names
    assert set(hub.tree(REPO)) == names | {".gitattributes"}
    assert b"license: mit" in hub.read(REPO, "README.md")
    assert hub.log(REPO)[0].title == "from the shell"
    for other in PACKAGES:
        assert_same(load(other), golden_model(other, folder))
    pull = run(folder, REPO, "--token", WRITER, "--create-pr")
    assert pull.exit_code == 0
    assert "/discussions/1" in pull.stdout
    assert "model.safetensors" in hub.tree(REPO, "refs/pr/1")


def test_the_command_pushes_nothing_that_cannot_be_loaded(hub: Hub, folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    golden_model("pt", folder).save_pretrained(source, max_shard_size="40KB")
    (source / "model-00002-of-00003.safetensors").unlink()
    done = run(source, REPO, "--token", WRITER)
    assert done.exit_code == 1
    assert "names shards that are not there" in done.stderr
    assert run(folder, "a/b/c").exit_code == 2
    assert run(tmp_path, REPO).exit_code == 1, "no config.json"
    assert hub.count() == 0
    assert run(folder, REPO, "--token", READER).exit_code == 1
