"""safetensors: bad files meet one clear error; arrays survive a file bit for bit."""

from __future__ import annotations

import json
import os
import random
import struct
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from triptych import (
    CorruptCheckpointError,
    LimitError,
    SaveError,
    TensorRef,
    TriptychError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
    open_checkpoint,
    save_checkpoint,
)
from triptych.formats.safetensors import open_safetensors
from triptych.tensors.dtypes import SAFETENSORS


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


LONGEST, MOST_AXES = 2**48, 32


@pytest.mark.parametrize("shape", [[0, LONGEST], [1] * MOST_AXES])
def test_what_is_just_within_the_limits_is_read(shape: list[int], tmp_path: Path) -> None:
    for beyond in (False, True):
        asked = [*shape[:-1], shape[-1] + 1] if shape[0] == 0 else [*shape, 1]
        path, data = tmp_path / f"{beyond}.safetensors", b"1234" if shape[0] else b""
        path.write_bytes(raw({"w": entry(asked if beyond else shape, (0, len(data)))}, data))
        if beyond:
            with pytest.raises(LimitError):
                open_safetensors(path)
        else:
            assert open_safetensors(path).tensors["w"].read().shape == tuple(shape)


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


@pytest.mark.parametrize("name", SAFETENSORS)
def test_each_dtype_is_the_one_that_the_library_takes_it_for(name: str, tmp_path: Path) -> None:
    size = 3 * SAFETENSORS[name].itemsize
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw({"w": entry([3], (0, size), name)}, b"\1" * size))
    with safe_open(path, framework="pt") as file:
        theirs = file.get_tensor("w")
    assert open_safetensors(path).tensors["w"].dtype.name == str(theirs.dtype).removeprefix("torch.")


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
