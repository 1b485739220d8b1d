"""Packed weights in the three frameworks: the same numbers from the same bytes, in the same few bytes of memory."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gguf_models import make_model, write_gguf
from triptych import (
    ArgumentError,
    CheckpointError,
    FineGrainedFP8Config,
    GGUFQuantizationConfig,
    InconsistentCheckpointError,
    QuantizationConfig,
    TensorRef,
    UnsupportedFormatError,
    open_checkpoint,
    save_checkpoint,
)
from triptych.nn import packed as px
from triptych.tools import editing
from triptych.weights.codecs import on_numpy
from triptych.weights.codecs.fp8 import Fp8Blocks
from triptych.weights.codecs.gguf import BY_KIND
from triptych.weights.codecs.integers import Int4, Int8
from triptych_conformance import BACKENDS, Backend, assert_close, compare

IDS = np.arange(1, 13, dtype=np.int32)[None]
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "ignore": ["re:.*lm_head"],
    "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
    },
}
CONFIGS: dict[str, Any] = {
    "int8": QuantizationConfig("int8"),
    "int4": QuantizationConfig("int4", group_size=16, modules_to_not_convert=["layers.0.mlp"]),
    "fp8": FineGrainedFP8Config(weight_block_size=[24, 24]),
    "fp8 whole": FineGrainedFP8Config(weight_block_size=None),
    "compressed-tensors": COMPRESSED,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    make_model("llama-tied").save_pretrained(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: ref.read().tobytes() for name, ref in open_checkpoint(folder).items()}


def assert_same_weights(backend: Backend, one: Any, other: Any) -> None:
    weights = backend.weights(other)
    assert all((array == weights[name]).all() for name, array in backend.weights(one).items())


def logits(backend: Backend, model: Any) -> np.ndarray:
    return backend.run(model, {"input_ids": IDS})["logits"]


SOME_ROWS = np.array([[4, 0], [1, 5]], np.int32)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_products_and_rows_are_those_of_the_matrix(backend: Backend) -> None:
    ops, arrays = (importlib.import_module(f"triptych_{backend.name}.{name}") for name in ("ops", "arrays"))
    rng = np.random.default_rng(1)
    values, x = rng.normal(size=(6, 256)).astype(np.float32), rng.normal(size=(2, 3, 256)).astype(np.float32)
    packed = [(codec, codec.encode(values)) for codec in (Int8(), Int4(), Fp8Blocks(4, 48))]
    for codec in BY_KIND.values():
        rows = rng.integers(0, 60, (6, 256 // codec.elements * codec.size), np.uint8)
        packed.append((codec, codec.taken_apart(rows)))
    for codec, parts in packed:
        matrix, expected = px.Matrix(codec, 6, 256), codec.decode(on_numpy, parts, 256)
        held = [arrays.to_native(part) for part in parts]
        assert (arrays.to_numpy(px.whole(ops, matrix, held, "float32")) == expected).all()
        for some in (x[:, :1], x) if codec.has_blocks_of_codes else ():
            product = arrays.to_numpy(px.project(ops, matrix, held, arrays.to_native(np.ascontiguousarray(some))))
            assert_close(product, some @ expected.T)
        if codec.row_step == 1:
            found = arrays.to_numpy(px.vectors(ops, matrix, held, arrays.to_native(SOME_ROWS), "float16"))
            assert found.dtype == np.float16 and (found == expected[SOME_ROWS].astype(np.float16)).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_one_checkpoint_is_the_same_in_all_frameworks(whole: Path, tmp_path: Path, name: str) -> None:
    backends = BACKENDS if name == "int4" else BACKENDS[:1]  # the others differ in the codec alone
    first = backends[0].load("LlamaForCausalLM", whole, quantization_config=CONFIGS[name])
    expected = logits(backends[0], first)
    first.save_pretrained(tmp_path / "first")
    assert backends[0].load("LlamaForCausalLM", whole).num_parameters() == first.num_parameters()
    for backend in backends:
        model = backend.load("LlamaForCausalLM", tmp_path / "first")
        assert_close(logits(backend, model), expected)
        assert model.num_parameters() == first.num_parameters()
        assert model.get_memory_footprint() == first.get_memory_footprint()
        made = backend.load("LlamaForCausalLM", whole, quantization_config=CONFIGS[name])
        made.save_pretrained(tmp_path / backend.name)
        assert contents(tmp_path / backend.name) == contents(tmp_path / "first")


def test_packed_projections_of_gpt2_add_their_biases(tmp_path: Path, backend: Backend) -> None:
    make_model("gpt2").save_pretrained(tmp_path)  # whose biases are random
    model = backend.load("GPT2LMHeadModel", tmp_path, quantization_config=QuantizationConfig("int8"))
    packed = logits(backend, model)
    assert_close(logits(backend, model.dequantize()), packed)


@pytest.mark.parametrize("name, kind", [("llama-biases", "Q4_1"), ("gpt2", "Q8_0")])
def test_a_gguf_file_is_kept_as_it_is_packed(tmp_path: Path, name: str, kind: str) -> None:
    stem = "GPT2LMHeadModel" if name == "gpt2" else "LlamaForCausalLM"
    file = write_gguf(tmp_path / "model.gguf", name, make_model(name), kind)
    dequantised = BACKENDS[0].load(stem, file)
    expected = logits(BACKENDS[0], dequantised)
    for backend in BACKENDS:
        packed = backend.load(stem, file, quantization_config=GGUFQuantizationConfig())
        assert_close(logits(backend, packed), expected)
        assert packed.config.quantization_config["codec"] == kind.lower()
        assert packed.get_memory_footprint() < 0.6 * dequantised.get_memory_footprint()
        packed.save_pretrained(tmp_path / backend.name)
        assert contents(tmp_path / backend.name) == contents(tmp_path / BACKENDS[0].name)
    again = BACKENDS[0].load(stem, tmp_path / BACKENDS[0].name)
    assert_same_weights(BACKENDS[0], again.dequantize(), dequantised)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_live_model_and_its_files_are_packed_alike(whole: Path, tmp_path: Path, backend: Backend) -> None:
    model = backend.load("LlamaForCausalLM", whole)
    before = logits(backend, model)
    assert model.quantize_weights({"quant_method": "triptych", "codec": "int8"}) is model
    model.save_pretrained(tmp_path / "live")
    editing.write(editing.quantize(editing.open_draft(whole), "int8"), tmp_path / "files")
    assert contents(tmp_path / "live") == contents(tmp_path / "files")
    with pytest.raises(ArgumentError, match="quantised and cannot be resized"):
        model.resize_token_embeddings(60)
    with pytest.raises(ArgumentError, match="quantised and cannot be pruned"):
        model.prune_heads({0: [0, 1]})
    with pytest.raises(ArgumentError, match="quantised again"):
        model.quantize_weights(QuantizationConfig())
    with pytest.raises(UnsupportedFormatError, match="hold no packed weights"):
        model.save_pretrained(tmp_path / "h5", format="h5")
    packed = logits(backend, model)
    assert compare(packed, before).fraction > 1
    assert_close(logits(backend, model.dequantize()), packed)
    model.resize_token_embeddings(60)
    with pytest.raises(ArgumentError, match="A new model has no packed weights"):
        type(model)(type(model.config).from_pretrained(tmp_path / "live"))
    with pytest.raises(ArgumentError, match="whose packing could be kept"):
        model.quantize_weights(GGUFQuantizationConfig())


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_damage_is_refused(whole: Path, tmp_path: Path, backend: Backend) -> None:
    draft = editing.quantize(editing.open_draft(whole), "int8", embeddings=False)
    name = "model.layers.1.mlp.up_proj.weight"
    short = TensorRef.of(f"{name}_scale", np.ones(3, np.float32))
    wide = TensorRef.of(name, draft.tensors[name].read().astype(np.int16))
    for changed, match in (
        ({k: v for k, v in draft.tensors.items() if k != short.name}, f"no {short.name}"),
        ({**draft.tensors, short.name: short}, r"\(3,\)"),
        ({**draft.tensors, name: wide}, "int16"),
    ):
        text = json.dumps(draft.config)
        save_checkpoint(tmp_path, list(changed.values()), text)
        with pytest.raises(CheckpointError, match=match):
            backend.load("LlamaForCausalLM", tmp_path)
    whole_tensors = editing.open_draft(whole).tensors
    save_checkpoint(tmp_path, list(whole_tensors.values()), json.dumps(draft.config))
    with pytest.raises(InconsistentCheckpointError, match="no weights that could be packed"):
        backend.load("LlamaForCausalLM", tmp_path)


def test_a_draft_that_was_cast_is_packed_from_its_values(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", "llama", make_model("llama"), "Q4_0")
    draft = editing.cast(editing.open_draft(file), "bfloat16")
    assert all(ref.blocks is None for ref in draft.tensors.values() if ref.dtype.name == "bfloat16")
    assert draft.tensors["lm_head.weight"].dtype.name == "bfloat16"
