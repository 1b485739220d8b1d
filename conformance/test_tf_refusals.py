"""What authors call beside the base class of Keras says what it takes, whatever it is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from triptych import BertConfig, TFBertForMaskedLM
from triptych.errors import ArgumentError, ShapeMismatchError
from triptych_tf import utilities as u

SMALL = BertConfig(vocab_size=31, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=10)
X = np.ones((2, 3), np.float32)


class Examples:
    """As a `datasets.Dataset`, of two lengths."""

    column_names = ("input_ids", "labels")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> dict[str, list[int]]:
        return {"input_ids": [1] * (place + 1), "labels": [1] * (place + 1)}


def call(self: Any, input_ids: Any = None) -> Any:
    return input_ids


FUNCTIONS: dict[str, Callable[[], Any]] = {
    "shape_list": lambda: u.shape_list(3),
    "functional_layernorm": lambda: u.functional_layernorm(X, None, None),
    "functional_layernorm of a matrix": lambda: u.functional_layernorm(X, X, X),
    "scaled_dot_product_attention": lambda: u.scaled_dot_product_attention("query", X, X),
    "flatten": lambda: u.flatten("text"),
    "flatten, turned": lambda: u.flatten(tf.ones((2, 3, 4)), 2, 0),
    "flatten of a scalar": lambda: u.flatten(tf.constant(1.0)),
    "invert_attention_mask": lambda: u.invert_attention_mask(None),
    "check_embeddings_within_bounds": lambda: u.check_embeddings_within_bounds(X, "x"),
    "save_attributes_to_hdf5_group": lambda: u.save_attributes_to_hdf5_group(None, "a", [b"x"]),
    "load_attributes_from_hdf5_group": lambda: u.load_attributes_from_hdf5_group(None, "a"),
    "dtype_byte_size": lambda: u.dtype_byte_size("float33"),
    "keras_serializable": lambda: u.keras_serializable(3),
    "unpack_inputs": lambda: u.unpack_inputs(3),
    "unpack_inputs of nothing": lambda: u.unpack_inputs(lambda: 0),
    "input_processing": lambda: u.input_processing(call, None, input_ids=X, kwargs_call=3),
    "TFConv1D": lambda: u.TFConv1D("a", 3),
    "TFSharedEmbeddings": lambda: u.TFSharedEmbeddings(3, 0),
    "TFSequenceSummary": lambda: u.TFSequenceSummary(None),
    "TFSequenceSummary without a type": lambda: u.TFSequenceSummary(BertConfig(summary_use_proj=True)),
    "TFSequenceSummary of nothing": lambda: u.TFSequenceSummary(SMALL)([]),
    "load_tf_sharded_weights": lambda: u.load_tf_sharded_weights(None, None),
    "load_tf_sharded_weights of a text": lambda: u.load_tf_sharded_weights(None, "tf_model.h5"),
    "strip_model_name_and_prefix": lambda: u.strip_model_name_and_prefix(None),
    "tf_shard_checkpoint": lambda: u.tf_shard_checkpoint([X]),
    "init_copy_embeddings": lambda: u.init_copy_embeddings(X, -1),
    "init_copy_embeddings of a scalar": lambda: u.init_copy_embeddings(tf.constant(1.0), 2),
    "dummy_loss": lambda: u.dummy_loss(None, None),
    "convert_tf_weight_name_to_pt_weight_name": lambda: u.convert_tf_weight_name_to_pt_weight_name("/"),
    "apply_transpose": lambda: u.apply_transpose("simple", X),
    "apply_transpose of a matrix": lambda: u.apply_transpose(u.TransposeType.CONV1D, X),
    "apply_transpose to a number": lambda: u.apply_transpose(u.TransposeType.NO, X, 3),
    "load_pytorch_checkpoint_in_tf2_model": lambda: u.load_pytorch_checkpoint_in_tf2_model(None, None),
    "load_pytorch_model_in_tf2_model": lambda: u.load_pytorch_model_in_tf2_model(None, 3),
    "load_pytorch_weights_in_tf2_model": lambda: u.load_pytorch_weights_in_tf2_model(None, [X]),
    "load_pytorch_state_dict_in_tf2_model": lambda: u.load_pytorch_state_dict_in_tf2_model(3, {"a": X}),
    "load_sharded_pytorch_safetensors": lambda: u.load_sharded_pytorch_safetensors_in_tf2_model(None, 3),
    "load_tf2_checkpoint_in_pytorch_model": lambda: u.load_tf2_checkpoint_in_pytorch_model(None, 3),
    "load_tf2_model_in_pytorch_model": lambda: u.load_tf2_model_in_pytorch_model(None, 3),
    "load_tf2_weights_in_pytorch_model": lambda: u.load_tf2_weights_in_pytorch_model(None, [3]),
    "load_tf2_state_dict_in_pytorch_model": lambda: u.load_tf2_state_dict_in_pytorch_model(3, {"a": X}),
}
MODELS: dict[str, Callable[[Any], Any]] = {
    "load_tf_weights": lambda model: u.load_tf_weights(model, None),
    "load_tf_shard": lambda model: u.load_tf_shard(model, None, 3),
    "a rename": lambda model: u.load_pytorch_state_dict_in_tf2_model(model, {"a": X}, tf_to_pt_weight_rename=3),
    "a rename of none": lambda model: u.load_pytorch_state_dict_in_tf2_model(
        model, {"a": X}, tf_to_pt_weight_rename=lambda name: None
    ),
    "of another framework": lambda model: u.load_tf2_model_in_pytorch_model(model, model),
    "set_bias": lambda model: model.set_bias(3),
    "set_input_embeddings": lambda model: model.set_input_embeddings(None),
    "set_input_embeddings to a vector": lambda model: model.set_input_embeddings(np.ones(3, np.float32)),
    "set_input_embeddings of another width": lambda model: model.set_input_embeddings(np.ones((31, 3), np.float32)),
    "set_output_embeddings": lambda model: model.set_output_embeddings("text"),
    "prepare_tf_dataset": lambda model: model.prepare_tf_dataset(Examples(), batch_size=0),
    "a tokenizer": lambda model: model.prepare_tf_dataset(Examples(), tokenizer=3),
    "a collate_fn": lambda model: model.prepare_tf_dataset(Examples(), 1, collate_fn=3),
    "a collate_fn of none": lambda model: model.prepare_tf_dataset(Examples(), 1, collate_fn=lambda examples: None),
    "two lengths": lambda model: model.prepare_tf_dataset(Examples(), 2),
    "create_model_card": lambda model: model.create_model_card(None, "a"),
    "write_saved_model": lambda model: model.write_saved_model(None),
    "too many inputs": lambda model: model(*[np.ones((1, 2), np.int32)] * 40),
}


@pytest.fixture(scope="module")
def model() -> Any:
    return TFBertForMaskedLM(SMALL)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes(name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        FUNCTIONS[name]()
    assert "Expected: " in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_what_it_takes_and_keeps_its_weights(name: str, model: Any) -> None:
    before = [np.array(value) for value in model.get_weights()]
    with pytest.raises(ArgumentError) as caught:
        MODELS[name](model)
    assert "Expected: " in str(caught.value)
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))


def test_what_they_take_is_taken(model: Any, tmp_path: Path) -> None:
    """Each kind of value that the checks let through."""
    variable = keras.Variable(np.ones(3, np.float32))
    assert u.functional_layernorm(X, variable, np.zeros(3)).dtype == tf.float32
    assert u.scaled_dot_product_attention(X, X.astype(np.float64), tf.constant(X)).dtype == tf.float32
    assert u.TFConv1D(np.int64(2), 3)(X).shape == (2, 2)
    assert u.init_copy_embeddings(variable, np.int32(2))[1].tolist() == [1.0, 1.0]
    assert [*u.tf_shard_checkpoint(model.weights[:2], 1, "weights")[0]] == [
        "weights-00001-of-00002", "weights-00002-of-00002",
    ]  # fmt: skip
    with pytest.raises(ShapeMismatchError):
        u.apply_transpose(u.TransposeType.NO, X, (3, 2))
    model.create_model_card(str(tmp_path), "a", tags=("one", "two"))
    assert "two" in (tmp_path / "README.md").read_text()
