"""A load sees one save, whatever is saved beside it: one reading, and files that are held from their opening."""

from __future__ import annotations

import gc
import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from places import TESTS
from triptych import (
    AutoConfig,
    AutoModel,
    BertConfig,
    ChangedFileError,
    CorruptCheckpointError,
    InconsistentCheckpointError,
    MissingFileError,
    TensorRef,
    open_checkpoint,
    save_checkpoint,
)
from triptych.checkpoints.holding import PAUSES, hold, load_held
from triptych.checkpoints.resolve import POINTER
from triptych.files.regular import MAX_HELD, OwnedBytes
from triptych.formats.kinds import FORMATS, SAVE_ID

NAMES = {"h5": "block/{}:0", "msgpack": "block/{}"}
EVERY_FORMAT = pytest.mark.parametrize("format", ["safetensors", "bin", "h5", "msgpack"])
MAPPED_OR_NOT = pytest.mark.parametrize("mmap", [True, False])


def save(folder: Path, value: float, format: str = "safetensors", config: str | None = "{}", **options: Any) -> None:
    name = NAMES.get(format, "{}")
    refs = [TensorRef.of(name.format(n), np.full(256, value, np.float32)) for n in "abc"]
    save_checkpoint(folder, refs, config, format=FORMATS[format], scope="model", **options)


def values(checkpoint: Any) -> set[float]:
    return {float(x) for name in checkpoint for x in np.unique(checkpoint[name].read())}


def test_loads_beside_savers_see_one_save_each() -> None:
    command = [sys.executable, str(TESTS / "race_saves.py"), "--loads", "300", "--step", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    last = re.search(r"300 loads, of (\d+) different saves: 0 mixed", done.stdout)
    assert last and int(last[1]) > 10, done.stdout


@pytest.fixture(scope="module")
def opened() -> list[str]:
    """Return the paths that this process opens, from now on: a hook cannot be taken back."""
    paths: list[str] = []
    sys.addaudithook(lambda event, arguments: paths.append(str(arguments[0])) if event == "open" else None)
    return paths


@pytest.mark.parametrize("auto", [False, True])
def test_config_and_index_are_read_once(auto: bool, golden: Path, tmp_path: Path, opened: list[str]) -> None:
    from triptych import BertForMaskedLM

    folder = shutil.copytree(golden / "bert-mlm/pt-safetensors-sharded", tmp_path / "model")
    opened.clear()
    (AutoModel if auto else BertForMaskedLM).from_pretrained(folder)
    read = [path for path in opened if str(folder) in path]
    configs = [str(folder / name) for name in ("config.json", "generation_config.json")]
    assert [path for path in read if path.endswith("config.json")] == configs
    assert len(read) == len(set(read)) == len(list(folder.glob("model*"))) + len(configs)


def test_auto_config_reads_the_file_once(golden: Path, tmp_path: Path, opened: list[str]) -> None:
    folder = shutil.copytree(golden / "bert-mlm/pt-safetensors-sharded", tmp_path / "model")
    opened.clear()
    assert isinstance(AutoConfig.from_pretrained(folder), BertConfig)
    assert [path for path in opened if str(folder) in path] == [str(folder / "config.json")]


@EVERY_FORMAT
@MAPPED_OR_NOT
@pytest.mark.parametrize("size", [10**9, 1100])
def test_what_is_opened_is_what_is_read(format: str, mmap: bool, size: int, tmp_path: Path) -> None:
    save(tmp_path, 1, format, max_shard_size=size)
    opened = open_checkpoint(tmp_path, mmap=mmap)
    for value in (2, 3):  # the third save may have the names of the first again
        save(tmp_path, value, format, max_shard_size=size)
    assert values(opened) == {1}
    assert values(open_checkpoint(tmp_path, mmap=mmap)) == {3}


@MAPPED_OR_NOT
def test_another_dtype_of_the_same_size_is_not_read_into_the_old_one(mmap: bool, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, [TensorRef.of("w", np.full(8, 5, ml_dtypes.bfloat16))])
    opened = open_checkpoint(tmp_path, mmap=mmap)
    save_checkpoint(tmp_path, [TensorRef.of("w", np.full(8, 5, np.float16))])
    assert opened["w"].read().astype(np.float32).tolist() == [5] * 8


def test_a_file_that_is_not_held_is_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.files.regular.MAX_HELD", 0)
    save(tmp_path, 1)
    opened = open_checkpoint(tmp_path, mmap=False)
    assert values(opened) == {1}
    save(tmp_path, 2)
    with pytest.raises(ChangedFileError, match="changed after it was opened.*load it again"):
        values(opened)


@MAPPED_OR_NOT
def test_a_file_that_is_held_and_written_to_is_noticed(mmap: bool, tmp_path: Path) -> None:
    save(tmp_path, 1)
    opened = open_checkpoint(tmp_path, mmap=mmap)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"1234")
    with pytest.raises(ChangedFileError):
        values(opened)


