"""What docs/model-hub-mixin.md says of huggingface_hub's mixin and of triptych, by running both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.numpy import load_file, save_file

from places import ROOT
from triptych import CheckpointError, PreTrainedModel
from triptych_conformance.hub.server import WRITER, Hub

PAGE = ROOT / "docs/model-hub-mixin.md"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the blocks of the page define, after they ran one after the other, with their asserts."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 3
    for block in blocks:
        # Our own documentation, as its readers run it.
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_the_blocks_run_and_the_class_of_neither_kind_pushes(page: dict[str, Any], hub: Hub) -> None:
    page["push"]("org/labels", token=WRITER)
    assert json.loads(hub.read("org/labels", "labels.json")) == ["a", "b"]
    assert "labels" in hub.read("org/labels", "README.md").decode()
    assert len(hub.log("org/labels")) == 2


def test_which_mixins_there_are() -> None:
    assert [name for name in dir(huggingface_hub) if name.endswith("Mixin")] == [
        "ModelHubMixin",
        "PyTorchModelHubMixin",
    ]


def test_missing_weights_shards_and_config(page: dict[str, Any]) -> None:
    config = json.loads(Path("old/config.json").read_text())
    assert config == {"vocab_size": 11, "hidden_size": 8}
    weights = load_file("old/model.safetensors")
    weights.pop("embed.weight")
    save_file(weights, "old/model.safetensors")
    assert isinstance(page["Old"].from_pretrained("old"), page["Old"]), "no word of the missing weight"
    with pytest.raises(CheckpointError, match=r"embed\.weight"):
        page["New"].from_pretrained("old")
    page["new"].save_pretrained("sharded", max_shard_size=500)
    with pytest.raises(FileNotFoundError):
        page["Old"].from_pretrained("sharded")


def test_both_in_one_class(page: dict[str, Any]) -> None:
    class Both(PreTrainedModel, PyTorchModelHubMixin):  # type: ignore[misc]
        config_class = page["NewConfig"]

    for name in ("from_pretrained", "save_pretrained", "push_to_hub"):
        assert getattr(Both, name).__module__.startswith("triptych."), name

    class Reversed(PyTorchModelHubMixin, PreTrainedModel):  # type: ignore[misc]
        config_class = page["NewConfig"]

        def __init__(self, config: Any) -> None:
            PreTrainedModel.__init__(self, config)
            self.head = torch.nn.Linear(2, 2)

    Reversed(page["NewConfig"]()).save_pretrained("reversed")
    assert not Path("reversed/config.json").exists()


def test_what_a_push_of_the_mixin_leaves(page: dict[str, Any], hub: Hub) -> None:
    hub.create("org/old")
    hub.commit("org/old", {"pytorch_model.bin": b"stale"})
    page["old"].push_to_hub("org/old", token=WRITER)
    assert {"pytorch_model.bin", "model.safetensors"} <= set(hub.tree("org/old"))
    page["new"].push_to_hub("org/old", token=WRITER)
    assert "pytorch_model.bin" in hub.tree("org/old")  # of another format, which no reader takes first
    page["new"].push_to_hub("org/old", token=WRITER, remove_stale=True)
    assert "pytorch_model.bin" not in hub.tree("org/old")
    again = page["New"].from_pretrained("org/old")
    assert torch.equal(again(page["ids"]), page["old"](page["ids"]))
