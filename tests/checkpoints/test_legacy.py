"""Names and layouts of transformers 4's TensorFlow and Flax files: exact, invertible, and those of real files."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
import torch
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from places import GOLDEN
from triptych import (
    ArgumentError,
    InconsistentCheckpointError,
    ShapeMismatchError,
    TensorRef,
    TriptychError,
    UnsupportedFormatError,
)
from triptych.checkpoints.legacy import FLAVOURS, LegacyWeight, canonical_refs, legacy_weights, tf_scope, variable_name
from triptych.checkpoints.legacy_generic import generic_canonical, generic_legacy, generic_refs, generic_weights
from triptych.families import family
from triptych.weights.plan import Policy, plan_load
from triptych.weights.schema import Axis, Layout, Schema, SchemaBuilder
from triptych_conformance import assert_close

NAMES = json.loads((GOLDEN / "legacy_names.json").read_text())["cases"]

ENCODER: dict[str, Any] = {
    "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
    "max_position_embeddings": 10, "num_labels": 3,
}  # fmt: skip
DECODER = {**ENCODER, "num_key_value_heads": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": ENCODER,
    "roberta": ENCODER,
    "electra": {**ENCODER, "embedding_size": 6},
    "distilbert": {
        "vocab_size": 11, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 10,
    },
    "encoder-decoder": {"encoder": {"model_type": "bert", **ENCODER},
                        "decoder": {"model_type": "gpt2", "vocab_size": 11, "n_embd": 6, "n_layer": 2, "n_head": 2,
                                    "n_positions": 10, "add_cross_attention": True}},
    "gpt2": {"vocab_size": 11, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 10},
    "t5": {
        "vocab_size": 11, "d_model": 8, "d_kv": 3, "d_ff": 12, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 2,
        "relative_attention_num_buckets": 4, "feed_forward_proj": "gated-gelu",
    },
    "opt": {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 12,
            "max_position_embeddings": 10, "word_embed_proj_dim": 6},
    "llama": {**DECODER, "attention_bias": True, "mlp_bias": True},
    "mistral": DECODER,
    "qwen2": DECODER,
    "qwen3": {**DECODER, "head_dim": 6},
}  # fmt: skip
CLASSES = [(name, stem) for name in CONFIGS for stem in dict.fromkeys(family(name).classes.values())]


def schema_of(model_type: str, stem: str, **fields: Any) -> Schema:
    found = family(model_type)
    return found.schema(found.config_class(**{**CONFIGS[model_type], **fields}), stem)


def arrays_of(schema: Schema, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {weight.name: rng.standard_normal(weight.shape, np.float32) for weight in schema.values()}


def refs(arrays: dict[str, np.ndarray]) -> dict[str, TensorRef]:
    return {name: TensorRef.of(name, array) for name, array in arrays.items()}


def assert_holds(found: dict[str, TensorRef], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        ref, read = found[name], found[name].read()
        assert (ref.name, ref.dtype, ref.shape) == (name, array.dtype, array.shape)
        assert read.dtype == array.dtype and read.shape == array.shape and read.flags.c_contiguous, name
        assert read.tobytes() == array.tobytes(), name


# ---- the map itself


def test_every_built_in_family_is_tested() -> None:
    from triptych.families import _MODULES

    assert set(CONFIGS) == set(_MODULES)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("model_type", "stem"), CLASSES)
def test_every_weight_makes_the_round_trip(
    model_type: str, stem: str, flavour: str, tied: bool, rng: np.random.Generator
) -> None:
    schema = schema_of(model_type, stem, tie_word_embeddings=tied)
    weights, arrays = legacy_weights(schema, flavour), arrays_of(schema, rng)
    assert list(weights) == list(schema)
    stored = {}
    for name, weight in weights.items():
        assert (weight.canonical, weight.shape, weight.generic) == (name, schema[name].shape, False)
        there = weight.from_canonical(arrays[name])
        assert there.shape == weight.stored_shape
        assert sorted(there.flat) == sorted(arrays[name].flat)
        assert weight.to_canonical(there).tobytes() == arrays[name].tobytes()
        ref = weight.stored_ref(TensorRef.of(name, arrays[name]))
        assert (ref.name, ref.shape) == (weight.name, there.shape)
        assert ref.read().tobytes() == there.tobytes()
        stored[weight.name] = there
    assert len(stored) == len(schema), "two weights have one name"
    assert_holds(canonical_refs(refs(stored), schema, flavour), arrays)


@pytest.mark.parametrize(("model_type", "stem"), CLASSES)
def test_no_name_could_be_two_weights(model_type: str, stem: str) -> None:
    """Neither with the aliases, nor once a level of a TensorFlow name is taken off as the model's scope."""
    weights = legacy_weights(schema_of(model_type, stem), "tf").values()
    names = [(name, weight.canonical) for weight in weights for name in (weight.name, *weight.aliases)]
    known = dict(names)
    assert len(known) == len(names)
    inner = {name.partition("/")[2]: weight for name, weight in names}
    assert all(known[name] == weight for name, weight in inner.items() if name in known)


