"""Bad input meets one clear error: what was expected, what came, and the remedy; nothing is lost by it."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from triptych import (
    ArgumentError,
    BertConfig,
    CheckpointError,
    ConfigError,
    CorruptCheckpointError,
    InconsistentCheckpointError,
    LimitError,
    MissingFileError,
    SaveError,
    ShapeMismatchError,
    TensorRef,
    TriptychError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedFormatError,
    open_checkpoint,
    save_checkpoint,
)
from triptych.checkpoints.opening import SAVE_ID
from triptych.checkpoints.saving import parse_size, plan_shards
from triptych.families import declared_schema
from triptych.formats.safetensors import open_safetensors
from triptych.weights.plan import Policy, plan_load


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: object = (1,), offsets: object = (0, 4), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


DUPLICATE = (
    b'{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
)
BAD_FILES: dict[str, tuple[bytes, type[TriptychError]]] = {
    "empty": (b"", TruncatedCheckpointError),
    "seven bytes": (b"1234567", TruncatedCheckpointError),
    "length beyond file": (raw(b"{}", length=1000), TruncatedCheckpointError),
    "length beyond limit": (raw(b"{}", length=100_000_001), CorruptCheckpointError),
    "length 2^63": (raw(b"{}", length=2**63), CorruptCheckpointError),
    "not utf-8": (raw(b"\xff\xfe{}"), CorruptCheckpointError),
    "not json": (raw(b"{"), CorruptCheckpointError),
    "a list": (raw([]), CorruptCheckpointError),
    "deep": (raw(b"[" * 200_000), CorruptCheckpointError),
    "nan": (raw(b'{"__metadata__":{},"w":NaN}'), CorruptCheckpointError),
    "duplicate tensor": (raw(DUPLICATE, b"1234"), CorruptCheckpointError),
    "duplicate metadata": (raw(b'{"__metadata__":{"a":"1","a":"2"}}'), CorruptCheckpointError),
    "metadata no strings": (raw({"__metadata__": {"a": 1}}), CorruptCheckpointError),
    "data short": (raw({"w": entry()}, b"123"), TruncatedCheckpointError),
    "data long": (raw({"w": entry()}, b"12345"), CorruptCheckpointError),
    "hole": (raw({"w": entry(offsets=(4, 8))}, b"12345678"), CorruptCheckpointError),
    "overlap": (raw({"a": entry(), "b": entry()}, b"1234"), CorruptCheckpointError),
    "reversed": (raw({"w": entry(offsets=(4, 0))}, b"1234"), CorruptCheckpointError),
    "negative": (raw({"w": entry(offsets=(-4, 0))}, b"1234"), CorruptCheckpointError),
    "float offset": (raw({"w": entry(offsets=(0, 4.0))}, b"1234"), CorruptCheckpointError),
    "bool shape": (raw({"w": entry(shape=[True])}, b"1234"), CorruptCheckpointError),
    "size unlike shape": (raw({"w": entry(shape=[2])}, b"1234"), CorruptCheckpointError),
    "wrapping product": (raw({"w": entry(shape=[4194305, 4194305, 2**40])}, b"1234"), CorruptCheckpointError),
    "huge dimension": (raw({"w": entry(shape=[0, 2**62], offsets=(0, 0))}), LimitError),
    "rank": (raw({"w": entry(shape=[1] * 65)}, b"1234"), LimitError),
    "unknown dtype": (raw({"w": entry(dtype="F4")}, b"1234"), UnsupportedFormatError),
    "dtype a list": (raw({"w": entry(dtype=[])}, b"1234"), UnsupportedFormatError),
    "extra field": (raw({"w": {**entry(), "x": 1}}, b"1234"), CorruptCheckpointError),
    "huge integer": (
        raw(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,' + b"9" * 5000 + b"]}}"),
        CorruptCheckpointError,
    ),
    "long name": (raw({"w" * 5000: entry()}, b"1234"), LimitError),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", CorruptCheckpointError),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", CorruptCheckpointError),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_safetensors_is_refused(name: str, tmp_path: Path) -> None:
    content, error = BAD_FILES[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        open_safetensors(path)
    assert str(path) in str(caught.value) or path.name in str(caught.value)


HUGE = entry([0, 2**62], (0, 0))
LAXER: dict[str, tuple[bytes, type[TriptychError]]] = {
    "a tensor twice": (raw(DUPLICATE, b"1234"), CorruptCheckpointError),
    "metadata twice": (BAD_FILES["duplicate metadata"][0], CorruptCheckpointError),
    "another field": (BAD_FILES["extra field"][0], CorruptCheckpointError),
    "an array for an object": (raw({"w": ["F32", [1], [0, 4]]}, b"1234"), CorruptCheckpointError),
    "a dtype that numpy lacks": (raw({"w": entry([8], [0, 4], "F4")}, b"1234"), UnsupportedFormatError),
    "a dtype that numpy has otherwise": (raw({"w": entry([4], dtype="F8_E4M3FNUZ")}, b"1234"), UnsupportedFormatError),
    "a long name": (BAD_FILES["long name"][0], LimitError),
    "many axes": (BAD_FILES["rank"][0], LimitError),
    "more elements than numpy counts": (raw({"w": HUGE}), LimitError),
    "more elements than numpy counts, by two axes": (raw({"w": entry([0, 2**47, 2**47], (0, 0))}), LimitError),
}
"""What the library accepts and triptych does not."""


@pytest.mark.parametrize("name", LAXER)
def test_what_the_library_lets_pass_is_refused(name: str, tmp_path: Path) -> None:
    content, error = LAXER[name]
    (tmp_path / "model.safetensors").write_bytes(content)
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert len(file.keys()) <= 1
    with pytest.raises(error):
        open_safetensors(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "header",
    [
        b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',  # half of a character
        b'{"w":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}}',
        b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}}',
        b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
    ],
)
def test_what_the_library_refuses_is_refused_in_its_words(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw(header, bytes(4)))
    with pytest.raises(SafetensorError) as theirs:
        safe_open(path, "numpy")
    with pytest.raises(CorruptCheckpointError, match="The header of .* is wrong") as ours:
        open_safetensors(path)
    reason = str(theirs.value).removeprefix("Error while deserializing header: ")
    assert reason in str(ours.value)


def test_changed_headers_are_opened_only_if_the_library_opens_them(tmp_path: Path, golden: Path) -> None:
    whole = (golden / "bert-mlm/pt-safetensors-sharded/model-00001-of-00006.safetensors").read_bytes()
    length, generator, outcomes = int.from_bytes(whole[:8], "little"), random.Random(0), Counter[bool]()
    path = tmp_path / "model.safetensors"
    digits = [at for at in range(8, 8 + length) if whole[at : at + 1].isalnum()]
    for _ in range(1500):
        at = generator.choice(digits)
        path.write_bytes(whole[:at] + generator.choice(b"0123456789abFU_").to_bytes() + whole[at + 1 :])
        try:
            ours = {name: list(ref.shape) for name, ref in open_safetensors(path).tensors.items()}
        except TriptychError:
            outcomes[False] += 1
            continue
        with safe_open(path, "numpy") as file:
            assert ours == {name: file.get_slice(name).get_shape() for name in file.keys()}
        outcomes[True] += 1
    assert min(outcomes[True], outcomes[False]) > 50


def test_a_file_that_the_library_refuses_is_never_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, [TensorRef.of("w", np.arange(4))])
    before = (tmp_path / "model.safetensors").read_bytes()
    overlapping = raw({"a": entry(), "b": entry()}, b"1234")
    monkeypatch.setattr("triptych.checkpoints.writing.write_safetensors", lambda file, *_: file.write(overlapping))
    refs = [TensorRef.of(name, np.zeros(1, np.float32)) for name in "ab"]
    with pytest.raises(SaveError, match="cannot be read back.*header of"):
        save_checkpoint(tmp_path, refs)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"model.safetensors": before}


@pytest.mark.parametrize(("name", "hint"), [("git lfs", "git lfs pull"), ("web page", "web page")])
def test_wrong_contents_are_recognised(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(BAD_FILES[name][0])
    with pytest.raises(CorruptCheckpointError, match=hint):
        open_checkpoint(tmp_path)


def test_every_truncation_is_refused(tmp_path: Path, golden: Path) -> None:
    whole = (golden / "bert-mlm/pt-safetensors-sharded/model-00001-of-00006.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    for length in [*range(0, 1200), *range(1200, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptCheckpointError):
            open_safetensors(path)


@given(st.binary(max_size=200))
def test_random_bytes_never_escape_the_error_tree(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("random") / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(data)) + data)
    try:
        assert open_safetensors(path).tensors == {}  # only an empty header can be valid here
    except TriptychError:
        return


def test_fifo_and_folder_are_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedFormatError, match="regular file"):
        open_safetensors(tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedFormatError):
        open_safetensors(tmp_path)


ARRAYS = {
    "transposed": lambda a: a.T,
    "fortran": np.asfortranarray,
    "stepped": lambda a: a[::2, ::3],
    "reversed": lambda a: a[::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "big endian": lambda a: a.astype(">f4"),
    "bfloat16": lambda a: a.astype(ml_dtypes.bfloat16),
    "float8": lambda a: a.astype(ml_dtypes.float8_e4m3fn),
    "bool": lambda a: a > 0,
    "scalar": lambda a: np.float32(a[0, 0]).reshape(()),
    "empty": lambda a: a[:0],
    "nan": lambda a: a * np.nan,
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("mmap", [True, False])
def test_arrays_survive_a_file_bit_for_bit(kind: str, mmap: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    array = ARRAYS[kind](rng.standard_normal((6, 9)).astype(np.float32))
    save_checkpoint(tmp_path, [TensorRef.of("w", array)])
    read = open_checkpoint(tmp_path, mmap=mmap)["w"].read()
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.tobytes() == np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).tobytes()


def test_our_files_are_read_by_the_safetensors_library(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {"a": rng.standard_normal((3, 5)).astype(np.float32).T, "b": np.arange(7, dtype=np.int8), "ü": np.ones(())}
    save_checkpoint(tmp_path, [TensorRef.of(n, a) for n, a in arrays.items()])
    theirs = load_file(tmp_path / "model.safetensors")
    assert {n: a.tolist() for n, a in theirs.items()} == {n: a.tolist() for n, a in arrays.items()}


def test_writing_into_a_mapped_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, [TensorRef.of("w", np.zeros(4, np.float32))])
    before = (tmp_path / "model.safetensors").read_bytes()
    open_checkpoint(tmp_path)["w"].read()[:] = 7
    assert (tmp_path / "model.safetensors").read_bytes() == before


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


# -- indexes -------------------------------------------------------------------------------------------------------

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


@pytest.fixture
def sharded(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "sharded"
    save_checkpoint(folder, [TensorRef.of(n, rng.standard_normal(256)) for n in "abc"], max_shard_size="2KB")
    assert len(list(folder.glob("*.safetensors"))) == 3
    return folder


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


# -- saves ---------------------------------------------------------------------------------------------------------


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
    assert set(left) == {path.name for path in written}


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
    ("text", "size"), [("5GB", 5 * 10**9), ("1.5GiB", 3 * 2**29), (7, 7), ("200MB", 2 * 10**8), ("1 KiB", 1024)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["5", "GB", "-1GB", 0, -1, None, 1.5, True, "5Gb", "infGB", "nanGB"])
def test_bad_sizes(text: object) -> None:
    with pytest.raises(ArgumentError, match="max_shard_size"):
        parse_size(text)  # type: ignore[arg-type]


# -- plans: one clear error, naming every weight -------------------------------------------------------------------


@pytest.fixture
def tiny() -> tuple[object, dict[str, TensorRef]]:
    config = BertConfig(
        vocab_size=9,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=5,
        max_position_embeddings=6,
    )
    schema = declared_schema(config, "BertForMaskedLM")
    return schema, {w.name: TensorRef.of(w.name, np.zeros(w.shape, np.float32)) for w in schema.stored()}  # type: ignore[union-attr]


def test_missing_backbone_weights_are_all_named(tiny: tuple) -> None:
    schema, tensors = tiny
    gone = ["bert.embeddings.LayerNorm.bias", "bert.encoder.layer.0.output.dense.weight"]
    for name in gone:
        del tensors[name]
    with pytest.raises(CheckpointError, match=f"{gone[0]}.*{gone[1]}.*strict=False"):
        plan_load(schema, tensors, None, Policy())
    assert [w.name for w in plan_load(schema, tensors, None, Policy(strict=False)).missing] == gone


def test_a_missing_head_is_initialised_unless_strict(tiny: tuple) -> None:
    schema, tensors = tiny
    del tensors["cls.predictions.bias"]
    assert [w.name for w in plan_load(schema, tensors, None, Policy()).missing] == ["cls.predictions.bias"]
    with pytest.raises(CheckpointError, match="strict=True"):
        plan_load(schema, tensors, None, Policy(strict=True))


def test_wrong_shapes_are_refused_or_ignored(tiny: tuple) -> None:
    schema, tensors = tiny
    name = "bert.encoder.layer.0.output.dense.weight"
    tensors[name] = TensorRef.of(name, np.zeros((5, 4), np.float32))  # as many elements, transposed
    with pytest.raises(ShapeMismatchError, match=r"\(4, 5\).*\(5, 4\).*ignore_mismatched_sizes"):
        plan_load(schema, tensors, None, Policy())
    plan = plan_load(schema, tensors, None, Policy(ignore_mismatched_sizes=True))
    assert plan.mismatched == ((name, (5, 4), (4, 5)),)
    assert [w.name for w in plan.to_initialise] == [name]


def test_unexpected_weights_are_reported_and_strict_refuses(tiny: tuple) -> None:
    schema, tensors = tiny
    extra = {"position": "bert.embeddings.position_ids", "other": "cls.seq_relationship.weight"}
    for name in extra.values():
        tensors[name] = TensorRef.of(name, np.zeros(1))
    assert plan_load(schema, tensors, None, Policy()).unexpected == (extra["other"],)
    with pytest.raises(CheckpointError, match="seq_relationship"):
        plan_load(schema, tensors, None, Policy(strict=True))


def test_gamma_and_beta_are_read_by_exact_name(tiny: tuple) -> None:
    schema, tensors = tiny
    for leaf, old in (("weight", "gamma"), ("bias", "beta")):
        name = f"bert.embeddings.LayerNorm.{leaf}"
        tensors[name.replace(leaf, old)] = tensors.pop(name)
    assert not plan_load(schema, tensors, None, Policy(strict=True)).missing


# -- folders and configs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [None, "", 7, b"x", "/no/such/folder"])
def test_a_path_that_is_none(path: object) -> None:
    for load in (open_checkpoint, BertConfig.from_pretrained):
        with pytest.raises(TriptychError, match="(?s)Expected: .*Received: .*Remedy: "):
            load(path)  # type: ignore[operator]


def test_missing_config_is_not_a_default_config(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(MissingFileError, match=r"(?s)config.json.*Expected.*README.md.*Remedy"):
        BertConfig.from_pretrained(tmp_path)
    assert issubclass(MissingFileError, OSError)


BAD_CONFIGS = [
    "", "[]", "{", '{"a": 1, "a": 2}', '{"x": NaN}', '{"x": 1e999}', '{"x": ' + "9" * 5000 + "}",
    '{"x": ' + "[" * 100_000, "\xff", '{"vocab_size": "16"}', '{"vocab_size": 16.5}', '{"vocab_size": true}',
    '{"vocab_size": null}', '{"vocab_size": [16]}', '{"vocab_size": -16}', '{"vocab_size": 0}',
    '{"vocab_size": 1099511627776}', '{"hidden_size": 7, "num_attention_heads": 2}', '{"hidden_act": "evil"}',
    '{"id2label": 3}', '{"id2label": {"x": "y"}}', '{"pruned_heads": 3}', '{"pruned_heads": {"0": 3}}',
    '{"problem_type": "x"}', '{"num_labels": -1}', '{"position_embedding_type": "relative_key"}',
    '{"hidden_dropout_prob": 2}', '{"model_type": "gpt2"}', '{"layer_norm_eps": "a"}',
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_CONFIGS, ids=lambda text: text[:24])
def test_a_bad_config_is_one_config_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError):
        BertConfig.from_pretrained(tmp_path)


def test_a_config_is_data(tmp_path: Path) -> None:
    hostile = {"__class__": "x", "to_dict": 1, "from_pretrained": "y", "auto_map": {"AutoModel": "evil.Model"},
               "_attn_implementation_internal": "evil/repo", "trust_remote_code": True,
               "model_type": "bert"}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(hostile))
    config = BertConfig.from_pretrained(tmp_path)
    assert callable(config.to_dict)
    assert type(config) is BertConfig
    kept = config.to_dict()
    assert {name: kept[name] for name in hostile if not name.startswith("_attn")} == {
        n: v for n, v in hostile.items() if not n.startswith("_attn")
    }


def test_safetensors_go_before_files_of_torch(golden: Path, tmp_path: Path) -> None:
    source = golden / "gpt2-lm"
    shutil.copytree(source / "pt-bin", tmp_path, dirs_exist_ok=True)
    assert open_checkpoint(tmp_path).source.endswith("pytorch_model.bin")
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "pytorch_model.fp32.bin")
    assert open_checkpoint(tmp_path, variant="fp32").source.endswith("pytorch_model.fp32.bin")
    (tmp_path / "pytorch_model.fp32.bin").rename(tmp_path / "pytorch_model.bin")
    shutil.copy(source / "pt-safetensors/model.safetensors", tmp_path)
    assert open_checkpoint(tmp_path).source.endswith("model.safetensors")
