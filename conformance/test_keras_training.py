"""Training by Keras beyond the loss: models that change after they are compiled, policies, models within others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import UserDict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from triptych.keras_callbacks import KerasMetricCallback

from small_models import config_of
from triptych import (
    ArgumentError,
    PretrainedConfig,
    TFBertForMaskedLM,
    TFBertForSequenceClassification,
    TFBertModel,
    TFPreTrainedModel,
)
from triptych.nn.outputs import ModelOutput
from triptych_conformance import assert_close
from triptych_tf import internals

IDS = np.random.default_rng(0).integers(0, 31, (8, 6)).astype(np.int32)
INPUTS = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
LABELS = IDS[:, 0] % 4
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def made(kind: type = TFBertForSequenceClassification, dropout: float = 0.0, layers: int = 1, **options: Any) -> Any:
    """Return a new model, the same one each time."""
    keras.utils.set_random_seed(0)
    config = config_of("bert", kind.__name__[2:], initializer_range=0.3, num_hidden_layers=layers)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    return kind.from_config(config, **options)


# -- what optimisers hold follows a surgery ---------------------------------------------------------------------------

TABLE, QUERY = "embeddings/word_embeddings/embeddings", "layer_._0/attention/self/query/kernel"


def slots(optimizer: Any, model: Any, end: str) -> dict[str, np.ndarray]:
    variable = next(one for one in model.variables if one.path.endswith(end))
    return {name: slot.numpy() for name, slot in internals.slots_in(optimizer, variable).items()}


def test_optimisers_go_on_with_what_they_hold_of_a_resized_vocabulary_and_of_heads() -> None:
    adam = keras.optimizers.Adam(1e-2, use_ema=True)
    model = made(TFBertForMaskedLM)
    model.compile(keras.optimizers.LossScaleOptimizer(adam), run_eagerly=True)
    model.fit(INPUTS, IDS, verbose=0)
    table, query = (slots(adam, model, end) for end in (TABLE, QUERY))
    assert table.keys() == query.keys() == {"_momentums", "_velocities", internals.AVERAGES}
    model.resize_token_embeddings(37)
    model.prune_heads({0: [1]})
    resized, pruned = (slots(adam, model, end) for end in (TABLE, QUERY))
    weights = model.get_input_embeddings().embeddings.numpy()
    for name in table:
        assert np.any(table[name]) and np.array_equal(resized[name][:31], table[name]), name
        new = weights[31:] if name == internals.AVERAGES else np.zeros((6, 12))
        assert np.array_equal(resized[name][31:], new), name
        assert np.array_equal(pruned[name], query[name][:, [*range(4), *range(8, 12)]]), name
    losses = model.fit({**INPUTS, "input_ids": IDS + 6}, IDS + 6, epochs=2, verbose=0).history["loss"]
    assert losses[1] < losses[0] and adam.iterations == 3
    assert np.any(slots(adam, model, TABLE)["_momentums"][31:])


@pytest.mark.parametrize("kind", ["Adafactor", "SGD"])
def test_other_optimisers_go_on_after_a_surgery(kind: str) -> None:
    model = made(TFBertForMaskedLM)
    options = {"momentum": 0.9, "weight_decay": 0.1} if kind == "SGD" else {}
    optimizer = getattr(keras.optimizers, kind)(1e-2, **options)
    table = model.get_input_embeddings().embeddings
    optimizer.exclude_from_weight_decay(var_list=[table])
    model.compile(optimizer, run_eagerly=True)
    model.fit(INPUTS, IDS, verbose=0)
    model.resize_token_embeddings(35)
    if kind == "Adafactor":  # its sums over rows have another shape than the weight
        assert {name: slot.shape for name, slot in slots(optimizer, model, TABLE).items()} == {
            "_r": (35,), "_c": (12,), "_v": (35, 12)}  # fmt: skip
    assert not optimizer._use_weight_decay(table)
    before = table.numpy()
    model.fit({**INPUTS, "input_ids": IDS + 4}, IDS + 4, verbose=0)
    assert np.all(np.any(table.numpy()[31:] != before[31:], axis=1)) and optimizer.iterations == 2


class TableConfig(PretrainedConfig):
    model_type = "table"

    def __init__(self, vocab_size: int = 31, **kwargs: Any) -> None:
        self.vocab_size = vocab_size
        super().__init__(**kwargs)


class TFTable(TFPreTrainedModel):
    """As small as a model can be, since tests compile it."""

    config_class = TableConfig

    def __init__(self, config: TableConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.table = keras.layers.Embedding(config.vocab_size, 4, name="table")
        self.dropout = keras.layers.Dropout(0.5)

    def get_input_embeddings(self) -> Any:
        return self.table

    def call(self, input_ids: Any) -> ModelOutput:
        return ModelOutput(pooled=keras.ops.mean(self.dropout(self.table(input_ids)), axis=1))


class Around(keras.Model):
    """An author's model of Keras around one of ours."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.head = inner, keras.layers.Dense(4)

    def call(self, inputs: Any) -> Any:
        return self.head(self.inner(inputs).pooled)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras, where it writes h5