def test_a_projection_is_transposed_and_a_bias_of_gpt2_becomes_a_row(rng: np.random.Generator) -> None:
    array = rng.standard_normal((3, 5), np.float32)
    linear = legacy_weights(schema_of("bert", "BertModel"), "tf")["pooler.dense.weight"]
    np.testing.assert_array_equal(linear.from_canonical(array), array.T)
    schema = schema_of("gpt2", "GPT2Model")
    weight, bias = "h.1.mlp.c_fc.weight", "h.1.mlp.c_fc.bias"
    tf, flax = legacy_weights(schema, "tf"), legacy_weights(schema, "flax")
    assert (tf[weight].stored_shape, flax[weight].stored_shape) == ((8, 32), (32, 8))
    assert (tf[bias].stored_shape, flax[bias].stored_shape) == ((1, 32), (32,))
    assert legacy_weights(schema, "tf")["ln_f.bias"].stored_shape == (8,)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.float16, np.int8])
def test_any_dtype_is_moved_bit_for_bit(dtype: Any) -> None:
    schema = schema_of("gpt2", "GPT2Model")
    bits = np.arange(8 * 24, dtype=np.uint8).repeat(np.dtype(dtype).itemsize)
    array = bits.view(dtype).reshape(8, 24)
    weight = legacy_weights(schema, "flax")["h.0.attn.c_attn.weight"]
    stored = weight.from_canonical(array)
    assert stored.dtype == dtype and stored[5, 2].tobytes() == array[2, 5].tobytes()
    assert weight.to_canonical(stored).tobytes() == array.tobytes()


# ---- against transformers


def case_id(case: dict[str, Any]) -> str:
    tied = {True: "-tied", False: "-untied"}.get(case["config"].get("tie_word_embeddings"), "")
    return f"{case['flavour']}-{case['stem']}{tied}{'-gated' if 'feed_forward_proj' in case['config'] else ''}"


@pytest.mark.parametrize("case", NAMES, ids=case_id)
def test_the_names_are_those_of_the_classes_of_transformers(case: dict[str, Any]) -> None:
    """All but one kind: TensorFlow's heads are always tied (or, in Mistral and Flax's Llama, never are)."""
    found = family(case["model_type"])
    schema = found.schema(found.config_class(**case["config"]), case["stem"])
    scopes = {name.partition("/")[0] for name in case["weights"]} - {"shared"}
    scope = scopes.pop() if case["flavour"] == "tf" else ""
    weights = legacy_weights(schema, case["flavour"])
    ours = {variable_name(w.name, scope) if scope else w.name: w for w in weights.values()}
    theirs = {name: tuple(shape) for name, shape in case["weights"].items()}
    assert not scopes or case["flavour"] == "flax"
    assert scope.rstrip("_12") == (tf_scope(case["stem"]) if scope else "")
    assert set(theirs) <= set(ours)
    assert {name: ours[name].stored_shape for name in theirs} == theirs
    absent = [schema[ours[name].canonical] for name in set(ours) - set(theirs)]
    assert all(weight.untie_flag == "tie_word_embeddings" for weight in absent)
    assert len(absent) <= 2


