"""`fit` and `evaluate` of Keras: the model's own loss, or a compiled one, wherever the labels are; and metrics."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import triptych
from small_models import config_of, random_inputs
from triptych import ArgumentError, TFBertModel
from triptych_conformance import assert_close, compare

Arrays = dict[str, np.ndarray]
SCORES = {"labels": "logits", "start_positions": "start_logits", "end_positions": "end_logits"}
TASKS = {
    "BertForSequenceClassification": ("bert", ["labels"]),
    "BertForTokenClassification": ("bert", ["labels"]),
    "BertForMaskedLM": ("bert", ["labels"]),
    "BertForQuestionAnswering": ("bert", ["start_positions", "end_positions"]),
    "GPT2LMHeadModel": ("gpt2", ["labels"]),
    "T5ForConditionalGeneration": ("t5", ["labels"]),
}
DROPOUTS = {
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "embd_pdrop",
    "attn_pdrop",
    "resid_pdrop",
    "dropout_rate",
}
FORMS = ["among the inputs", "a dict", "a dict by the outputs' names", "both", "a dataset", "an array"]


def made(stem: str) -> tuple[Any, Arrays, Arrays]:
    """Return a new model without dropout, inputs and labels of four texts."""
    variant, names = TASKS[stem]
    config = config_of(variant, stem, initializer_range=0.5)
    for name in DROPOUTS & set(config.to_dict()):
        setattr(config, name, 0.0)
    keras.utils.set_random_seed(0)
    model = getattr(triptych, f"TF{stem}")(config)
    inputs = random_inputs(config, batch=4, length=6)
    shape = model(**inputs, **({"labels": inputs["input_ids"]} if variant == "t5" else {}))[SCORES[names[0]]].shape
    if stem.endswith("LM") or variant == "t5" or variant == "gpt2":
        return model, inputs, {"labels": inputs["input_ids"][:, ::-1].copy()}
    rng = np.random.default_rng(1)
    size = shape[:1] if len(names) == 2 else shape[:-1]
    return model, inputs, {name: rng.integers(0, shape[-1], size) for name in names}


def forms(inputs: Arrays, labels: Arrays) -> dict[str, tuple[Any, ...]]:
    """Return the ways to give `fit` and `evaluate` the labels."""
    everything = {**inputs, **labels}
    by_output = {SCORES[name]: value for name, value in labels.items()}
    dataset = tf.data.Dataset.from_tensor_slices(everything).batch(4)
    data = [(everything,), (inputs, labels), (inputs, by_output), (everything, labels), (dataset,)]
    array = [(inputs, labels["labels"])] if len(labels) == 1 else []
    return dict(zip(FORMS, data + array, strict=False))


@pytest.mark.parametrize("stem", TASKS)
def test_the_models_own_loss_and_metrics(stem: str) -> None:
    model, inputs, labels = made(stem)
    output = model(**inputs, **labels)
    right = {n: np.mean(np.argmax(output[SCORES[n]], -1) == value) for n, value in labels.items()}
    expected = {"loss": float(output.loss)}
    expected |= {f"{SCORES[n]}_accuracy" if len(right) > 1 else "accuracy": share for n, share in right.items()}
    for name, data in forms(inputs, labels).items():
        model.compile("sgd", metrics=["accuracy"], run_eagerly=True)
        found = model.evaluate(*data, verbose=0, return_dict=True)
        assert found.keys() == expected.keys(), name
        assert_close(list(found.values()), [expected[key] for key in found], what=name)


@pytest.mark.parametrize("form", FORMS)
def test_a_step_of_fit_is_a_step_down_the_models_own_loss(form: str) -> None:
    (model, inputs, labels), (twin, _, _) = (made("BertForSequenceClassification") for _ in range(2))
    before = model.get_weights()
    with tf.GradientTape() as tape:
        loss = twin(**inputs, **labels, training=True).loss
    gradients = tape.gradient(loss, twin.trainable_variables)
    keras.optimizers.SGD(0.1).apply_gradients(zip(gradients, twin.trainable_variables, strict=True))
    model.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    history = model.fit(*forms(inputs, labels)[form], verbose=0, shuffle=False).history
    assert_close(history["loss"], [float(loss)])
    right = np.argmax(made(model._stem())[0](**inputs).logits, -1) == labels["labels"]
    assert history["accuracy"] == [np.mean(right)]
    after = model.get_weights()
    assert any(compare(one, other).fraction > 1 for one, other in zip(after, before, strict=True))
    for weight, one, other in zip(model.weights, after, twin.get_weights(), strict=True):
        assert_close(one, other, what=weight.path)


@pytest.mark.parametrize("form", FORMS)
def test_a_compiled_loss_goes_before_the_models_own(form: str) -> None:
    model, inputs, labels = made("BertForTokenClassification")
    twice = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    logits = model(**inputs).logits
    expected = 2 * float(twice(labels["labels"], logits))
    model.compile("sgd", lambda y, scores: 2 * twice(y, scores), metrics=[keras.metrics.SparseCategoricalAccuracy()],
                  run_eagerly=True)  # fmt: skip
    found = model.evaluate(*forms(inputs, labels)[form], verbose=0, return_dict=True)
    assert_close(found["loss"], expected)
    assert found["sparse_categorical_accuracy"] == np.mean(np.argmax(logits, -1) == labels["labels"])


def test_a_compiled_loss_of_spans_and_weights() -> None:
    model, inputs, labels = made("BertForQuestionAnswering")
    loss, output = keras.losses.SparseCategoricalCrossentropy(from_logits=True), model(**inputs)
    expected = sum(float(loss(value, output[SCORES[name]])) for name, value in labels.items())
    metric = keras.metrics.SparseCategoricalAccuracy(name="right")
    model.compile("sgd", loss, metrics=[metric], run_eagerly=True)
    found = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    assert_close(found["loss"], expected)
    for name, value in labels.items():
        assert found[f"{SCORES[name]}_right"] == np.mean(np.argmax(output[SCORES[name]], -1) == value)
    model, inputs, labels = made("BertForSequenceClassification")
    weights, output = np.array([1.0, 0.0, 0.0, 3.0]), model(**inputs)
    model.compile("sgd", loss, weighted_metrics=["accuracy"], run_eagerly=True)
    found = model.evaluate(inputs, labels["labels"], sample_weight=weights, verbose=0, return_dict=True)
    assert_close(found["loss"], float(loss(labels["labels"], output.logits, weights)))
    right = np.argmax(output.logits, -1) == labels["labels"]
    assert_close(found["accuracy"], np.average(right, weights=weights))


def test_what_cannot_be_is_refused() -> None:
    model, inputs, labels = made("BertForSequenceClassification")
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ArgumentError, match="takes no weights"):
        model.fit(inputs, labels["labels"], sample_weight=np.ones(4), verbose=0)
    with pytest.raises(ArgumentError, match=r"(?s)a dict of labels.*classes"):
        model.fit(inputs, {"classes": labels["labels"]}, verbose=0)
    model, inputs, labels = made("BertForQuestionAnswering")
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ArgumentError, match="a dict of start_positions, end_positions"):
        model.fit(inputs, labels["end_positions"], verbose=0)
    model = TFBertModel(config_of("bert"))
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="No loss"):
        model.fit(inputs, labels["end_positions"], verbose=0)
