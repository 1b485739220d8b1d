"""Adapters in repositories: their model comes first, each is one commit, and a push is what peft would push."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hub_models import REPO, framework, model_class
from triptych import MissingFileError
from triptych_conformance.hub.server import WRITER, Hub

ADAPTER = "org/adapter"
LORA = {"peft_type": "LORA", "r": 2, "target_modules": ["query"], "init_lora_weights": False}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@framework
def test_an_adapter_is_pushed_and_brings_its_model(framework: str, hub: Hub, golden: Path) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, golden / "bert-mlm/pt-safetensors")
    model = model_class(framework).from_pretrained(REPO)
    model.add_adapter(LORA)
    expected = {name: np.array(model._to_numpy(one)) for name, one in model.get_adapter_state_dict().items()}
    model.push_to_hub(ADAPTER, token=WRITER)
    names = set(hub.tree(ADAPTER))
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names and "config.json" not in names
    hub.reset()
    for cls in (model_class(framework), model_class(framework, "AutoModelForMaskedLM")):
        loaded = cls.from_pretrained(ADAPTER)
        found = {name: np.array(loaded._to_numpy(one)) for name, one in loaded.get_adapter_state_dict().items()}
        assert found.keys() == expected.keys() and all(np.array_equal(found[n], expected[n]) for n in found)
        assert json.loads(json.dumps(loaded.peft_config["default"].to_dict()))["base_model_name_or_path"] == REPO
        if cls is model_class(framework):
            assert hub.count() == 2 + 2 * 2, "two look-ups and the two files; the model is in the cache"
    with pytest.raises(MissingFileError, match="holds no adapter"):
        loaded.load_adapter(REPO, "other")