def golden_raw(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and array of every weight of a folder, read with the libraries that wrote it."""
    if folder.name == "tf-h5":
        with h5py.File(folder / "tf_model.h5") as file:
            for layer in file:
                yield from ((name, file[layer][name][()]) for name in file[layer].attrs["weight_names"])
    elif folder.name == "flax-msgpack":
        yield from flatten_dict(msgpack_restore((folder / "flax_model.msgpack").read_bytes()), sep="/").items()
    else:
        yield from load_file(folder / "model.safetensors").items()


FOLDERS = [
    GOLDEN / model / folder
    for model in ("bert-mlm", "bert-cls", "gpt2-lm", "t5-tied", "t5-v11", "llama-gqa")
    for folder in ("tf-h5", "tf-safetensors", "flax-msgpack", "flax-safetensors")
    if not (model == "llama-gqa" and folder.startswith("tf"))
]


def golden_schema(folder: Path, base: bool = False) -> Schema:
    content = json.loads((folder / "config.json").read_text())
    found = family(content["model_type"])
    stem = found.classes[""] if base else content["architectures"][0]
    return found.schema(found.config_class.from_dict(content), stem)


def golden_case(folder: Path) -> tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the flavour, what the folder holds, and the same weights as PyTorch stores them."""
    expected = load_file(folder.parent / "pt-safetensors" / "model.safetensors")
    return folder.name.partition("-")[0], dict(golden_raw(folder)), expected


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_golden_files_hold_the_tensors_of_pytorch(folder: Path) -> None:
    flavour, raw, expected = golden_case(folder)
    schema = golden_schema(folder)
    assert_holds(canonical_refs(refs(raw), schema, flavour), expected)
    weights = legacy_weights(schema, flavour)
    for name, array in expected.items():  # and the other way round, every tensor of the file
        stored = weights[name].stored_ref(TensorRef.of(name, array))
        if folder.name == "flax-safetensors":
            file_name = weights[name].dotted_name
        else:
            scopes = {key.partition("/")[0] for key in raw} - {"shared"}
            file_name = variable_name(stored.name, scopes.pop()) if folder.name == "tf-h5" else stored.name
        assert raw[file_name].shape == stored.shape
        assert raw[file_name].tobytes() == stored.read().tobytes()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_golden_files_of_a_head_fill_the_backbone(folder: Path) -> None:
    flavour, raw, expected = golden_case(folder)
    schema = golden_schema(folder, base=True)
    plan = plan_load(schema, canonical_refs(refs(raw), schema, flavour), None, Policy(), str(folder))
    dot = f"{schema.base_prefix}."
    inside = {name.removeprefix(dot): array for name, array in expected.items()}
    filled = {a.weight.name: a.read("pt") for a in plan.assignments}
    assert filled and all(filled[name].tobytes() == inside[name].tobytes() for name in filled)
    lacking = [weight.name for weight in plan.missing]
    assert all(name.startswith("pooler.") for name in lacking)  # which only some heads have
    assert set(schema) == set(filled) | set(lacking)
    assert len(plan.unexpected) == len(set(inside) - set(schema))


@pytest.mark.parametrize("model", ["bert-mlm", "bert-cls"])
def test_the_index_of_a_sharded_tf_checkpoint_has_variable_names(model: str) -> None:
    folder = GOLDEN / model / "tf-h5-sharded"
    index = json.loads((folder / "tf_model.h5.index.json").read_text())["weight_map"]
    schema = golden_schema(folder)
    stem = json.loads((folder / "config.json").read_text())["architectures"][0]
    weights = legacy_weights(schema, "tf")
    assert {variable_name(weights[w.name].name, tf_scope(stem)) for w in schema.stored()} == set(index)


def test_the_shared_embedding_of_t5_is_in_a_scope_of_its_own() -> None:
    weight = legacy_weights(schema_of("t5", "T5Model"), "tf")["shared.weight"]
    assert variable_name(weight.name, "tft5_model") == "shared/shared/embeddings:0"


# ---- reading a file of one class into another


@pytest.mark.parametrize("file_stem", ["BertModel", "BertForMaskedLM"])
@pytest.mark.parametrize("stem", ["BertModel", "BertForMaskedLM", "BertForSequenceClassification"])
@pytest.mark.parametrize("spelling", ["tf", "tf scoped", "flax", "flax dotted"])
def test_a_file_of_any_class_fills_any_class(
    file_stem: str, stem: str, spelling: str, rng: np.random.Generator
) -> None:
    flavour = spelling.partition(" ")[0]
    saved, schema = schema_of("bert", file_stem), schema_of("bert", stem)
    arrays, weights = arrays_of(saved, rng), legacy_weights(saved, flavour)
    raw = {}
    for weight in saved.stored():
        legacy = weights[weight.name]
        name = {
            "tf scoped": variable_name(legacy.name, "any_scope_7"),
            "flax dotted": legacy.dotted_name,
        }.get(spelling, legacy.name)
        raw[name] = TensorRef.of(name, legacy.from_canonical(arrays[weight.name]))
    plan = plan_load(schema, canonical_refs(raw, schema, flavour), None, Policy(strict=False))
    bare = {name.removeprefix("bert."): array for name, array in arrays.items()}
    filled = {a.weight.name.removeprefix("bert."): a.read("pt") for a in plan.assignments}
    common = set(bare) & {weight.name.removeprefix("bert.") for weight in schema.stored()}
    assert set(filled) == common
    assert all(filled[name].tobytes() == bare[name].tobytes() for name in filled)
    stored = {weight.name.removeprefix("bert.") for weight in saved.stored()}
    assert len(plan.unexpected) == len(stored - common)
    assert set(plan.unexpected) <= set(raw) | set(arrays)


OPT_NAMES = {
    "tf": {
        "decoder.embed_tokens.weight": "model/decoder/embed_tokens/weight:0",
        "decoder.embed_positions.weight": "model/decoder/embed_positions/embeddings:0",
        "decoder.project_in.weight": "model/decoder/project_in/kernel:0",
        "decoder.layers.1.self_attn.q_proj.bias": "model/decoder/layers.1/self_attn/q_proj/bias:0",
        "decoder.layers.1.self_attn_layer_norm.weight": "model/decoder/layers.1/self_attn_layer_norm/gamma:0",
        "decoder.layers.0.fc2.weight": "model/decoder/layers.0/fc2/kernel:0",
        "decoder.final_layer_norm.bias": "model/decoder/final_layer_norm/beta:0",
    },
    "flax": {
        "decoder.embed_tokens.weight": "decoder/embed_tokens/embedding",
        "decoder.embed_positions.weight": "decoder/embed_positions/embedding",
        "decoder.project_in.weight": "decoder/project_in/kernel",
        "decoder.layers.1.self_attn.q_proj.bias": "decoder/layers/1/self_attn/q_proj/bias",
        "decoder.layers.1.self_attn_layer_norm.weight": "decoder/layers/1/self_attn_layer_norm/scale",
        "decoder.layers.0.fc2.weight": "decoder/layers/0/fc2/kernel",
        "decoder.final_layer_norm.bias": "decoder/final_layer_norm/bias",
    },
}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_names_of_opt(flavour: str) -> None:
    """No file of it is recorded; these are the layers' names in transformers 4's source."""
    weights = legacy_weights(schema_of("opt", "OPTModel"), flavour)
    expected = OPT_NAMES[flavour]
    assert {name: weights[name].name for name in expected} == expected
    with_head = legacy_weights(schema_of("opt", "OPTForCausalLM"), flavour)
    prefix = "" if flavour == "tf" else "model/"
    assert {name: with_head[f"model.{name}"].name for name in expected} == {n: prefix + e for n, e in expected.items()}


def test_old_names_of_embeddings_are_read() -> None:
    """GPT-2 and T5 of earlier releases called the leaf of their shared embeddings `weight`."""
    for model_type, stem, old, new in (
        ("gpt2", "GPT2LMHeadModel", "tfgp_t2lm_head_model/transformer/wte/weight:0", "transformer.wte.weight"),
        ("t5", "T5Model", "shared/shared/weight:0", "shared.weight"),
    ):
        array = np.arange(88, dtype=np.float32).reshape(11, 8)
        assert_holds(canonical_refs(refs({old: array}), schema_of(model_type, stem), "tf"), {new: array})


def test_a_name_that_is_only_alike_stays_unexpected() -> None:
    schema = schema_of("bert", "BertModel")
    alike = [
        "bert/pooler/dense/kernel",
        "bert/pooler/dense/kernel:1",
        "bert/pooler/dense/kernel:0:0",
        "x/y/bert/pooler/dense/bias:0",
        "bert/encoder/layer_._00/output/dense/bias:0",
        "BERT/pooler/dense/kernel:0",
        "mlm___cls/predictions/bias:0",
        "",
        "/",
    ]
    for name in alike:
        raw = {"bert/pooler/dense/bias:0": np.zeros(8, np.float32), name: np.zeros((2, 2), np.float32)}
        found = canonical_refs(refs(raw), schema, "tf")
        assert set(found) == {"pooler.dense.bias", name}
        assert found[name].shape == (2, 2)


def test_nothing_is_read_before_it_is_asked_for(rng: np.random.Generator) -> None:
    schema = schema_of("gpt2", "GPT2LMHeadModel")
    read: list[str] = []

    def ref(weight: LegacyWeight) -> TensorRef:
        def load() -> np.ndarray:
            read.append(weight.name)
            return np.zeros(weight.stored_shape, np.float32)

        return TensorRef(weight.name, np.dtype(np.float32), weight.stored_shape, load)

    raw = {weight.name: ref(weight) for weight in legacy_weights(schema, "flax").values()}
    found = canonical_refs(raw, schema, "flax")
    assert read == []
    assert found["transformer.h.0.mlp.c_fc.weight"].read().shape == (8, 32)
    assert read == ["transformer/h/0/mlp/c_fc/kernel"]


# ---- refusals


def test_an_unknown_flavour_is_refused() -> None:
    with pytest.raises(ArgumentError, match="pt"):
        legacy_weights(schema_of("bert", "BertModel"), "pt")
    with pytest.raises(ArgumentError):
        generic_canonical("a/kernel:0", (2, 2), (), "keras")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("transformer/h_._0/mlp/c_fc/bias:0", (2, 16)),
        ("transformer/h_._0/mlp/c_fc/bias:0", (1, 1, 32)),
        ("score/kernel:0", (24,)),
        ("score/kernel:0", (8, 3, 1)),
        ("transformer/ln_f/gamma:0", ()),
    ],
)
def test_a_tensor_of_another_rank_is_refused_and_never_reshaped(name: str, shape: tuple[int, ...]) -> None:
    schema = schema_of("gpt2", "GPT2ForSequenceClassification", num_labels=3)
    with pytest.raises(ShapeMismatchError, match=name.partition(":")[0]):
        canonical_refs(refs({name: np.zeros(shape, np.float32)}), schema, "tf")


