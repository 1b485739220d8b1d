"""Rows of the contract about training in TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_author import IDS, OwnConfig, TFOwnPreTrainedModel, own
from triptych import (
    ArgumentError,
)
from triptych.nn.outputs import ModelOutput
from triptych_conformance import Backend, assert_close
from walk import row


class Columns:
    """As much of `datasets.Dataset` as is used."""

    column_names = ("input_ids", "idx", "label", "labels")

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"input_ids": [place, 1, 2], "idx": place, "label": place % 2, "labels": [place, 1, 2]}


@row("6.70", tf="Y", note="any dataset with column_names, a length and rows as dicts; and dicts of columns")
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
    columns = {"input_ids": IDS, "labels": IDS}
    (x, y), *_ = model.prepare_tf_dataset(columns, batch_size=2, shuffle=False)
    assert np.array_equal(x, IDS) and np.array_equal(y, IDS)
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


@row(
    "6.79", tf="R", note="it pickled; keras.callbacks.BackupAndRestore does it, and PushToHubCallback(checkpoint=True)"
)
def states_of_a_training(backend: Backend, folder: Path) -> None:
    with pytest.raises(ArgumentError, match="BackupAndRestore"):
        own()._save_checkpoint(folder, 1)
