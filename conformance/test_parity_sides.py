"""What `triptych parity` compares beside the outputs of built-in classes: gradients, others' classes and inputs."""

from __future__ import annotations

import json
import pickle
import re
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import flax.linen
import keras
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import triptych
from small_models import config_of, random_folder
from triptych.cli import app
from triptych.errors import ArgumentError, MissingBackendError
from triptych.nn.outputs import SequenceClassifierOutput
from triptych_conformance import keras_hub_side, running, sides
from triptych_conformance.checking import check
from triptych_conformance.inputs import make_inputs, make_labels, read_inputs
from triptych_conformance.reporting import as_html, as_text
from triptych_conformance.tolerance import FLOAT32

LAYER = "bert.encoder.layer.0."
HERE = "test_parity_sides"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_folder(tmp_path_factory.mktemp("model"), config_of("bert"), "BertForMaskedLM")


class Detached(triptych.BertForMaskedLM):
    """Computes the same, but nothing comes back to what is below its last layer."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert.encoder.layer[1].register_forward_pre_hook(lambda _, args: (args[0].detach(), *args[1:]))


class Doubled(triptych.BertForMaskedLM):
    """Its first layer learns twice as fast."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert.encoder.layer[0].output.dense.register_forward_hook(lambda _, args, out: 2 * out - out.detach())


# -- gradients ------------------------------------------------------------------------------------------------------


def test_gradients_are_the_same(folder: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("json", "junit", "html")}
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    done = CliRunner().invoke(app, ["parity", str(folder), "--in", "pt,tf", "--gradients", *options])
    assert done.exit_code == 0, done.output
    assert "gradients pt-tf: of 42 parameters " in done.output
    told = json.loads(files["json"].read_text())
    assert len(told["gradients"]) == 42 and {row["name"] for row in told["outputs"]} >= {"logits", "loss"}
    assert told["weights"]["transforms"]["tf"][LAYER + "output.dense.weight"] == "axes 1, 0"
    assert set(told["weights"]["transforms"]["pt"].values()) == {"as stored"}
    suite = ElementTree.fromstring(files["junit"].read_bytes())
    assert suite.get("failures") == "0"
    assert f"gradient {LAYER}output.dense.weight pt-tf" in {case.get("name") for case in suite}
    assert int(suite.get("tests") or 0) == len(told["outputs"]) + 42 + 2
    assert "Gradients" in files["html"].read_text() and "axes 1, 0" in files["html"].read_text()


@pytest.mark.parametrize(
    ("name", "place", "because"),
    [
        ("Detached", LAYER + "output.LayerNorm", f"in {HERE}:Detached it is zero: nothing comes back to it"),
        ("Doubled", LAYER + "output.dense", f"{HERE}:Doubled has it times 2"),
    ],
)
def test_another_gradient_is_named(folder: Path, name: str, place: str, because: str) -> None:
    done = CliRunner().invoke(app, ["parity", str(folder), f"{HERE}:{name}", "--in", "pt", "--gradients"])
    count = re.search(r"; (\d+) too far: bert.embeddings.word_embeddings.weight, ", done.output)
    assert done.exit_code == 1 and count is not None and 15 < int(count[1]) < 25
    assert f"part first at {place}: {count[1]} of 42 gradients depart; {because}" in done.output
    assert "FAILED: BertForMaskedLM is not the same in pt, " in done.output and ": the gradient of " in done.output
    assert CliRunner().invoke(app, ["parity", str(folder), f"{HERE}:{name}", "--in", "pt"]).exit_code == 0


def test_gradients_of_transformers(folder: Path) -> None:
    report = check(str(folder), ["pt", "transformers"], gradients=True, tokens=0)
    assert report.passed and len(report.gradients) == 42 and ("loss", "pt-transformers") in report.outputs


def test_gradients_in_low_precision(folder: Path) -> None:
    report = check(str(folder), ["pt", "transformers"], gradients=True, dtype="bfloat16")
    largest = max(one.largest for one in report.gradients.values())
    assert report.passed and largest > FLOAT32 and "about as near to float32" in as_text(report)


def test_gradients_of_a_function_are_refused(folder: Path) -> None:
    with pytest.raises(ArgumentError, match=f"{HERE}:nothing gives outputs, and no gradients"):
        check(str(folder), ["pt", f"{HERE}:nothing"], gradients=True)


def nothing(folder: Path) -> Any:
    raise AssertionError("refused before it is called")


# -- classes of others ----------------------------------------------------------------------------------------------


class SquareConfig(triptych.PretrainedConfig):
    model_type = "square-of-authors"

    def __init__(self, image_size: Any = 4, num_channels: int = 2, **kwargs: Any) -> None:
        self.image_size, self.num_channels = image_size, num_channels
        super().__init__(**kwargs)


