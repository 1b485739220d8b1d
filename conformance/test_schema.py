"""The schema that a live module shows equals the declared one, in every backend, for every built-in class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triptych import BertConfig
from triptych.families import family, model_types
from triptych.layouts import canonical_leaf, native_path, permutation
from triptych.schema import Schema
from triptych_conformance import Backend

SMALL = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=10,
             max_position_embeddings=9, num_labels=4)  # fmt: skip
CONFIGS = {"plain": {}, "untied": {"tie_word_embeddings": False}, "pruned": {"pruned_heads": {1: [0, 2]}}}
CLASSES = [stem for kind in model_types() for stem in family(kind).classes.values()]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("stem", CLASSES)
def test_derived_equals_declared(backend: Backend, stem: str, kind: str) -> None:
    model = backend.cls(stem)(BertConfig(**SMALL, **CONFIGS[kind]))
    declared = model.declared_schema
    assert isinstance(declared, Schema)
    assert model._derive_schema().summary() == declared.summary()


@pytest.mark.parametrize("stem", CLASSES)
def test_schema_counts_what_the_model_holds(backend: Backend, stem: str) -> None:
    model = backend.cls(stem)(BertConfig(**SMALL))
    held = sum(array.size for array in backend.weights(model).values())
    assert model.num_parameters() == held
    assert model.num_parameters(exclude_embeddings=True) == held - (31 + 9 + 2) * 12


@pytest.mark.parametrize("framework", ["tf", "flax"])
@pytest.mark.parametrize("stem", CLASSES)
def test_names_round_trip(framework: str, stem: str) -> None:
    schema = family("bert").schema(BertConfig(**SMALL), stem)
    paths = {weight.name: native_path(weight, framework) for weight in schema.values()}
    assert len(set(paths.values())) == len(paths)
    for weight in schema.values():
        path = paths[weight.name]
        siblings = frozenset(p[-1] for p in paths.values() if p[:-1] == path[:-1])
        assert canonical_leaf(path, siblings, len(weight.shape), framework) == (weight.name, weight.layout)
        order = permutation(weight.layout, framework)
        assert order is None or tuple(np.argsort(order)) == order


def test_every_weight_names_its_axes() -> None:
    schema = family("bert").schema(BertConfig(**SMALL), "BertForMaskedLM")
    vocab = {w.name for w in schema.values() if w.axis_index("vocab") is not None}
    assert vocab == {
        "bert.embeddings.word_embeddings.weight", "cls.predictions.bias", "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
    }  # fmt: skip
    axis = schema["bert.encoder.layer.1.attention.self.query.weight"].axes[0]
    assert (axis.name, axis.units, axis.block, axis.layer) == ("heads", 3, 4, 1)
    assert replace(axis, repeat=3).length == 36
