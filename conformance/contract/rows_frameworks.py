"""Rows of the contract about what is Keras's or Flax's alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from probing import STEM, shows, small
from small_models import SMALL
from triptych import (
    ArgumentError,
    GPT2Config,
)
from triptych_conformance import Backend, assert_close


@shows("6.1 6.54 6.56 6.75")
def keras_models(backend: Backend, folder: Path) -> None:
    import keras

    assert keras.version().startswith("3.")
    model = small(backend)
    rebuilt = type(model).from_config(type(model.config).from_dict(model.config.to_dict()))
    assert rebuilt.config.to_dict() == model.config.to_dict() and model.get_config()["vocab_size"] == 31
    ids, labels = np.ones((4, 3), np.int32), np.array([0, 1, 2, 3])
    model.compile(optimizer="sgd")
    before = backend.weights(model)["classifier.bias"].copy()
    inputs = {"input_ids": ids, "labels": labels}
    model.fit(inputs, batch_size=2, epochs=1, verbose=0)
    assert not np.array_equal(before, backend.weights(model)["classifier.bias"])
    assert np.isfinite(model.evaluate(inputs, verbose=0)) and np.isfinite(model.train_on_batch(inputs))
    assert np.isfinite(model.test_on_batch(inputs))
    assert np.shape(model.predict({"input_ids": ids}, verbose=0)["logits"]) == (4, 4)
    assert np.shape(model.predict_on_batch({"input_ids": ids})["logits"]) == (4, 4)


@shows("7.14 7.15 7.16 7.17 7.20 7.21 7.32 7.33 7.34 7.43 11.40", flax="Y")
def flax_models(backend: Backend, folder: Path) -> None:
    import jax

    cls = backend.cls("GPT2LMHeadModel")
    config = GPT2Config(**SMALL["gpt2"])
    model = cls(config, input_shape=(1, 2), seed=3, dtype="bfloat16")
    assert model.input_shape == (1, 2) and model.dtype == "bfloat16" and model.config is config
    assert np.array_equal(jax.random.key_data(model.key), jax.random.key_data(jax.random.PRNGKey(3)))
    assert type(model.module).__name__.endswith("Module")
    with pytest.raises(ArgumentError):
        cls(None)
    for cast, name in ((model.to_bf16, "bfloat16"), (model.to_fp16, "float16"), (model.to_fp32, "float32")):
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(cast(model.params))} == {name}
    mask = jax.tree.map(lambda leaf: leaf.ndim == 2, model.params)
    kinds = {(leaf.ndim == 2, str(leaf.dtype)) for leaf in jax.tree.leaves(model.to_bf16(model.params, mask))}
    assert kinds == {(True, "bfloat16"), (False, "float32")}
    model, ids = cls(config), np.array([[1, 2, 3, 4]])
    first = model(ids[:, :3], past_key_values=model.init_cache(1, 4), use_cache=True)
    then = model(ids[:, 3:], past_key_values=first.past_key_values).logits
    assert_close(then, model(ids).logits[:, 3:])
    new = model.init_weights(jax.random.PRNGKey(0), (1, 2))
    assert jax.tree.structure(new) == jax.tree.structure(model.params)


@shows("11.48")
def missing_keys_are_of_one_model(backend: Backend, folder: Path) -> None:
    cls = backend.cls(STEM)
    small(backend, "BertModel").save_pretrained(folder)
    model, _ = cls.from_pretrained(folder, _do_init=False)
    assert model._missing_keys and not cls._missing_keys


@shows("11.14 11.15")
def where_weights_live(backend: Backend, folder: Path) -> None:
    model = small(backend)
    model.save_pretrained(folder)
    if backend.name == "pt":
        assert isinstance(model.classifier.weight, nn.Parameter)
    elif backend.name == "tf":
        assert any(variable.path.endswith("classifier/kernel") for variable in model.weights)
    else:
        lazy, params = backend.cls(STEM).from_pretrained(folder, _do_init=False)
        assert params.keys() == model.params.keys()
        with pytest.raises(ValueError):
            lazy.params  # noqa: B018
