"""A class that derives from a built-in one, with layers beside or instead of the declared, loses none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch
from flax import linen as nn

import triptych
from small_models import config_of, random_inputs
from triptych import (
    ArgumentError,
    BertForSequenceClassification,
    FlaxBertForSequenceClassification,
    ShapeMismatchError,
    TFBertForSequenceClassification,
    families,
    open_checkpoint,
)
from triptych.families import bert
from triptych_conformance import BACKENDS, Backend, assert_close
from triptych_flax.bert import FlaxBertForSequenceClassificationModule
from triptych_pt.bert import BertPreTrainedModel

STEM = "BertForSequenceClassification"


class Extended(BertForSequenceClassification):
    def __init__(self, config: Any, hints: int = 3) -> None:
        super().__init__(config)
        self.extra = torch.nn.Linear(config.hidden_size, hints)
        self.classifier = torch.nn.Linear(config.hidden_size + hints, config.num_labels)
        self.post_init()

    def score(self, backbone: Any) -> Any:
        pooled = backbone.pooler_output
        return self.classifier(torch.cat([pooled, self.extra(pooled)], -1))


class TFExtended(TFBertForSequenceClassification):
    def __init__(self, config: Any, hints: int = 3, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.extra = keras.layers.Dense(hints, name="extra")
        self.classifier = keras.layers.Dense(config.num_labels, name="classifier")

    def score(self, backbone: Any) -> Any:
        pooled = backbone.pooler_output
        return self.classifier(keras.ops.concatenate([pooled, self.extra(pooled)], -1))


class FlaxExtendedModule(FlaxBertForSequenceClassificationModule):
    hints: int = 3

    def build_head(self, config: Any) -> None:
        self.extra = nn.Dense(self.hints)
        self.classifier = nn.Dense(config.num_labels)

    def score(self, backbone: Any) -> Any:
        pooled = backbone.pooler_output
        return self.classifier(jnp.concatenate([pooled, self.extra(pooled)], -1))


class FlaxExtended(FlaxBertForSequenceClassification):
    module_class = FlaxExtendedModule


CLASSES = {"pt": Extended, "tf": TFExtended, "flax": FlaxExtended}


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    return random_inputs(config_of("bert", STEM), length=5)


def grown(backend: Backend) -> Any:
    """Return a model of which the class declares less than it holds."""
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    model = CLASSES[backend.name](config_of("bert", STEM, initializer_range=0.5))
    return model.eval() if backend.name == "pt" else model


def test_layers_beside_and_instead_of_the_declared(backend: Backend, tmp_path: Path, inputs: Any) -> None:
    model = grown(backend)
    expected = backend.run(model, inputs)["logits"]
    model.save_pretrained(tmp_path)
    held = open_checkpoint(tmp_path)
    heads = {"extra.weight": (3, 12), "extra.bias": (3,), "classifier.weight": (4, 15), "classifier.bias": (4,)}
    assert {name: ref.shape for name, ref in held.items() if not name.startswith("bert.")} == heads
    assert model.num_parameters() == sum(ref.nbytes for ref in held.values()) // 4
    again, info = CLASSES[backend.name].from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert np.array_equal(backend.run(again, inputs)["logits"], expected)
    for other in BACKENDS:
        loaded = CLASSES[other.name].from_pretrained(tmp_path, strict=True)
        assert_close(other.run(loaded, inputs)["logits"], expected)


def test_what_a_module_holds_is_resized_and_pruned(backend: Backend, tmp_path: Path, inputs: Any) -> None:
    model = grown(backend)
    masked = backend.run(model, {**inputs, "head_mask": np.array([[1, 0, 1], [1, 1, 1]], np.float32)})["logits"]
    model.prune_heads({0: [1]})
    assert_close(backend.run(model, inputs)["logits"], masked)
    model.resize_token_embeddings(40)
    model.save_pretrained(tmp_path)
    held = open_checkpoint(tmp_path)
    assert held["bert.embeddings.word_embeddings.weight"].shape == (40, 12) and held["extra.weight"].shape == (3, 12)
    again = CLASSES[backend.name].from_pretrained(tmp_path)
    assert_close(backend.run(again, inputs)["logits"], masked)


def test_a_checkpoint_of_the_built_in_class_starts_the_new_layers(
    backend: Backend, tmp_path: Path, inputs: Any
) -> None:
    built_in = backend.cls(STEM)(config_of("bert", STEM))
    built_in.save_pretrained(tmp_path)
    with pytest.raises(ShapeMismatchError, match="classifier.weight"):
        CLASSES[backend.name].from_pretrained(tmp_path)
    model, info = CLASSES[backend.name].from_pretrained(
        tmp_path, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"extra.weight", "extra.bias"}
    assert [name for name, *_ in info["mismatched_keys"]] == ["classifier.weight"]
    assert backend.run(model, inputs)["logits"].shape == (2, 4)


def test_the_built_in_class_reports_what_it_leaves(backend: Backend, tmp_path: Path) -> None:
    grown(backend).save_pretrained(tmp_path)
    _, info = backend.cls("BertModel").from_pretrained(tmp_path, output_loading_info=True)
    assert {"extra.weight", "extra.bias"} <= set(info["unexpected_keys"])


def test_a_layer_that_is_added_to_a_built_in_model_is_saved(tmp_path: Path) -> None:
    for prefix, layer in (("", torch.nn.Linear(12, 2)), ("TF", keras.layers.Dense(2, name="late"))):
        model = getattr(triptych, prefix + STEM)(config_of("bert", STEM))
        count = model.num_parameters()
        model.late = layer
        if prefix:
            layer.build((None, 12))
        assert model.num_parameters() == count + 26
        model.save_pretrained(tmp_path / f"{prefix}late")
        assert open_checkpoint(tmp_path / f"{prefix}late")["late.weight"].shape == (2, 12)


def test_a_class_of_a_part_that_overrides_some_of_it(backend: Backend, tmp_path: Path, inputs: Any) -> None:
    config = config_of("bert", STEM)
    backend.cls(STEM)(config).save_pretrained(tmp_path)
    base = backend.cls("BertPreTrainedModel")
    stated = {"module_class": FlaxExtendedModule} if backend.name == "flax" else {"build_head": build_more}
    cls = type("Own", (base,), stated, part=bert.BertForSequenceClassification)
    assert backend.cls(STEM).declared_part is bert.BertForSequenceClassification
    model, info = cls.from_pretrained(tmp_path, ignore_mismatched_sizes=True, output_loading_info=True)
    assert set(info["missing_keys"]) == {"extra.weight", "extra.bias"}
    model.save_pretrained(tmp_path / "again")
    assert open_checkpoint(tmp_path / "again")["extra.weight"].shape == (3, 12)


def build_more(self: Any, config: Any) -> None:
    bert.BertForSequenceClassification.build_head(self, config)
    self.extra = self.make.dense(self, config.hidden_size, 3)


def test_a_constructor_of_ones_own_goes_first() -> None:
    class Own(BertPreTrainedModel, part=bert.BertModel):
        def __init__(self, config: Any, depth: int) -> None:
            super().__init__(config)
            self.depth, self.add_pooling_layer = depth, False
            self.setup()
            self.post_init()

    model = Own(config_of("bert"), 3)
    assert model.depth == 3 and model.pooler is None and model.num_parameters() > 0


@pytest.mark.parametrize("part", [3, "BertModel", bert.BertEmbeddings, BertForSequenceClassification])
def test_what_is_no_model_makes_no_class(backend: Backend, part: Any) -> None:
    with pytest.raises(ArgumentError, match="part=, a subclass of triptych.nn.parts.Model"):
        type("Own", (backend.cls("BertPreTrainedModel"),), {}, part=part)
    with pytest.raises(ArgumentError, match="declared by its models"):
        families.declared(bert.BertConfig, part)


class RetrieverConfig(triptych.PretrainedConfig):
    """A config of an author's own, with the fields of a built-in one, and of none of the families."""

    model_type = "author-retriever"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        fields = config_of("bert").to_dict()
        for name in fields.keys() - self.to_dict().keys() - {"model_type", "architectures"}:
            setattr(self, name, kwargs.get(name, fields[name]))


def test_a_config_of_its_own_leaves_a_built_in_class_its_heads_and_its_vocabulary(
    backend: Backend, tmp_path: Path
) -> None:
    cls = type("Retriever", (backend.cls("BertModel"),), {"config_class": RetrieverConfig})
    model = cls(RetrieverConfig())
    if backend.name == "pt":
        model.eval()
    declared = backend.cls("BertModel")(config_of("bert")).schema
    assert model.schema.summary() == declared.summary()
    assert {w.name for w in model.schema.values() if w.axis_index("heads") is not None}
    size = model.config.vocab_size
    model.prune_heads({0: [1]})
    model.resize_token_embeddings(size + 2)
    model.save_pretrained(tmp_path)
    again, said = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(said.values()) and type(again.config) is RetrieverConfig
    assert again.schema.summary() == model.schema.summary() and again.config.vocab_size == size + 2
    words = {"input_ids": random_inputs(config_of("bert"))["input_ids"]}
    assert_close(*(backend.run(one, words)["last_hidden_state"] for one in (again, model)))