def test_a_canonical_array_with_other_axes_is_refused() -> None:
    weight = legacy_weights(schema_of("gpt2", "GPT2Model"), "tf")["h.0.mlp.c_fc.bias"]
    with pytest.raises(ShapeMismatchError):
        weight.from_canonical(np.zeros((1, 32), np.float32))
    with pytest.raises(ShapeMismatchError):
        weight.stored_ref(TensorRef.of("b", np.zeros((31, 1), np.float32)))
    assert weight.stored_ref(TensorRef.of("b", np.zeros(31, np.float32))).shape == (1, 31)


def test_other_sizes_are_left_to_the_plan() -> None:
    schema = schema_of("bert", "BertModel")
    found = canonical_refs(refs({"bert/pooler/dense/kernel:0": np.zeros((5, 9), np.float32)}), schema, "tf")
    assert found["pooler.dense.weight"].shape == (9, 5)


@pytest.mark.parametrize(
    ("flavour", "names"),
    [
        ("tf", ["transformer/wte/weight:0", "transformer/wte/embeddings:0"]),
        ("tf", ["one/transformer/wte/weight:0", "two/transformer/wte/weight:0"]),
        ("flax", ["transformer/wte/embedding", "transformer.wte.embedding"]),
        ("flax", ["transformer.wte.weight"]),
        ("flax", ["wte.weight"]),
        ("flax", ["lm_head/kernel", "lm_head.weight"]),
        ("flax", ["lm_head.weight", "lm_head/kernel"]),
        ("tf", ["transformer.wte.weight"]),
    ],
)
def test_two_tensors_for_one_weight_and_names_of_pytorch_are_refused(flavour: str, names: list[str]) -> None:
    raw = refs({name: np.zeros((11, 8), np.float32) for name in names})
    with pytest.raises(InconsistentCheckpointError, match="which tensor is"):
        canonical_refs(raw, schema_of("gpt2", "GPT2LMHeadModel"), flavour)


