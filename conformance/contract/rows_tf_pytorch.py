"""Rows of the contract about weights between Keras and PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from small_models import config_of, random_inputs
from triptych import (
    ArgumentError,
    BertForMaskedLM,
    CheckpointError,
    ShapeMismatchError,
    TFBertForMaskedLM,
    open_checkpoint,
)
from triptych_conformance import Backend, assert_close
from triptych_tf import utilities as tfu
from walk import row


@row("8.18", tf="Y", note="nothing is reshaped to fit: axes of length 1 come and go")
def names_and_axes(backend: Backend, folder: Path) -> None:
    convert, kinds = tfu.convert_tf_weight_name_to_pt_weight_name, tfu.TransposeType
    names = {
        "tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0":
            ("bert.encoder.layer.0.output.dense.weight", kinds.SIMPLE),
        "tf_bert/mlm___cls/predictions/bias:0": ("cls.predictions.bias", kinds.NO),
        "m/bn/moving_variance:0": ("bn.running_var", kinds.NO),
        "m/norm/gamma:0": ("norm.weight", kinds.NO),
    }  # fmt: skip
    for name, expected in names.items():
        assert convert(name) == expected
    assert convert("m/conv/kernel:0", tf_weight_shape=(3, 3, 2, 4))[1] is kinds.CONV2D
    assert convert("m/conv/kernel:0", tf_weight_shape=(3, 2, 4))[1] is kinds.CONV1D
    assert convert("pair/m/x/kernel:0", "x.", name_scope="pair")[0] == "weight"
    with pytest.raises(ArgumentError, match="pair"):
        convert("m/x/kernel:0", name_scope="pair")
    array = np.arange(24).reshape(2, 3, 2, 2)
    turned = tfu.apply_transpose(kinds.CONV2D, array)
    assert turned.shape == (2, 2, 3, 2)
    assert np.array_equal(tfu.apply_transpose(kinds.CONV2D, turned, pt_to_tf=False), array)
    assert tfu.apply_transpose(kinds.NO, np.zeros(4), (1, 4)).shape == (1, 4)
    with pytest.raises(ShapeMismatchError):
        tfu.apply_transpose(kinds.NO, np.zeros((2, 3)), (3, 2))


def pair() -> tuple[Any, Any]:
    torch.manual_seed(0)
    config = config_of("bert", "BertForMaskedLM", initializer_range=0.5)
    return BertForMaskedLM(config).eval(), TFBertForMaskedLM(config)


@row("8.19", tf="Y")
@row("8.20", tf="Y")
@row("8.21", tf="Y")
@row("8.22", tf="Y")
@row("8.23", tf="Y")
def pytorch_fills_keras(backend: Backend, folder: Path) -> None:
    theirs, _ = pair()
    inputs = random_inputs(theirs.config)
    with torch.no_grad():
        expected = theirs(**{name: torch.tensor(value) for name, value in inputs.items()}).logits
    theirs.save_pretrained(folder / "one")
    theirs.save_pretrained(folder / "several", max_shard_size="3KB")
    shards = sorted((folder / "several").glob("*.safetensors"))
    assert len(shards) > 1
    loads = [
        lambda model: tfu.load_pytorch_checkpoint_in_tf2_model(model, folder / "one/model.safetensors"),
        lambda model: tfu.load_pytorch_model_in_tf2_model(model, theirs),
        lambda model: tfu.load_pytorch_weights_in_tf2_model(model, theirs.state_dict()),
        lambda model: tfu.load_pytorch_state_dict_in_tf2_model(model, theirs.state_dict(), skip_logger_warnings=True),
        lambda model: tfu.load_sharded_pytorch_safetensors_in_tf2_model(model, shards),
    ]
    for load in loads:
        _, model = pair()
        assert load(model) is model
        assert_close(model(**inputs).logits, expected)
    partly = {name: value for name, value in theirs.state_dict().items() if "encoder.layer.1" not in name}
    with pytest.raises(CheckpointError, match=r"encoder\.layer\.1"):
        tfu.load_pytorch_state_dict_in_tf2_model(pair()[1], partly)
    _, info = tfu.load_pytorch_state_dict_in_tf2_model(
        pair()[1], partly, allow_missing_keys=True, output_loading_info=True
    )
    assert info["missing_keys"] and all("encoder.layer.1" in name for name in info["missing_keys"])


@row("8.24", pt="Y")
@row("8.25", pt="Y")
@row("8.26", pt="Y")
@row("8.27", pt="Y")
def keras_fills_pytorch(backend: Backend, folder: Path) -> None:
    theirs, model = pair()
    inputs = {name: torch.tensor(value) for name, value in random_inputs(theirs.config).items()}
    expected = np.array(model(**random_inputs(theirs.config)).logits)
    model.save_pretrained(folder, format="h5")
    named = {ref: open_checkpoint(folder)[ref].read() for ref in open_checkpoint(folder)}
    loads = [
        lambda one: tfu.load_tf2_checkpoint_in_pytorch_model(one, folder / "tf_model.h5"),
        lambda one: tfu.load_tf2_model_in_pytorch_model(one, model),
        lambda one: tfu.load_tf2_weights_in_pytorch_model(one, model.weights),
        lambda one: tfu.load_tf2_state_dict_in_pytorch_model(one, named),
    ]
    for load in loads:
        one, _ = pair()
        weight = one.bert.encoder.layer[0].output.dense.weight
        assert load(one) is one and one.bert.encoder.layer[0].output.dense.weight is weight
        with torch.no_grad():
            assert_close(one(**inputs).logits, expected)
