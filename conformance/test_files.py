"""Checkpoints as files: every format into every other and back, and surgery that equals that of the live model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from golden_models import GOLDEN, Golden
from small_models import config_of, random_folder
from triptych import AutoConfig, MissingFileError, open_checkpoint
from triptych.families import declared_schema
from triptych.formats.hdf5.file import TOP_LEVEL, open_hdf5
from triptych.formats.kinds import FORMATS
from triptych.tools import editing
from triptych.tools.source import open_source
from triptych.weights.layouts import native_path
from triptych.weights.plan import Policy, plan_load
from triptych_conformance import BACKENDS, Backend

FOLDERS = [path for name in Golden.stems for path in sorted((GOLDEN / name).iterdir()) if path.is_dir()]


def canonical_bytes(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return dtype, shape and bytes of every weight, once, by canonical name."""
    tensors = editing.open_draft(folder).tensors
    return {name: (ref.dtype.name, ref.shape, ref.read().tobytes()) for name, ref in tensors.items()}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_folder_becomes_every_format_and_comes_back_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    expected = canonical_bytes(folder)
    own = open_source(folder).format
    for format in FORMATS.values():
        for size in ("5GB", "16KB"):
            there, back = tmp_path / f"{format.name}-{size}", tmp_path / f"{format.name}-{size}-back"
            files = editing.write(editing.open_draft(folder), there, format, max_shard_size=size)
            assert (files[-1].suffix == ".json") == (size == "16KB")
            assert open_source(there).format is format
            assert canonical_bytes(there) == expected
            editing.write(editing.open_draft(there), back, own)
            assert canonical_bytes(back) == expected
            assert open_source(back).config == json.loads((folder / "config.json").read_text())


WRITTEN = [
    (name, kind, format)
    for name in Golden.stems
    for kind, format in (("flax-msgpack", "msgpack"), ("tf-h5", "h5"), ("tf-h5-sharded", "h5"))
    if (GOLDEN / name / kind).is_dir()
]


@pytest.mark.parametrize(("name", "kind", "format"), WRITTEN)
def test_written_files_have_the_structure_of_recorded_ones(name: str, kind: str, format: str, tmp_path: Path) -> None:
    recorded = GOLDEN / name / kind
    size = "16KB" if kind.endswith("sharded") else "5GB"
    draft = editing.open_draft(GOLDEN / name / "pt-safetensors")
    editing.write(draft, tmp_path, FORMATS[format], max_shard_size=size)
    if format == "msgpack":
        assert (tmp_path / "flax_model.msgpack").read_bytes() == (recorded / "flax_model.msgpack").read_bytes()
    elif kind == "tf-h5":
        ours, theirs = (open_hdf5(folder / "tf_model.h5") for folder in (tmp_path, recorded))
        assert set(ours.layers) == {layer for layer, names in theirs.layers.items() if names} | {TOP_LEVEL}
        assert ours.tensors.keys() == theirs.tensors.keys()
        for layer, names in ours.layers.items():
            assert scoped(names) == scoped(theirs.layers[layer])
        assert set(theirs.metadata) <= set(ours.metadata)
    else:
        maps = [json.loads((f / "tf_model.h5.index.json").read_text())["weight_map"] for f in (tmp_path, recorded)]
        assert scoped(maps[0]) == scoped(maps[1])


def scoped(names: Any) -> set[str]:
    """Return names without the number that Keras gives to the second model of a class in one process."""
    return {re.sub(r"^(\w+?)(_\d+)?/", r"\1/", name) for name in names}


Operation = tuple[Callable[[editing.Draft], editing.Draft], Callable[[Any], Any]]
OPERATIONS: dict[str, Operation] = {
    "grow": (lambda d: editing.resize(d, 150, seed=3), lambda m: m.resize_token_embeddings(150, seed=3)),
    "grow normal": (
        lambda d: editing.resize(d, 101, 8, mean_resizing=False),
        lambda m: m.resize_token_embeddings(101, 8, mean_resizing=False),
    ),
    "shrink": (lambda d: editing.resize(d, 40), lambda m: m.resize_token_embeddings(40)),
    "prune": (lambda d: editing.prune(d, {0: [1], 1: [0, 2]}), lambda m: m.prune_heads({0: [1], 1: [0, 2]})),
}
LIVE = [
    (name, operation)
    for name in Golden.stems
    for operation in OPERATIONS
    if name != "llama-gqa" or operation != "prune"
]


