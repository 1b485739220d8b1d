"""Keras models of authors: what the live layers hold is saved, loaded, and initialised as they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from triptych import (
    BertConfig,
    CheckpointError,
    PretrainedConfig,
    TFBertForSequenceClassification,
    TFPreTrainedModel,
    open_checkpoint,
)

BERT = dict(vocab_size=31, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=10,
            max_position_embeddings=16)  # fmt: skip


class Config(PretrainedConfig):
    model_type = "live_layers"

    def __init__(self, width: int = 4, **kwargs: Any) -> None:
        self.width = width
        super().__init__(**kwargs)


class Base(TFPreTrainedModel):
    config_class = Config
    main_input_name = "values"

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"values": np.zeros((1, 3, 4), np.float32)}


class Trunk(Base):
    base_model_prefix = "trunk"

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.dense = keras.layers.Dense(config.width, bias_initializer="ones", name="dense")
        self.norm = keras.layers.BatchNormalization(name="norm")

    def call(self, values: Any, training: bool = False) -> Any:
        return self.norm(self.dense(values), training=training)


class Around(Base):
    """Loads its trunk itself, and freezes it."""

    place: str = ""

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.back = Trunk.from_pretrained(self.place, name="back") if self.place else Trunk(config, name="back")
        self.back.trainable = False
        self.head = keras.layers.Dense(2, bias_initializer="ones", name="head")

    def call(self, values: Any, training: bool = False) -> Any:
        return self.head(self.back(values))


def values_of(model: Any) -> list[np.ndarray]:
    model.build_in_name_scope()
    return [np.asarray(variable) for variable in model.weights]


def assert_equal(one: Any, other: Any) -> None:
    first, second = values_of(one), values_of(other)
    assert len(first) == len(second)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def trained(model: Any) -> Any:
    rng = np.random.default_rng(0)
    model.build_in_name_scope()
    for variable in model.weights:
        variable.assign(rng.uniform(1, 2, variable.shape))
    return model


@pytest.fixture
def trunk(tmp_path: Path) -> Any:
    model = trained(Trunk(Config()))
    model.save_pretrained(tmp_path / "trunk")
    return model


@pytest.fixture(autouse=True)
def _no_place() -> Any:
    yield
    Around.place = ""


def test_a_model_that_is_loaded_in_a_constructor_is_as_loaded(trunk: Any, tmp_path: Path) -> None:
    Around.place = str(tmp_path / "trunk")
    model = Around(Config())
    assert_equal(model.back, trunk)
    assert "back.norm.running_mean" in model.schema


@pytest.mark.parametrize("loads_within", [True, False])
def test_a_load_within_a_load(trunk: Any, tmp_path: Path, loads_within: bool) -> None:
    Around.place = str(tmp_path / "trunk")
    model = trained(Around(Config()))
    model.save_pretrained(tmp_path / "whole")
    Around.place = Around.place if loads_within else ""
    again = Around.from_pretrained(tmp_path / "whole", strict=True)
    assert_equal(again, model)
    assert not again.back.trainable_variables and len(again.head.trainable_variables) == 2
    assert again.num_parameters(only_trainable=True) == again.head.count_params() == 10
    assert again(np.ones((1, 3, 4), np.float32)).shape == (1, 3, 2)


def test_what_a_checkpoint_lacks_stays_as_the_constructor_loaded_it(trunk: Any, tmp_path: Path) -> None:
    Around.place = str(tmp_path / "trunk")
    kernel = np.full((2, 4), 3, np.float32)
    model, info = Around.from_pretrained(
        None, config=Config(), state_dict={"head.weight": kernel}, strict=False, output_loading_info=True
    )
    assert "back.dense.weight" in info["missing_keys"] and "head.bias" in info["missing_keys"]
    assert_equal(model.back, trunk)
    assert np.asarray(model.head.bias).tolist() == [1, 1] and np.array_equal(model.head.kernel, kernel.T)


def test_an_error_within_leaves_keras_as_it_was(trunk: Any, tmp_path: Path) -> None:
    trained(Around(Config())).save_pretrained(tmp_path / "whole")
    Around.place = str(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        Around.from_pretrained(tmp_path / "whole")
    assert np.asarray(keras.layers.Dense(2)(tf.ones((1, 2)))).shape == (1, 2)
    assert_equal(Trunk.from_pretrained(tmp_path / "trunk"), trunk)


class Shaped(Base):
    def __init__(self, config: Config, size: int, *inputs: Any, deep: bool = False, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name) for name in ("dtype", "name") if name in kwargs}
        super().__init__(config, **options)
        self.dense = keras.layers.Dense(size, name="dense")
        self.deep = keras.layers.Dense(3, name="deep") if deep else None
        self.seen_inputs, self.seen_options = inputs, kwargs

    def call(self, values: Any) -> Any:
        values = self.dense(values)
        return values if self.deep is None else self.deep(values)


def test_arguments_of_the_constructor_shape_weights(tmp_path: Path) -> None:
    model = trained(Shaped(Config(), 5, deep=True))
    model.save_pretrained(tmp_path)
    again = Shaped.from_pretrained(tmp_path, 5, "more", deep=True, kind=1, strict=True)
    assert again.dense.units == 5 and tuple(again.seen_inputs) == ("more",) and again.seen_options == {"kind": 1}
    assert_equal(again, model)
    assert_equal(Shaped.from_pretrained(tmp_path, size=5, deep=True, strict=True), model)
    with pytest.raises(CheckpointError, match="dense"):
        Shaped.from_pretrained(tmp_path, 6, deep=True)


class Sharing(Base):
    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.first = keras.layers.Dense(4, name="first")
        self.second = self.first
        self.inner = Inner(self.first, name="inner")

    def call(self, values: Any) -> Any:
        return self.inner(self.second(self.first(values)))


class Inner(keras.layers.Layer):
    def __init__(self, shared: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shared = shared
        self.own = keras.layers.Dense(4, name="own")

    def call(self, values: Any) -> Any:
        return self.own(self.shared(values))


def test_one_layer_under_several_names(tmp_path: Path) -> None:
    model = trained(Sharing(Config()))
    model.save_pretrained(tmp_path)
    assert sorted(open_checkpoint(tmp_path)) == ["first.bias", "first.weight", "inner.own.bias", "inner.own.weight"]
    again = Sharing.from_pretrained(tmp_path, strict=True)
    assert again.inner.shared is again.first
    assert_equal(again, model)


def test_layers_that_are_added_to_a_built_model_are_saved(tmp_path: Path) -> None:
    model = trained(Trunk(Config()))
    before = model.num_parameters()
    model.extra = keras.layers.Dense(2, name="extra")
    model.extra.build((None, 3))
    assert model.num_parameters() == before + 8
    model.save_pretrained(tmp_path / "added")
    assert "extra.weight" in open_checkpoint(tmp_path / "added")
    model.loose = keras.layers.Dense(2, name="loose")  # never built, so it has no weights
    model.save_pretrained(tmp_path / "loose")
    assert "loose.weight" not in open_checkpoint(tmp_path / "loose")


class Wider(TFBertForSequenceClassification):
    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.extra = keras.layers.Dense(2, name="extra", kernel_initializer="ones")

    def call(self, input_ids: Any = None, **kwargs: Any) -> Any:
        return self.extra(super().call(input_ids, **kwargs).logits)


def test_missing_weights_start_as_their_layers_say(tmp_path: Path) -> None:
    TFBertForSequenceClassification(BertConfig(**BERT)).save_pretrained(tmp_path)
    model, info = Wider.from_pretrained(tmp_path, output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["extra.bias", "extra.weight"]
    assert np.asarray(model.extra.kernel).tolist() == [[1, 1], [1, 1]]
    loaded = Trunk.from_pretrained(None, config=Config(), state_dict={}, strict=False)
    assert np.asarray(loaded.dense.bias).tolist() == [1] * 4 and np.asarray(loaded.dense.kernel).std() > 0
    assert np.asarray(loaded.norm.moving_variance).tolist() == [1] * 4


class Freezing(Base):
    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.dense = keras.layers.Dense(4, name="dense")
        self.dense.trainable = False
        self.other = keras.layers.Dense(4, name="other")

    def call(self, values: Any) -> Any:
        return self.other(self.dense(values))


def test_layers_that_are_frozen_before_they_are_built_stay_frozen(tmp_path: Path) -> None:
    model = trained(Freezing(Config()))
    model.save_pretrained(tmp_path)
    again = Freezing.from_pretrained(tmp_path, strict=True)
    for one in (model, again):
        assert [variable.path.split("/")[-2] for variable in one.trainable_variables] == ["other", "other"]
        assert one.num_parameters(only_trainable=True) == 20 and one.num_parameters() == 40
    assert_equal(model, again)


class Typed(Base):
    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.wide = self.add_weight(shape=(2,), dtype="float64", initializer="ones", name="wide")
        self.narrow = self.add_weight(shape=(2,), dtype="bfloat16", initializer="ones", name="narrow", trainable=False)
        self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", name="count", trainable=False)
        self.dense = keras.layers.Dense(2, name="dense")

    def call(self, values: Any) -> Any:
        return self.dense(values)


def test_variables_keep_the_dtypes_that_their_layers_chose(tmp_path: Path) -> None:
    model = Typed(Config())
    model.build_in_name_scope()
    model.wide.assign([np.pi, np.e])
    model.count.assign(7)
    model.save_pretrained(tmp_path)
    again = Typed.from_pretrained(tmp_path, strict=True)
    assert [str(v.dtype) for v in again.weights] == [str(v.dtype) for v in model.weights]
    assert_equal(again, model)
    fresh = Typed.from_pretrained(None, config=Config(), state_dict={}, strict=False)
    assert fresh.wide.dtype == "float64" and fresh.narrow.dtype == "bfloat16" and int(fresh.count.numpy()) == 0
    half = Typed.from_pretrained(tmp_path, param_dtype="float16")
    assert half.dense.kernel.dtype == "float16" and half.wide.dtype == "float64"


def test_a_backbone_that_is_no_layer_has_the_names_of_its_variables_in_files_of_tensorflow(tmp_path: Path) -> None:
    model = trained(Trunk(Config()))
    model.save_pretrained(tmp_path, safe_serialization=False)
    with h5py.File(tmp_path / "tf_model.h5") as file:
        assert list(file.attrs["layer_names"]) == ["dense", "norm"]
    assert_equal(Trunk.from_pretrained(tmp_path, strict=True), model)