def test_a_compiled_model_around_a_changed_one_trains_its_new_weights(tmp_path: Path) -> None:
    inner = TFTable(TableConfig())
    model = Around(inner)
    model.compile("adam", CROSSENTROPY, metrics=["accuracy"])
    model.fit(IDS, LABELS, verbose=0)
    inner.resize_token_embeddings(37)
    before = inner.table.embeddings.numpy()
    model.fit(IDS + 6, LABELS, verbose=0)
    used = np.unique(IDS + 6)
    assert np.all(np.any(inner.table.embeddings.numpy()[used] != before[used], axis=1))
    assert len(model.trainable_variables) == 3
    assert np.any(model(IDS, training=True) != model(IDS, training=True)), "dropout"
    model.save_weights(tmp_path / "all.weights.h5")
    twin = Around(TFTable(TableConfig(vocab_size=37)))
    twin(IDS)
    twin.load_weights(tmp_path / "all.weights.h5")
    assert_close(twin(IDS), model(IDS))
    inner.save_pretrained(tmp_path / "inner")
    assert_close(TFTable.from_pretrained(tmp_path / "inner")(IDS).pooled, inner(IDS).pooled)


def test_a_functional_model_around_ours_freezes_and_trains_it() -> None:
    inner = made(TFBertModel, layers=2)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in INPUTS}
    model = keras.Model(inputs, keras.layers.Dense(4)(inner(inputs).pooler_output))
    assert len(model.trainable_variables) == len(inner.trainable_variables) + 2
    inner.trainable = False
    assert len(model.trainable_variables) == 2
    inner.trainable = True
    inner.encoder.layer[0].trainable = False
    frozen, free = (inner.encoder.layer[place].output.dense.kernel for place in (0, 1))
    before = [one.numpy() for one in (frozen, free)]
    model.compile("adam", CROSSENTROPY, run_eagerly=True)
    model.fit(INPUTS, LABELS, verbose=0)
    assert np.array_equal(frozen.numpy(), before[0]) and not np.array_equal(free.numpy(), before[1])


# -- what fit is called with ------------------------------------------------------------------------------------------


def test_any_mapping_of_arrays_is_a_batch() -> None:
    model = made()
    model.compile("sgd", run_eagerly=True)
    given = UserDict(INPUTS)  # as a tokenizer's BatchEncoding is
    expected = float(model(**INPUTS, labels=LABELS).loss)
    assert_close(model.evaluate(given, LABELS, verbose=0), expected)
    assert_close(model.test_on_batch(given, LABELS), expected)
    assert_close(model.predict(given, verbose=0).logits, model(**INPUTS).logits)
    history = model.fit(given, UserDict(labels=LABELS), validation_data=(given, LABELS), verbose=0).history
    assert_close(history["loss"], [expected])
    assert history["val_loss"] < history["loss"]


def test_weights_belong_to_the_labels_wherever_these_are() -> None:
    model = made()
    model.compile("sgd", CROSSENTROPY, run_eagerly=True)
    everything, weights = {**INPUTS, "labels": LABELS}, {0: 1.0, 1: 2.0, 2: 0.0, 3: 5.0}
    each = np.array([weights[label] for label in LABELS])
    expected = float(CROSSENTROPY(LABELS, model(**INPUTS).logits, each))
    assert_close(model.evaluate(everything, sample_weight=each, verbose=0), expected)
    assert_close(model.fit(everything, class_weight=weights, verbose=0).history["loss"], [expected])
    for given in (INPUTS, IDS):
        with pytest.raises(ArgumentError, match="no labels that class_weight"):
            model.fit(given, class_weight=weights, verbose=0)
    model.compile("sgd")
    with pytest.raises(ArgumentError, match="takes no weights"):
        model.fit(everything, sample_weight=each, verbose=0)