@pytest.mark.parametrize(("name", "operation"), [*LIVE, ("llama-gqa", "prune groups")])
def test_surgery_on_files_is_that_on_the_live_model(
    backend: Backend, name: str, operation: str, tmp_path: Path
) -> None:
    heads = {0: [0, 1], 2: [0, 1]}
    groups: Operation = (lambda d: editing.prune(d, heads), lambda m: m.prune_heads(heads))
    on_file, on_model = OPERATIONS.get(operation, groups)
    golden = Golden(name)
    for dtype in ("float32", "bfloat16"):
        source = golden.path / ("pt-safetensors" if dtype == "float32" else "pt-safetensors-bf16")
        model = backend.load(golden.stem, source, param_dtype="auto")
        on_model(model)
        model.save_pretrained(tmp_path / "live")
        editing.write(on_file(editing.open_draft(source)), tmp_path / "file")
        assert canonical_bytes(tmp_path / "file") == canonical_bytes(tmp_path / "live")
        configs = [AutoConfig.from_pretrained(tmp_path / kind).to_dict() for kind in ("file", "live")]
        for values in configs:
            del values["_name_or_path"]
            values.pop("dtype", None), values.pop("torch_dtype", None)
        assert configs[0] == configs[1]
        assert canonical_bytes(tmp_path / "file") != canonical_bytes(source)


@pytest.mark.parametrize("name", Golden.stems)
def test_a_cast_file_is_the_cast_model(backend: Backend, name: str, tmp_path: Path) -> None:
    golden = Golden(name)
    backend.load(golden.stem, golden.folder, param_dtype="bfloat16").save_pretrained(tmp_path / "live")
    editing.write(editing.cast(editing.open_draft(golden.folder), "bfloat16"), tmp_path / "file")
    assert canonical_bytes(tmp_path / "file") == canonical_bytes(tmp_path / "live")
    assert {ref.dtype for ref in open_checkpoint(tmp_path / "file").values()} == {np.dtype(ml_dtypes.bfloat16)}


@pytest.mark.parametrize("format", FORMATS)
def test_opt_saved_in_any_format_fills_any_class(backend: Backend, format: str, tmp_path: Path) -> None:
    folder = random_folder(tmp_path / "first", config_of("opt"), "OPTForCausalLM")
    model = backend.load("OPTForCausalLM", folder)
    for size in ("5GB", "1KB"):
        model.save_pretrained(tmp_path / size, format=format, max_shard_size=size)
        for stem in ("OPTForCausalLM", "OPTModel"):
            # A `.bin` holds the head's name for the embeddings too, which the backbone does not know.
            unknown = ["lm_head.weight"] if (stem, format) == ("OPTModel", "bin") else []
            strict = None if unknown else True
            again, info = backend.load(stem, tmp_path / size, strict=strict, output_loading_info=True)
            assert [name for names in info.values() for name in names] == unknown
            found, expected = (backend.weights(m) for m in (again, backend.load(stem, folder, strict=True)))
            assert {n: a.tobytes() for n, a in found.items()} == {n: a.tobytes() for n, a in expected.items()}


def test_files_of_before_safetensors_and_of_another_framework(backend: Backend, tmp_path: Path) -> None:
    golden = Golden("bert-mlm")
    model = backend.load(golden.stem, golden.path / "tf-h5", from_tf=True)
    before = backend.weights(model)
    model.save_pretrained(tmp_path, safe_serialization=False)
    own = {"pt": "pytorch_model.bin", "tf": "tf_model.h5", "flax": "flax_model.msgpack"}[backend.name]
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", own}
    after = backend.weights(backend.load(golden.stem, tmp_path, strict=True))
    assert all(after[name].tobytes() == array.tobytes() for name, array in before.items())
    with pytest.raises(MissingFileError):
        backend.load(golden.stem, tmp_path, use_safetensors=True)