def _output(model: Any, logits: Any, labels: Any) -> SequenceClassifierOutput:
    if labels is None:
        return SequenceClassifierOutput(logits=logits)
    ops = model._ops
    return SequenceClassifierOutput(loss=ops.sum(logits * logits) * 0.1, logits=logits)


class SquareForImageClassification(triptych.PreTrainedModel):
    config_class, main_input_name = SquareConfig, "pixel_values"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.classifier = torch.nn.Linear(config.num_channels, config.num_labels)
        self.post_init()

    def forward(self, pixel_values: Any, labels: Any = None) -> SequenceClassifierOutput:
        return _output(self, self.classifier(pixel_values.mean((2, 3))), labels)


class TFSquareForImageClassification(triptych.TFPreTrainedModel):
    config_class, main_input_name = SquareConfig, "pixel_values"

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.classifier = keras.layers.Dense(config.num_labels, name="classifier")

    def call(self, pixel_values: Any, labels: Any = None, training: Any = None) -> SequenceClassifierOutput:
        return _output(self, self.classifier(keras.ops.mean(pixel_values, (2, 3))), labels)


class SquareModule(flax.linen.Module):
    config: SquareConfig
    dtype: Any = "float32"

    @flax.linen.compact
    def __call__(self, pixel_values: Any, labels: Any = None) -> SequenceClassifierOutput:
        logits = flax.linen.Dense(self.config.num_labels, name="classifier")(pixel_values.mean((2, 3)))
        return _output(FlaxSquareForImageClassification, logits, labels)


class FlaxSquareForImageClassification(triptych.FlaxPreTrainedModel):
    config_class, main_input_name, module_class = SquareConfig, "pixel_values", SquareModule

    def __init__(self, config: Any, input_shape: Any = (1, 2, 4, 4), **kwargs: Any) -> None:
        super().__init__(config, input_shape=input_shape, **kwargs)


THREE = [f"{HERE}:{prefix}SquareForImageClassification" for prefix in ("", "TF", "Flax")]


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("square")
    SquareForImageClassification(SquareConfig(num_labels=3)).save_pretrained(folder)
    return folder


def test_classes_of_authors_that_read_images(square: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    report = check(str(square), THREE, gradients=True, progress=lambda *step: steps.append(step))
    assert report.passed and report.stem == "SquareForImageClassification" and len(report.pairs) == 3
    assert {name for name, _ in report.outputs} == {"logits", "loss"} and len(report.gradients) == 6
    assert [done for _, done, _ in steps] == list(range(13)) and {of for *_, of in steps} == {12}
    assert steps[0][0] == f"{THREE[0]}: loading" and steps[-1][0] == "comparing"


def test_one_model_at_a_time(square: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Any]] = []
    alive: list[int] = []
    load = running._load

    def counted(*arguments: Any) -> Any:
        alive.append(sum(one() is not None for one in held))
        model = load(*arguments)
        held.append(weakref.ref(model))
        return model

    monkeypatch.setattr(running, "_load", counted)
    check(str(square), THREE, gradients=True)
    assert alive == [0, 0, 0] and len(held) == 3


def test_inputs_of_a_file(square: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", pixel_values=np.ones((5, 2, 7, 7)))
    np.savez(tmp_path / "flat.npz", pixel_values=np.ones((5, 2)))
    words = ["parity", str(square), THREE[1], "--in", THREE[0], "--inputs"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "one.npz")])
    assert done.exit_code == 0 and "PASSED" in done.output
    done = CliRunner().invoke(app, [*words, str(tmp_path / "flat.npz")])
    assert done.exit_code == 2 and f"SquareForImageClassification in {THREE[0]} failed" in done.stderr
    assert "--inputs" in done.stderr
    done = CliRunner().invoke(app, [*words, str(tmp_path / "one.npz"), "--length", "12"])
    assert done.exit_code == 2 and "Expected: inputs, or batch and length." in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HERE}:Nothing", f"There is no {HERE}:Nothing"),
        ("no_such_module:Nothing", "There is no no_such_module:Nothing"),
        (":", "There is no :"),
        (f"{HERE}:HERE", "cannot be called.*str"),
        ("keras:Model", "keras:Model"),
        ("pt=nowhere", "There is no model to compare with: nowhere|nowhere"),
    ],
)
def test_sides_that_are_none(folder: Path, text: str, message: str) -> None:
    with pytest.raises((triptych.TriptychError, OSError), match=message):
        check(str(folder), ["pt", text])


def test_a_dtype_that_is_none(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="float32, bfloat16 or float16.*float8"):
        check(str(folder), ["pt", "tf"], dtype="float8")


# -- keras-hub ------------------------------------------------------------------------------------------------------


def test_keras_hub_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "is_installed", lambda module: False)
    with pytest.raises(MissingBackendError, match="keras-hub cannot be imported.*pip install keras-hub"):
        check(str(folder), ["pt", "keras_hub"])