def test_a_model_within_another_has_the_other_names_of_its_weights_too() -> None:
    weights = legacy_weights(schema_of("encoder-decoder", "EncoderDecoderModel"), "tf")
    for name, spelled in (("encoder.embeddings.word_embeddings", "encoder/bert/embeddings/word_embeddings"),
                          ("decoder.transformer.wte", "decoder/transformer/wte")):  # fmt: skip
        weight = weights[f"{name}.weight"]
        assert {weight.name, *weight.aliases} == {f"{spelled}/weight:0", f"{spelled}/embeddings:0"}


def test_a_parameter_keeps_its_name_and_layout() -> None:
    build = SchemaBuilder()
    build.add("temperature", (Axis("a", 2), Axis("b", 3)), Layout.PARAMETER)
    schema = build.build("", True)
    assert legacy_weights(schema, "tf")["temperature"] == LegacyWeight("temperature", "temperature:0", (2, 3))
    assert legacy_weights(schema, "flax")["temperature"] == LegacyWeight("temperature", "temperature", (2, 3))


# ---- without a schema


def without_scope(folder: Path, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.partition("/")[2]: array for name, array in raw.items()} if folder.name == "tf-h5" else raw


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_golden_files_are_read_by_the_rules_of_layers_alone(folder: Path) -> None:
    flavour, raw, expected = golden_case(folder)
    raw = without_scope(folder, raw)
    assert_holds(generic_refs(refs(raw), flavour), expected)
    for name, weight in generic_weights({name: array.shape for name, array in raw.items()}, flavour).items():
        assert weight.generic and weight.name == name
        assert weight.from_canonical(expected[weight.canonical]).tobytes() == raw[name].tobytes()
        leaf = re.split("[./]", name.removesuffix(":0"))[-1]
        back = generic_legacy(weight.canonical, weight.shape, leaf, flavour, weight.is_row)
        spelled = name.replace("mlm___cls", "cls").replace(".", "/" if flavour == "flax" else ".")
        assert back == dataclasses.replace(weight, name=spelled)


