"""Rows of the contract about embeddings and biases of an author's model in TensorFlow."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_author import IDS, NAMES, OwnConfig, TFOwnForMaskedLM, TFOwnModel, own
from small_models import config_of
from triptych import (
    ArgumentError,
    TFBertForMaskedLM,
)
from triptych_conformance import Backend, assert_close
from walk import row


@row("6.61", tf="Y")
@row("6.62", tf="Y")
@row("11.2", tf="Y")
def embeddings_behind_a_main_layer(backend: Backend, folder: Path) -> None:
    model = own()
    model(IDS)
    assert model.get_input_embeddings() is model.own.embeddings
    assert model.get_output_embeddings() is model.own.embeddings
    matrix = np.arange(66, dtype=np.float32).reshape(11, 6)
    model.set_input_embeddings(tf.constant(matrix))
    assert np.array_equal(model.own.embeddings.weight, matrix)
    assert len(model.weights) == len(NAMES)
    bert = TFBertForMaskedLM(config_of("bert", "BertForMaskedLM"))
    old = bert.get_input_embeddings()
    bert.set_input_embeddings(keras.layers.Embedding(old.input_dim, old.output_dim))
    assert bert.get_input_embeddings() is not old


@row("6.63", tf="Y")
@row("6.64", tf="Y")
@row("6.65", tf="Y", note="of the same length; resize_token_embeddings changes that")
@row("6.66", tf="Y")
@row("6.67", tf="Y")
@row("11.3", tf="Y")
def biases_of_the_head(backend: Backend, folder: Path) -> None:
    for model in (own(), TFBertForMaskedLM(config_of("bert", "BertForMaskedLM"))):
        length = model.config.vocab_size
        assert isinstance(model.get_lm_head(), keras.layers.Layer)
        bias = model.get_bias()
        assert bias is not None and [tuple(one.shape) for one in bias.values()] == [(length,)]
        before = model(IDS).logits
        model.set_bias({name: np.full(length, 2.0, np.float32) for name in bias})
        assert_close(model(IDS).logits, np.array(before) + 2)
        with pytest.raises(ArgumentError, match="resize_token_embeddings"):
            model.set_bias({name: np.zeros(3, np.float32) for name in bias})
        with pytest.warns(FutureWarning, match="get_lm_head"):
            assert model.get_output_layer_with_bias() is model.get_lm_head()
        with pytest.warns(FutureWarning, match="get_bias"):
            assert model.get_prefix_bias_name() is None
    base = TFOwnModel(OwnConfig())
    assert base.get_lm_head() is None and base.get_bias() is None


@row("6.68", tf="Y", note="and padding, new rows around the mean")
@row("11.1", tf="Y")
def an_authors_class_is_resized(backend: Backend, folder: Path) -> None:
    model = own()
    before = np.asarray(model(IDS).logits)
    model.resize_token_embeddings(13)
    after = np.asarray(model(IDS).logits)
    assert after.shape == (2, 3, 13) and model.config.vocab_size == model.own.embeddings.vocab_size == 13
    assert_close(after[..., :11], before)
    assert model.get_bias()["bias"].shape == (13,) and not np.asarray(model.get_bias()["bias"])[11:].any()
    assert model.own.embeddings.token_type_embeddings.shape == (2, 6)
    model.save_pretrained(folder)
    assert np.array_equal(TFOwnForMaskedLM.from_pretrained(folder, strict=True)(IDS).logits, after)
