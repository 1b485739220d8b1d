"""The schema that a live module shows equals the declared one, in every backend, for every built-in class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from small_models import CLASSES, PLAIN, VARIANTS, config_of, stems_of
from triptych.families import declared_schema, family
from triptych.weights.layouts import canonical_leaf, native_path, to_canonical, to_native
from triptych.weights.schema import Layout, Schema
from triptych_conformance import Backend
from witness import reference, weights_of

PRUNED = {"t5": {3: [0, 2]}, "llama": {1: [0, 1]}, "mistral": {1: [0, 1]}, "qwen2": {1: [0, 1]}, "qwen3": {1: [0, 1]}}
CHANGES = {"plain": {}, "untied": {"tie_word_embeddings": False}, "pruned": {}}
EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings", "wte", "wpe", "embed_tokens",
              "embed_positions", "shared", "relative_attention_bias")  # fmt: skip


def changed(variant: str, stem: str, change: str) -> Any:
    kind = VARIANTS[variant][0]
    pruned = {"pruned_heads": PRUNED.get(kind, {1: [0, 2]})} if change == "pruned" else {}
    if stem in ("T5EncoderModel", "T5ForTokenClassification") and pruned:
        pruned = {"pruned_heads": {1: [0, 2]}}
    return config_of(variant, stem, **CHANGES[change], **pruned)


def shows(variant: str, stem: str, change: str) -> bool:
    """Return whether a class shows more of a change than the first one of its variant does."""
    if change == "untied":
        return any(weight.tied_to for weight in declared_schema(config_of(variant, stem), stem).values())
    return change == "plain" or stem == stems_of(variant)[0]


@pytest.mark.parametrize(
    ("variant", "stem", "change"), [(*one, change) for one in CLASSES for change in CHANGES if shows(*one, change)]
)
def test_derived_equals_declared(backend: Backend, variant: str, stem: str, change: str) -> None:
    cls = backend.cls(stem)
    declared = declared_schema(changed(variant, stem, change), stem)
    assert isinstance(declared, Schema)
    derived = cls._derive_schema_for(changed(variant, stem, change))
    assert derived.summary() == declared.summary()


@pytest.mark.parametrize(("kind", "stem"), PLAIN)
def test_a_live_model_holds_what_transformers_holds(backend: Backend, kind: str, stem: str) -> None:
    config = config_of(kind, stem)
    theirs = weights_of(reference(stem, config.to_json_string()))
    model = backend.cls(stem)(config)
    weights = backend.weights(model)
    held = {name: (array.shape, array.dtype.name) for name, array in weights.items()}
    assert held == {name: (seen.shape, seen.dtype) for name, seen in theirs.items() if seen.tied_to is None}
    assert model.num_parameters() == sum(array.size for array in weights.values())
    embeddings = sum(a.size for name, a in weights.items() if name.split(".")[-2] in EMBEDDINGS)
    assert model.num_parameters(exclude_embeddings=True) == model.num_parameters() - embeddings


@pytest.mark.parametrize("framework", ["tf", "flax"])
@pytest.mark.parametrize(("variant", "stem"), CLASSES)
def test_names_round_trip(framework: str, variant: str, stem: str) -> None:
    schema = declared_schema(config_of(variant, stem), stem)
    assert schema is not None
    paths = {weight.name: native_path(weight, framework) for weight in schema.values()}
    assert len(set(paths.values())) == len(paths)
    for weight in schema.stored():
        path = paths[weight.name]
        siblings = frozenset(p[-1] for p in paths.values() if p[:-1] == path[:-1])
        assert canonical_leaf(path, siblings, len(weight.shape), framework) == (weight.name, weight.layout)
        assert_inverse(weight.layout, len(weight.axes), framework)


def assert_inverse(layout: Layout, rank: int, framework: str) -> None:
    order, back = to_native(layout, rank, framework), to_canonical(layout, rank, framework)
    assert (order is None) == (back is None)
    assert order is None or tuple(np.argsort(order)) == back


@pytest.mark.parametrize("framework", ["tf", "flax"])
@pytest.mark.parametrize("rank", [3, 4, 5])
def test_kernels_of_convolutions_change_places_and_back(framework: str, rank: int) -> None:
    assert_inverse(Layout.CONV, rank, framework)
    assert_inverse(Layout.DEPTHWISE, rank, framework)
    assert to_native(Layout.CONV, 4, framework) == (2, 3, 1, 0)


def test_every_weight_names_its_axes() -> None:
    schema = family("bert").schema(config_of("bert"), "BertForMaskedLM")
    vocab = {w.name for w in schema.values() if w.axis_index("vocab") is not None}
    assert vocab == {
        "bert.embeddings.word_embeddings.weight", "cls.predictions.bias", "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
    }  # fmt: skip
    axis = schema["bert.encoder.layer.1.attention.self.query.weight"].axes[0]
    assert (axis.name, axis.units, axis.block, axis.layer) == ("heads", 3, 4, 1)
    assert replace(axis, repeat=3).length == 36