def test_kernels_and_statistics_of_a_schema_have_the_names_of_each_framework() -> None:
    build = SchemaBuilder()
    kernel, channels = (Axis("out", 4), Axis("in", 3), Axis("width", 5)), Axis("channels", 4)
    build.add("conv.weight", kernel, Layout.CONV)
    build.add("deep.weight", kernel, Layout.DEPTHWISE)
    build.add("bn.running_mean", (channels,), Layout.MEAN)
    build.add("bn.running_var", (channels,), Layout.VARIANCE)
    schema = build.build("", True)
    tf, flax = (list(legacy_weights(schema, flavour).values()) for flavour in FLAVOURS)
    assert [weight.name for weight in tf] == [
        "conv/kernel:0", "deep/depthwise_kernel:0", "bn/moving_mean:0", "bn/moving_variance:0"
    ]  # fmt: skip
    assert [weight.name for weight in flax] == [
        "params/conv/kernel", "params/deep/kernel", "batch_stats/bn/mean", "batch_stats/bn/var"
    ]  # fmt: skip
    assert [weight.stored_shape for weight in tf] == [(5, 3, 4), (5, 4, 3), (4,), (4,)]
    assert [weight.stored_shape for weight in flax] == [(5, 3, 4), (5, 3, 4), (4,), (4,)]  # as kernels of groups


