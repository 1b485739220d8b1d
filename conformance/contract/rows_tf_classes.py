"""Rows of the contract about an author's classes in TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_author import IDS, NAMES, OwnConfig, TFOwnForMaskedLM, TFOwnMainLayer, TFOwnModel, TFOwnPreTrainedModel, own
from small_models import config_of
from triptych import (
    ArgumentError,
    BertConfig,
    CheckpointError,
    TFBertModel,
    TFPreTrainedModel,
    UnsupportedFormatError,
    open_checkpoint,
)
from triptych.nn.outputs import BaseModelOutput, ModelOutput
from triptych_conformance import Backend, assert_close
from triptych_tf import utilities as tfu
from walk import row


@row("6.41", tf="Y")
@row("6.99", tf="Y", note="and by the class's method; exact names")
@row("8.3", tf="Y")
def a_class_of_an_author_makes_the_round_trip(backend: Backend, folder: Path) -> None:
    model = own()
    expected = model(IDS).logits
    for kind in ("safetensors", "h5", "safetensors-tf"):
        model.save_pretrained(folder / kind, format=kind)
        again, info = TFOwnForMaskedLM.from_pretrained(folder / kind, output_loading_info=True)
        assert not any(info.values()), (kind, info)
        assert np.array_equal(again(IDS).logits, expected)
    assert set(open_checkpoint(folder / "safetensors")) == NAMES
    assert "own/layer_._0/dense/kernel:0" in open_checkpoint(folder / "h5")
    base = TFOwnModel.from_pretrained(folder / "safetensors")
    assert np.array_equal(base(IDS)[0], model.own(IDS)[0])
    other = {name.replace("own.layer", "own.block"): ref.read() for name, ref in open_checkpoint(folder / "h5").items()}
    held = {n.replace("own.layer", "own.block"): r.read() for n, r in open_checkpoint(folder / "safetensors").items()}
    assert other.keys() != held.keys()
    with pytest.raises(CheckpointError, match="layer"):
        TFOwnForMaskedLM.from_pretrained(None, config=OwnConfig(), state_dict=held)
    rename = lambda name: (name, name.replace("own.layer", "own.block"))  # noqa: E731
    renamed = TFOwnForMaskedLM.from_pretrained(None, config=OwnConfig(), state_dict=held, tf_to_pt_weight_rename=rename)
    assert np.array_equal(renamed(IDS).logits, expected)


@row("6.38", tf="Y", note="a method of the class; exact names, the first that the file holds")
@row("8.33", tf="Y")
def a_class_renames(backend: Backend, folder: Path) -> None:
    class TFRenaming(TFOwnModel):
        def tf_to_pt_weight_rename(self, tf_weight: str) -> tuple[str, ...]:
            return tf_weight, tf_weight.replace("own.", f"{self.config.model_type}.")

    model = TFOwnModel(OwnConfig())
    held = {f"own-tf.{ref.name.removeprefix('own.')}": ref.read() for ref in model._tensor_refs()}
    again = TFRenaming.from_pretrained(None, config=OwnConfig(), state_dict=held, strict=True)
    assert np.array_equal(again(IDS)[0], model(IDS)[0])


@row("6.37", tf="Y")
@row("6.39", tf="Y")
@row("6.98", tf="Y", note="no scope is in a name here, so that nothing need be taken off; given to constructors")
@row("8.28", tf="Y", note="names hold no scope of a model, so no prefix is needed to find them")
def a_prefix_of_a_model_of_models(backend: Backend, folder: Path) -> None:
    class TFPrefixed(TFOwnModel):
        _requires_load_weight_prefix = True
        load_weight_prefix = "tf_pair"

        def __init__(self, config: OwnConfig, load_weight_prefix: str | None = None, **kwargs: Any) -> None:
            super().__init__(config, **kwargs)
            self.was_given = load_weight_prefix

    model = TFOwnModel(OwnConfig())
    model.save_pretrained(folder)
    again = TFOwnModel.from_pretrained(folder, load_weight_prefix="tf_pair/encoder")
    assert np.array_equal(again(IDS)[0], model(IDS)[0])
    assert not TFOwnModel._requires_load_weight_prefix and TFOwnModel.load_weight_prefix is None
    pair = TFPrefixed.from_pretrained(folder, load_weight_prefix="tf_pair", name="encoder")
    assert pair.was_given == "tf_pair/encoder"


@row("6.2", tf="R", note="layers of Keras 2 are refused: authors' keras.layers are those of Keras 3 after the port")
def layers_of_keras_2(backend: Backend, folder: Path) -> None:
    class Older(tf.Module):
        """As layers of tf_keras are."""

    model = TFOwnModel(OwnConfig())
    model.own.older = Older()
    with pytest.raises(ArgumentError, match=r"Keras 2.*older"):
        model.save_pretrained(folder)
    model = TFOwnModel(OwnConfig())
    model.own.scale = tf.Variable(1.0)
    with pytest.raises(ArgumentError, match=r"add_weight"):
        model.save_pretrained(folder)
    assert not [*folder.iterdir()]


@row("6.4", tf="Y")
def a_main_layer_is_serialised(backend: Backend, folder: Path) -> None:
    layer = TFOwnMainLayer(OwnConfig(hidden_size=8), name="own")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is TFOwnMainLayer and again.config.hidden_size == 8 and again.name == "own"
    assert TFOwnMainLayer({"hidden_size": 4}).config.hidden_size == 4
    with pytest.raises(ArgumentError, match="config_class"):
        tfu.keras_serializable(keras.layers.Dense)


@row("6.5", tf="Y")
@row("6.43", tf="Y")
@row("6.42", tf="Y")
def inputs_are_unpacked(backend: Backend, folder: Path) -> None:
    model, types = own(), np.array([[0, 1, 1], [0, 0, 1]])
    mask = np.ones_like(IDS)
    expected = model(input_ids=IDS, attention_mask=mask, token_type_ids=types).logits
    for given in ([IDS, mask, types], {"input_ids": IDS, "attention_mask": mask, "token_type_ids": types}):
        assert np.array_equal(model(given).logits, expected)
        assert np.array_equal(model.own(given)[0], model.own(IDS, token_type_ids=types)[0])
    assert not np.array_equal(model(IDS).logits, expected)
    assert type(model(IDS, return_dict=False)) is tuple
    assert model.own(tf.constant(IDS), output_hidden_states=True).hidden_states is not None


@row("6.6", tf="Y")
def inputs_are_processed(backend: Backend, folder: Path) -> None:
    def call(
        self: Any, input_ids: Any = None, past: Any = None, use_cache: Any = None, training: bool = False
    ) -> None: ...

    config = OwnConfig(use_cache=True, output_hidden_states=True)
    found = tfu.input_processing(call, config, input_ids={"input_ids": IDS}, training=True, kwargs_call={})
    assert found["input_ids"].dtype == np.int32 and found["training"] is True and found["use_cache"] is True
    assert found.keys() == {"input_ids", "past", "use_cache", "training"}
    with pytest.raises(ArgumentError, match="head_mask"):
        tfu.input_processing(call, config, input_ids=IDS, kwargs_call={"head_mask": 1})
    with pytest.raises(ArgumentError, match="more inputs"):
        tfu.input_processing(call, config, input_ids=[IDS] * 5)
    flags = tfu.booleans_processing(config, output_hidden_states=None, return_dict=False)
    assert flags == {"output_hidden_states": True, "return_dict": False}


@row("6.7", tf="Y")
def a_loss_of_the_model_is_passed_through(backend: Backend, folder: Path) -> None:
    assert np.array_equal(tfu.dummy_loss(None, tf.constant([[1.0, 3.0], [2.0, 2.0]])), [2.0, 2.0])
    assert np.array_equal(tfu.dummy_loss(None, tf.constant([4.0])), [4.0])


class TFUnnamed(TFOwnPreTrainedModel):
    def __init__(self, config: OwnConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.first = keras.layers.Dense(4)
        self.rest = [keras.layers.Dense(4), keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])]

    def call(self, input_ids: Any) -> ModelOutput:
        found = self.first(tf.one_hot(input_ids, 11))
        for layer in self.rest:
            found = layer(found)
        return ModelOutput(logits=found)


@row("6.44", tf="Y", note="by their attributes, as in PyTorch; the names of Keras differ by instance")
def layers_without_names(backend: Backend, folder: Path) -> None:
    model = TFUnnamed(OwnConfig())
    expected = model(IDS).logits
    model.save_pretrained(folder)
    places = ("first", "rest.0", "rest.1.0", "rest.1.1")
    assert set(open_checkpoint(folder)) == {f"{place}.{leaf}" for place in places for leaf in ("weight", "bias")}
    assert np.array_equal(TFUnnamed.from_pretrained(folder, strict=True)(IDS).logits, expected)


class TFSeeing(TFOwnPreTrainedModel):
    def __init__(self, config: OwnConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.projection = keras.layers.Conv2D(3, 2, data_format="channels_last", name="projection")

    def call(self, pixel_values: Any, training: bool = False) -> ModelOutput:
        return ModelOutput(last_hidden_state=self.projection(tf.transpose(pixel_values, (0, 2, 3, 1))))


@row("11.40", tf="Y")
@row("6.45", tf="Y")
@row("6.49", tf="Y")
@row("6.48", tf="Y")
def models_that_see(backend: Backend, folder: Path) -> None:
    config = OwnConfig(num_channels=2, image_size=4)
    model = TFSeeing(config)
    spec = model.input_signature["pixel_values"]
    assert spec.shape.as_list() == [None, 2, 4, 4] and spec.dtype == tf.float32
    model.save_pretrained(folder)
    again = TFSeeing.from_pretrained(folder, strict=True)
    image = np.ones((1, 2, 4, 4), np.float32)
    assert np.array_equal(again(image)[0], model(pixel_values=image)[0])
    with pytest.raises(ArgumentError, match="num_channels"):
        _ = TFSeeing(OwnConfig()).input_signature
    bert = TFBertModel(config_of("bert"))
    assert {n: s.shape.as_list() for n, s in bert.input_signature.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), [None, None]
    )
    assert bert.dummy_inputs["input_ids"].tolist() == [[1, 1]] and not bert.dummy_inputs["token_type_ids"].any()


@row("6.46", tf="Y")
def a_subclass_adds_layers(backend: Backend, folder: Path) -> None:
    class TFMore(TFBertModel):
        def __init__(self, config: BertConfig, *inputs: Any, **kwargs: Any) -> None:
            super().__init__(config, *inputs, **kwargs)
            self.more = keras.layers.Dense(2, name="more")

        def call(self, input_ids: Any = None, training: bool = False, **kwargs: Any) -> Any:
            return ModelOutput(logits=self.more(TFBertModel.call(self, input_ids)[0]))

    model = TFMore(config_of("bert"))
    model.save_pretrained(folder)
    again = TFMore.from_pretrained(folder, strict=True)
    assert np.array_equal(again(IDS)[0], model(IDS)[0])


@row("6.35", tf="Y", note="they are initialised, and not reported")
@row("6.55", tf="Y")
def missing_names_are_ignored(backend: Backend, folder: Path) -> None:
    class TFQuiet(TFOwnForMaskedLM):
        _keys_to_ignore_on_load_missing = [r"cls\.bias"]

    TFOwnModel(OwnConfig()).save_pretrained(folder)
    _, info = TFOwnForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == ["cls.bias"]
    model, info = TFQuiet.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == [] and model(IDS).logits.shape == (2, 3, 11)
    assert type(TFQuiet._from_config(OwnConfig(), name="n")) is TFQuiet


@row("6.103", tf="Y", note="a device_map is carried out by tf.device scopes; 'auto' and the like need max_memory")
@row("6.101", tf="R", note="None accepted")
def arguments_of_a_load(backend: Backend, folder: Path) -> None:
    model = TFOwnModel(OwnConfig())
    model.save_pretrained(folder, variant="v")
    again = TFOwnModel.from_pretrained(folder, variant="v", low_cpu_mem_usage=True, device_map=None)
    assert np.array_equal(again(IDS)[0], model(IDS)[0])
    placed = TFOwnModel.from_pretrained(folder, variant="v", device_map={"": "cpu"})
    assert np.array_equal(placed(IDS)[0], model(IDS)[0]) and placed.hf_device_map == {"": "/device:CPU:0"}
    with pytest.raises(ArgumentError, match="(?s)device_map.*max_memory"):
        TFOwnModel.from_pretrained(folder, variant="v", device_map="auto")
    with pytest.raises(ValueError, match="proxies"):
        TFOwnModel.from_pretrained(folder, variant="v", proxies={"http": "there"})


@row("6.50", tf="Y")
@row("6.51", tf="Y", note="what Keras takes; anything else is refused, as Keras 2 did")
@row("6.53", tf="Y", note="names of variables have no scope of the model")
def small_things_of_a_model(backend: Backend, folder: Path) -> None:
    model = TFOwnModel(OwnConfig(), "ignored", name="mine", trainable=True, dynamic=False)
    assert model.name == "mine" and model.weights == []
    model.build_in_name_scope()
    assert len(model.weights) == len(NAMES) - 1
    model.save_pretrained(folder)
    assert TFOwnModel.from_pretrained(folder).name_or_path == str(folder)
    with pytest.raises(ValueError, match="colour"):
        TFOwnModel(OwnConfig(), colour=1)


@row("6.57", tf="Y")
def head_masks(backend: Backend, folder: Path) -> None:
    model = TFBertModel(config_of("bert"))
    config = model.config
    mask = np.ones((config.num_hidden_layers, config.num_attention_heads), np.float32)
    found = model.get_head_mask(tf.constant(mask), config.num_hidden_layers)
    assert len(found) == config.num_hidden_layers and found[0].dtype == tf.float32
    assert model.get_head_mask(None, 2) == [None, None]


@row("6.80", tf="Y")
@row("6.82", tf="Y")
@row("6.58", tf="Y")
@row("6.59", tf="Y")
@row("11.35", tf="Y")
def models_are_served(backend: Backend, folder: Path) -> None:
    model = own()
    expected = np.asarray(model(IDS).logits)
    served = model.serving({"input_ids": tf.constant(IDS), "attention_mask": tf.ones_like(IDS)})
    assert_close(served["logits"], expected)
    states = BaseModelOutput(last_hidden_state=tf.zeros(2), hidden_states=(tf.zeros(2),) * 3)
    assert list(model.serving_output(states)) == ["last_hidden_state"]
    model.config.output_hidden_states = True
    assert model.serving_output(states).hidden_states.shape == (3, 2)
    model.config.output_hidden_states = False
    model.save_pretrained(folder, saved_model=True, version=3)
    assert np.array_equal(TFOwnForMaskedLM.from_pretrained(folder)(IDS).logits, expected)
    saved = tf.saved_model.load(folder / "saved_model/3")
    signatures = saved.signatures
    inputs = {"input_ids": IDS, "attention_mask": np.ones_like(IDS), "token_type_ids": np.zeros_like(IDS)}
    for name, dtype in (("serving_default", tf.int32), ("int64_serving", tf.int64)):
        found = signatures[name](**{key: tf.constant(value, dtype) for key, value in inputs.items()})
        assert_close(found["logits"], expected)
    twice = tf.function(lambda input_ids: {"twice": 2 * model(input_ids).logits})
    twice.get_concrete_function(tf.TensorSpec([None, None], tf.int32, "input_ids"))
    model.save_pretrained(folder / "own", saved_model=True, signatures={"twice": twice})
    stated = tf.saved_model.load(folder / "own/saved_model/1")
    found = stated.signatures["twice"](input_ids=tf.constant(IDS, tf.int32))
    assert_close(found["twice"], 2 * expected)
    model.export(folder / "exported", verbose=False)
    exported = tf.saved_model.load(folder / "exported")
    found = exported.serve({name: tf.constant(value, tf.int32) for name, value in inputs.items()})
    assert_close(found["logits"], expected)


@row("6.3", tf="Y", note="and exclude_embeddings")
@row("11.8", tf="Y", note=None)
def counting(backend: Backend, folder: Path) -> None:
    model = own()
    everything = sum(int(np.prod(variable.shape)) for variable in model._variables().values())
    assert model.num_parameters() == everything
    model.own.embeddings.trainable = False
    assert model.num_parameters(only_trainable=True) < everything

    class Mixed(keras.Sequential, tfu.TFModelUtilsMixin):
        pass

    mixed = Mixed([keras.layers.Dense(3)])
    mixed.build((None, 2))
    assert mixed.num_parameters() == 9
    mixed.layers[0].trainable = False
    assert mixed.num_parameters(only_trainable=True) == 0


@row("6.40", tf="Y", note="without effect: what is compiled is TensorFlow's to say")
def xla(backend: Backend, folder: Path) -> None:
    assert TFPreTrainedModel.supports_xla_generation is True


@row("6.113", tf="Y", note="by name, and by their arrays")
def quantised_checkpoints(backend: Backend, folder: Path) -> None:
    config = OwnConfig(quantization_config={"quant_method": "gptq", "bits": 4})
    model = own()
    model.save_pretrained(folder)
    config.save_pretrained(folder)
    with pytest.raises(UnsupportedFormatError, match="gptq"):
        TFOwnForMaskedLM.from_pretrained(folder)
    names = {ref.name: ref.read() for ref in model._tensor_refs()}
    weight = "own.layer.0.dense.weight"
    held = {**names, weight: names[weight].astype(np.int8), f"{weight}.absmax": np.ones(6, np.float32)}
    with pytest.raises(UnsupportedFormatError, match="quantised"):
        TFOwnForMaskedLM.from_pretrained(None, config=OwnConfig(), state_dict=held)
