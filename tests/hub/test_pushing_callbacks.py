"""`PushToHubCallback`: what is in the repository while a model is trained by Keras, and when something goes wrong."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from triptych import ArgumentError, BertConfig, HubError, PushToHubCallback, TFBertForMaskedLM
from triptych_conformance import assert_close
from triptych_conformance.hub.server import READER, WRITER, Hub

IDS = np.arange(24, dtype=np.int32).reshape(4, 6) % 11
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras, where it writes h5
]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


class Tokenizer:
    """As much of a tokenizer as is used."""

    def save_pretrained(self, folder: Path) -> tuple[str, ...]:
        (Path(folder) / "own.model").write_text("a b c")
        return (str(Path(folder) / "own.model"),)


def compiled() -> Any:
    keras.utils.set_random_seed(0)
    model = TFBertForMaskedLM(BertConfig(vocab_size=11, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
                                         intermediate_size=4, max_position_embeddings=8, hidden_dropout_prob=0.0,
                                         attention_probs_dropout_prob=0.0))  # fmt: skip
    model.compile("adam", metrics=["accuracy"], run_eagerly=True)
    return model


def titles(hub: Hub, repo: str) -> list[str]:
    return [commit.title for commit in reversed(hub.log(repo))][1:]


def test_epochs_are_pushed_with_card_tokenizer_and_training_state(hub: Hub, tmp_path: Path) -> None:
    model = compiled()
    callback = PushToHubCallback(tmp_path / "trained", tokenizer=Tokenizer(), hub_token=WRITER, checkpoint=True,
                                 tags="mine", dataset="GLUE")  # fmt: skip
    assert callback.hub_model_id == "ada/trained"
    waits = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: callback.last_job.result())
    history = model.fit(IDS, IDS, epochs=2, verbose=0, callbacks=[callback, waits]).history
    progress = [f"Training in progress epoch {epoch}" for epoch in range(2)]
    assert titles(hub, "ada/trained") == [*progress, "End of training"]
    files = hub.tree("ada/trained")
    assert {"config.json", "model.safetensors", "own.model", "README.md"} <= set(files)
    card = (tmp_path / "trained/README.md").read_text()
    assert "- mine" in card and "GLUE" in card
    assert f"| 2 | {history['accuracy'][1]:.4g} | {history['loss'][1]:.4g} |" in card
    loaded = TFBertForMaskedLM.from_pretrained("ada/trained", token=WRITER)
    assert_close(loaded(IDS).logits, model(IDS).logits)
    assert json.loads((tmp_path / "trained/checkpoint/epoch.json").read_text()) == {"epoch": 1}
    assert {"checkpoint/epoch.json", "checkpoint/training.weights.h5"} <= set(files)
    again = compiled()
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "trained/checkpoint/training.weights.h5")
    goes_on = [one.fit(IDS, IDS, epochs=2, verbose=0).history["loss"] for one in (model, again)]
    assert_close(*goes_on, what="with the optimiser's state")


def test_steps_are_pushed_and_a_failure_on_the_way_is_a_warning(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = PushToHubCallback(tmp_path, "steps", save_steps=2, hub_model_id="org/steps", hub_token=WRITER)
    hub.fault("*/preupload/*", status=403, times=1)
    waits = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: callback.last_job and
                                           callback.last_job.exception())  # fmt: skip
    with caplog.at_level(logging.WARNING, "triptych"):
        compiled().fit(IDS, IDS, batch_size=1, verbose=0, callbacks=[callback, waits])
    assert titles(hub, "org/steps") == ["Training in progress steps 3", "End of training"]
    assert "A push to org/steps failed" in caplog.text


def test_what_ends_a_training_is_raised(hub: Hub, tmp_path: Path) -> None:
    callback = PushToHubCallback(tmp_path, "no", hub_model_id="org/ends", hub_token=WRITER)
    hub.fault("*/preupload/*", status=403)
    model = compiled()
    with pytest.raises(HubError, match="org/ends"):
        model.fit(IDS, IDS, verbose=0, callbacks=[callback])
    assert titles(hub, "org/ends") == []
    assert_close(TFBertForMaskedLM.from_pretrained(tmp_path)(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"save_strategy": "often"}, "save_strategy"),
        ({"save_strategy": "steps"}, "save_steps"),
        ({"save_strategy": "no", "checkpoint": True}, "checkpoint"),
        ({"tokenizer": "bert"}, "tokenizer"),
        ({"hub_model_id": "a/b/c"}, "repo_id"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=said):
        PushToHubCallback(tmp_path, **arguments)


def test_who_may_not_write_and_other_models_are_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(HubError):
        PushToHubCallback(tmp_path, hub_model_id="org/readers", hub_token=READER)
    callback = PushToHubCallback(tmp_path, hub_model_id="org/others", hub_token=WRITER)
    with pytest.raises(ArgumentError, match="TFPreTrainedModel"):
        callback.set_model(keras.Sequential())