def test_what_keras_hub_reads_and_gives() -> None:
    """Of a model that is called as its backbones are."""
    words, shown, kind = (
        keras.Input((None,), name=name, dtype="int32") for name in ("token_ids", "padding_mask", "segment_ids")
    )
    states = keras.ops.cast(keras.ops.stack([words, shown, kind], -1), "float32")
    backbone = keras.Model({"token_ids": words, "padding_mask": shown, "segment_ids": kind},
                           {"sequence_output": states, "pooled_output": states[:, 0]})  # fmt: skip
    backbone.num_layers = 2
    ids = np.array([[5, 6, 7]])
    found = keras_hub_side.run(backbone, {"input_ids": ids, "attention_mask": np.array([[1, 1, 0]])})
    assert found["last_hidden_state"].tolist() == [[[5, 1, 0], [6, 1, 0], [7, 0, 0]]]
    assert found["pooler_output"].tolist() == [[5, 1, 0]] and set(found) >= {"hidden_states.2"}
    assert keras_hub_side.run(backbone, {"input_ids": ids})["pooler_output"].tolist() == [[5, 1, 0]]
    with pytest.raises(ArgumentError, match="reads other inputs.*padding_mask.*decoder_input_ids"):
        keras_hub_side.run(backbone, {"input_ids": ids, "decoder_input_ids": ids})


# -- inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "values", "shape"),
    [
        ("pixel_values", {"image_size": 8}, (2, 3, 8, 8)),
        ("pixel_values", {"image_size": [6, 8], "num_channels": 1}, (2, 1, 6, 8)),
        ("pixel_values", {"vision_config": {"image_size": 4}}, (2, 3, 4, 4)),
        ("input_features", {"num_mel_bins": 80, "max_source_positions": 50}, (2, 80, 100)),
        ("input_features", {"input_feat_per_channel": 5}, (2, 12, 5)),
        ("input_values", {"conv_kernel": [10, 3, 2], "conv_stride": [5, 2, 2]}, (2, 250)),
        ("input_values", {"num_mel_bins": 6, "max_length": 9}, (2, 9, 6)),
    ],
)
def test_inputs_by_the_main_one(main: str, values: dict[str, Any], shape: tuple[int, ...]) -> None:
    config = SimpleNamespace(model_type="other", **values)
    inputs = make_inputs(config, "OtherModel", main=main)
    assert set(inputs) == {main} and inputs[main].shape == shape and inputs[main].dtype == np.float32
    assert np.array_equal(inputs[main], make_inputs(config, "OtherModel", main=main)[main])


def test_a_decoder_of_sound_reads_ids() -> None:
    config = SimpleNamespace(model_type="whisper", num_mel_bins=4, is_encoder_decoder=True, vocab_size=9)
    inputs = make_inputs(config, "WhisperForConditionalGeneration", main="input_features")
    assert inputs["decoder_input_ids"].shape == (2, 6)
    assert make_labels(config, "WhisperForConditionalGeneration", inputs)["labels"].shape == (2, 6)


@pytest.mark.parametrize(
    ("main", "wanted"),
    [("pixel_values", "image_size"), ("input_features", "num_mel_bins"), ("input_ids", "vocab_size"),
     ("bool_masked_pos", "input_ids or pixel_values or")],
)  # fmt: skip
def test_inputs_that_nobody_knows(main: str, wanted: str) -> None:
    with pytest.raises(ArgumentError, match=f"{wanted}.*'{main}'.*inputs=.*--inputs FILE.npz"):
        make_inputs(triptych.PretrainedConfig(), "OtherModel", main=main)


class Running:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_files_that_hold_no_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", input_ids=np.array([Running(tmp_path / "ran")], object))
    np.savez(tmp_path / "texts.npz", input_ids=np.array(["many"]))
    np.savez(tmp_path / "empty.npz")
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"input_ids": 3}))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "texts.npz").read_bytes()[:60])
    for file in ("objects.npz", "texts.npz", "empty.npz", "single.npy", "pickle.npz", "torn.npz", "none.npz"):
        with pytest.raises(ArgumentError, match=f"{file} does not hold inputs.*numpy.savez"):
            read_inputs(tmp_path / file)
    assert not (tmp_path / "ran").exists()
    np.savez(tmp_path / "good.npz", a=np.zeros(2), b=np.ones((1, 2), np.int32), c=np.array([True]))
    assert {name: str(array.dtype) for name, array in read_inputs(tmp_path / "good.npz").items()} == {
        "a": "float32", "b": "int32", "c": "bool"}  # fmt: skip


def test_a_page_of_outputs_alone_says_so(folder: Path) -> None:
    report = check(str(folder), ["pt", f"{HERE}:zeros"], tokens=0)
    assert not report.passed and "gives outputs alone" in as_text(report)
    assert "what it read is the same" not in as_html(report)


def zeros(folder: Path) -> Any:
    return lambda inputs: {"logits": np.zeros((2, 12, 31))}
