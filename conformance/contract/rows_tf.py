"""Rows of the contract about TensorFlow: the classes of an author, and what stands beside the base class.

Each author's class below is written as for transformers 4 and Keras 2.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from small_models import config_of, random_inputs
from triptych import (
    ArgumentError,
    BertConfig,
    BertForMaskedLM,
    CheckpointError,
    PretrainedConfig,
    ShapeMismatchError,
    TFBertForMaskedLM,
    TFBertModel,
    TFPreTrainedModel,
    UnsupportedFormatError,
    open_checkpoint,
)
from triptych.nn.outputs import BaseModelOutput, MaskedLMOutput, ModelOutput
from triptych_conformance import Backend, assert_close
from triptych_tf import utilities as tfu
from walk import row, state

IDS = np.array([[1, 2, 3], [4, 5, 0]])


class OwnConfig(PretrainedConfig):
    model_type = "own-tf"

    def __init__(self, vocab_size: int = 11, hidden_size: int = 6, num_hidden_layers: int = 2, **kwargs: Any) -> None:
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        super().__init__(**kwargs)


class TFOwnEmbeddings(keras.layers.Layer):
    def __init__(self, config: OwnConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config, self.vocab_size = config, config.vocab_size
        self.LayerNorm = keras.layers.LayerNormalization(epsilon=1e-6, name="LayerNorm")
        self.dropout = keras.layers.Dropout(rate=0.1)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        with tf.name_scope("word_embeddings"):
            self.weight = self.add_weight(
                name="weight",
                shape=[self.config.vocab_size, self.config.hidden_size],
                initializer=tfu.get_initializer(1.0),
            )
        with tf.name_scope("token_type_embeddings"):
            self.token_type_embeddings = self.add_weight(
                name="embeddings", shape=[2, self.config.hidden_size], initializer=tfu.get_initializer(1.0)
            )
        if getattr(self, "LayerNorm", None) is not None:
            with tf.name_scope(self.LayerNorm.name):
                self.LayerNorm.build([None, None, self.config.hidden_size])

    def call(self, input_ids: Any, token_type_ids: Any = None, training: bool = False) -> Any:
        tfu.check_embeddings_within_bounds(input_ids, self.config.vocab_size)
        if token_type_ids is None:
            token_type_ids = tf.fill(dims=tfu.shape_list(input_ids), value=0)
        found = tf.gather(params=self.weight, indices=input_ids)
        found += tf.gather(params=self.token_type_embeddings, indices=token_type_ids)
        return self.dropout(self.LayerNorm(inputs=found), training=training)


class TFOwnLayer(keras.layers.Layer):
    def __init__(self, config: OwnConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.dense = keras.layers.Dense(config.hidden_size, kernel_initializer=tfu.get_initializer(1.0), name="dense")

    def call(self, hidden_states: Any, attention_mask: Any, output_attentions: bool, training: bool = False) -> Any:
        assert output_attentions in (True, False)
        return (tf.tanh(self.dense(inputs=hidden_states)) + hidden_states,)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        if getattr(self, "dense", None) is not None:
            with tf.name_scope(self.dense.name):
                self.dense.build([None, None, self.config.hidden_size])


@tfu.keras_serializable
class TFOwnMainLayer(keras.layers.Layer):
    config_class = OwnConfig

    def __init__(self, config: OwnConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.embeddings = TFOwnEmbeddings(config, name="embeddings")
        self.layer = [TFOwnLayer(config, name=f"layer_._{i}") for i in range(config.num_hidden_layers)]

    def get_input_embeddings(self) -> Any:
        return self.embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.embeddings.weight = value
        self.embeddings.vocab_size = tfu.shape_list(value)[0]

    @tfu.unpack_inputs
    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> Any:
        if input_ids is None:
            raise ValueError("You have to specify input_ids")
        states = [self.embeddings(input_ids, token_type_ids, training=training)]
        for layer in self.layer:
            states.append(layer(states[-1], attention_mask, output_attentions, training=training)[0])
        if not return_dict:
            return tuple(
                one for one in (states[-1], tuple(states) if output_hidden_states else None) if one is not None
            )
        return BaseModelOutput(
            last_hidden_state=states[-1], hidden_states=tuple(states) if output_hidden_states else None
        )

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        for part in (self.embeddings, *self.layer):
            with tf.name_scope(part.name):
                part.build(None)


class TFOwnPreTrainedModel(TFPreTrainedModel):
    config_class = OwnConfig
    base_model_prefix = "own"


class TFOwnModel(TFOwnPreTrainedModel):
    def __init__(self, config: OwnConfig, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.own = TFOwnMainLayer(config, name="own")

    @tfu.unpack_inputs
    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool | None = False,
    ) -> Any:
        return self.own(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            training=training,
        )

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        if getattr(self, "own", None) is not None:
            with tf.name_scope(self.own.name):
                self.own.build(None)


class TFOwnHead(keras.layers.Layer):
    def __init__(self, config: OwnConfig, input_embeddings: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config, self.input_embeddings = config, input_embeddings

    def build(self, input_shape: Any = None) -> None:
        self.bias = self.add_weight(shape=(self.config.vocab_size,), initializer="zeros", trainable=True, name="bias")
        super().build(input_shape)

    def get_output_embeddings(self) -> Any:
        return self.input_embeddings

    def set_output_embeddings(self, value: Any) -> None:
        self.input_embeddings.weight = value

    def get_bias(self) -> dict[str, Any]:
        return {"bias": self.bias}

    def call(self, hidden_states: Any) -> Any:
        length = tfu.shape_list(tensor=hidden_states)[1]
        hidden_states = tf.reshape(tensor=hidden_states, shape=[-1, self.config.hidden_size])
        scores = tf.matmul(a=hidden_states, b=self.input_embeddings.weight, transpose_b=True)
        scores = tf.reshape(tensor=scores, shape=[-1, length, self.config.vocab_size])
        return tf.nn.bias_add(value=scores, bias=self.bias)


class TFOwnForMaskedLM(TFOwnPreTrainedModel, tfu.TFMaskedLanguageModelingLoss):
    _keys_to_ignore_on_load_unexpected = [r"pooler"]

    def __init__(self, config: OwnConfig, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config, *inputs, **kwargs)
        self.own = TFOwnMainLayer(config, name="own")
        self.mlm = TFOwnHead(config, input_embeddings=self.own.embeddings, name="mlm___cls")

    def get_lm_head(self) -> Any:
        return self.mlm

    @tfu.unpack_inputs
    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        return_dict: bool | None = None,
        labels: Any = None,
        training: bool | None = False,
    ) -> Any:
        states = self.own(input_ids, attention_mask, token_type_ids, return_dict=return_dict, training=training)[0]
        logits = self.mlm(states)
        loss = None if labels is None else self.hf_compute_loss(labels=labels, logits=logits)
        if not return_dict:
            return (logits,) if loss is None else (loss, logits)
        return MaskedLMOutput(loss=loss, logits=logits)

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.built = True
        for part in (self.own, self.mlm):
            with tf.name_scope(part.name):
                part.build(None)


NAMES = {
    "own.embeddings.word_embeddings.weight",
    "own.embeddings.token_type_embeddings.weight",
    "own.embeddings.LayerNorm.weight",
    "own.embeddings.LayerNorm.bias",
    *(f"own.layer.{i}.dense.{leaf}" for i in (0, 1) for leaf in ("weight", "bias")),
    "cls.bias",
}


def own(**fields: Any) -> Any:
    return TFOwnForMaskedLM(OwnConfig(**fields))


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


def losses_by_hand(labels: Any, logits: Any) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -np.take_along_axis(logs, np.maximum(labels, 0)[..., None], -1)[..., 0]


LOGITS = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
LABELS = np.array([[1, -100, 3], [0, 2, -1]])


def of_loss(kind: type, **fields: Any) -> Any:
    return type("Own", (kind,), {"config": OwnConfig(**fields)})()


@row("6.19", tf="Y")
@row("6.20", tf="Y")
def the_loss_of_language_models(backend: Backend, folder: Path) -> None:
    labels = np.where(LABELS == -1, -100, LABELS)
    each = losses_by_hand(labels, LOGITS)[labels != -100]
    for kind in (tfu.TFCausalLanguageModelingLoss, tfu.TFMaskedLanguageModelingLoss):
        found = of_loss(kind).hf_compute_loss(labels, LOGITS)
        assert found.shape == (1,)
        assert_close(found, [each.mean()])
        assert_close(of_loss(kind, tf_legacy_loss=True).hf_compute_loss(labels, LOGITS), each)


@row("6.21", tf="Y")
def the_loss_of_tokens(backend: Backend, folder: Path) -> None:
    each = losses_by_hand(LABELS, LOGITS)[LABELS >= 0]
    assert_close(of_loss(tfu.TFTokenClassificationLoss).hf_compute_loss(LABELS, LOGITS), [each.mean()])


@row("6.22", tf="Y")
def the_loss_of_following_sentences(backend: Backend, folder: Path) -> None:
    labels, logits = np.array([1, -100]), LOGITS[:, 0, :2]
    each = losses_by_hand(labels, logits)
    assert_close(of_loss(tfu.TFNextSentencePredictionLoss).hf_compute_loss(labels, logits), [each[0], 0.0])


@row("6.23", tf="Y")
def the_loss_of_answers(backend: Backend, folder: Path) -> None:
    start, end = np.array([0, 2]), np.array([1, 1])
    expected = (losses_by_hand(start, LOGITS[..., 0]) + losses_by_hand(end, LOGITS[..., 1])) / 2
    found = of_loss(tfu.TFQuestionAnsweringLoss).hf_compute_loss(
        {"start_position": start, "end_position": end}, (LOGITS[..., 0], LOGITS[..., 1])
    )
    assert_close(found, expected)


@row("6.24", tf="Y")
@row("6.25", tf="Y")
def the_loss_of_sequences_and_choices(backend: Backend, folder: Path) -> None:
    labels = np.array([1, 3])
    for kind in (tfu.TFSequenceClassificationLoss, tfu.TFMultipleChoiceLoss):
        assert_close(of_loss(kind).hf_compute_loss(labels, LOGITS[:, 0]), losses_by_hand(labels, LOGITS[:, 0]))
    numbers = np.array([0.5, -1.0], np.float32)
    found = of_loss(tfu.TFSequenceClassificationLoss).hf_compute_loss(numbers, LOGITS[:, 0, :1])
    assert_close(found, (LOGITS[:, 0, 0] - numbers) ** 2)


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


@row("6.103", tf="Y", note="a device_map other than the CPU's is refused")
@row("6.101", tf="R", note="None accepted")
def arguments_of_a_load(backend: Backend, folder: Path) -> None:
    model = TFOwnModel(OwnConfig())
    model.save_pretrained(folder, variant="v")
    again = TFOwnModel.from_pretrained(folder, variant="v", low_cpu_mem_usage=True, device_map=None)
    assert np.array_equal(again(IDS)[0], model(IDS)[0])
    with pytest.raises(ArgumentError, match="device_map"):
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


class Columns:
    """As much of `datasets.Dataset` as is used."""

    column_names = ("input_ids", "idx", "label", "labels")

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"input_ids": [place, 1, 2], "idx": place, "label": place % 2, "labels": [place, 1, 2]}


@row("6.70", tf="Y", note="any dataset with column_names, a length and rows as dicts")
@row("11.34", tf="Y")
def data_for_fit(backend: Backend, folder: Path) -> None:
    model = own()
    found = [*model.prepare_tf_dataset(Columns(5), batch_size=2, shuffle=False)]
    assert [tuple(x.shape) for x, _ in found] == [(2, 3), (2, 3), (1, 3)]
    assert found[1][0].numpy().tolist() == [[2, 1, 2], [3, 1, 2]]
    assert found[1][1]["labels"].numpy().tolist() == [[2, 1, 2], [3, 1, 2]]
    shuffled = model.prepare_tf_dataset(Columns(5), batch_size=2)
    assert len(shuffled) == 2 and len({int(x[i, 0]) for x, _ in shuffled for i in (0, 1)}) == 4
    with pytest.raises(ArgumentError, match=r"datasets\.Dataset"):
        model.prepare_tf_dataset([1, 2])
    tokens = lambda examples: {"input_ids": np.array([one["input_ids"] for one in examples])}  # noqa: E731
    only = model.prepare_tf_dataset(Columns(4), batch_size=2, shuffle=False, collate_fn=tokens)
    assert [tuple(x.shape) for x in only] == [(2, 3), (2, 3)]


@row("6.71", tf="Y", note="loss=None means the model's own loss too")
@row("6.72", tf="Y")
@row("6.33", tf="Y", note="set by compile")
def labels_apart_and_no_loss(backend: Backend, folder: Path) -> None:
    labels = np.where(IDS == 0, -100, IDS)
    for loss in ("auto", "auto_with_warning", "passthrough", None):
        model = own()
        expected = float(model(IDS, labels=labels).loss[0])
        model.compile("sgd", *([] if loss is None else [loss]))
        assert model._using_dummy_loss
        assert_close(model.evaluate(IDS, labels, verbose=0), expected)
    before = model.own.layer[0].dense.kernel.numpy()
    model.fit({"input_ids": IDS}, {"labels": labels}, verbose=0)
    assert not np.array_equal(before, model.own.layer[0].dense.kernel)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert not model._using_dummy_loss


class TFPairs(TFOwnPreTrainedModel):
    def __init__(self, config: OwnConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.score = keras.layers.Dense(2, name="score")

    def call(
        self, input_ids: Any, labels: Any = None, next_sentence_label: Any = None, return_loss: Any = None,
        training: bool = False,
    ) -> ModelOutput:  # fmt: skip
        scores = self.score(tf.one_hot(input_ids, 11))
        loss = None
        if labels is not None and return_loss:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits
            loss = losses(labels, scores) + losses(next_sentence_label, scores[:, 0])[:, None]
        return ModelOutput(loss=loss, prediction_logits=scores, seq_relationship_logits=scores[:, 0])


@row("6.73", tf="Y")
@row("6.74", tf="Y")
@row("6.34", tf="Y")
def labels_find_their_outputs(backend: Backend, folder: Path) -> None:
    model = TFPairs(OwnConfig())
    pairs = {"labels": "prediction_logits", "next_sentence_label": "seq_relationship_logits"}
    assert model.get_label_to_output_name_mapping() == pairs
    y = {"labels": IDS % 2, "next_sentence_label": np.array([0, 1])}
    expected = float(tf.reduce_mean(model(IDS, **y, return_loss=True).loss))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    scores = model(IDS)
    compiled = sum(float(loss(y[name], scores[output])) for name, output in pairs.items())
    for labels in (y, {pairs[name]: value for name, value in y.items()}):
        model.compile("sgd", run_eagerly=True)
        assert_close(model.evaluate(IDS, labels, verbose=0, return_dict=True)["loss"], expected)
        model.compile("sgd", loss, run_eagerly=True)
        assert_close(model.evaluate(IDS, labels, verbose=0, return_dict=True)["loss"], compiled)

    class TFMapped(TFPairs):
        _label_to_output_map = {"labels": "seq_relationship_logits"}

    assert TFMapped(OwnConfig()).get_label_to_output_name_mapping() == TFMapped._label_to_output_map


@row("6.76", tf="Y")
@row("11.36", tf="Y")
@row("11.55", tf="Y", note="the arguments are in the card")
def a_card_of_the_training(backend: Backend, folder: Path) -> None:
    model = own()
    model.compile("sgd")
    model.fit(IDS, IDS, epochs=2, verbose=0)
    model.create_model_card(folder, "mine", language="fr", license="mit", tags="own", finetuned_from="org/base",
                            tasks="fill-mask", dataset_tags="glue", dataset="GLUE", dataset_args="sst2")  # fmt: skip
    text = (folder / "README.md").read_text()
    for part in ("# mine", "language: fr", "license: mit", "- own", "base_model: org/base", "fill-mask", "- glue",
                 "GLUE sst2", "| epoch | loss |", "| 2 | "):  # fmt: skip
        assert part in text, part


@row("6.79", tf="R", note="it pickled; keras.callbacks.BackupAndRestore does it")
def states_of_a_training(backend: Backend, folder: Path) -> None:
    with pytest.raises(ArgumentError, match="BackupAndRestore"):
        own()._save_checkpoint(folder, 1)


@row("6.3", tf="Y", note="and exclude_embeddings")
@row("11.8", tf="Y")
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


@row("6.113", tf="Y")
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


state("6.110", "on purpose silent when all is well, as in the other frameworks (11.25)", tf="R")