def test_a_load_begins_again_when_its_files_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.files.regular.MAX_HELD", 0)
    save(tmp_path, 1)
    still_to_save = [2.0, 3.0]

    def load(held: Any) -> set[float]:
        if still_to_save:
            save(tmp_path, still_to_save.pop(0))
        return values(held.checkpoint)

    assert load_held(tmp_path, load, mmap=False) == {3}


def test_a_folder_that_never_holds_still_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    save(tmp_path, 0, "msgpack", max_shard_size=1100)
    tries = []

    def found(*_: Any, **__: Any) -> Any:
        tries.append(len(tries))
        save(tmp_path, len(tries), "msgpack", max_shard_size=1100)
        raise InconsistentCheckpointError("of two saves")

    monkeypatch.setattr("triptych.checkpoints.holding.open_checkpoint", found)
    with pytest.raises(ChangedFileError, match=f"each of {len(PAUSES)} tries"):
        hold(tmp_path)
    assert len(tries) == len(PAUSES)


def test_what_is_wrong_with_a_folder_at_rest_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited"))
    save(tmp_path, 1)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CorruptCheckpointError, match="model.safetensors"):
        hold(tmp_path)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(MissingFileError, match="cannot be listed.*Permission denied"):
        hold(tmp_path)


# -- save ids


@EVERY_FORMAT
def test_config_index_and_files_of_a_save_carry_its_id(format: str, tmp_path: Path) -> None:
    save(tmp_path, 1, format, max_shard_size=1100)
    held = hold(tmp_path)
    assert held.config is not None
    assert held.config[SAVE_ID] == held.checkpoint.save_id
    assert len(held.config[SAVE_ID]) == 8
    assert SAVE_ID not in AutoConfig.for_model("bert", **{SAVE_ID: "x", POINTER: "y"}).to_dict()


@EVERY_FORMAT
def test_shards_of_two_saves_are_refused(format: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for value, folder in enumerate((one, other)):
        save(folder, value, format, max_shard_size=1100)
    suffix = FORMATS[format].suffix
    theirs = sorted(other.glob(f"*{suffix}"))[1]
    ours = sorted(one.glob(f"*{suffix}"))[1]
    shutil.copy(theirs, ours)
    if ours.name == theirs.name:
        with pytest.raises(InconsistentCheckpointError, match="of one save and some of its shards are of another"):
            open_checkpoint(one)
        return
    index = next(one.glob("*.index.json"))  # the name is the id: only who edits the index can mix them
    index.write_text(index.read_text().replace(ours.name, theirs.name))
    ours.rename(one / theirs.name)
    with pytest.raises(InconsistentCheckpointError, match="of one save and some of its shards are of another"):
        open_checkpoint(one)


def test_a_config_from_elsewhere_is_no_obstacle(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for text in ('{"a": 1}', json.dumps({SAVE_ID: "deadbeef"})):
        (tmp_path / "config.json").write_text(text)
        assert values(hold(tmp_path).checkpoint) == {1}


def test_a_config_saved_alone_stays_that_of_the_weights(tmp_path: Path) -> None:
    save(tmp_path, 1)
    BertConfig(hidden_size=24, num_attention_heads=2).save_pretrained(tmp_path)
    BertConfig(hidden_size=36, num_attention_heads=2).to_json_file(tmp_path / "config.json")
    held = hold(tmp_path)
    assert held.config is not None
    assert held.config["hidden_size"] == 36
    assert held.config[SAVE_ID] == held.checkpoint.save_id


def test_a_config_saved_alone_keeps_a_pointer_of_others(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "model.safetensors").rename(tmp_path / "mine.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({POINTER: "mine.safetensors"}))
    BertConfig().save_pretrained(tmp_path)
    assert values(hold(tmp_path).checkpoint) == {1}
    save(tmp_path, 2, config='{"a": 1}')
    assert values(hold(tmp_path).checkpoint) == {2}


# -- descriptors


@MAPPED_OR_NOT
def test_many_shards_need_few_descriptors(mmap: bool, tmp_path: Path) -> None:
    assert MAX_HELD < 128
    count = 300
    refs = [TensorRef.of(f"t{number:03d}", np.full(4, number, np.float64)) for number in range(count)]
    save_checkpoint(tmp_path, refs, max_shard_size=32)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 128, limit[1]))
    try:
        opened = open_checkpoint(tmp_path, mmap=mmap)
        arrays = [ref.read() for ref in opened.values()]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert [array[0] for array in arrays] == list(range(count))


def test_a_map_outlives_its_file_and_is_given_back(tmp_path: Path) -> None:
    save(tmp_path, 1)
    array = open_checkpoint(tmp_path)["a"].read()
    (tmp_path / "model.safetensors").unlink()
    assert array.sum() == 256
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    del array
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_held_files_are_let_go(tmp_path: Path) -> None:
    save(tmp_path, 1)
    gc.collect()  # what other tests have left in circles
    before = len(OwnedBytes._held)
    opened = open_checkpoint(tmp_path, mmap=False)
    assert len(OwnedBytes._held) == before + 1
    del opened
    assert len(OwnedBytes._held) == before
