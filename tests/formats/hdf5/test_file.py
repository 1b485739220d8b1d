"""Keras HDF5 files: read lazily and strictly, written as transformers reads them."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import load_attributes_from_hdf5_group, save_attributes_to_hdf5_group

from places import GOLDEN
from triptych.errors import (
    ChangedFileError,
    CorruptCheckpointError,
    LimitError,
    MissingFileError,
    SaveError,
    TriptychError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedFormatError,
)
from triptych.files.json import read_json
from triptych.formats.hdf5 import structures
from triptych.formats.hdf5.file import TOP_LEVEL, Hdf5File, open_hdf5, without_scope
from triptych.formats.hdf5.writer import write_hdf5, write_hdf5_shard
from triptych.tensors.ref import TensorRef

FILES = sorted(GOLDEN.glob("*/tf-h5*/*.h5"))
SINGLE = [path for path in FILES if path.parent.name == "tf-h5"]
SHARDS = [path for path in FILES if path.parent.name != "tf-h5"]


def label(path: Path) -> str:
    return f"{path.parents[1].name}-{path.name}"


def datasets(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return found


def same(ref: TensorRef, values: np.ndarray) -> bool:
    read = ref.read()
    assert (read.dtype, read.shape) == (ref.dtype, ref.shape)
    assert read.flags.c_contiguous and read.flags.aligned and read.flags.writeable
    return (read.dtype, read.shape, read.tobytes()) == (values.dtype, values.shape, values.tobytes())


# -- files of transformers -----------------------------------------------------------------------------------------


def test_there_are_goldens_of_five_models() -> None:
    assert len(SINGLE) >= 5 and len({path.parents[1].name for path in SHARDS}) >= 5


@pytest.mark.parametrize("path", SINGLE, ids=label)
@pytest.mark.parametrize("mmap", [True, False])
def test_single_files_read_as_h5py_reads_them(path: Path, mmap: bool) -> None:
    found, theirs = open_hdf5(path, mmap), datasets(path)
    assert [*found.layers][-1] == TOP_LEVEL
    seen = set()
    for group, names in found.layers.items():
        for name in names:
            assert same(found.tensors[without_scope(name)], theirs[f"{group}/{name}"])
            seen.add(without_scope(name))
    assert seen == set(found.tensors)
    assert sum(map(len, found.layers.values())) == len(theirs)
    assert found.metadata == {"backend": "tensorflow", "keras_version": "2.21.0"}


def test_texts_of_the_file_are_its_metadata_whatever_their_type(tmp_path: Path) -> None:
    with (tmp_path / "m.h5").open("x+b") as stream:
        write_hdf5(stream, {"a": [TensorRef.of("s/w:0", ONES)]}, {})
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["fixed"], file.attrs["variable"] = np.bytes_(b"of seven bytes"), "of any length"
        file.attrs["number"], file.attrs["texts"] = 3, np.array([b"a", b"b"])
    found = open_hdf5(tmp_path / "m.h5").metadata
    assert (found["fixed"], found["variable"]) == ("of seven bytes", "of any length")
    assert not {"number", "texts"} & found.keys()


@pytest.mark.parametrize("path", SHARDS, ids=label)
def test_shards_read_as_h5py_reads_them(path: Path) -> None:
    found, theirs = open_hdf5(path), datasets(path)
    assert (set(found.tensors), found.layers, found.metadata) == (set(theirs), {}, {})
    assert all(same(ref, theirs[name]) for name, ref in found.tensors.items())


@pytest.mark.parametrize("model", sorted({path.parents[1].name for path in SHARDS}))
def test_single_file_shards_and_index_have_the_same_names(model: str) -> None:
    single = open_hdf5(GOLDEN / model / "tf-h5/tf_model.h5").tensors
    folder = GOLDEN / model / "tf-h5-sharded"
    shards = {path.name: open_hdf5(path).tensors for path in folder.glob("*.h5")}
    index = read_json(folder / "tf_model.h5.index.json", CorruptCheckpointError)["weight_map"]
    assert {without_scope(name) for name in index} == set(single) == {name for file in shards.values() for name in file}
    for full, shard in index.items():
        name = without_scope(full)
        assert same(shards[shard][name], single[name].read())


@pytest.mark.parametrize(
    ("full", "name"),
    [
        ("tf_bert/bert/embeddings/weight:0", "bert/embeddings/weight:0"),
        ("shared/shared/embeddings:0", "shared/embeddings:0"),
        ("final_logits_bias:0", "final_logits_bias:0"),
        ("model.shared/model.shared/embeddings:0", "model.shared/model.shared/embeddings:0"),  # of BART
    ],
)
def test_names_lose_their_scope_as_in_shards(full: str, name: str) -> None:
    assert without_scope(full) == name


def test_weights_that_layers_share_are_one(tmp_path: Path) -> None:
    found = open_hdf5(GOLDEN / "t5-tied/tf-h5/tf_model.h5")
    holders = [group for group, names in found.layers.items() if "shared/shared/embeddings:0" in names]
    assert len(holders) == 3
    assert list(found.tensors).count("shared/embeddings:0") == 1


# -- made with h5py ------------------------------------------------------------------------------------------------

ONES = np.ones((4, 6), np.float32)
Make = Callable[[h5py.File], Any]


def made(path: Path, make: Make, names: object = ("w",), **options: Any) -> Path:
    """Write a shard whose layer_names are `names` and whose contents `make` adds."""
    with h5py.File(path, "w", **options) as file:
        make(file)
        if names is not None:
            file.attrs["layer_names"] = [n.encode() for n in names] if isinstance(names, tuple) else names
    return path


def opened(folder: Path, make: Make, names: object = ("w",), **options: Any) -> Hdf5File:
    return open_hdf5(made(folder / "tf_model.h5", make, names, **options))


LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (3, 4)},
    "one chunk": {"chunks": (16, 11)},
    "a tree of chunks": {"chunks": (1, 1)},
    "gzip": {"chunks": (5, 4), "compression": "gzip"},
    "shuffle": {"chunks": (5, 4), "shuffle": True},
    "both": {"chunks": (5, 4), "compression": "gzip", "compression_opts": 9, "shuffle": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f2", "f8", "i1", "<i8", ">u2"])
@pytest.mark.parametrize("fixed", [True, False])
def test_every_layout_and_dtype(layout: str, dtype: str, fixed: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    values = (rng.standard_normal((17, 11)) * 50).astype(dtype)
    names = np.array([b"w"]) if fixed else ("w",)
    path = made(tmp_path / "x.h5", lambda f: f.create_dataset("w", data=values, **LAYOUTS[layout]), names)
    for mmap in (True, False):
        assert same(open_hdf5(path, mmap).tensors["w"], values.astype(values.dtype.newbyteorder("=")))


def compact(file: h5py.File, name: str, values: np.ndarray) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(values.shape)
    dataset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(values.dtype), space, dcpl=plist)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
@pytest.mark.parametrize("options", [{}, {"chunks": True, "maxshape": (None,), "compression": "gzip"}])
def test_scalars_and_empty_arrays(shape: tuple[int, ...], options: dict[str, Any], tmp_path: Path) -> None:
    values = np.full(shape, 7, np.float32)
    extra = options if shape == (0,) else {}
    assert same(opened(tmp_path, lambda f: f.create_dataset("w", data=values, **extra)).tensors["w"], values)


def test_compact_datasets(tmp_path: Path) -> None:
    values = np.arange(100, dtype=np.int16)
    ref = opened(tmp_path, lambda f: compact(f, "w", values)).tensors["w"]
    ref.read()[:] = 0
    assert same(ref, values)


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    assert opened(tmp_path, lambda f: None, ()).tensors == {}


def test_writing_into_a_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    found = opened(tmp_path, lambda f: f.create_dataset("w", data=ONES))
    before = found.path.read_bytes()
    found.tensors["w"].read()[:] = 7
    assert found.path.read_bytes() == before


@pytest.mark.parametrize("count", [10, 1000, 3000])
def test_long_lists_are_split_as_keras_splits_them(count: int, tmp_path: Path) -> None:
    names = [f"layer_{number:05}/{'k' * (number % 90 + 1)}" for number in range(count)]
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        save_attributes_to_hdf5_group(file, "layer_names", [name.encode() for name in names])
        for name in names:
            file[name] = np.float32(1)
        theirs = {key: (np.asarray(value).dtype, np.asarray(value).tolist()) for key, value in file.attrs.items()}
    assert list(open_hdf5(tmp_path / "theirs.h5").tensors) == names
    with (tmp_path / "ours.h5").open("x+b") as stream:
        write_hdf5_shard(stream, [TensorRef.of(name, np.ones((), np.float32)) for name in names])
    with h5py.File(tmp_path / "ours.h5") as file:
        assert load_attributes_from_hdf5_group(file, "layer_names") == names
        ours = {key: (np.asarray(value).dtype, np.asarray(value).tolist()) for key, value in file.attrs.items()}
    assert ours == theirs
    assert len(ours) == {10: 1, 1000: 2, 3000: 5}[count]


def shared(first: np.ndarray, second: np.ndarray) -> Make:
    def make(file: h5py.File) -> None:
        for group, values in {"a": first, "b": second}.items():
            file.create_group(group).attrs["weight_names"] = [b"s/w:0"]
            file[group]["s/w:0"] = values

    return make


def test_copies_that_differ_are_noticed(tmp_path: Path) -> None:
    nan = np.full(3, np.nan, np.float32)
    assert same(opened(tmp_path, shared(nan, nan), ("a", "b")).tensors["w:0"], nan)
    ref = opened(tmp_path, shared(ONES, ONES * 2), ("a", "b")).tensors["w:0"]
    with pytest.raises(CorruptCheckpointError, match="different values"):
        ref.read()
    with pytest.raises(CorruptCheckpointError, match="several forms"):
        opened(tmp_path, shared(ONES, ONES.astype(np.float16)), ("a", "b"))


# -- attacks -------------------------------------------------------------------------------------------------------


def external(file: h5py.File) -> None:
    outside = Path(file.filename).with_name("outside.bin")
    outside.write_bytes(bytes(96))
    file.create_dataset("w", (4, 6), "f4", external=[(str(outside), 0, 96)])


def virtual(file: h5py.File) -> None:
    os.mkfifo(Path(file.filename).with_name("fifo.h5"))  # opening the source would block for ever
    layout = h5py.VirtualLayout((4, 6), "f4")
    layout[:] = h5py.VirtualSource(Path(file.filename).with_name("fifo.h5"), "w", (4, 6))
    file.create_virtual_dataset("w", layout)


def cycle(file: h5py.File) -> None:
    file.create_group("a/b")
    file["a/b/c"] = file["a"]
    file["w"] = ONES


def unwritten(file: h5py.File, shape: tuple[int, ...], **options: Any) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if options:
        plist.set_chunk(options["chunks"])
        plist.set_deflate(9)
    h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(shape), dcpl=plist)


def direct(data: bytes, mask: int = 0, shape: tuple[int, int] = (4, 6)) -> Make:
    """Return a maker of a dataset of one gzip chunk that holds `data`."""

    def make(file: h5py.File) -> None:
        dataset = file.create_dataset("w", shape, "f4", chunks=shape, compression="gzip")
        dataset.id.write_direct_chunk((0, 0), data, mask)

    return make


def odd_float(file: h5py.File) -> None:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(126)  # bfloat16 but for this
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((4,)))


def listed(names: object, *paths: str, attribute: str = "weight_names") -> Make:
    """Return a maker of a layer "g" with a list of weights and the datasets that are there."""

    def make(file: h5py.File) -> None:
        group = file.create_group("g")
        group.attrs[attribute] = [n.encode() for n in names] if isinstance(names, list) else names
        for path in paths:
            file[path] = ONES

    return make


def with_ones(other: Make) -> Make:
    return lambda file: (file.create_dataset("w", data=ONES), other(file))


COMPOUND = np.zeros(3, [("a", "f4"), ("b", "i4")])
BAD: dict[str, tuple[Make, object, type[TriptychError]]] = {
    "soft link": (lambda f: f.update({"v": ONES, "w": h5py.SoftLink("/v")}), ("w",), UnsafeCheckpointError),
    "dangling soft link": (lambda f: f.update({"w": h5py.SoftLink("/none")}), ("w",), UnsafeCheckpointError),
    "soft link loop": (lambda f: f.update({"w": h5py.SoftLink("/w")}), ("w",), UnsafeCheckpointError),
    "external link": (lambda f: f.update({"w": h5py.ExternalLink("x.h5", "/w")}), ("w",), UnsafeCheckpointError),
    "external link below": (
        with_ones(lambda f: f.create_group("a").update({"b": h5py.ExternalLink("x.h5", "/w")})),
        ("w",),
        UnsafeCheckpointError,
    ),
    "external storage": (external, ("w",), UnsafeCheckpointError),
    "virtual dataset": (virtual, ("w",), UnsafeCheckpointError),
    "hard link cycle": (cycle, ("w",), CorruptCheckpointError),
    "link to the root": (with_ones(lambda f: f.update({"r": f["/"]})), ("w",), CorruptCheckpointError),
    "one dataset twice": (with_ones(lambda f: f.update({"v": f["w"]})), ("v", "w"), CorruptCheckpointError),
    "deep": (with_ones(lambda f: f.create_group("/".join("a" * 100))), ("w",), LimitError),
    "long name": (lambda f: f.update({"w" * 5000: ONES}), ("w" * 5000,), LimitError),
    "named type": (with_ones(lambda f: f.update({"t": np.dtype("f4")})), ("w",), UnsupportedFormatError),
    "text": (lambda f: f.create_dataset("w", data="text"), ("w",), UnsupportedFormatError),
    "fixed text": (lambda f: f.create_dataset("w", data=np.array([b"ab"])), ("w",), UnsupportedFormatError),
    "ragged": (lambda f: f.create_dataset("w", (3,), h5py.vlen_dtype("f4")), ("w",), UnsupportedFormatError),
    "reference": (lambda f: f.create_dataset("w", (3,), h5py.ref_dtype), ("w",), UnsupportedFormatError),
    "compound": (lambda f: f.create_dataset("w", data=COMPOUND), ("w",), UnsupportedFormatError),
    "bool": (lambda f: f.create_dataset("w", data=np.ones(3, bool)), ("w",), UnsupportedFormatError),
    "opaque": (lambda f: f.create_dataset("w", data=np.zeros(3, "V4")), ("w",), UnsupportedFormatError),
    "array type": (lambda f: f.create_dataset("w", (3,), np.dtype(("f4", (2,)))), ("w",), UnsupportedFormatError),
    "complex": (lambda f: f.create_dataset("w", data=np.ones(3, "c8")), ("w",), UnsupportedFormatError),
    "odd float": (odd_float, ("w",), UnsupportedFormatError),
    "null": (lambda f: f.create_dataset("w", data=h5py.Empty("f4")), ("w",), UnsupportedFormatError),
    "8 PiB never written": (lambda f: unwritten(f, (2**25, 2**26)), ("w",), LimitError),
    "4 GiB never written": (lambda f: unwritten(f, (2**30,)), ("w",), CorruptCheckpointError),
    "axis": (lambda f: unwritten(f, (2**50, 0)), ("w",), LimitError),
    "axes": (lambda f: unwritten(f, (0, 2**40, 2**40)), ("w",), LimitError),
    "chunks never written": (lambda f: unwritten(f, (100, 100), chunks=(10, 10)), ("w",), CorruptCheckpointError),
    "many chunks": (lambda f: unwritten(f, (2**20, 2**8), chunks=(1, 1)), ("w",), LimitError),
    "gzip bomb": (direct(zlib.compress(bytes(96)), shape=(2**11, 2**11)), ("w",), LimitError),
    "lzf": (lambda f: f.create_dataset("w", data=ONES, compression="lzf"), ("w",), UnsupportedFormatError),
    "fletcher": (lambda f: f.create_dataset("w", data=ONES, fletcher32=True), ("w",), UnsupportedFormatError),
    "scale offset": (lambda f: f.create_dataset("w", (9,), "i4", scaleoffset=3), ("w",), UnsupportedFormatError),
    "no names": (lambda f: f.update({"w": ONES}), None, CorruptCheckpointError),
    "names are numbers": (lambda f: f.update({"w": ONES}), np.arange(3), CorruptCheckpointError),
    "names are ragged": (lambda f: f.update({"w": ONES}), np.array([[b"w"]]), CorruptCheckpointError),
    "names no utf-8": (lambda f: f.update({"w": ONES}), np.array([b"\xff"]), CorruptCheckpointError),
    "absent": (lambda f: f.update({"w": ONES}), ("v", "w"), CorruptCheckpointError),
    "not listed": (lambda f: f.update({"v": ONES, "w": ONES}), ("w",), CorruptCheckpointError),
    "listed twice": (lambda f: f.update({"w": ONES}), ("w", "w"), CorruptCheckpointError),
    "empty name": (lambda f: f.update({"w": ONES}), ("", "w"), CorruptCheckpointError),
    "group without list": (lambda f: f.create_group("g"), ("g",), CorruptCheckpointError),
    "layer and dataset": (with_ones(listed(["w"], "g/w")), ("g",), CorruptCheckpointError),
    "weight absent": (listed(["v", "w"], "g/w"), ("g",), CorruptCheckpointError),
    "weight not listed": (listed(["w"], "g/w", "g/v"), ("g",), CorruptCheckpointError),
    "weight twice": (listed(["w", "w"], "g/w"), ("g",), CorruptCheckpointError),
    "weight elsewhere": (listed(["../v"], "g/w", "v"), ("g",), CorruptCheckpointError),
    "weight list a number": (listed(3, "g/w"), ("g",), CorruptCheckpointError),
    "whole model": (lambda f: f.create_group("model_weights").attrs.update({"layer_names": [b"a"]}), None,
                    UnsupportedFormatError),
    "keras 3": (lambda f: f.update({"layers/dense/vars/0": ONES}), None, UnsupportedFormatError),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(name: str, tmp_path: Path) -> None:
    make, names, error = BAD[name]
    with pytest.raises(error) as caught:
        opened(tmp_path, make, names)
    assert type(caught.value) is error
    assert "tf_model.h5" in str(caught.value)


CHUNKS = {
    "cut": zlib.compress(bytes(96))[:-8],
    "junk": b"junk",
    "too short": zlib.compress(bytes(92)),
    "bomb": zlib.compress(bytes(2**24)),
    "wrong checksum": zlib.compress(bytes(96))[:-1] + b"x",
    "no checksum": zlib.compress(bytes(96))[:-4],
    "bytes after the end": zlib.compress(bytes(96)) + b"x",
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_chunks_that_lie_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpointError):
        opened(tmp_path, direct(CHUNKS[kind])).tensors["w"].read()


@pytest.mark.parametrize("layout", ["gzip", "both"])
def test_a_damaged_gzip_chunk_never_reads_as_other_values(layout: str, tmp_path: Path) -> None:
    """Each byte of each chunk is changed in three ways; what libhdf5 refuses is refused here."""
    values = np.arange(42, dtype=np.float32).reshape(6, 7)
    path = made(tmp_path / "x.h5", lambda f: f.create_dataset("w", data=values, **LAYOUTS[layout]))
    with h5py.File(path) as file:
        chunks = [file["w"].id.get_chunk_info(number) for number in range(file["w"].id.get_num_chunks())]
    whole = path.read_bytes()
    refused = 0
    for at in [chunk.byte_offset + place for chunk in chunks for place in range(chunk.size)]:
        for change in (0x01, 0x80, 0xFF):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
            try:
                theirs = datasets(path)["w"].tobytes()
            except OSError:
                theirs = None
            try:
                ours = open_hdf5(path).tensors["w"].read().tobytes()
            except CorruptCheckpointError:
                ours = None
            assert ours == values.tobytes() or ours is None
            assert theirs is not None or ours is None
            refused += ours is None
    assert refused > len(chunks) * 50


def test_chunks_whose_filter_was_skipped_are_read(tmp_path: Path) -> None:
    assert same(opened(tmp_path, direct(ONES.tobytes(), 1)).tensors["w"], ONES)
    with pytest.raises(CorruptCheckpointError, match="wrong size"):
        opened(tmp_path, direct(ONES.tobytes()[:-4], 1)).tensors["w"].read()


def test_newer_forms_of_hdf5_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match="libver='earliest'"):
        opened(tmp_path, lambda f: f.update({"w": ONES}), libver="latest")


def test_the_number_of_entries_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "x.h5", lambda f: [f.create_group(str(n)) for n in range(50)], ())
    assert open_hdf5(path).tensors == {}
    monkeypatch.setattr(structures, "MAX_ENTRIES", 40)
    with pytest.raises(LimitError, match="entries"):
        open_hdf5(path)


def test_one_string_named_often_costs_no_memory(tmp_path: Path) -> None:
    path = made(tmp_path / "x.h5", lambda f: f.update({"w": ONES}), ("w", *(f"{n:04}" + "k" * 4090 for n in range(40))))
    data = bytearray(path.read_bytes())
    at = data.index((4094).to_bytes(4, "little"))
    for number in range(1, 40):
        data[at + 16 * number : at + 16 * number + 16] = data[at : at + 16]
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpointError, match="not there, or some twice"):
        open_hdf5(path)


def test_a_heap_that_libhdf5_never_finishes_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "x.h5", lambda f: f.update({"w": ONES}))
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    data[heap + 24 : heap + 32] = b"\xff" * 8  # the length of its first object
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpointError):
        open_hdf5(path)


def test_datasets_may_not_share_bytes(tmp_path: Path) -> None:
    path = made(tmp_path / "x.h5", lambda f: f.update({"v": ONES, "w": ONES * 2}), ("v", "w"))
    with h5py.File(path) as file:
        first, second = (file[name].id.get_offset() for name in ("v", "w"))
        header = h5py.h5o.get_info(file["v"].id).addr
    whole = path.read_bytes()
    place = whole.index(second.to_bytes(8, "little") + (96).to_bytes(8, "little"))
    for other in (first, first + 8, header):
        path.write_bytes(whole[:place] + other.to_bytes(8, "little") + whole[place + 8 :])
        with pytest.raises(CorruptCheckpointError, match="used twice"):
            open_hdf5(path)


AROUND = {
    "prefix": lambda data: bytes(512) + data,
    "trailing byte": lambda data: data + b"x",
    "empty": lambda data: b"",
    "signature": lambda data: data[:5],
    "superblock": lambda data: data[:60],
    "version": lambda data: data[:8] + b"\x09" + data[9:],
    "git lfs": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n",
    "zip": lambda data: b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("kind", AROUND)
def test_what_is_no_whole_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = made(tmp_path / "x.h5", lambda f: f.update({"w": ONES}))
    path.write_bytes(AROUND[kind](path.read_bytes()))
    with pytest.raises((CorruptCheckpointError, UnsupportedFormatError)) as caught:
        open_hdf5(path)
    assert {"git lfs": "git lfs pull", "zip": "zip archive"}.get(kind, "") in str(caught.value)


def test_user_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpointError):
        opened(tmp_path, lambda f: f.update({"w": ONES}), userblock_size=512)


def test_missing_fifo_folder_and_changed_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        open_hdf5(tmp_path / "none")
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(UnsupportedFormatError):
            open_hdf5(tmp_path / name)
    found = opened(tmp_path, lambda f: f.update({"w": ONES}))
    found.path.write_bytes(b"x")
    with pytest.raises(ChangedFileError, match="changed"):
        found.tensors["w"].read()


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = SHARDS[0].read_bytes()
    path = tmp_path / "x.h5"
    for length in [*range(0, 100), *range(100, len(whole), 499), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(TruncatedCheckpointError):
            open_hdf5(path)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fixed", [True, False])
def test_damage_never_escapes_the_error_tree(seed: int, fixed: bool, tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        for number, layout in enumerate(LAYOUTS.values()):
            file.create_dataset(f"a/b{number}/c", data=np.arange(187, dtype=np.int16).reshape(17, 11), **layout)
        compact(file, "a/d", np.arange(3))

    names = (*(f"a/b{number}/c" for number in range(len(LAYOUTS))), "a/d")
    path = made(tmp_path / "x.h5", make, np.array([name.encode() for name in names]) if fixed else names)
    whole = path.read_bytes()
    places = [at for at, byte in enumerate(whole) if any(whole[max(0, at - 8) : at + 8])]  # not in the holes
    rng = random.Random(seed)
    outcomes = {True: 0, False: 0}
    for _ in range(250):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.choice(places)] = rng.choice([0, 255, rng.randrange(256)])
        path.write_bytes(data)
        try:
            for ref in open_hdf5(path, mmap=False).tensors.values():
                values = ref.read()
                assert (values.dtype, values.shape, values.nbytes) == (ref.dtype, ref.shape, ref.nbytes)
            outcomes[True] += 1
        except TriptychError:
            outcomes[False] += 1
    assert min(outcomes.values()) > 20  # both happen: the format has no checksum of its values


# -- writing -------------------------------------------------------------------------------------------------------


def rewritten(found: Hdf5File, path: Path) -> Path:
    with path.open("x+b") as stream:
        if found.layers:
            layers = {
                group: [replace(found.tensors[without_scope(name)], name=name) for name in names]
                for group, names in found.layers.items()
            }
            write_hdf5(stream, layers, found.metadata)
        else:
            write_hdf5_shard(stream, found.tensors.values(), found.metadata)
    return path


def structure(path: Path) -> dict[str, Any]:
    """Return everything that a reader can ask an HDF5 file for, except how the space is allocated."""

    def attributes(item: h5py.HLObject) -> dict[str, Any]:
        found = {}
        for key in item.attrs:
            kind = item.attrs.get_id(key).get_type()
            text = (kind.is_variable_str(), kind.get_cset()) if isinstance(kind, h5py.h5t.TypeStringID) else None
            found[key] = (type(kind), text, item.attrs.get_id(key).shape, np.asarray(item.attrs[key]).tolist())
        return found

    def add(name: str, item: h5py.HLObject) -> None:
        values = ()
        if isinstance(item, h5py.Dataset):
            values = (item.dtype, item.shape, item.chunks, item.maxshape, item[()].tobytes())
        result[name] = (type(item), attributes(item), *values)

    with h5py.File(path) as file:
        result: dict[str, Any] = {"": attributes(file)}
        file.visititems(add)
    return result


@pytest.mark.parametrize("path", FILES, ids=label)
def test_a_golden_file_is_rewritten_with_its_structure(path: Path, tmp_path: Path) -> None:
    found = open_hdf5(path)
    copy = rewritten(found, tmp_path / "copy.h5")
    assert structure(copy) == structure(path)
    again = open_hdf5(copy)
    assert (again.layers, again.metadata, list(again.tensors)) == (found.layers, found.metadata, list(found.tensors))
    assert rewritten(again, tmp_path / "second.h5").read_bytes() == copy.read_bytes()


def test_defaults_of_a_single_file(tmp_path: Path) -> None:
    with (tmp_path / "x.h5").open("x+b") as stream:
        write_hdf5(stream, {"b": [], "a": [TensorRef.of("s/w:0", ONES)], TOP_LEVEL: [TensorRef.of("t:0", ONES)]})
        assert stream.tell() == (tmp_path / "x.h5").stat().st_size
    found = open_hdf5(tmp_path / "x.h5")
    assert found.layers == {"b": (), "a": ("s/w:0",), TOP_LEVEL: ("t:0",)}
    assert found.metadata == {"backend": "tensorflow", "keras_version": "2.15.0"}
    assert list(found.tensors) == ["w:0", "t:0"]


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed": lambda a: a.T,
    "reversed": lambda a: a[::-1],
    "big endian": lambda a: a.astype(">f4"),
    "half": lambda a: a.astype(np.float16),
    "double": lambda a: a.astype(np.float64),
    "byte": lambda a: a.astype(np.int8),
    "scalar": lambda a: a[0, 0].reshape(()),
    "empty": lambda a: a[:0],
}


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_survive_a_file_bit_for_bit(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    values = KINDS[kind](rng.standard_normal((6, 9)).astype(np.float32))
    with (tmp_path / "x.h5").open("x+b") as stream:
        write_hdf5_shard(stream, [TensorRef.of("a/w", values), TensorRef.of("b", ONES)])
    native = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))).reshape(values.shape)
    assert same(open_hdf5(tmp_path / "x.h5").tensors["a/w"], native)
    assert datasets(tmp_path / "x.h5")["a/w"].tobytes() == native.tobytes()


def test_bfloat16_is_kept_and_h5py_reads_it_as_float32(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((5, 3)).astype(ml_dtypes.bfloat16)
    with (tmp_path / "x.h5").open("x+b") as file:
        write_hdf5_shard(file, [TensorRef.of("a/w", values)])
    assert same(open_hdf5(tmp_path / "x.h5").tensors["a/w"], values)
    with h5py.File(tmp_path / "x.h5") as opened:
        assert np.array_equal(opened["a/w"][...], values.astype(np.float32))


@pytest.mark.parametrize("values", [ONES.astype(ml_dtypes.float8_e5m2), ONES > 0, ONES.astype("c8"), np.array([None])])
def test_dtypes_that_hdf5_lacks_are_refused(values: np.ndarray) -> None:
    stream = io.BytesIO()
    with pytest.raises(UnsupportedFormatError):
        write_hdf5_shard(stream, [TensorRef.of("w", values)])
    assert stream.getvalue() == b""


@pytest.mark.parametrize(
    "names", [["a", "a"], ["a", "a/b"], ["a/b", "a"], [""], ["/a"], ["a/../b"], ["a\0"], ["a" * 5000]]
)
def test_names_that_hdf5_cannot_hold_are_refused_before_anything_is_written(names: list[str]) -> None:
    refs = [TensorRef.of(name, ONES) for name in names]
    stream = io.BytesIO()
    with pytest.raises(SaveError):
        write_hdf5_shard(stream, refs)
    with pytest.raises(SaveError):
        write_hdf5(stream, {"g": refs})
    assert stream.getvalue() == b""


def test_a_weight_that_is_a_layer_is_refused() -> None:
    with pytest.raises(SaveError):
        write_hdf5(io.BytesIO(), {"a": [TensorRef.of("b", ONES)], "a/b": [TensorRef.of("c", ONES)]})


def test_a_tensor_that_changed_its_shape_is_refused() -> None:
    with pytest.raises(SaveError, match="changed"):
        write_hdf5_shard(io.BytesIO(), [TensorRef("a", np.dtype(np.float32), (2,), lambda: np.zeros(1, np.float32))])


class FullDisk(io.BytesIO):
    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 96, 500, 1500, 3000, 9000])
def test_a_full_disk_is_an_ordinary_error(room: int) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        write_hdf5_shard(FullDisk(room), [TensorRef.of(f"a{n}/w", np.ones(500)) for n in range(9)])
    assert caught.value.errno == 28


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    alive = most = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= self.base is None

    def make() -> np.ndarray:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return np.ndarray.__new__(Counted, (1000,), np.float32)

    with (tmp_path / "x.h5").open("x+b") as stream:
        write_hdf5_shard(stream, [TensorRef(f"w{n}", np.dtype(np.float32), (1000,), make) for n in range(9)])
    assert 1 <= most <= 2


def test_no_framework_is_imported() -> None:
    code = (
        "import sys; from pathlib import Path; from triptych.formats.hdf5.file import open_hdf5\n"
        f"[ref.read() for ref in open_hdf5(Path({str(FILES[0])!r})).tensors.values()]\n"
        "import triptych.formats.hdf5.writer\n"
        "print({'torch', 'tensorflow', 'keras', 'jax', 'flax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
