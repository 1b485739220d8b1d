"""A class of the user's own, without a declared schema, loads, saves, ties and resizes in each framework."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as linen
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from triptych import (
    ArgumentError,
    AutoConfig,
    BertConfig,
    CheckpointError,
    FlaxBertForMaskedLM,
    FlaxPreTrainedModel,
    InconsistentCheckpointError,
    PretrainedConfig,
    PreTrainedModel,
    Schema,
    TFPreTrainedModel,
    families,
    open_checkpoint,
)
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
    TinyLM(TinyConfig(initializer_range=1.0, tie_word_embeddings=False)).save_pretrained(tmp_path / "saved")
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


class ExtraLM(TinyLM):
    def __init__(self, config: TinyConfig, deeper: bool = False) -> None:
        super().__init__(config)
        self.more = torch.nn.Linear(config.vocab_size, 3) if deeper else torch.nn.Identity()
        self.post_init()

    def forward(self, input_ids: Any) -> ModelOutput:
        return ModelOutput(logits=self.more(TinyLM.forward(self, input_ids)["logits"]))


class TFExtraLM(TFTinyLM):
    def __init__(self, config: TinyConfig, deeper: bool = False, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.more = keras.layers.Dense(3, name="more") if deeper else None

    def call(self, input_ids: Any, training: bool | None = None) -> ModelOutput:
        output = TFTinyLM.call(self, input_ids)
        return output if self.more is None else ModelOutput(logits=self.more(output["logits"]))


class FlaxExtraModule(FlaxTinyModule):
    deeper: bool = False

    @linen.compact
    def __call__(self, input_ids: Any) -> ModelOutput:
        logits = linen.Dense(self.config.vocab_size, name="head")(
            FlaxTinyMainModule(self.config, name="tiny")(input_ids)
        )
        return ModelOutput(logits=linen.Dense(3, name="more")(logits) if self.deeper else logits)


class FlaxExtraLM(FlaxTinyLM):
    module_class = FlaxExtraModule


EXTRA = {"pt": ExtraLM, "tf": TFExtraLM, "flax": FlaxExtraLM}


def test_an_argument_of_the_constructor_adds_weights(backend: Backend, saved: Path, tmp_path: Path) -> None:
    model = EXTRA[backend.name].from_pretrained(saved, deeper=True)
    assert sorted(model.load_report.missing_keys) == ["more.bias", "more.weight"]
    model.save_pretrained(tmp_path / "more")
    again = EXTRA[backend.name].from_pretrained(tmp_path / "more", deeper=True, strict=True)
    weights = backend.weights(model)
    assert set(weights) == {*NAMES, "more.weight", "more.bias"}
    assert all(array.tobytes() == weights[name].tobytes() for name, array in backend.weights(again).items())
    assert backend.run(again, IDS)["logits"].shape == (2, 3, 3)


class LoadedConfig(PretrainedConfig):
    model_type = "loaded"

    def __init__(self, base: str = "", **kwargs: Any) -> None:
        self.base = base
        super().__init__(**kwargs)


class AroundLoaded(PreTrainedModel):
    config_class = LoadedConfig

    def __init__(self, config: LoadedConfig) -> None:
        super().__init__(config)
        self.trunk = TinyLM.from_pretrained(config.base)
        self.head = torch.nn.Linear(2, 2)
        self.post_init()

    def forward(self, input_ids: Any) -> Any:
        return self.head(self.trunk(input_ids).logits[..., :2])


class TFAroundLoaded(TFPreTrainedModel):
    config_class = LoadedConfig

    def __init__(self, config: LoadedConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.trunk = TFTinyLM.from_pretrained(config.base)
        self.head = keras.layers.Dense(2, name="head")

    def call(self, input_ids: Any, training: bool | None = None) -> Any:
        return self.head(self.trunk(input_ids).logits[..., :2])


@pytest.mark.parametrize("cls", [AroundLoaded, TFAroundLoaded])
def test_a_constructor_may_load_a_model_while_it_is_loaded(cls: Any, saved: Path, tmp_path: Path) -> None:
    ids = np.array([[1, 2, 3]])
    model = cls(LoadedConfig(str(saved)))
    model(torch.tensor(ids) if cls is AroundLoaded else ids)
    model.save_pretrained(tmp_path / "one")
    held = {name: ref.read() for name, ref in open_checkpoint(tmp_path / "one").items()}
    base = open_checkpoint(saved)
    assert set(held) == {*(f"trunk.{name}" for name in NAMES), "head.weight", "head.bias"}
    assert all(np.array_equal(held[f"trunk.{name}"], base[name].read()) for name in NAMES)
    trained = {name: array + 1 for name, array in held.items()}
    save_file(trained, tmp_path / "one/model.safetensors", {"format": "pt"})
    again, said = cls.from_pretrained(tmp_path / "one", output_loading_info=True)
    assert not any(said.values())
    again.save_pretrained(tmp_path / "two")
    assert all(np.array_equal(ref.read(), trained[name]) for name, ref in open_checkpoint(tmp_path / "two").items())
    half = cls.from_pretrained(tmp_path / "one", dtype="float16" if cls is AroundLoaded else None,
                               param_dtype="float16")  # fmt: skip
    assert set(map(str, map(half._dtype_reader(), half.schema.values()))) == {"float16"}


@pytest.mark.parametrize("strict", [None, False])
@pytest.mark.parametrize("deeper", [True, False])
def test_a_schema_that_disagrees_with_the_module_is_refused(
    backend: Backend, deeper: bool, strict: bool | None, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways, alike in all frameworks, and before a weight gets its value."""
    cls, assigned = EXTRA[backend.name], []
    declared = cls.from_pretrained(saved, deeper=not deeper).schema
    assign = cls._assign
    with monkeypatch.context() as patch:
        patch.setattr(cls, "declare_schema", lambda config: declared)
        patch.setattr(cls, "_assign", lambda self, *given: assigned.append(given) or assign(self, *given))
        with pytest.raises(ArgumentError) as error:
            cls.from_pretrained(saved, deeper=deeper, strict=strict)
        assert assigned == []
        assert cls.from_pretrained(saved, deeper=not deeper).load_report.assigned.keys() == NAMES
        assert len(assigned) == len(NAMES)
    said = "parameters that its schema does not declare" if deeper else "no parameters for weights that its schema"
    received = "Received: more.bias, more.weight." if deeper else "Received: none for more.bias, more.weight."
    assert f"{cls.__name__} has {said}" in str(error.value)
    assert received in str(error.value)
    assert "remove declare_schema" in str(error.value)


