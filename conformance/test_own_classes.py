"""A class of the user's own, without a declared schema, loads, saves, ties and resizes in each framework."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import flax.linen as linen
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch

from triptych import (
    ArgumentError,
    AutoConfig,
    BertConfig,
    CheckpointError,
    FlaxPreTrainedModel,
    PretrainedConfig,
    PreTrainedModel,
    Schema,
    TFPreTrainedModel,
    families,
    open_checkpoint,
)
from triptych.modeling.auto import AutoBase
from triptych.nn.outputs import ModelOutput
from triptych_conformance import BACKENDS, Backend, assert_close, compare_folder


class TinyConfig(PretrainedConfig):
    model_type = "tiny-own"

    def __init__(self, vocab_size: int = 11, hidden_size: int = 6, **kwargs: Any) -> None:
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        super().__init__(**kwargs)


class TinyLM(PreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "tiny"

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.tiny = torch.nn.Module()
        self.tiny.embed = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.tiny.norm = torch.nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.tiny.register_buffer("scale", torch.full((1,), 2.0), persistent=False)
        self.head = torch.nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.tiny.embed

    def get_output_embeddings(self) -> Any:
        return self.head

    def forward(self, input_ids: Any) -> ModelOutput:
        return ModelOutput(logits=self.head(self.tiny.scale * self.tiny.norm(self.tiny.embed(input_ids))))


class TFTinyMain(keras.layers.Layer):
    def __init__(self, config: TinyConfig, name: str) -> None:
        super().__init__(name=name)
        self.embed = keras.layers.Embedding(config.vocab_size, config.hidden_size, name="embed")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")

    def call(self, ids: Any) -> Any:
        return 2.0 * self.norm(self.embed(ids))


class TFTinyLM(TFPreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "tiny"

    def __init__(self, config: TinyConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.tiny = TFTinyMain(config, name="tiny")
        self.head = keras.layers.Dense(config.vocab_size, name="head")

    def get_input_embeddings(self) -> Any:
        return self.tiny.embed

    def get_output_embeddings(self) -> Any:
        return self.head

    def call(self, input_ids: Any, training: bool | None = None) -> ModelOutput:
        return ModelOutput(logits=self.head(self.tiny(input_ids)))


class FlaxTinyMainModule(linen.Module):
    config: TinyConfig
    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, ids: Any) -> Any:
        embedded = linen.Embed(self.config.vocab_size, self.config.hidden_size, name="embed")(ids)
        return 2.0 * linen.LayerNorm(epsilon=1e-6, use_fast_variance=False, name="norm")(embedded)


class FlaxTinyModule(linen.Module):
    config: TinyConfig
    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, input_ids: Any) -> ModelOutput:
        hidden = FlaxTinyMainModule(self.config, name="tiny")(input_ids)
        return ModelOutput(logits=linen.Dense(self.config.vocab_size, name="head")(hidden))


class FlaxTinyLM(FlaxPreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "tiny"
    module_class = FlaxTinyModule

    def get_input_embeddings(self) -> Any:
        return self.params["tiny"]["embed"]["embedding"]

    def get_output_embeddings(self) -> Any:
        return self.params["head"]["kernel"].T


CLASSES = {"pt": TinyLM, "tf": TFTinyLM, "flax": FlaxTinyLM}
IDS = {"input_ids": np.array([[1, 2, 3], [4, 5, 10]])}
NAMES = {"tiny.embed.weight", "tiny.norm.weight", "tiny.norm.bias", "head.weight", "head.bias"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    TinyLM(TinyConfig(initializer_range=1.0)).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_schemas_are_derived_alike(saved: Path) -> None:
    schemas = [CLASSES[b.name].from_pretrained(saved, strict=True).schema for b in BACKENDS]
    assert set(schemas[0]) == NAMES
    assert all(schema.summary() == schemas[0].summary() for schema in schemas)
    vocab = {w.name for w in schemas[-1].values() if w.axis_index("vocab") is not None}
    assert vocab == {"tiny.embed.weight", "head.weight", "head.bias"}
    assert all({w.name for w in s.values() if w.axis_index("vocab") is not None} == vocab for s in schemas)


def test_outputs_and_saves_agree(backend: Backend, saved: Path, tmp_path: Path) -> None:
    reference = BACKENDS[0].run(TinyLM.from_pretrained(saved), IDS)["logits"]
    model = CLASSES[backend.name].from_pretrained(saved)
    assert reference.std() > 0.1
    assert_close(backend.run(model, IDS)["logits"], reference)
    model.save_pretrained(tmp_path / "again")
    one, two = open_checkpoint(saved), open_checkpoint(tmp_path / "again")
    assert set(one) == set(two) == NAMES
    assert all(one[name].read().tobytes() == two[name].read().tobytes() for name in one)


def test_resize(saved: Path) -> None:
    results = []
    for backend in BACKENDS:
        model = CLASSES[backend.name].from_pretrained(saved)
        model.resize_token_embeddings(20)
        results.append((backend.weights(model), backend.run(model, IDS)["logits"]))
        assert model.config.vocab_size == 20
    for weights, logits in results:
        assert logits.shape == (2, 3, 20)
        assert_close(logits, results[0][1])
        assert all(weights[name].tobytes() == array.tobytes() for name, array in results[0][0].items())


def test_damage_is_refused(backend: Backend, saved: Path) -> None:
    weights = {name: ref.read() for name, ref in open_checkpoint(saved).items() if name != "tiny.norm.bias"}
    cls = CLASSES[backend.name]
    with pytest.raises(CheckpointError, match="tiny.norm.bias"):
        cls.from_pretrained(None, config=TinyConfig(), state_dict=weights)
    weights = {name: ref.read() for name, ref in open_checkpoint(saved).items() if name != "head.bias"}
    model = cls.from_pretrained(None, config=TinyConfig(), state_dict=weights)
    assert model.load_report.missing_keys == ["head.bias"]
    assert np.array_equal(backend.weights(model)["head.weight"], weights["head.weight"])


@pytest.mark.parametrize("lacking", ["head.bias", "tiny.norm.weight"])
def test_a_schema_that_lacks_a_parameter_is_refused(
    backend: Backend, lacking: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = CLASSES[backend.name]
    whole = cls.from_pretrained(saved).schema
    lacks = Schema({n: w for n, w in whole.items() if n != lacking}, whole.base_prefix, whole.is_base)
    monkeypatch.setattr(cls, "declare_schema", lambda config: whole)
    assert cls.from_pretrained(saved).load_report.missing_keys == []
    monkeypatch.setattr(cls, "declare_schema", lambda config: lacks)
    layer = re.escape(lacking.rpartition(".")[0])
    with pytest.raises(ArgumentError, match=rf"(?s)does not declare.*Received: {layer}\.\w+\."):
        cls.from_pretrained(saved)


def test_pruning_asks_for_declared_heads(backend: Backend, saved: Path) -> None:
    model = CLASSES[backend.name].from_pretrained(saved)
    with pytest.raises(ArgumentError, match="declare_schema"):
        model.prune_heads({0: [1]})


def test_a_base_without_pooler(backend: Backend, tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "tests/golden/bert-mlm/pt-safetensors"
    model, info = backend.load("BertModel", folder, add_pooling_layer=False, output_loading_info=True, strict=False)
    assert info["missing_keys"] == []
    model.save_pretrained(tmp_path)
    assert not any("pooler" in name for name in open_checkpoint(tmp_path))
    assert model._derive_schema().summary() == model.schema.summary()


def test_a_state_dict_is_copied(backend: Backend, saved: Path) -> None:
    weights = {name: np.array(ref.read()) for name, ref in open_checkpoint(saved).items()}
    model = CLASSES[backend.name].from_pretrained(None, config=TinyConfig(), state_dict=weights)
    before = backend.run(model, IDS)["logits"]
    for array in weights.values():
        array += 1
    assert np.array_equal(backend.run(model, IDS)["logits"], before)


@pytest.mark.parametrize("auto_class", ["AutoModel", "AutoModelForMaskedLM"])
def test_a_built_in_class_is_replaced_only_when_asked(
    backend: Backend, auto_class: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoBase, "_registered", {})
    auto, built_in = backend.cls(auto_class), backend.cls(auto_class).class_for(BertConfig())

    class Own(built_in):  # type: ignore[misc, valid-type]
        pass

    with pytest.raises(ArgumentError, match=rf"(?s)BertConfig is taken.*{built_in.__name__}.*exist_ok=True"):
        auto.register(BertConfig, Own)
    assert auto.class_for(BertConfig()) is built_in
    auto.register(BertConfig, Own, exist_ok=True)
    assert auto.class_for(BertConfig()) is Own
    for register in (AutoConfig.register, lambda name, cls: families.register(name, families.family(name))):
        with pytest.raises(ArgumentError, match="(?s)taken.*exist_ok=True"):
            register("bert", BertConfig)


def test_a_head_that_a_family_has_not_is_registered(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoBase, "_registered", {})
    own = backend.cls("BertModel")
    backend.cls("AutoModelForTextEncoding").register(BertConfig, own)
    assert backend.cls("AutoModelForTextEncoding").class_for(BertConfig()) is own


def test_registered_plain_classes_are_compared(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their call knows no output_hidden_states, which the comparison otherwise asks for."""
    monkeypatch.setattr(families, "_FAMILIES", dict(families._FAMILIES))
    monkeypatch.setattr(families, "_REGISTERED", set())
    monkeypatch.setattr(AutoBase, "_registered", {})
    AutoConfig.register("tiny-own", TinyConfig)
    for backend in BACKENDS:
        others = [cls for name, cls in CLASSES.items() if name != backend.name]
        for other in (*others, dict):
            with pytest.raises(ArgumentError, match=f"a class of the framework '{backend.name}'"):
                backend.cls("AutoModel").register(TinyConfig, other)
        backend.cls("AutoModel").register(TinyConfig, CLASSES[backend.name])
    parity = compare_folder(saved, "AutoModel", IDS)
    assert {name for name, _ in parity.comparisons} == {"logits"}
    parity.assert_within()