@pytest.mark.parametrize(
    ("flavour", "name", "shape", "canonical", "canonical_shape", "leaf"),
    [
        ("tf", "a/dense/kernel:0", (2, 3), "a.dense.weight", (3, 2), "kernel"),
        ("tf", "a/conv/kernel:0", (5, 2, 3), "a.conv.weight", (3, 2, 5), "kernel"),
        ("tf", "a/conv/kernel:0", (5, 7, 2, 3), "a.conv.weight", (3, 2, 5, 7), "kernel"),
        ("tf", "a/block_._1/bn/moving_variance:0", (3,), "a.block.1.bn.running_var", (3,), "moving_variance"),
        ("tf", "a/bn/moving_mean:0", (3,), "a.bn.running_mean", (3,), "moving_mean"),
        ("tf", "a/layers.12/norm/gamma:0", (3,), "a.layers.12.norm.weight", (3,), "gamma"),
        ("tf", "cls_token:0", (1, 1, 3), "cls_token", (1, 1, 3), "cls_token"),
        ("flax", "a/0/conv/kernel", (5, 7, 2, 3), "a.0.conv.weight", (3, 2, 5, 7), "kernel"),
        ("flax", "a/conv/kernel", (5, 2, 3), "a.conv.weight", (3, 2, 5), "kernel"),
        ("flax", "batch_stats/a/bn/mean", (3,), "a.bn.running_mean", (3,), "mean"),
        ("flax", "batch_stats/a/bn/var", (3,), "a.bn.running_var", (3,), "var"),
        ("flax", "a/mean/kernel", (2, 3), "a.mean.weight", (3, 2), "kernel"),
        ("flax", "a/mean", (3,), "a.mean", (3,), "mean"),
        ("flax", "logit_scale", (), "logit_scale", (), "logit_scale"),
    ],
)
def test_generic_rules(
    flavour: str, name: str, shape: tuple[int, ...], canonical: str, canonical_shape: tuple[int, ...], leaf: str
) -> None:
    weight = generic_canonical(name, shape, {leaf}, flavour)
    assert (weight.canonical, weight.shape, weight.stored_shape) == (canonical, canonical_shape, shape)
    assert generic_legacy(canonical, canonical_shape, leaf, flavour) == weight
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    assert weight.from_canonical(weight.to_canonical(array)).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("shape", "siblings", "canonical_shape"),
    [
        ((1, 3), {"weight", "bias"}, (3,)),
        ((2, 3), {"weight", "bias"}, (2, 3)),
        ((1, 3), {"kernel", "bias"}, (1, 3)),
        ((1, 1, 3), {"weight", "bias"}, (1, 1, 3)),
        ((3,), {"weight", "bias"}, (3,)),
    ],
)
def test_only_a_row_beside_a_weight_is_a_bias_of_gpt2(
    shape: tuple[int, ...], siblings: set[str], canonical_shape: tuple[int, ...]
) -> None:
    weight = generic_canonical("a/bias:0", shape, siblings, "tf")
    assert (weight.shape, weight.stored_shape, weight.permutation) == (canonical_shape, shape, None)
    assert generic_legacy("a.bias", canonical_shape, "bias", "tf", weight.is_row) == weight


def test_generic_names_that_lose_a_part() -> None:
    assert (
        generic_canonical("nsp___cls/a___b___c/x_._0_._1/bias:0", (2,), {"bias"}, "tf").canonical == "cls.c.x.0.1.bias"
    )
    assert generic_canonical("params/bn/scale", (2,), {"scale", "bias"}, "flax").canonical == "bn.weight"


def test_axis_orders_are_those_of_the_layers() -> None:
    """Each layer of Keras and Flax computes the same as PyTorch's function with the converted kernel."""
    import flax.linen as nn
    import jax
    import keras

    rng = np.random.default_rng(3)
    image, sound = rng.standard_normal((2, 6, 7, 3), np.float32), rng.standard_normal((2, 9, 3), np.float32)
    for x, sizes in ((image, (2, 4)), (sound, (4,))):
        tf_layer = (keras.layers.Conv2D if len(sizes) == 2 else keras.layers.Conv1D)(5, sizes)
        results = {"tf": (np.asarray(tf_layer(x)), np.asarray(tf_layer.kernel))}
        module = nn.Conv(5, sizes, padding="VALID")
        params = module.init(jax.random.key(0), x)
        results["flax"] = (np.asarray(module.apply(params, x)), np.asarray(params["params"]["kernel"]))
        channels_first = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
        convolve = torch.nn.functional.conv2d if len(sizes) == 2 else torch.nn.functional.conv1d
        for flavour, (output, kernel) in results.items():
            suffix = ":0" if flavour == "tf" else ""
            weight = generic_canonical(f"conv/kernel{suffix}", kernel.shape, {"kernel"}, flavour)
            expected = convolve(channels_first, torch.from_numpy(weight.to_canonical(kernel)))
            assert_close(output, np.moveaxis(expected.numpy(), 1, -1), what=flavour)


