"""Rows of the contract about the auto classes, and about code saved beside a model."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from probing import IN_ALL, same, shows, small
from small_models import SMALL
from triptych import (
    BertConfig,
    ConfigError,
    PretrainedConfig,
    RemoteCodeError,
    TriptychError,
)
from triptych_conformance import Backend
from walk import row


@shows("9.3 9.8 9.13 9.17")
def auto_classes(backend: Backend, folder: Path) -> None:
    model = small(backend, "BertModel")
    model.save_pretrained(folder)
    auto = backend.cls("AutoModel")
    for options in (
        {},
        {"config": model.config},
        {"dtype": "auto"},
    ):
        loaded = auto.from_pretrained(folder, **options)
        assert type(loaded) is type(model) and same(backend, loaded, model)
    with pytest.raises(ConfigError, match="(?s)PretrainedConfig|no family"):
        auto.from_config(PretrainedConfig())
    with pytest.raises(TriptychError):
        backend.cls("AutoModelForSeq2SeqLM").from_pretrained(folder)


CODE = """
import triptych


class SavedConfig(triptych.BertConfig):
    model_type = "known_saved"


class {name}(triptych.{base}):
    config_class = SavedConfig


SavedConfig.register_for_auto_class()
{name}.register_for_auto_class()
"""


@shows("2.93 4.37 5.6.15 9.9")
def code_is_saved_with_a_model(backend: Backend, folder: Path) -> None:
    base = backend.cls("BertModel").__name__
    name = base.replace("Bert", "Saved")
    module = f"known_saved_{backend.name}"
    (folder / f"{module}.py").write_text(CODE.format(name=name, base=base))
    spec = spec_from_file_location(module, folder / f"{module}.py")
    assert spec is not None and spec.loader is not None
    code = sys.modules[module] = module_from_spec(spec)
    try:
        spec.loader.exec_module(code)
        model = getattr(code, name)(code.SavedConfig(**SMALL["bert"]))
        model.save_pretrained(folder / "saved")
    finally:
        del sys.modules[module]
    assert (folder / f"saved/{module}.py").is_file()
    auto = backend.cls("AutoModel")
    said = json.loads((folder / "saved/config.json").read_text())["auto_map"]
    assert said == {"AutoConfig": f"{module}.SavedConfig", auto.__name__: f"{module}.{name}"}
    again = auto.from_pretrained(folder / "saved", trust_remote_code=True)
    assert type(again).__name__ == name and same(backend, again, model)


CODE_OVER_EITHER = """
from {package} import BertConfig, {prefix}BertModel


class MineConfig(BertConfig):
    model_type = "rest_mine"


class {prefix}Mine({prefix}BertModel):
    config_class = MineConfig
"""


@row("9.5", note="code over triptych; code that imports transformers with in_place_of_transformers=True", **IN_ALL)
def trusted_code(backend: Backend, folder: Path) -> None:
    auto, built_in = backend.cls("AutoModel"), backend.cls("BertModel")
    model, prefix = built_in(BertConfig(**SMALL["bert"])), built_in.class_prefix
    model.save_pretrained(folder)
    where = {"AutoConfig": "mine.MineConfig", f"{prefix}AutoModel": f"mine.{prefix}Mine"}
    values = json.loads((folder / "config.json").read_text()) | {"model_type": "rest_mine", "auto_map": where}
    (folder / "config.json").write_text(json.dumps(values))
    for package, options in (("triptych", {}), ("transformers", {"in_place_of_transformers": True})):
        (folder / "mine.py").write_text(CODE_OVER_EITHER.format(package=package, prefix=prefix))
        with pytest.raises(RemoteCodeError, match="trust_remote_code"):
            auto.from_pretrained(folder)
        loaded = auto.from_pretrained(folder, trust_remote_code=True, **options)
        assert type(loaded).__name__ == f"{prefix}Mine" and isinstance(loaded, built_in)
        found, wanted = backend.weights(loaded), backend.weights(model)
        assert all(np.array_equal(found[name], array) for name, array in wanted.items())


@row("9.1", pt="Y", tf="Y", flax="Y")
def an_auto_class_makes_no_model_itself(backend: Backend, folder: Path) -> None:
    with pytest.raises(TriptychError, match="from_pretrained"):
        backend.cls("AutoModel")()
