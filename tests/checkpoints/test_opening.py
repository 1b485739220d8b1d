"""Indexes and pointers: what leads elsewhere, contradicts its files or is of two saves meets one clear error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from triptych import (
    CorruptCheckpointError,
    InconsistentCheckpointError,
    MissingFileError,
    TensorRef,
    UnsafeCheckpointError,
    open_checkpoint,
    save_checkpoint,
)

OUTSIDE = ["../x.safetensors", "/abs.safetensors", "C:\\x.safetensors", "C:x.safetensors", "\\x.safetensors",
           "\\\\h\\s\\x.safetensors", "a/../../x.safetensors", "a\\..\\x.safetensors", "x\0.safetensors", "", ".", "..",
           "pytorch_model.pkl", 7, None, ["x"], "sub/x.safetensors"]  # fmt: skip


@pytest.mark.parametrize("shard", OUTSIDE)
def test_an_index_cannot_lead_elsewhere(shard: object, tmp_path: Path) -> None:
    save_file({"w": np.zeros(1)}, tmp_path.parent / "x.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(UnsafeCheckpointError):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", [n for n in OUTSIDE if n is not None])
def test_a_config_cannot_point_elsewhere(name: object, tmp_path: Path) -> None:
    save_file({"w": np.zeros(1)}, tmp_path.parent / "x.safetensors")
    with pytest.raises(UnsafeCheckpointError):
        open_checkpoint(tmp_path, pointer=name)


def test_a_shard_that_is_a_link_out_is_refused(tmp_path: Path, sharded: Path) -> None:
    shard = sharded / "model-00001-of-00003.safetensors"
    shutil.move(shard, tmp_path / "elsewhere.safetensors")
    shard.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UnsafeCheckpointError, match="leaves its folder"):
        open_checkpoint(sharded)


def test_a_hub_snapshot_links_to_its_blobs(tmp_path: Path, sharded: Path) -> None:
    blobs, snapshot = tmp_path / "repo/blobs", tmp_path / "repo/snapshots/abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(sharded.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert len(open_checkpoint(snapshot)) == 3


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": []}',
        "nul",
        "\ufeff{}",
        '{"weight_map": {"a": "x.safetensors"}, "metadata": 3}',
    ],
)
def test_a_bad_index_is_corrupt(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CorruptCheckpointError):
        open_checkpoint(tmp_path)


def test_all_missing_shards_are_listed(sharded: Path) -> None:
    for number in (1, 3):
        (sharded / f"model-0000{number}-of-00003.safetensors").unlink()
    with pytest.raises(MissingFileError, match="00001-of-00003.*00003-of-00003"):
        open_checkpoint(sharded)


def test_shards_of_two_saves_are_not_mixed(sharded: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    other = tmp_path / "other"
    save_checkpoint(other, [TensorRef.of(n, rng.standard_normal(256)) for n in "abc"], max_shard_size="2KB")
    shutil.copy(other / "model-00002-of-00003.safetensors", sharded)
    with pytest.raises(InconsistentCheckpointError, match="another"):
        open_checkpoint(sharded)


def test_an_index_must_agree_with_its_shards(sharded: Path) -> None:
    file = sharded / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    first, second = sorted(set(index["weight_map"].values()))[:2]
    for change in ({"a": second}, {"ghost": first}):
        file.write_text(json.dumps({**index, "weight_map": {**index["weight_map"], **change}}))
        with pytest.raises(InconsistentCheckpointError):
            open_checkpoint(sharded)
    del index["weight_map"]["a"]
    file.write_text(json.dumps(index))
    with pytest.raises((InconsistentCheckpointError, MissingFileError)):
        shutil.copy(sharded / first, sharded / "keep.safetensors")
        index["weight_map"]["b"] = first
        file.write_text(json.dumps(index))
        open_checkpoint(sharded)


def test_safetensors_go_before_files_of_torch(golden: Path, tmp_path: Path) -> None:
    source = golden / "gpt2-lm"
    shutil.copytree(source / "pt-bin", tmp_path, dirs_exist_ok=True)
    assert open_checkpoint(tmp_path).source.endswith("pytorch_model.bin")
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "pytorch_model.fp32.bin")
    assert open_checkpoint(tmp_path, variant="fp32").source.endswith("pytorch_model.fp32.bin")
    (tmp_path / "pytorch_model.fp32.bin").rename(tmp_path / "pytorch_model.bin")
    shutil.copy(source / "pt-safetensors/model.safetensors", tmp_path)
    assert open_checkpoint(tmp_path).source.endswith("model.safetensors")
