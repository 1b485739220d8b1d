"""Indexes, configs and links: rows 58, 59, 64, 65, 68, 71, 87, 88 and 95 of `test_rows`."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from triptych import (
    AutoConfig,
    BertModel,
    ConfigError,
    CorruptCheckpointError,
    InconsistentCheckpointError,
    MissingFileError,
    PretrainedConfig,
    SaveError,
    TensorRef,
    TriptychError,
    UnreadableFileError,
    UnsafeCheckpointError,
    open_checkpoint,
    save_checkpoint,
)
from triptych.checkpoints.holding import hold
from triptych.checkpoints.legacy_generic import generic_weights
from triptych.files import regular

INDEX = "model.safetensors.index.json"


def indexed(folder: Path, weight_map: dict[str, str], **metadata: Any) -> Path:
    """Write an index, and the shards that it names where these are plain names."""
    folder.mkdir(exist_ok=True)
    for shard in set(weight_map.values()):
        save_file({n: np.zeros(2, np.float32) for n, s in weight_map.items() if s == shard}, folder / shard)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map, "metadata": metadata}))
    return folder


@pytest.mark.parametrize(
    "shard",
    ["w" * 289 + ".safetensors", "é" * 130 + ".safetensors", "\ud800.safetensors", "CON.safetensors",
     "aux.x.safetensors", "com1.safetensors", "x.bin"],
)  # fmt: skip
def test_row_58_names_that_no_file_has_everywhere(shard: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(UnsafeCheckpointError) as caught:
        open_checkpoint(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["config.json", INDEX, "model.safetensors"])
def test_row_59_links_out_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    other, folder = tmp_path / "other", tmp_path / "folder"
    size = 10**9 if name == "model.safetensors" else 20
    save_checkpoint(other, [TensorRef.of(n, np.ones(3)) for n in "ab"], '{"model_type": "bert"}', max_shard_size=size)
    shutil.copytree(other, folder)
    (folder / name).unlink()
    (folder / name).symlink_to(other / name)
    with pytest.raises(UnsafeCheckpointError, match=f"{name} is a link that leaves its folder"):
        hold(folder)
    if name == "config.json":
        with pytest.raises(UnsafeCheckpointError):
            AutoConfig.from_pretrained(folder)
    (folder / name).unlink()
    shutil.copy(other / name, folder / "real.json")
    (folder / name).symlink_to("real.json")  # a link within is one of the folder's own
    assert len(hold(folder).checkpoint) == 2
    (tmp_path / "link").symlink_to(folder)
    assert len(hold(tmp_path / "link").checkpoint) == 2


def test_row_64_a_wrong_size_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weight_map = {"a": "x.safetensors", "b": "y.safetensors"}
    for said in (16, None, 17, "16", [1]):
        caplog.clear()
        metadata = {} if said is None else {"total_size": said}
        assert len(open_checkpoint(indexed(tmp_path, weight_map, **metadata))) == 2
        assert bool(caplog.records) is (said not in (16, None))


def test_row_64_very_many_names_and_names_that_differ_in_case(tmp_path: Path) -> None:
    indexed(tmp_path, {"a": "x.safetensors"})
    names = {f"layers.{number}.weight": "x.safetensors" for number in range(200_000)}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    with pytest.raises(InconsistentCheckpointError, match=r"layers\.0\.weight") as caught:
        open_checkpoint(tmp_path)
    assert len(str(caught.value)) < 1000
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "x.safetensors", "b": "X.safetensors"}}))
    with pytest.raises(CorruptCheckpointError, match="differ only in case"):
        open_checkpoint(tmp_path)


def test_row_65_a_single_file_goes_before_an_index_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    indexed(tmp_path, {"a": "x.safetensors"})
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path)["a"].read().sum() == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert INDEX in caplog.text and "one of them is old" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 1_000}, "lacks weights"),
        ({"vocab_size": 2**31 - 1}, "larger than the memory"),
    ],
    ids=str,
)
def test_row_68_a_model_far_larger_than_its_files(
    fields: dict[str, int], message: str, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = golden / "bert-mlm/pt-safetensors"
    shutil.copy(source / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(json.loads((source / "config.json").read_text()) | fields))
    monkeypatch.setattr(BertModel, "__init__", lambda *_, **__: pytest.fail("a module was built"))
    with pytest.raises((ConfigError, TriptychError), match=message):
        BertModel.from_pretrained(tmp_path, ignore_mismatched_sizes=message != "lacks weights")


def test_row_71_a_name_of_underscores_costs_no_more_than_its_length() -> None:
    """A regular expression that goes back would take its time squared, or worse."""
    shapes = {f"{'_' * 4000}/{leaf}": (3,) for leaf in ("bias", "_" * 4000)}
    for flavour in ("tf", "flax"):
        assert len(generic_weights(shapes, flavour)) == 2


# -- who may do what


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[None]:
    """Be nobody for a while, if one is root, for whom permissions do not count."""
    root = os.geteuid() == 0
    if root:
        for folder in (tmp_path, *tmp_path.parents):
            folder.chmod(0o755)
            if folder.name.startswith("pytest-of-"):
                break
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_row_87_a_folder_without_permissions(mode: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "model"
    save_checkpoint(folder, [TensorRef.of("w", np.ones(3))], '{"model_type": "bert"}')
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.chmod(mode)
    request.getfixturevalue("unprivileged")
    for load in (open_checkpoint, hold, PretrainedConfig.from_pretrained, AutoConfig.from_pretrained):
        with pytest.raises((UnreadableFileError, MissingFileError)) as caught:
            load(folder)
        assert "Permission denied" in str(caught.value) or mode == 0o444
    for save in (lambda: save_checkpoint(folder, [], "{}"), lambda: PretrainedConfig().save_pretrained(folder)):
        with pytest.raises(SaveError, match="Permission denied") as refused:
            save()
        assert refused.value.errno == errno.EACCES
    os.seteuid(os.getuid())
    folder.chmod(0o755)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_row_87_a_folder_that_vanishes_during_a_save(tmp_path: Path) -> None:
    folder = tmp_path / "model"

    def vanish() -> np.ndarray:
        shutil.rmtree(folder)
        return np.ones(3)

    with pytest.raises(SaveError) as caught:
        save_checkpoint(folder, [TensorRef("w", np.dtype(float), (3,), vanish)], "{}")
    assert caught.value.errno == errno.ENOENT and not folder.exists()


def test_row_88_a_load_writes_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "model"
    save_checkpoint(folder, [TensorRef.of("w", np.ones(3))], "{}")
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555)
    before = {path.name: path.stat().st_mtime_ns for path in (*folder.iterdir(), folder)}
    request.getfixturevalue("unprivileged")
    for mmap in (True, False):
        assert hold(folder, mmap=mmap).checkpoint["w"].read().sum() == 3
    assert {path.name: path.stat().st_mtime_ns for path in (*folder.iterdir(), folder)} == before


def test_row_95_a_stale_handle_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of NFS, whose server has another file under the name by now; `.nfs` files are what it keeps for readers."""
    save_checkpoint(tmp_path, [TensorRef.of("w", np.ones(3))], "{}")
    (tmp_path / ".nfs000000000001").write_bytes(b"old")
    failures, read_at = [errno.ESTALE, errno.ESTALE], os.fstat

    def stale(descriptor: int) -> os.stat_result:
        if failures and os.readlink(f"/proc/self/fd/{descriptor}").endswith("model.safetensors"):
            raise OSError(failures.pop(), "Stale file handle")
        return read_at(descriptor)

    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(regular.os, "fstat", stale)
    assert hold(tmp_path).checkpoint["w"].read().sum() == 3 and not failures
    failures[:] = [errno.ESTALE] * 1000
    with pytest.raises(TriptychError):
        hold(tmp_path)
    monkeypatch.undo()
    save_checkpoint(tmp_path, [TensorRef.of("w", np.zeros(3))], "{}")
    assert (tmp_path / ".nfs000000000001").exists()
