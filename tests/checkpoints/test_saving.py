"""Saves: what is refused before anything is written, what a save leaves of the old and of others, and its shards."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych import (
    ArgumentError,
    ConfigError,
    SaveError,
    TensorRef,
    UnsupportedFormatError,
    open_checkpoint,
    save_checkpoint,
)
from triptych.checkpoints.opening import SAVE_ID
from triptych.checkpoints.sharding import parse_size, plan_shards
from triptych.formats.kinds import FORMATS, read_order
from triptych.formats.safetensors import open_safetensors


def test_new_files_obey_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path, [TensorRef.of("w", np.zeros(4, np.float32))], "{}\n")
    finally:
        os.umask(before)
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in tmp_path.iterdir()} == {
        "model.safetensors": "0o640",
        "config.json": "0o640",
    }


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_save_onto_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SaveError):
        save_checkpoint(tmp_path / "file", [TensorRef.of("w", np.zeros(1))])
    assert (tmp_path / "file").read_text() == "x"


def test_a_failing_tensor_leaves_the_old_checkpoint(sharded: Path) -> None:
    before = files(sharded)

    def broken() -> np.ndarray:
        raise OSError(28, "No space left on device")

    refs = [TensorRef.of("a", np.zeros(256)), TensorRef("b", np.dtype(np.float64), (256,), broken)]
    with pytest.raises(SaveError, match="No space left") as caught:
        save_checkpoint(sharded, refs, max_shard_size="2KB")
    assert caught.value.errno == 28
    assert files(sharded) == before


@pytest.mark.parametrize("folder", [None, "", 7])
def test_saving_to_no_path_is_refused(folder: object) -> None:
    with pytest.raises(ArgumentError, match="save_directory"):
        save_checkpoint(folder, [TensorRef.of("w", np.zeros(1))])  # type: ignore[arg-type]


def test_a_config_that_is_no_json_is_refused_before_anything_is_written(sharded: Path) -> None:
    before = files(sharded)
    with pytest.raises(ConfigError):
        save_checkpoint(sharded, [TensorRef.of("w", np.zeros(1))], "not json")
    assert files(sharded) == before


def test_the_reserved_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="reserved"):
        save_checkpoint(tmp_path, [TensorRef.of("__metadata__", np.zeros(1))])
    assert not list(tmp_path.iterdir())


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError):
        save_checkpoint(tmp_path, [TensorRef.of("w", np.array([None]))])
    assert not list(tmp_path.iterdir())


LAYOUTS = {"single": 10**9, "many": 2048, "few": 5000}


@pytest.mark.parametrize("before", [*LAYOUTS, "bin", "h5", "msgpack"])
@pytest.mark.parametrize("after", LAYOUTS)
def test_the_last_save_wins_and_nothing_else_changes(
    before: str, after: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    foreign = {"README.md": b"mine", "model.py": b"", "model.safetensors.bak": b"x", "model-00001-of-00002.txt": b"y",
               "model.fp16.safetensors": b"other variant", "model_card.safetensors": b"z"}  # fmt: skip
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
    old = {n: rng.standard_normal(256) for n in "abcde"}
    new = {n: rng.standard_normal(256) for n in "abcd"}
    legacy = {"bin": "pytorch_model.bin", "h5": "tf_model.h5", "msgpack": "flax_model.msgpack"}
    if before in legacy:
        (tmp_path / legacy[before]).write_bytes(b"old")
    else:
        save_checkpoint(tmp_path, [TensorRef.of(n, a) for n, a in old.items()], max_shard_size=LAYOUTS[before])
    written = save_checkpoint(tmp_path, [TensorRef.of(n, a) for n, a in new.items()], max_shard_size=LAYOUTS[after])
    read = open_checkpoint(tmp_path)
    assert {n: read[n].read().tolist() for n in read} == {n: a.tolist() for n, a in new.items()}
    left = files(tmp_path)
    assert {name: left.pop(name) for name in foreign} == foreign
    others = {legacy[before] + (".stale" if before == "msgpack" else "")} if before in legacy else set()
    assert all(left[name] == b"old" for name in others), "what no save wrote is kept"
    assert set(left) == {path.name for path in written} | others


def save_as(folder: Path, format: str, value: float, **options: object) -> list[Path]:
    refs = [TensorRef.of(f"layer/{n}:0", np.full(256, value)) for n in "abc"]
    return save_checkpoint(folder, refs, "{}\n", format=FORMATS[format], scope="model", **options)  # type: ignore[arg-type]


def value_in(folder: Path, framework: str) -> float:
    return float(next(iter(open_checkpoint(folder, order=read_order(framework)).values())).read()[0])


OLDER = ["bin", "h5", "msgpack"]


@pytest.mark.parametrize("size", [10**9, 2048])
@pytest.mark.parametrize("format", ["safetensors", *OLDER])
def test_weights_of_other_formats_stay_unless_some_reader_would_take_them(
    format: str, size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heads = {name: FORMATS[name].single for name in ("safetensors", *OLDER) if name != format}
    for head in heads.values():
        (tmp_path / head).write_bytes(b"of somebody else")
    save_as(tmp_path, format, 1, max_shard_size=size)
    assert [value_in(tmp_path, framework) for framework in ("pt", "tf", "flax")] == [1, 1, 1]
    wins = {name for name in heads if format != "safetensors" or name == "msgpack"}
    for name, head in heads.items():
        kept = head + ".stale" * (name in wins)
        assert (tmp_path / kept).read_bytes() == b"of somebody else"
        assert (tmp_path / head).exists() == (name not in wins)
        assert (f"it is kept as {kept}" in caplog.text) == (name in wins)
    for head in heads.values():
        (tmp_path / head).write_bytes(b"once more")
    save_as(tmp_path, format, 2, remove_stale=True)
    assert not any((tmp_path / head).exists() for head in heads.values())
    assert {path.read_bytes() for path in tmp_path.glob("*.stale")} == {b"of somebody else"}
    assert value_in(tmp_path, "pt") == 2


@pytest.mark.parametrize("size", [10**9, 2048])
def test_what_a_save_wrote_is_deleted_only_where_it_would_win(size: int, tmp_path: Path) -> None:
    first = save_as(tmp_path, "bin", 1, max_shard_size=size)
    second = save_as(tmp_path, "safetensors", 2, max_shard_size=size)
    assert all(file.exists() for file in (*first, *second)), "nobody takes .bin before safetensors"
    third = save_as(tmp_path, "h5", 3, max_shard_size=size)
    assert set(files(tmp_path)) == {"config.json", *(file.name for file in third)}
    assert [value_in(tmp_path, framework) for framework in ("pt", "tf", "flax")] == [3, 3, 3]


def test_files_that_are_set_aside_do_not_replace_each_other(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "model.safetensors").write_bytes(b"%d" % number)
        save_as(tmp_path, "bin", number)
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.stale*")}
    assert kept == {f"model.safetensors.stale{n}": text for n, text in (("", b"0"), ("2", b"1"), ("3", b"2"))}


def test_a_file_that_a_killed_save_has_given_its_second_name_keeps_that_one(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"theirs")
    os.link(tmp_path / "model.safetensors", tmp_path / "model.safetensors.stale")
    save_as(tmp_path, "bin", 1)
    assert set(files(tmp_path)) == {"config.json", "pytorch_model.bin", "model.safetensors.stale"}


def test_shards_have_conventional_names_as_long_as_they_can_be_divided(tmp_path: Path) -> None:
    tensors = [TensorRef.of(str(i), np.full(64, float(i))) for i in range(8)]
    seen = []
    for size in (1024, 1024, 1024, 512, 512):
        written = save_checkpoint(tmp_path, tensors, "{}", max_shard_size=size)
        seen.append([path.name for path in written[:-1]])
        assert all(open_checkpoint(tmp_path)[ref.name].read()[0] == float(ref.name) for ref in tensors)
        shards = [open_safetensors(path) for path in written[:-1]]
        assert all(sum(ref.nbytes for ref in shard.tensors.values()) <= size for shard in shards)
    plain = {count: [f"model-{k:05d}-of-{count:05d}.safetensors" for k in range(1, count + 1)] for count in (4, 5, 8)}
    assert seen[:4] == [plain[4], plain[5], plain[4], plain[8]]
    assert all(".g" in name for name in seen[4]), "each holds one tensor, and the names of eight are in use"


def test_variants_do_not_disturb_each_other(tmp_path: Path) -> None:
    def save(value: float, **options: object) -> None:
        save_checkpoint(tmp_path, [TensorRef.of(n, np.full(256, value)) for n in "ab"], "{}\n", **options)  # type: ignore[arg-type]

    save(1, max_shard_size="2KB", variant="fp16")
    save(2)
    save(3, variant="fp32")
    save(4, max_shard_size="2KB")
    values = {v: open_checkpoint(tmp_path, variant=v)["a"].read()[0] for v in (None, "fp16", "fp32")}
    assert values == {None: 4, "fp16": 1, "fp32": 3}
    save(5, variant="fp16")
    values = {v: open_checkpoint(tmp_path, variant=v)["a"].read()[0] for v in (None, "fp16", "fp32")}
    assert values == {None: 4, "fp16": 5, "fp32": 3}


@pytest.mark.parametrize("variant", ["../x", "a/b", "", "a.b", 7, "x" * 99])
def test_a_bad_variant_is_refused(variant: object, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="variant"):
        save_checkpoint(tmp_path, [TensorRef.of("w", np.zeros(1))], variant=variant)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_every_file_of_a_save_carries_its_id(sharded: Path) -> None:
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    ids = {open_safetensors(path).metadata[SAVE_ID] for path in sharded.glob("*.safetensors")}
    assert ids == {index["metadata"][SAVE_ID]}
    assert index["metadata"]["total_size"] == 3 * 2048


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 60))
def test_shards_keep_order_and_limit(sizes: list[int], limit: int) -> None:
    refs = [TensorRef.of(str(i), np.zeros(size, np.uint8)) for i, size in enumerate(sizes)]
    shards = plan_shards(refs, limit)
    assert [ref.name for shard in shards for ref in shard.tensors] == [ref.name for ref in refs]
    assert all(shard.nbytes <= limit or len([r for r in shard.tensors if r.nbytes]) == 1 for shard in shards)
    assert all(shard.tensors for shard in shards) or not refs


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5 * 10**9),
        ("1.5GiB", 3 * 2**29),
        (7, 7),
        ("200MB", 2 * 10**8),
        ("1 KiB", 1024),
        ("2TB", 2 * 10**12),
        ("20Kb", 2500),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["5", "GB", "-1GB", 0, -1, None, 1.5, True, "5Gib", "infGB", "nanGB"])
def test_bad_sizes(text: object) -> None:
    with pytest.raises(ArgumentError, match="max_shard_size"):
        parse_size(text)  # type: ignore[arg-type]
