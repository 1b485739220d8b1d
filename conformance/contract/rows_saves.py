"""Rows of the contract about a save's arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from live_models import own_class
from probing import IN_ALL, STEM, messages, same, shows, small
from small_models import SMALL
from triptych import (
    ArgumentError,
    BertConfig,
    GPT2Config,
    SaveError,
)
from triptych.formats.kinds import OWN
from triptych_conformance import Backend
from walk import row


@shows("5.6.14 5.6.29 6.88 6.91")
def what_config_json_says(backend: Backend, folder: Path) -> None:
    model = small(backend)
    model.save_pretrained(folder / "none", is_main_process=False)
    assert not (folder / "none").exists()
    model.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    assert (values["architectures"], values["dtype"]) == ([STEM], "float32")


@row("6.89", note="written in every framework: what the file holds, for whoever reads it", tf="Y")
@row("11.13", note="written in every framework: what the file holds, for whoever reads it", **IN_ALL)
def the_dtype_of_the_file_is_written(backend: Backend, folder: Path) -> None:
    backend.cls("BertModel")(BertConfig(**SMALL["bert"])).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


@row("5.6.2", pt="Y", note="False writes nothing")
@row("5.6.10", pt="Y", note="by position; what it does to adapters: 5.6.27")
@row("5.6.13", pt="Y")
@row("6.81", tf="Y")
@row("6.85", tf="Y", note="with push_to_hub=True")
def positional_arguments_of_each_framework(backend: Backend, folder: Path) -> None:
    model = small(backend)
    older = OWN[backend.name].single
    by_position: dict[str, list[tuple[Any, ...]]] = {
        "pt": [(True, None, None, False, "9KB", True, "v", None, True), (True, None, None, False, "5GB", False)],
        "tf": [(False, 1, False, None, "9KB", False, True, None), (False, 2, False, None, "5GB", False, False)],
        "flax": [(None, False, "9KB", None, True), (getattr(model, "params", None), False, "5GB", None, False)],
    }
    sharded, single = by_position[backend.name]
    model.save_pretrained(folder / "a", *sharded)
    variant = ".v" if backend.name == "pt" else ""
    assert (folder / f"a/model.safetensors.index{variant}.json").is_file()
    model.save_pretrained(folder / "b", *single)
    assert (folder / "b" / older).is_file()
    with pytest.raises(ArgumentError, match="given twice"):
        model.save_pretrained(folder / "c", *single, safe_serialization=False)
    with pytest.raises(ArgumentError, match="too many arguments"):
        model.save_pretrained(folder / "c", *range(10))
    if backend.name == "pt":
        model.save_pretrained(folder / "c", False)
    assert not (folder / "c").exists()


@row("5.6.4", pt="Y", note="called for each .bin, as in v4 not for safetensors")
def save_function(backend: Backend, folder: Path) -> None:

    model = small(backend, "BertForMaskedLM")
    seen: list[str] = []

    def write(tensors: dict[str, Any], path: str) -> None:
        seen.append(path)
        torch.save(tensors, path)

    for size, count in (("5GB", 1), ("5KB", 3)):
        seen.clear()
        model.save_pretrained(folder, save_function=write, safe_serialization=False, max_shard_size=size)
        assert len(seen) >= count
        assert same(backend, backend.load("BertForMaskedLM", folder), model)
    seen.clear()
    model.save_pretrained(folder / "new", save_function=write)
    assert not seen
    with pytest.raises(SaveError):
        model.save_pretrained(folder, save_function=lambda tensors, path: None, safe_serialization=False)
    assert same(backend, backend.load("BertForMaskedLM", folder), model)


@row("5.6.11", pt="Y", note="FutureWarning for save_config and use_auth_token")
def deprecated_arguments_of_a_save(backend: Backend, folder: Path) -> None:
    model = small(backend)
    with pytest.warns(FutureWarning, match="use_auth_token"):
        model.save_pretrained(folder / "a", use_auth_token="x", ignore_metadata_errors=True)
    assert (folder / "a/config.json").is_file()
    with pytest.warns(FutureWarning, match="save_config"):
        model.save_pretrained(folder / "b", save_config=False)
    assert not (folder / "b").exists()


@row("5.6.12", pt="R", note="None and False are accepted")
@row("5.6.30", pt="R", note="refused by name, where v4 passed them on to a push or dropped them")
def arguments_that_would_be_ignored(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for bad in ({"repo_id": "a/b"}, {"commit_message": "x"}, {"private": True}, {"create_pr": True}, {"unknown": 1}):
        with pytest.raises(ArgumentError, match="does not know these arguments"):
            model.save_pretrained(folder, **bad)
    assert not list(folder.iterdir())
    model.save_pretrained(folder, private=None, create_pr=False, commit_message=None, token="x")


@row("5.6.19", pt="Y", note="a warning; saved once, and tied again when loaded")
def undeclared_sharing(backend: Backend, folder: Path) -> None:
    class Sharing(own_class()):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)

            self.twin = nn.Linear(3, 3)
            self.twin.weight = self.line.weight

    model = Sharing(Sharing.config_class())
    with messages() as said:
        model.save_pretrained(folder)
    assert [text for text in said if "twin.weight of Sharing shares memory with line.weight" in text]
    assert "twin.weight" not in load_file(folder / "model.safetensors")
    Sharing._tied_weights_keys = ["twin.weight"]
    with messages() as said:
        model.save_pretrained(folder)
    assert not said


@row("5.6.20", pt="Y")
def bin_keeps_all_aliases(backend: Backend, folder: Path) -> None:

    model = backend.cls("GPT2LMHeadModel")(GPT2Config(**SMALL["gpt2"]))
    model.save_pretrained(folder, safe_serialization=False)
    # torch as a second reader, of a file of our own; weights_only runs nothing.
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    one, other = tensors["lm_head.weight"], tensors["transformer.wte.weight"]
    assert one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr(), "written once"
    assert same(backend, backend.load("GPT2LMHeadModel", folder), model)