def test_a_misspelled_weight_is_named_both_ways(backend: Backend, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = CLASSES[backend.name]
    right = cls.from_pretrained(saved).schema
    wrong = {n.replace("norm", "nrom"): replace(w, name=n.replace("norm", "nrom")) for n, w in right.items()}
    monkeypatch.setattr(cls, "declare_schema", lambda config: Schema(wrong, right.base_prefix, right.is_base))
    received = r"Received: tiny.norm.bias, tiny.norm.weight; and no parameter for tiny.nrom.bias, tiny.nrom.weight\."
    with pytest.raises(ArgumentError, match=rf"(?s)does not declare.*{received}"):
        cls.from_pretrained(saved, strict=False)


def with_a_layer_more(backend: Backend) -> Any:
    """Return a subclass of BERT for masked tokens with a layer that its schema does not know."""
    built_in = backend.cls("BertForMaskedLM")
    module = built_in.module_class if backend.name == "flax" else built_in

    class Module(module):  # type: ignore[misc, valid-type]
        def setup(self) -> None:
            module.setup(self)
            self.more = self.make.dense(self, 4, 4)

    if backend.name != "flax":
        return Module

    class Called(Module):  # linen makes the parameters of what is called
        def __call__(self, *inputs: Any, **options: Any) -> Any:
            self.more(jnp.zeros((1, 4)))
            return module.__call__(self, *inputs, **options)

    class Own(built_in):  # type: ignore[misc, valid-type]
        module_class = Called

    return Own


def test_a_built_in_class_with_a_layer_more_is_loaded_and_saved_with_it(backend: Backend, tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "tests/golden/bert-mlm/pt-safetensors"
    model, info = with_a_layer_more(backend).from_pretrained(folder, output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["more.bias", "more.weight"]
    model.save_pretrained(tmp_path)
    assert set(open_checkpoint(tmp_path)) - set(open_checkpoint(folder)) == {"more.bias", "more.weight"}


def test_a_built_in_flax_class_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, traced = Path(__file__).parents[1] / "tests/golden/bert-mlm/pt-safetensors", []
    shapes = FlaxPreTrainedModel._traced_shapes
    monkeypatch.setattr(FlaxPreTrainedModel, "_traced_shapes", lambda self: traced.append(type(self)) or shapes(self))

    class Own(FlaxBertForMaskedLM):
        pass

    for cls in (FlaxBertForMaskedLM, Own):
        cls.from_pretrained(folder)
    assert traced == []

    class Declaring(FlaxBertForMaskedLM):
        @classmethod
        def declare_schema(cls, config: PretrainedConfig, **options: Any) -> Schema | None:
            return super().declare_schema(config, **options)

    Declaring.from_pretrained(folder)
    assert set(traced) == {Declaring}


def test_only_what_is_made_of_a_part_has_its_schema(backend: Backend) -> None:
    built_in, config = backend.cls("BertModel"), BertConfig()
    fields = {"config_class": BertConfig, "__module__": built_in.__module__}
    namesake = type(built_in.__name__, (backend.cls("PreTrainedModel"),), fields)
    assert namesake.declare_schema(config) is None
    inherited = type("Own", (built_in,), {}).declare_schema(config, add_pooling_layer=False)
    assert inherited == built_in.declare_schema(config, add_pooling_layer=False)
    assert len(inherited) == len(built_in.declare_schema(config)) - 2


TIES = {"head.weight": "tiny.embed.weight"}


class SharedLM(TinyLM):
    _tied_weights_keys = TIES

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


class TFSharedLM(TFPreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "tiny"
    _tied_weights_keys = TIES

    def __init__(self, config: TinyConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.tiny = TFTinyMain(config, name="tiny")

    def get_input_embeddings(self) -> Any:
        return self.tiny.embed

    def call(self, input_ids: Any, training: bool | None = None) -> ModelOutput:
        hidden = self.tiny(input_ids)
        return ModelOutput(logits=keras.ops.matmul(hidden, keras.ops.transpose(self.tiny.embed.embeddings)))


class FlaxSharedModule(linen.Module):
    config: TinyConfig
    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, input_ids: Any) -> ModelOutput:
        tiny = FlaxTinyMainModule(self.config, name="tiny")
        hidden = tiny(input_ids)
        return ModelOutput(logits=hidden @ tiny.variables["params"]["embed"]["embedding"].T)


class FlaxSharedLM(FlaxPreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "tiny"
    module_class = FlaxSharedModule
    _tied_weights_keys = TIES

    def get_input_embeddings(self) -> Any:
        return self.params["tiny"]["embed"]["embedding"]


SHARED = {"pt": SharedLM, "tf": TFSharedLM, "flax": FlaxSharedLM}


def test_ties_of_own_classes_are_derived_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    SharedLM(TinyConfig(initializer_range=1.0)).save_pretrained(tmp_path)
    assert set(open_checkpoint(tmp_path)) == NAMES - {"head.weight", "head.bias"}
    logits = []
    for backend in BACKENDS:
        model = SHARED[backend.name].from_pretrained(tmp_path, strict=True)
        assert model.schema.summary()["head.weight"] == ((11, 6), "linear", "tiny.embed.weight")
        assert model.schema.summary() == SharedLM(TinyConfig()).schema.summary()
        model.resize_token_embeddings(13)
        assert {model.schema[name].shape for name in ("head.weight", "tiny.embed.weight")} == {(13, 6)}
        logits.append(backend.run(model, IDS)["logits"])
        assert_close(logits[-1], logits[0])
    assert logits[0].shape == (2, 3, 13)


@pytest.mark.parametrize("name", ["tf", "flax"])
def test_a_head_of_the_file_that_a_class_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    """Both compute with the embeddings, whatever the config says."""
    weights = {n: ref.read() for n, ref in save_and_open(SharedLM(TinyConfig()), tmp_path).items()}
    weights["head.weight"] = weights["tiny.embed.weight"] + 1
    given = {"config": TinyConfig(), "state_dict": weights}
    with pytest.raises(InconsistentCheckpointError, match="(?s)always takes others.*Received: head.weight"):
        SHARED[name].from_pretrained(None, **given)
    model = SHARED[name].from_pretrained(None, **given, strict=False)
    assert model.load_report.untied == []


def save_and_open(model: Any, folder: Path) -> Any:
    model.save_pretrained(folder)
    return open_checkpoint(folder)


class TiedLM(PreTrainedModel):
    """Ties in its constructor, always, and says so nowhere."""

    config_class = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.embed = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.head.weight = self.embed.weight
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.embed


def test_a_tie_of_the_constructor_is_kept(tmp_path: Path) -> None:
    model = TiedLM(TinyConfig())
    model.save_pretrained(tmp_path)
    assert set(open_checkpoint(tmp_path)) == {"head.weight"}
    again = TiedLM.from_pretrained(tmp_path, strict=True)
    assert again.head.weight is again.embed.weight
    assert torch.equal(again.embed.weight, model.embed.weight)
    again.resize_token_embeddings(20)
    assert again.head.weight is again.embed.weight
    assert (again.head.out_features, again.embed.num_embeddings) == (20, 20)
    differing = {"head.weight": np.zeros((11, 6), np.float32), "embed.weight": np.ones((11, 6), np.float32)}
    with pytest.raises(InconsistentCheckpointError, match="embed.weight unlike head.weight"):
        TiedLM.from_pretrained(None, config=TinyConfig(), state_dict=differing)


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
    auto, built_in = backend.cls(auto_class), backend.cls(auto_class).class_for(BertConfig())
    monkeypatch.setattr(auto._model_mapping, "_extra_content", {})

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
    own, auto = backend.cls("BertModel"), backend.cls("AutoModelForTableQuestionAnswering")
    monkeypatch.setattr(auto._model_mapping, "_extra_content", {})
    auto.register(BertConfig, own)
    assert auto.class_for(BertConfig()) is own


def test_registered_plain_classes_are_compared(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their call knows no output_hidden_states, which the comparison otherwise asks for."""
    monkeypatch.setattr(families, "_FAMILIES", dict(families._FAMILIES))
    monkeypatch.setattr(families, "_REGISTERED", set())
    AutoConfig.register("tiny-own", TinyConfig)
    for backend in BACKENDS:
        monkeypatch.setattr(backend.cls("AutoModel")._model_mapping, "_extra_content", {})
        others = [cls for name, cls in CLASSES.items() if name != backend.name]
        for other in (*others, dict):
            with pytest.raises(ArgumentError, match=f"a class of the framework '{backend.name}'"):
                backend.cls("AutoModel").register(TinyConfig, other)
        backend.cls("AutoModel").register(TinyConfig, CLASSES[backend.name])
    parity = compare_folder(saved, "AutoModel", IDS)
    assert {name for name, _ in parity.comparisons} == {"logits"}
    parity.assert_within()