@pytest.mark.parametrize(
    ("flavour", "name", "shape", "siblings"),
    [
        ("tf", "a/kernel:0", (3,), {"kernel"}),
        ("tf", "a/kernel:0", (2, 3, 3, 3, 3), {"kernel"}),
        ("tf", "a/depthwise_kernel:0", (3, 3, 2, 1), {"depthwise_kernel"}),
        ("tf", "a/recurrent_kernel:0", (3, 3), {"recurrent_kernel"}),
        ("tf", "a/gamma:0", (3,), {"gamma", "weight"}),
        ("tf", "a/bias:0", (3,), {"bias", "beta"}),
        ("flax", "a/kernel", (2, 3), {"kernel", "embedding"}),
        ("flax", "a/kernel", (), {"kernel"}),
    ],
)
def test_a_layer_without_a_rule_is_refused(flavour: str, name: str, shape: tuple[int, ...], siblings: set[str]) -> None:
    with pytest.raises(UnsupportedFormatError, match="not known from its layer"):
        generic_canonical(name, shape, siblings, flavour)


def test_two_names_that_become_one_are_refused() -> None:
    shapes = {"x___cls/dense/bias:0": (2,), "y___cls/dense/bias:0": (2,)}
    with pytest.raises(UnsupportedFormatError, match="beside it"):
        generic_weights(shapes, "tf")


def test_a_leaf_that_does_not_fit_its_name_is_refused() -> None:
    for leaf, flavour, is_row in (
        ("beta", "tf", False),
        ("scale", "tf", False),
        ("kernel", "flax", True),
        ("gamma", "tf", True),
    ):
        with pytest.raises(ArgumentError):
            generic_legacy("a.weight", (2,) if leaf != "kernel" else (2, 2), leaf, flavour, is_row)


PIECES = st.sampled_from(
    ["a", "kernel", "kernel:0", ":0", "/", "//", ".", "_._", "___", "bias:0", "weight:0", "gamma:0", "bert", "params",
     "batch_stats", "mean", "embeddings:0", "transformer", "wte", "\0", "é", "0"]
)  # fmt: skip
RAW = st.dictionaries(
    st.lists(PIECES, max_size=6).map("".join) | st.lists(PIECES, max_size=6).map("/".join),
    st.lists(st.integers(0, 3), max_size=5).map(tuple),
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(RAW, st.sampled_from(FLAVOURS))
def test_any_names_and_shapes_are_read_or_refused(shapes: dict[str, tuple[int, ...]], flavour: str) -> None:
    raw = {name: TensorRef.of(name, np.zeros(shape, np.float32)) for name, shape in shapes.items()}
    for convert in (
        lambda: canonical_refs(raw, schema_of("gpt2", "GPT2LMHeadModel"), flavour),
        lambda: generic_refs(raw, flavour),
    ):
        try:
            found = convert()
        except TriptychError as error:
            assert error.expected or error.received
            continue
        assert len(found) == len(raw)
        for ref in found.values():
            assert ref.read().shape == ref.shape


def test_core_needs_no_framework() -> None:
    frameworks = ("torch", "tensorflow", "keras", "jax", "flax")
    statement = "import sys, triptych.checkpoints.legacy_generic"
    code = f"{statement}; print([name for name in {frameworks} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_bias_beside_a_matrix_is_a_vector_too() -> None:
    """As in a layer of an author, that has both as GPT-2's Conv1D has, and no row."""
    weight = LegacyWeight("a.bias", "a/bias:0", (4,), is_row=True)
    for stored in (np.arange(4), np.arange(4)[np.newaxis]):
        assert weight.to_canonical(stored).tolist() == [0, 1, 2, 3]
