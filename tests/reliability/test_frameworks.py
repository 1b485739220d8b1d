"""What only a framework can show: row 13 of `test_rows`, and copies of models of Keras."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import triptych
from triptych import TensorRef, UnsupportedFormatError, open_checkpoint, save_checkpoint

WEIGHT = "bert.encoder.layer.0.output.dense.weight"


@pytest.mark.parametrize(("prefix", "dtype"), [("TF", ml_dtypes.float8_e8m0fnu), ("Flax", np.uint64)])
def test_row_13_a_dtype_that_the_framework_lacks(prefix: str, dtype: type, golden: Path, tmp_path: Path) -> None:
    source = golden / "bert-mlm/pt-safetensors"
    refs = [TensorRef.of(name, ref.read()) for name, ref in open_checkpoint(source).items() if name != WEIGHT]
    odd = TensorRef.of(WEIGHT, np.ones(open_checkpoint(source)[WEIGHT].shape).astype(dtype))
    save_checkpoint(tmp_path, [*refs, odd], (source / "config.json").read_text())
    name = {"TF": "TensorFlow", "Flax": "JAX"}[prefix]
    with pytest.raises(UnsupportedFormatError, match=f"{WEIGHT} of .*{name}.*{np.dtype(dtype).name}"):
        getattr(triptych, f"{prefix}BertForMaskedLM").from_pretrained(tmp_path)


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of Keras over TensorFlow and NumPy 2
def test_models_of_keras_pickle_and_copy(golden: Path) -> None:
    model = triptych.TFBertForMaskedLM.from_pretrained(golden / "bert-mlm/pt-safetensors")
    ids = {"input_ids": np.array([[1, 2, 3]])}
    # Its own bytes, made here: that whole models of ours pickle is what is tested.
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert type(other) is type(model) and other.config == model.config
        assert np.array_equal(other(ids).logits, model(ids).logits)
