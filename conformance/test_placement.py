"""Arrays of Flax where a load is told to put them, and layers of TensorFlow on devices of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from small_models import config_of, random_folder

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process with several devices found; see `placed_models`."""
    folder, headless = (tmp_path_factory.mktemp(name) for name in ("gpt2", "headless"))
    random_folder(folder, config_of("gpt2"), "GPT2LMHeadModel")
    random_folder(headless, config_of("gpt2", tie_word_embeddings=False), "GPT2Model")
    command = [sys.executable, str(HERE / "support/placed_models.py"), str(folder), str(headless)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "where", "shard", "resized"),
    [
        ("device", ["device", [2]], [12, 48], [2]),
        ("rules", ["device", [0, 1, 2, 3]], [12, 12], [0, 1, 2, 3]),
        ("host", ["pinned_host", [3]], [12, 48], [3]),
    ],
)
def test_arrays_of_flax_go_where_they_are_sent(
    name: str, where: list[Any], shard: list[int], resized: list[int], found: dict[str, Any]
) -> None:
    seen = found["flax"][name]
    assert (seen["where"], seen["shard"], seen["resized"]) == (where, shard, resized)
    assert seen["difference"] <= 1 and seen["saved"]


@pytest.mark.parametrize("framework", ["flax", "tf"])
def test_texts_do_not_depend_on_places(framework: str, found: dict[str, Any]) -> None:
    """Flax's is called without compiling, from the host's memory."""
    assert found[framework]["text"]


def test_new_weights_of_flax_go_there_too(found: dict[str, Any]) -> None:
    assert found["flax"]["new head"] == [4] and found["flax"]["mapped"] == ""


@pytest.mark.parametrize(
    ("name", "part"),
    {"auto": "set of devices", "layers": "set of devices", "unknown": "no such device", "no mesh": "no mesh",
     "none": "no sharding", "two sets": "different devices", "other axis": "cannot be sharded",
     "indivisible": "cannot be sharded", "both": "both"}.items(),
)  # fmt: skip
def test_what_jax_cannot_do_is_refused(name: str, part: str, found: dict[str, Any]) -> None:
    assert part in found["flax"]["refused"][name]


@pytest.mark.parametrize("name", ["layers", "one", "auto"])
def test_layers_of_tensorflow_are_and_run_where_the_map_says(name: str, found: dict[str, Any]) -> None:
    seen = found["tf"][name]
    places = set(seen["places"].values())
    assert places == ({"CPU:1"} if name == "one" else {"CPU:0", "CPU:1"})
    second = {place for variable, place in seen["places"].items() if variable.startswith("transformer.h.1.")}
    device = {"layers": "CPU:1", "one": "CPU:1", "auto": seen["map"].get("transformer.h.1", "CPU:0")[-5:]}[name]
    assert second == {device} and seen["ran"] == device
    assert seen["resized"] == seen["places"]["transformer.wte.embeddings"]
    assert seen["difference"] <= 1 and seen["graph"] <= 1 and seen["saved"]
    assert seen["gradients"] == len(seen["places"])


@pytest.mark.parametrize(
    ("name", "part"),
    {"auto": "max_memory", "disk": "nothing on the disk", "unknown": "no such device", "lacking": "all weights",
     "none": "no device", "no room": "no room"}.items(),
)  # fmt: skip
def test_what_tensorflow_cannot_do_is_refused(name: str, part: str, found: dict[str, Any]) -> None:
    assert part in found["tf"]["refused"][name]


def test_xla_compiles_no_model_over_several_devices(found: dict[str, Any]) -> None:
    assert "jit_compile=False" in found["tf"]["compiled"]
