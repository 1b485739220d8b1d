"""SECURITY.md: each promise has its tests, and those that have no other place stand here."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from places import GOLDEN, ROOT
from small_tokenizer import save_tokenizer
from triptych import AutoConfig, HubError, LoraConfig, TensorRef, UnsafeCheckpointError, save_checkpoint
from triptych.adapters.folder import open_adapter, write_adapter
from triptych.generation.config import read_generation_config
from triptych.hub.fetching import fetch_model
from triptych.hub.pushing import Push, files_of
from triptych.hub.remote_code import take_code_arguments
from triptych.hub.snapshot import HubOptions
from triptych.tools.editing import open_draft, write
from triptych.tools.texts import open_texts
from triptych_conformance.hub.server import READER, Hub

PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = re.findall(r"^`([\w/.]+\.py)::(\w+)`$", PAGE, re.MULTILINE)
PACKAGES = ("core", "pt", "tf", "flax", "conformance/triptych_conformance")
UNPICKLING = {"pickle", "_pickle", "cloudpickle", "marshal", "shelve", "dill", "joblib"}
RUNNING = {"eval", "exec", "compile", "__import__", "torch.load", "os.system"}
SECRET = "hf_a_token_that_nobody_may_see"


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda value: value.rpartition("/")[2])
def test_each_test_that_is_named_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_promise_names_a_test() -> None:
    promises = PAGE.partition("## What is promised\n")[2].partition("\n## ")[0].strip().split("\n\n")
    assert len(promises) > 10
    for promise in promises:
        assert promise.startswith("**") and re.search(r"^`.*::test_", promise, re.MULTILINE), promise[:60]


def test_nothing_runs_what_a_file_says() -> None:
    """Nothing imports a module that unpickles, or calls what runs text, but for code that the caller trusts."""
    found = []
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if {name.partition(".")[0] for name in names} & UNPICKLING:
                found.append((file.name, "import"))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in RUNNING:
                found.append((file.name, ast.unparse(node.func)))
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", file
    pickles_its_own = ("objects.py", "import")  # the suite for authors: what it reads it has just pickled
    assert sorted(set(found)) == [pickles_its_own, ("remote_code.py", "compile"), ("remote_code.py", "exec")]


def _adapter(folder: Path) -> None:
    config = LoraConfig(r=1, target_modules=["query"])
    write_adapter(folder, config, {"a.lora_A.weight": TensorRef.of("a", np.ones((1, 2), np.float32))})


READERS: dict[str, Callable[[Path], object]] = {
    "config.json": AutoConfig.from_pretrained,
    "generation_config.json": read_generation_config,
    "tokenizer.json": open_texts,
    "tokenizer_config.json": open_texts,
    "chat_template.jinja": open_texts,
    "adapter_config.json": lambda folder: open_adapter(folder, "", {}),
    "adapter_model.safetensors": lambda folder: open_adapter(folder, "", {}),
    "vocab.txt": lambda folder: write(open_draft(folder), folder.with_name("written")),
    "README.md": files_of,
    "LICENSE": files_of,
}


@pytest.mark.parametrize("name", READERS)
def test_links_out_of_the_folder_are_not_followed(name: str, tmp_path: Path) -> None:
    folder, secret = tmp_path / "folder", tmp_path / "secret"
    folder.mkdir()
    if name.startswith("adapter"):
        _adapter(folder)
    else:
        save_checkpoint(folder, [TensorRef.of("a", np.ones(2))], json.dumps({"model_type": "bert"}))
        save_tokenizer(folder)
    secret.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b'{"secret": 1}')
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    with pytest.raises(UnsafeCheckpointError, match=f"{name} is a link that leaves its folder"):
        READERS[name](folder)
    assert not (tmp_path / "written").exists()


def test_a_token_is_told_to_nobody(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.create("org/bert")
    hub.commit_folder("org/bert", GOLDEN / "bert-mlm/pt-safetensors")
    options = {"token": SECRET, "cache_dir": tmp_path / "cache"}
    told = []
    try:
        folder = fetch_model("org/bert", "", options)
        told += [repr(folder), str(folder)]
    except HubError as error:  # the server does not know this token
        told += [str(error), repr(error)]
    with pytest.raises(HubError) as caught:
        fetch_model("org/none", "", options)
    told += [str(caught.value), repr(HubOptions(**options)), repr(Push("org/bert", token=SECRET))]
    told += [repr(take_code_arguments({}, options)), caplog.text, *capfd.readouterr()]
    assert not [text for text in told if SECRET in text]
    written = [file.read_bytes() for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert not [data for data in written if SECRET.encode() in data]


def test_row_82_a_token_goes_to_the_hub_alone(hub: Hub, tmp_path: Path) -> None:
    hub.create("org/bert", private=True, readers=("ben",))
    hub.commit_folder("org/bert", GOLDEN / "bert-mlm/pt-safetensors")
    fetch_model("org/bert", "", {"token": READER, "cache_dir": tmp_path / "cache"})
    elsewhere = [request for request in hub.requests if request.path.startswith("/cdn/")]
    asked = [request for request in hub.requests if request not in elsewhere]
    assert elsewhere and not [request for request in elsewhere if "authorization" in request.headers]
    assert asked and all(request.headers["authorization"] == f"Bearer {READER}" for request in asked)
