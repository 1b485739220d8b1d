"""Rows of the contract about the files that a save writes, and what it leaves as it is."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from probing import IN_ALL, STEM, messages, same, saved, shows, small
from triptych import (
    ConfigError,
    SaveError,
    TensorRef,
    TriptychError,
    save_checkpoint,
)
from triptych.formats.kinds import BIN, H5, MSGPACK, OWN, SAFETENSORS, with_variant
from triptych.formats.safetensors import open_safetensors
from triptych_conformance import Backend
from walk import row


@shows("1.1 1.3 1.4 1.5 1.7 1.11 1.12 1.13 1.20 5.5.1 5.5.32 5.6.1 5.6.6 5.6.8 6.84 6.90 6.106 7.59 8.37 11.18")
@shows("11.22 11.49 5.5.53 5.5.70 8.29 8.36 8.50 11.30 11.43 11.44 6.96 6.105 7.50 8.44")
def every_format_alone_and_in_shards(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for kind in (SAFETENSORS, BIN, H5, MSGPACK):
        model.save_pretrained(folder / kind.name, format=kind.name, variant="v")
        assert {path.name for path in (folder / kind.name).iterdir()} == {"config.json", with_variant(kind.single, "v")}
        model.save_pretrained(folder / kind.name, format=kind.name, max_shard_size="5KB")
        text = (folder / kind.name / kind.index).read_text()
        index = json.loads(text)
        assert text == json.dumps(index, indent=2, sort_keys=True) + "\n"
        assert {"total_size", "total_parameters"} <= index["metadata"].keys()
        assert len(set(index["weight_map"].values())) > 2
        for variant in (None, "v"):
            assert same(backend, backend.load(STEM, folder / kind.name, variant=variant), model)


@shows("1.14")
def names_in_an_index(backend: Backend, folder: Path) -> None:
    model = small(backend)
    names = {SAFETENSORS: "bert.pooler.dense.weight", BIN: "bert.pooler.dense.weight",
             H5: "bert/pooler/dense/kernel:0", MSGPACK: "bert/pooler/dense/kernel"}  # fmt: skip
    for kind, name in names.items():
        model.save_pretrained(folder / kind.name, format=kind.name, max_shard_size="5KB")
        keys = json.loads((folder / kind.name / kind.index).read_text())["weight_map"]
        assert [key for key in keys if key.endswith(name)], kind


@shows("1.15 1.16", pt="Y")
@shows("1.17", pt="Y", tf="Y")
@shows("1.18", pt="Y", flax="Y")
@shows("1.19", pt="Y")
@shows("5.6.7 5.6.9 6.87 11.21")
def what_a_save_writes_by_default(backend: Backend, folder: Path) -> None:
    cls = backend.cls("PreTrainedModel")
    told = inspect.signature(cls.save_pretrained).parameters
    assert (told["max_shard_size"].default, told["safe_serialization"].default) == ("5GB", True)
    assert inspect.signature(cls.push_to_hub).parameters["max_shard_size"].default is None, "that of a save"
    model, other = small(backend), small(backend)
    model.save_pretrained(folder, token="x")
    other.save_pretrained(folder / "other", safe_serialization=False)
    name = OWN[backend.name].single
    (folder / "other" / name).rename(folder / name)
    assert same(backend, backend.load(STEM, folder), model), "safetensors are preferred"
    assert same(backend, backend.load(STEM, folder, use_safetensors=False), other)
    assert "classifier.weight" in load_file(folder / "model.safetensors")


@shows("1.21 1.22")
def tensors_fill_shards_in_order(backend: Backend, folder: Path) -> None:
    sizes = {"a": 1000, "b": 100, "c": 100, "d": 50, "e": 100}
    refs = [TensorRef.of(name, np.zeros(size, np.float32)) for name, size in sizes.items()]
    save_checkpoint(folder, refs, max_shard_size=1000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    shards: dict[str, str] = {}
    for name, file in index.items():
        shards[file] = shards.get(file, "") + name
    assert [shards[file] for file in sorted(shards)] == ["a", "bcd", "e"]


@shows("1.28 5.6.31")
def a_save_that_fails_changes_nothing(backend: Backend, folder: Path) -> None:
    (folder / "file").write_text("mine")
    model = small(backend)
    with pytest.raises(SaveError):
        model.save_pretrained(folder / "file")
    assert (folder / "file").read_text() == "mine"
    model.save_pretrained(folder / "there")
    other = small(backend)
    other.config.num_hidden_layers = 0
    with pytest.raises(ConfigError):
        other.save_pretrained(folder / "there")
    assert same(backend, backend.load(STEM, folder / "there"), model)


@shows("11.45 11.46")
def what_was_saved_last_is_loaded(backend: Backend, folder: Path) -> None:
    (folder / "model.md").write_text("mine")
    small(backend).save_pretrained(folder)
    model = small(backend)
    model.save_pretrained(folder, max_shard_size="5KB")
    assert same(backend, backend.load(STEM, folder), model) and (folder / "model.md").read_text() == "mine"


# -- names, sizes, and the files of others


@row("1.6", note="the error names the format and the remedy", pt="R", tf="R", flax="R")
@row("5.5.52", note="a checkpoint of TensorFlow 1 is refused by name", pt="R")
@row("5.5.4", note="a checkpoint of TensorFlow 1 is refused by name", pt="R")
def a_checkpoint_of_tensorflow_1(backend: Backend, folder: Path) -> None:
    saved(backend, folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.ckpt.index").write_bytes(b"x")
    for path in (folder, folder / "model.ckpt.index", folder / "model.ckpt"):
        with pytest.raises(TriptychError, match="checkpoint of TensorFlow 1, which is not read.*transformers 4"):
            backend.load("BertForSequenceClassification", path)


@row(
    "1.10",
    note="where their names are in use, one shard more; `model.g<save id>-...` if none can be divided, and for msgpack",
    **IN_ALL,
)
def shards_have_conventional_names(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for _ in range(3):
        model.save_pretrained(folder, max_shard_size="5KB")
        names = sorted(path.name for path in folder.glob("model*.safetensors"))
        assert names == [f"model-{k:05d}-of-{len(names):05d}.safetensors" for k in range(1, len(names) + 1)]
        assert len(names) > 2
    assert same(backend, backend.load("BertForSequenceClassification", folder), model)


@row("1.15", note="'pt', which all readers take; format='safetensors-tf' writes 'tf'", tf="Y", flax="Y")
@row("1.16", note="PyTorch's, so that one file is for all; format='safetensors-tf' writes TF's", tf="Y", flax="Y")
def safetensors_of_each_framework(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for format, kind in (("safetensors", "pt"), (f"safetensors-{backend.name}", backend.name)):
        model.save_pretrained(folder, format=format)
        file = open_safetensors(folder / "model.safetensors")
        assert file.metadata["format"] == kind
        assert ("classifier.weight" in file.tensors) == (kind == "pt")
        assert same(backend, backend.load("BertForSequenceClassification", folder), model)


@row("5.5.61", note="in shards too", pt="Y")
def safetensors_of_the_other_frameworks(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for kind in ("tf", "flax"):
        for size in ("5GB", "5KB"):
            place = folder / kind / size
            model.save_pretrained(place, format=f"safetensors-{kind}", max_shard_size=size)
            files = list(place.glob("*.safetensors"))
            assert (len(files) > 2) == (size == "5KB")
            assert {open_safetensors(file).metadata["format"] for file in files} == {kind}
            assert same(backend, backend.load(STEM, place), model)


@row("1.19", note="True in all three: safetensors, which every reader prefers", tf="Y", flax="Y")
@row("6.86", note="True by default", tf="Y")
@row("1.17", note="5GB in all three", flax="Y")
@row("1.18", note="5GB in all three", tf="Y")
def an_older_format_is_asked_for(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    assert {path.name for path in folder.iterdir()} >= {"model.safetensors"}
    model.save_pretrained(folder, safe_serialization=False)
    assert (folder / OWN[backend.name].single).is_file()
    assert same(backend, backend.load("BertForSequenceClassification", folder), model)


@row(
    "1.27",
    note="what some reader would take in place of the new: `<name>.stale`, or deleted if a save of ours wrote it",
    **IN_ALL,
)
def weights_of_other_formats_survive(backend: Backend, folder: Path) -> None:
    model = small(backend)
    others = ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"]
    for name in others:
        (folder / name).write_bytes(name.encode())
    with messages() as said:
        model.save_pretrained(folder)
    assert [text for text in said if "flax_model.msgpack.stale" in text], "v4's Flax classes take it first"
    kept = [*others[:2], "flax_model.msgpack.stale"]
    assert [(folder / name).read_bytes().decode() for name in kept] == others
    assert same(backend, backend.load("BertForSequenceClassification", folder), model)
    model.save_pretrained(folder, remove_stale=True)
    assert not [name for name in others if (folder / name).exists()]


@row("1.24", note="and TB and fractions; bits of binary units are refused", **IN_ALL)
def size_texts(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for number, size in enumerate((5000, "5KB", "40Kb", "4.9KiB", "0.000005GB")):
        model.save_pretrained(folder / str(number), max_shard_size=size)
        assert (folder / str(number) / "model.safetensors.index.json").is_file()
    for size in ("1TB", "8Gb", 10**9):
        model.save_pretrained(folder / "one", max_shard_size=size)
        assert (folder / "one/model.safetensors").is_file()


@row("1.26", **IN_ALL)
def foreign_files_survive(backend: Backend, folder: Path) -> None:
    names = ("modeling_mine.py", "model.txt", "model.safetensors.bak")
    for name in names:
        (folder / name).write_text("mine")
    saved(backend, folder, num_labels=3)
    saved(backend, folder)
    assert all((folder / name).read_text() == "mine" for name in names)


@row("1.25", **IN_ALL)
def old_shards_are_removed(backend: Backend, folder: Path) -> None:
    model = small(backend)
    refs = [TensorRef.of(f"t{i}", np.zeros(64)) for i in range(4)]
    save_checkpoint(folder, refs, max_shard_size=512)
    for file in folder.glob("*.safetensors"):
        save_file(load_file(file), file)  # as another library would have written it
    model.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
