"""Keras models of authors: what the live layers hold is saved, loaded, and initialised as they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from triptych import BertConfig, PretrainedConfig, TFBertForSequenceClassification, TFPreTrainedModel, open_checkpoint

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
