"""A manifest goes with the weights that it is of, and what differs from it is named and not loaded."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from places import TESTS
from triptych import GenerationConfig, PretrainedConfig, TensorRef, save_checkpoint
from triptych.checkpoints import saving, staging
from triptych.checkpoints.holding import hold, load_held
from triptych.checkpoints.manifest import MANIFEST_NAME, read_manifest
from triptych.checkpoints.saving import collect_garbage, save_config
from triptych.checkpoints.verifying import Wanted, wanted
from triptych.errors import ArgumentError, CorruptCheckpointError, IntegrityError, MissingFileError, SaveError
from triptych.files.json import json_text
from triptych.formats.kinds import FORMATS, H5, MSGPACK, SAFETENSORS
from triptych.tools.verifying import verify_folder

CONFIG = json.dumps({"model_type": "none"})


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"layer/t{i}:0": rng.standard_normal((8, i + 1), dtype=np.float32) for i in range(4)}


def save(folder: Path, seed: int = 0, manifest: bool = True, config: str | None = CONFIG, **how: object) -> None:
    refs = [TensorRef.of(name, array) for name, array in tensors(seed).items()]
    save_checkpoint(folder, refs, config, scope="model", manifest=manifest, **how)  # type: ignore[arg-type]


def verified(folder: Path, digest: str | None = None, variant: str | None = None) -> str:
    """Return the digest of the manifest, once every tensor and every file is as it says."""
    held = hold(folder, wanted=Wanted(digest), variant=variant)
    for name in held.checkpoint:
        held.checkpoint[name].read()
    found, differences = verify_folder(folder, Wanted(digest), variant)
    assert not differences
    return found.entry.digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("size", ["5GB", 200])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_be_verified(name: str, size: str, tmp_path: Path) -> None:
    for seed in range(2):  # the second over the first, by another way of committing
        save(tmp_path, seed, format=FORMATS[name], max_shard_size=size, config=json.dumps({"seed": seed}))
        digest = verified(tmp_path)
        assert digest == "sha256:" + hashlib.sha256((tmp_path / MANIFEST_NAME).read_bytes()).hexdigest()
        assert verified(tmp_path, digest) == digest
    assert not list(tmp_path.glob(".triptych-save-*"))
    assert "triptych_manifest.json" not in (tmp_path / "config.json").read_text()


def test_a_manifest_records_each_file_and_each_tensor(folder: Path) -> None:
    (entry,) = read_manifest(folder, None)
    assert set(entry.files) == {"config.json", "model.safetensors"}
    for name, record in entry.files.items():
        data = (folder / name).read_bytes()
        assert (record.size, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    for name, array in tensors().items():
        record = entry.tensors[name]
        assert (record.dtype, record.shape) == ("float32", array.shape)
        assert record.sha256 == hashlib.sha256(array.tobytes()).hexdigest()


def test_a_tensor_that_changed_is_named_and_not_loaded(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    held = hold(folder, wanted=Wanted())
    held.checkpoint["layer/t0:0"].read()
    with pytest.raises(IntegrityError, match=r"layer/t3:0.*Expected: SHA-256 [0-9a-f]{64}.*Received: [0-9a-f]{64}"):
        held.checkpoint["layer/t3:0"].read()
    _, differences = verify_folder(folder, Wanted())
    assert [(found.kind, found.name) for found in differences] == [("file", file.name), ("tensor", "layer/t3:0")]


def test_what_is_verified_is_what_is_loaded(folder: Path) -> None:
    def load(held: object) -> np.ndarray:
        array = held.checkpoint["layer/t3:0"].read()  # type: ignore[attr-defined]
        with open(folder / "model.safetensors", "r+b") as file:  # after the check, and before the framework copies it
            file.seek(-4, os.SEEK_END)
            file.write(b"\0\0\0\0")
        return array

    np.testing.assert_array_equal(load_held(folder, load, wanted=Wanted()), tensors()["layer/t3:0"])


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors.index.json"])
def test_small_files_are_compared_as_they_are_parsed(name: str, tmp_path: Path) -> None:
    save(tmp_path, max_shard_size=200, also={"generation_config.json": b'{"max_length": 20}'})
    values = json.loads((tmp_path / name).read_text())
    values.get("metadata", values)["total_size" if "index" in name else "x"] = 1
    (tmp_path / name).write_text(json_text(values))

    def load(held: object) -> None:
        from triptych.generation.config import read_generation_config

        read_generation_config(tmp_path)

    with pytest.raises(IntegrityError, match=name):
        load_held(tmp_path, load, wanted=Wanted())
    (tmp_path / name).unlink()
    with pytest.raises((IntegrityError, MissingFileError)):
        load_held(tmp_path, load, wanted=Wanted())


def test_a_file_that_is_not_in_it_is_not_read(folder: Path) -> None:
    GenerationConfig(max_length=7).save_pretrained(folder)
    from triptych.generation.config import read_generation_config

    with pytest.raises(IntegrityError, match=r"generation_config.json would be read"):
        load_held(folder, lambda held: read_generation_config(folder), wanted=Wanted())
    (folder / "tokenizer.json").write_text("{}")
    (folder / "generation_config.json").unlink()
    assert verified(folder)


def test_without_a_manifest_it_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path, manifest=False)
    for asked in (Wanted(), Wanted("sha256:" + "0" * 64)):
        with pytest.raises(MissingFileError, match=rf"no triptych_manifest.json, which {asked.argument}"):
            hold(tmp_path, wanted=asked)


def test_a_pin_is_of_these_bytes_alone(folder: Path) -> None:
    digest = verified(folder)
    save(folder)  # the same values, as another save
    assert verified(folder) != digest
    with pytest.raises(IntegrityError, match=f"Expected: {digest}"):
        hold(folder, wanted=Wanted(digest))


@pytest.mark.parametrize(
    ("verify", "digest"), [(1, None), ("yes", None), (True, "sha256:12"), (False, "SHA256:" + "0" * 64), (True, 5)]
)
def test_what_is_no_digest_is_refused(verify: object, digest: object) -> None:
    with pytest.raises(ArgumentError):
        wanted(verify, digest)


def test_a_save_without_one_removes_it(folder: Path) -> None:
    save(folder, 1, manifest=False)
    assert not (folder / MANIFEST_NAME).exists()


@pytest.mark.parametrize("format", [SAFETENSORS, MSGPACK], ids=lambda format: format.name)
def test_a_save_that_fails_leaves_the_old_one(format: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, format=format)
    digest = verified(tmp_path)

    def fails(*_: object) -> None:
        raise OSError(5, "broken")

    for place, name in ((saving, "flush_folder"), (staging, "link")):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, fails)
            with pytest.raises(SaveError):
                save(tmp_path, 1, format=format, config=json.dumps({"other": 1}))
        assert verified(tmp_path) == digest
    collect_garbage(tmp_path)
    assert verified(tmp_path) == digest


def test_a_msgpack_of_which_two_saves_are_recorded_is_found_by_its_bytes(tmp_path: Path) -> None:
    texts = []
    for seed in range(2):
        save(tmp_path / str(seed), seed, format=MSGPACK, config=None)
        texts.append(json.loads((tmp_path / str(seed) / MANIFEST_NAME).read_text()))
    for seed in range(2):  # as a save leaves it that is killed before its commit
        text = json_text(texts[1] | {"before": [texts[0]]})
        (tmp_path / str(seed) / MANIFEST_NAME).write_text(text)
        assert verified(tmp_path / str(seed)).startswith("sha256:")
        collect_garbage(tmp_path / str(seed))
        assert len(read_manifest(tmp_path / str(seed), None)) == 1
        assert json.loads((tmp_path / str(seed) / MANIFEST_NAME).read_text()) == texts[seed]


def test_another_variant_keeps_it_while_the_config_says_the_same(folder: Path) -> None:
    digest = verified(folder)
    save(folder, 1, variant="other")
    assert verified(folder) == digest and verified(folder, variant="other") != digest
    save(folder, 1, variant="other", config=json.dumps({"model_type": "another"}))
    assert not (folder / MANIFEST_NAME).exists() and verified(folder, variant="other")


def test_a_config_that_is_saved_alone(folder: Path) -> None:
    digest = verified(folder)
    save_config(folder, CONFIG)
    assert verified(folder) == digest
    PretrainedConfig(other=1).save_pretrained(folder)
    assert not (folder / MANIFEST_NAME).exists()


def test_other_formats_have_one_manifest_of_the_last_save(folder: Path) -> None:
    save(folder, 1, format=H5)
    assert hold(folder, wanted=Wanted()).checkpoint.files[-1].name == "tf_model.h5"
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(CorruptCheckpointError):
        hold(folder, wanted=Wanted())


def test_weights_of_another_save_are_refused(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "other", 1)
    os.replace(tmp_path / "other/model.safetensors", folder / "model.safetensors")
    with pytest.raises(IntegrityError, match="of another save"):
        hold(folder, wanted=Wanted())
    collect_garbage(folder)
    assert not (folder / MANIFEST_NAME).exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values | {"triptych_manifest": 2},
        lambda values: values | {"save": "../x"},
        lambda values: values | {"flavour": ["pt"]},
        lambda values: values | {"weights": "../model.safetensors"},
        lambda values: values | {"files": {"../config.json": "1 " + "0" * 64}},
        lambda values: values | {"files": {"config.json": "1 00"}},
        lambda values: values | {"files": []},
        lambda values: values | {"tensors": {"a": "float32 (-1) " + "0" * 64}},
        lambda values: values | {"tensors": {"a": 5}},
        lambda values: values | {"before": {}},
        lambda values: values | {"before": [1]},
    ],
)
def test_a_bad_manifest_is_corrupt(change: Callable[[dict[str, object]], object], folder: Path) -> None:
    file = folder / MANIFEST_NAME
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(CorruptCheckpointError, match="no manifest"):
        hold(folder, wanted=Wanted())
    save(folder, 2)
    assert verified(folder)


def test_other_declarations_are_named(folder: Path) -> None:
    file = folder / MANIFEST_NAME
    file.write_text(file.read_text().replace("float32 (8,2)", "float16 (8,2)"))
    with pytest.raises(IntegrityError, match=r"does not declare.*layer/t1:0.*float16"):
        hold(folder, wanted=Wanted())


def test_killed_saves_leave_a_manifest_of_what_is_there() -> None:
    command = [sys.executable, str(TESTS / "kill_saves.py"), "--kills", "0", "--every-operation", "--step", "79"]
    for which in ("both", "old"):
        done = subprocess.run([*command, "--manifest", which], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "'old'" in done.stdout and "'new'" in done.stdout