def test_outputs_of_predict_are_those_of_all_batches() -> None:
    model = made()
    model.config.output_hidden_states = True
    found = model.predict(INPUTS, batch_size=3, verbose=0)
    assert isinstance(found, ModelOutput) and isinstance(found.hidden_states, tuple)
    whole = model(**INPUTS)
    assert_close(found.logits, whole.logits)
    for one, other in zip(found.hidden_states, whole.hidden_states, strict=True):
        assert_close(one, other)


def test_a_dict_of_columns_is_data_for_fit() -> None:
    model = made()
    columns = {"input_ids": [[1, 2, 3]] * 5, "label": np.arange(5) % 4, "text": ["a"] * 5}
    (x, y), *rest = model.prepare_tf_dataset(columns, batch_size=2, shuffle=False)
    assert x.shape == (2, 3) and y.numpy().tolist() == [0, 1] and len(rest) == 2
    with pytest.raises(ArgumentError, match="columns of one length"):
        model.prepare_tf_dataset({**columns, "label": [1]})


def test_metrics_of_a_whole_dataset() -> None:
    model, seen = made(), []
    model.compile("sgd", run_eagerly=True)

    def right(given: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
        seen.append(given)
        return {"right": float(np.mean(np.argmax(given[0], -1) == given[1]))}

    callbacks = [KerasMetricCallback(right, (INPUTS, LABELS), batch_size=3),
                 KerasMetricCallback(right, tf.data.Dataset.from_tensors({**INPUTS, "labels": LABELS}))]  # fmt: skip
    history = model.fit(INPUTS, LABELS, verbose=0, callbacks=callbacks).history
    for predictions, labels in seen:
        assert_close(predictions, model(**INPUTS).logits)
        assert np.array_equal(labels, LABELS)
    assert history["right"] == [np.mean(np.argmax(model(**INPUTS).logits, -1) == LABELS)]
    with pytest.raises(ArgumentError, match="Which inputs are the labels"):
        KerasMetricCallback(right, INPUTS, batch_size=3)


# -- policies and strategies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_as_float32_does(policy: str) -> None:
    losses = {}
    for dtype in ("float32", policy):
        model = made(dtype=dtype)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        losses[dtype] = model.fit(INPUTS, LABELS, epochs=3, shuffle=False, verbose=0).history["loss"]
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    scales = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (policy == "mixed_float16") and model.optimizer.iterations == 3, "no step had infinite gradients"
    np.testing.assert_allclose(losses[policy], losses["float32"], rtol=0.02)
    assert losses[policy][2] < losses[policy][0]


PROGRAM = """
import sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
from triptych import TFBertForSequenceClassification
from triptych_conformance.tolerance import assert_close

ids = np.random.default_rng(0).integers(0, 31, (8, 6)).astype(np.int32)
labels = ids[:, 0] % 4


def trained(strategy, eagerly):
    with strategy.scope():
        model = TFBertForSequenceClassification.from_pretrained(sys.argv[1])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"], run_eagerly=eagerly)
    everything = {"input_ids": ids, "labels": labels}
    return model.fit(everything, batch_size=4, shuffle=False, verbose=0).history, model.get_weights()


two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert two.num_replicas_in_sync == 2
(history, weights), (expected, others) = trained(two, False), trained(tf.distribute.get_strategy(), True)
for name in expected:
    assert_close(history[name], expected[name])
for one, other in zip(weights, others, strict=True):
    assert_close(one, other)
print("the same")
"""


def test_two_replicas_train_as_one_does(tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)], capture_output=True,
                          text=True)  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["the same"], done.stderr[-3000:]


OTHER_BACKEND = """
import importlib.machinery, sys, types
import triptych

if sys.argv[1] == "imported":  # Keras itself would import the other framework, which takes seconds
    sys.modules["keras"] = keras = types.ModuleType("keras")
    keras.__spec__ = importlib.machinery.ModuleSpec("keras", None, origin="built-in")
    keras.backend = types.SimpleNamespace(backend=lambda: "jax")
try:
    triptych.TFBertModel
except triptych.TriptychError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["imported", "chosen"])
def test_another_backend_of_keras_is_one_error(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", OTHER_BACKEND, how], capture_output=True, text=True,
                          env={**os.environ, "KERAS_BACKEND": "jax" if how == "chosen" else "tensorflow"})  # fmt: skip
    assert "Received: jax" in done.stdout and "KERAS_BACKEND=tensorflow" in done.stdout, done.stderr