ONE_STORAGE = {
    "one tensor": ("encoder.layer.0.attention.self.query.bias", "encoder.layer.0.attention.self.key.bias", 0),
    "one matrix": ("encoder.layer.0.attention.self.query.weight", "encoder.layer.1.attention.self.key.weight", 0),
    "a view inside": ("encoder.layer.0.intermediate.dense.bias", "encoder.layer.1.output.LayerNorm.bias", 3),
    "an overlap": ("encoder.layer.0.output.LayerNorm.bias", "encoder.layer.1.output.dense.bias", 16),
}
"""Two weights, and the element of the first one's storage at which the second starts."""


@pytest.fixture(scope="module")
def one_storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of torch.save in which these weights share memory, and a tied weight is there under both its names."""
    golden, folder = Golden("bert-mlm"), tmp_path_factory.mktemp("one_storage")
    state = {name: torch.tensor(ref.read()) for name, ref in open_checkpoint(golden.folder).items()}
    for first, second, start in ONE_STORAGE.values():
        one, other = f"bert.{first}", f"bert.{second}"
        storage = torch.cat([state[one].flatten(), state[other].flatten()])
        state[one] = storage[: state[one].numel()].view(state[one].shape)
        state[other] = storage[start : start + state[other].numel()].view(state[other].shape)
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_bytes((golden.folder / "config.json").read_bytes())
    return folder


def add_one(backend: Backend, model: Any, name: str) -> None:
    """Change a weight in place, as an optimiser does; JAX has no such thing."""
    if backend.name == "pt":
        model.get_parameter(name).data.add_(1)
    else:
        model._weights()[native_path(model.schema[name], "tf")][0].assign_add(1)


@pytest.mark.parametrize("case", ONE_STORAGE)
@pytest.mark.parametrize("changed", [0, 1])
@pytest.mark.parametrize("framework", [b for b in BACKENDS if b.name != "flax"], ids=lambda b: b.name)
def test_weights_of_one_storage_do_not_share_memory(
    framework: Backend, case: str, changed: int, one_storage: Path
) -> None:
    model = framework.load("BertForMaskedLM", one_storage)
    before = framework.weights(model)
    name = f"bert.{ONE_STORAGE[case][changed]}"
    add_one(framework, model, name)
    after = framework.weights(model)
    assert {n for n in before if not np.array_equal(before[n], after[n])} == {name}


def test_a_tied_weight_stored_twice_stays_tied(backend: Backend, one_storage: Path) -> None:
    model = backend.load("BertForMaskedLM", one_storage, strict=True)
    assert "cls.predictions.decoder.weight" not in backend.weights(model)
    if backend.name == "pt":
        assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_only_what_shares_a_storage_is_copied(one_storage: Path) -> None:
    checkpoint = open_checkpoint(one_storage)
    schema = declared_schema(AutoConfig.from_pretrained(one_storage), "BertForMaskedLM")
    plan = plan_load(schema, checkpoint, None, Policy())
    copied = [assignment.weight.name for assignment in plan.assignments if assignment.copied]
    assert len(copied) == len(ONE_STORAGE)
    assert all(
        any(name in (f"bert.{one}", f"bert.{other}") for name in copied) for one, other, _ in ONE_STORAGE.values()
    )
    arrays = {a.weight.name: a.read("pt") for a in plan.assignments}
    assert all(np.array_equal(array, checkpoint[name].read()) for name, array in arrays.items())
    mapped = {name for name, array in arrays.items() if np.may_share_memory(array, checkpoint[name].read())}
    assert mapped == arrays.keys() - set(copied)
    assert not any(
        a.copied for a in plan_load(schema, open_checkpoint(one_storage, mmap=False), None, Policy()).assignments
    )
