"""What importing triptych_tf changes in Keras changes no model that Keras alone makes."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = r"""
import json, pickle, re, sys, zipfile
from pathlib import Path

import h5py
import keras
import numpy as np

if sys.argv[1] == "with":
    import triptych_tf


@keras.saving.register_keras_serializable("tests")
class Scaled(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.shift = self.add_weight((shape[-1],), "zeros", name="shift")
        self.unnamed = self.add_weight(shape=())
        self.state = keras.Variable(np.zeros(2), trainable=False)

    def call(self, x, mask=None):
        return x * self.scale + self.shift + self.unnamed


def parts_of(file):
    with h5py.File(file) as opened:
        found = {}
        opened.visititems(lambda name, one: found.setdefault(name, one[()].tolist() if hasattr(one, "dtype") else None))
        return found


root, how = Path(sys.argv[2]), sys.argv[1]
folder = root / how
folder.mkdir()
keras.utils.set_random_seed(0)
x = keras.layers.Embedding(5, 4, mask_zero=True)(ids := keras.Input((6,), dtype="int32"))
x = keras.layers.GRU(3)(keras.layers.MultiHeadAttention(2, 2)(Scaled()(x), x))
model = keras.Model(ids, keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(2)])(x))
data = np.array([[1, 2, 3, 0, 0, 0], [4, 3, 2, 1, 0, 0]], np.int32)
before = model(data).numpy().tolist()
model.compile("adam", "mse")
history = model.fit(data, np.zeros((2, 2)), epochs=2, verbose=0).history
model.save(folder / "model.keras")
model.save(folder / "model.h5")
model.save_weights(folder / "model.weights.h5")
again = keras.saving.load_model(root / "without/model.keras")
model.load_weights(root / "without/model.weights.h5")
with zipfile.ZipFile(folder / "model.keras") as opened:
    stored = re.sub(r'"shared_object_id": \d+', "", opened.read("config.json").decode())
with h5py.File(folder / "names.h5", "w") as opened:
    opened.attrs["layers"] = [one.name for one in model.layers]
    for place, one in enumerate(model.layers):
        opened.attrs[str(place)] = one.name
(folder / "config.pickle").write_bytes(pickle.dumps(keras.layers.Dense(2).get_config()))
print(json.dumps({
    "layers": [[one.name, type(one.name).__name__] for one in model.layers],
    "variables": [[one.path, type(one.name).__name__] for one in [*model.variables, *model.optimizer.variables]],
    "values": [value.tolist() for value in model.get_weights()],
    "loaded": [[one.path for one in again.weights], again(data).numpy().tolist()],
    "outputs": [before, model(data).numpy().tolist(), history],
    "files": [stored, parts_of(folder / "model.h5"), parts_of(folder / "model.weights.h5")],
    "config": model.get_config()["layers"][1]["config"],
    "cloned": [one.name for one in keras.models.clone_model(model).layers],
    "next": [keras.layers.Layer().name, keras.Sequential().name, keras.Variable(0.0).name],
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plain")


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, Any]:
    """What a program prints that uses Keras alone, and what it prints where triptych_tf is imported before."""

    def run(how: str) -> Any:
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, how, str(folder)]
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return {how: run(how) for how in ("without", "with")}


@pytest.mark.parametrize(
    "what", ["layers", "variables", "values", "loaded", "outputs", "files", "config", "cloned", "next"]
)
def test_a_model_of_keras_alone_is_as_without_triptych(what: str, said: dict[str, Any]) -> None:
    assert said["without"][what]
    assert said["with"][what] == said["without"][what]


@pytest.mark.usefixtures("said")
def test_what_is_pickled_of_keras_alone_names_nothing_of_triptych(folder: Path) -> None:
    written = [(folder / how / "config.pickle").read_bytes() for how in ("without", "with")]
    assert written[0] == written[1] and b"triptych" not in written[1]
    # Bytes that the fixture of this module has written: that they hold a config of Keras is what is tested.
    assert pickle.loads(written[1])["units"] == 2
