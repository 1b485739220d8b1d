"""Rows of the contract about the functions and layers beside the base class of TensorFlow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_author import IDS, NAMES, OwnConfig, own
from triptych import (
    ArgumentError,
    CheckpointError,
    ShapeMismatchError,
)
from triptych_conformance import Backend, assert_close
from triptych_tf import utilities as tfu
from walk import row


@row("6.8", tf="Y")
def variables_are_sharded(backend: Backend, folder: Path) -> None:
    variables = [keras.Variable(np.zeros(size, np.float32), name=f"v{i}") for i, size in enumerate((10, 10, 30))]
    shards, index = tfu.tf_shard_checkpoint(variables, 100)
    assert list(shards) == ["tf_model-00001-of-00002.h5", "tf_model-00002-of-00002.h5"]
    assert [len(group) for group in shards.values()] == [2, 1]
    assert index is not None and index["weight_map"]["v2"].startswith("tf_model-00002")
    assert index["metadata"] == {"total_size": 200}
    assert tfu.tf_shard_checkpoint(variables) == ({"tf_model.h5": variables}, None)


@row("6.9", tf="Y")
@row("6.10", tf="Y")
@row("6.11", tf="Y")
def files_fill_a_live_model(backend: Backend, folder: Path) -> None:
    saved = own()
    saved.save_pretrained(folder / "h5", format="h5")
    saved.save_pretrained(folder / "st", format="safetensors-tf")
    files = [
        (tfu.load_tf_weights, "h5/tf_model.h5"),
        (tfu.load_tf_weights_from_h5, "h5/tf_model.h5"),
        (tfu.load_tf_weights_from_safetensors, "st/model.safetensors"),
    ]
    for load, file in files:
        model = own()
        variables = [id(variable) for variable in model.weights]
        assert load(model, folder / file) == ([], [], [])
        assert np.array_equal(model(IDS).logits, saved(IDS).logits)
        assert [id(variable) for variable in model.weights][: len(variables)] == variables or not variables
    wide = own(vocab_size=12)
    with pytest.raises(ShapeMismatchError):
        tfu.load_tf_weights(wide, folder / files[0][1])
    missing, _, mismatched = tfu.load_tf_weights(wide, folder / files[0][1], ignore_mismatched_sizes=True)
    assert missing == [] and {name for name, *_ in mismatched} == {"own.embeddings.word_embeddings.weight", "cls.bias"}


@row("6.12", tf="Y")
@row("6.13", tf="Y")
@row("6.14", tf="Y")
def shards_fill_a_live_model(backend: Backend, folder: Path) -> None:
    saved = own()
    loads = {"h5": tfu.load_tf_sharded_weights, "safetensors": tfu.load_tf_sharded_weights_from_safetensors}
    for kind, load in loads.items():
        saved.save_pretrained(folder / kind, format=kind, max_shard_size=300)
        shards = sorted(one for one in (folder / kind).iterdir() if one.suffix in (".h5", ".safetensors"))
        assert len(shards) > 1
        model = own()
        assert load(model, shards, strict=True) == ([], [], [])
        assert np.array_equal(model(IDS).logits, saved(IDS).logits)
        with pytest.raises(CheckpointError):
            load(own(), shards[1:], strict=True)
        held, unexpected, mismatched = tfu.load_tf_shard(own(), {}, shards[0])
        assert held and held < NAMES and not unexpected and not mismatched


@row("6.15", tf="Y")
def names_lose_their_scope(backend: Backend, folder: Path) -> None:
    assert tfu.strip_model_name_and_prefix("tf_model/bert/pooler/kernel:0") == "bert/pooler/kernel:0"
    assert tfu.strip_model_name_and_prefix("pair/encoder/tf_model/bert/x:0", "pair/encoder") == "bert/x:0"


@row("6.16", tf="Y")
def rows_are_copied(backend: Backend, folder: Path) -> None:
    old = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    mask, values = tfu.init_copy_embeddings(old, 3)
    assert mask.tolist() == [[True], [True], [False]] and values.tolist() == [[1, 2], [3, 4], [-1, -1]]
    assert tfu.init_copy_embeddings(old, 1)[1].tolist() == [[1, 2]]


@row("6.17", tf="Y")
@row("6.18", tf="Y")
def small_functions(backend: Backend, folder: Path) -> None:
    initial = tfu.get_initializer(0.5)
    assert isinstance(initial, keras.initializers.TruncatedNormal) and initial.stddev == 0.5
    assert tfu.get_initializer().stddev == 0.02
    assert tfu.shape_list(np.zeros((2, 3))) == tfu.shape_list(tf.zeros((2, 3))) == [2, 3]

    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def lengths(x: Any) -> Any:
        first, second = tfu.shape_list(x)
        assert tf.is_tensor(first) and second == 3
        return first

    assert int(lengths(tf.zeros((5, 3)))) == 5
    assert_close(tfu.stable_softmax(tf.constant([[0.0, 0.0]])), [[0.5, 0.5]])
    assert tfu.flatten(tf.zeros((2, 3, 4)), 0, 1).shape == (6, 4)
    assert tfu.invert_attention_mask(tf.constant([[1.0, 0.0]]))[0, 0, 0].numpy().tolist() == [0.0, tf.float32.min]
    with pytest.raises(tf.errors.InvalidArgumentError, match="input_ids"):
        tfu.check_embeddings_within_bounds(tf.constant([4]), 4)


@row("6.26", tf="Y", note="its bias is [nf] in memory, and [1, nf] in TensorFlow's files, as ever")
@row("6.27", tf="Y")
def layers_of_transformers(backend: Backend, folder: Path) -> None:
    conv = tfu.TFConv1D(4, 3, initializer_range=1.0, name="c_attn")
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    assert_close(conv(x), x @ np.asarray(conv.weight))
    assert tuple(conv.weight.shape) == (3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shared = tfu.TFSharedEmbeddings(7, 3, name="shared")
    assert shared(tf.constant([[1, 2]])).shape == (1, 2, 3)
    assert_close(shared(x, mode="linear"), x @ np.asarray(shared.weight).T)
    with pytest.raises(ArgumentError, match="embedding"):
        shared(x, mode="other")


@row("6.28", tf="Y")
def sequences_are_summed_up(backend: Backend, folder: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
    expected = {"last": x[:, -1], "first": x[:, 0], "mean": x.mean(1), "cls_index": x[[0, 1], [1, 3]]}
    for kind, value in expected.items():
        config = OwnConfig(summary_type=kind, summary_use_proj=False)
        assert_close(tfu.TFSequenceSummary(config)(x, cls_index=tf.constant([1, 3])), value)
    config = OwnConfig(summary_type="last", summary_use_proj=True, summary_proj_to_labels=True, num_labels=3)
    assert tfu.TFSequenceSummary(config, initializer_range=0.1)(x).shape == (2, 3)
    with pytest.raises(ArgumentError, match="summary_type"):
        tfu.TFSequenceSummary(OwnConfig(summary_type="attn", summary_use_proj=False))
