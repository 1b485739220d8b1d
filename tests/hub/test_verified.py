"""Verified loads of repositories, and of code that comes with a checkpoint."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import triptych
from hub_models import REPO, assert_same, model_class
from places import GOLDEN
from triptych import AutoModel, AutoModelForMaskedLM, IntegrityError, MissingFileError, save_checkpoint
from triptych.checkpoints.holding import hold
from triptych.checkpoints.verifying import Wanted
from triptych.hub.pushing import files_of
from triptych_conformance.hub.server import WRITER, Hub

NAME = "triptych_manifest.json"
CODE = Path(__file__).parent / "own_code"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_class("pt").from_pretrained(GOLDEN / "bert-mlm/pt-safetensors").save_pretrained(tmp_path / "a", manifest=True)
    return tmp_path / "a"


def test_a_manifest_is_fetched_if_it_is_needed(folder: Path, hub: Hub) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    cls, digest = model_class("pt"), hold(folder, wanted=Wanted()).verified.entry.digest  # type: ignore[union-attr]
    cls.from_pretrained(REPO)
    assert not any(NAME in request for request in map(str, hub.requests))
    for load in (cls, AutoModelForMaskedLM):
        assert_same(load.from_pretrained(REPO, digest=digest), cls.from_pretrained(folder))
    (folder / NAME).unlink()
    hub.create("org/none")
    hub.commit_folder("org/none", folder)
    with pytest.raises(MissingFileError, match=f"no {NAME}"):
        cls.from_pretrained("org/none", verify=True)


def test_another_commit_is_refused_by_the_pin(folder: Path, hub: Hub) -> None:
    hub.create(REPO)
    digest = hold(folder, wanted=Wanted()).verified.entry.digest  # type: ignore[union-attr]
    model_class("pt").from_pretrained(folder).save_pretrained(folder, manifest=True)
    hub.commit_folder(REPO, folder)
    with pytest.raises(IntegrityError, match=digest):
        AutoModelForMaskedLM.from_pretrained(REPO, digest=digest)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_push_carries_it_and_takes_an_old_one_away(folder: Path, hub: Hub) -> None:
    model = model_class("pt").from_pretrained(folder)
    assert NAME in files_of(folder)
    model.save_pretrained(folder, manifest=True, push_to_hub=True, repo_id=REPO, token=WRITER)
    model_class("pt").from_pretrained(REPO, verify=True)
    model.push_to_hub(REPO, token=WRITER)
    with pytest.raises(MissingFileError, match=f"no {NAME}"):
        model_class("pt").from_pretrained(REPO, verify=True)
    model.config.num_labels = 7
    model.config.save_pretrained(folder)
    assert NAME not in files_of(folder)


@pytest.fixture
def with_code(tmp_path: Path) -> Iterator[Path]:
    """A checkpoint of which the manifest records the code too."""
    code = {file.name: file.read_bytes() for file in CODE.glob("*.py")}
    named = {"AutoConfig": "configuration_tiny.TinyConfig", "AutoModel": "modeling_tiny.TinyModel"}
    config = {"model_type": "tiny-of-the-hub", "vocab_size": 11, "hidden_size": 6, "auto_map": named}
    shapes = {"embed.weight": (11, 6), "head.weight": (2, 6), "head.bias": (2,)}
    refs = [triptych.TensorRef.of(name, np.ones(shape, np.float32)) for name, shape in shapes.items()]
    save_checkpoint(tmp_path / "tiny", refs, json.dumps(config), also=code, manifest=True)
    yield tmp_path / "tiny"
    for name in [name for name in sys.modules if name.startswith("triptych_remote")]:
        del sys.modules[name]


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_trusted_code_is_what_the_manifest_records(place: str, with_code: Path, hub: Hub) -> None:
    def load() -> object:
        if place == "folder":
            return AutoModel.from_pretrained(with_code, trust_remote_code=True, verify=True)
        hub.commit_folder("org/tiny", with_code)
        return AutoModel.from_pretrained("org/tiny", trust_remote_code=True, verify=True)

    hub.create("org/tiny")
    assert type(load()).__name__ == "TinyModel"
    file = with_code / "modeling_tiny.py"
    file.write_text("raise SystemExit('this ran')\n" + file.read_text())
    with pytest.raises(IntegrityError, match=r"modeling_tiny.py is not the file"):
        load()
    shutil.copy(CODE / "modeling_tiny.py", file)
    (with_code / "more.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(IntegrityError, match=r"more.py would be read"):
        load()
