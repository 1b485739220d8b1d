"""Rows of the contract about models over several devices, the CPU and the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from probing import messages, same, saved
from triptych import ArgumentError, TriptychError
from triptych_conformance import Backend
from walk import row

STEM = "BertForSequenceClassification"


def away(model: Any) -> set[str]:
    """Return the parameters that stay in files."""
    return {name for name, parameter in model.named_parameters() if parameter.is_meta}


def agrees(one: Any, other: Any) -> bool:
    """Return whether two models compute the same."""
    scores = [model.eval()(**model.dummy_inputs).logits.detach().numpy() for model in (one, other)]
    return bool((scores[0] == scores[1]).all())


@row("5.5.24", pt="Y")
@row("5.5.83", pt="Y", note="auto is balanced; what fits on accelerators alone is not offloaded to be even")
@row("5.5.25", pt="Y", note="with a device_map; a warning without")
def a_strategy(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    total = sum(parameter.nbytes for parameter in model.parameters())
    for strategy in ("auto", "balanced", "balanced_low_0", "sequential"):
        spread = backend.load(STEM, folder, device_map=strategy, max_memory={"cpu": total * 3 // 4})
        assert set(spread.hf_device_map.values()) == {"cpu", "disk"}
        kept = sum(parameter.nbytes for parameter in spread.parameters() if not parameter.is_meta)
        assert 0 < kept <= total * 3 // 4 and agrees(spread, model)
        assert backend.load(STEM, folder, device_map=strategy).hf_device_map == {"": "cpu"}
    with messages() as said:
        assert same(backend, backend.load(STEM, folder, max_memory={"cpu": "1GB"}), model)
    assert said == ["max_memory has no effect without device_map"]


@row("5.5.84", pt="Y", note="a device that is not here is refused before anything is read")
def a_device(backend: Backend, folder: Path) -> None:
    import torch

    model = saved(backend, folder)
    for device in ("cpu", torch.device("cpu")):
        loaded = backend.load(STEM, folder, device_map=device)
        assert loaded.hf_device_map == {"": torch.device("cpu")} and same(backend, loaded, model)
    for device in (-1, "nowhere", 97):
        with pytest.raises(ArgumentError, match="device"):
            backend.load(STEM, folder, device_map=device)


@row("5.5.85", pt="Y", note="a name that the model has not is a warning")
@row("5.5.86", pt="Y")
@row("5.4.10", pt="Y", note="past_key_values where a class says nothing")
def a_map(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    asked = {"bert": "cpu", "bert.encoder.layer.1": "disk", "classifier": "disk"}
    spread = backend.load(STEM, folder, device_map=asked)
    assert spread.hf_device_map == asked and agrees(spread, model)
    assert {".".join(name.split(".")[:4]) for name in away(spread)} == {
        "bert.encoder.layer.1", "classifier.weight", "classifier.bias",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"where all weights go.*classifier\.weight"):
        backend.load(STEM, folder, device_map={"bert": "cpu"})


@row("5.5.87", pt="Y")
@row("5.5.26", pt="Y", note="one safetensors file, offloaded.safetensors")
@row("5.5.27", pt="Y")
def the_disk(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    spread = backend.load(STEM, folder, device_map={"": "disk"}, offload_folder=folder / "away", offload_buffers=True)
    assert agrees(spread, model) and not (folder / "away").exists()
    model.save_pretrained(folder / "bin", format="bin")
    with pytest.raises(ValueError, match="offload_folder"):
        backend.load(STEM, folder / "bin", device_map={"": "disk"})
    spread = backend.load(STEM, folder / "bin", device_map={"": "disk"}, offload_folder=folder / "away")
    assert agrees(spread, model) and [*(folder / "away").iterdir()]


@row("5.4.9", pt="Y", note="every built-in family says it")
def what_is_not_split(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder, num_hidden_layers=3)
    assert model._no_split_modules == ["BertEmbeddings", "BertLayer"]
    total = sum(parameter.nbytes for parameter in model.parameters())
    for share in range(3, 9):
        spread = backend.load(STEM, folder, device_map="auto", max_memory={"cpu": total * share // 9})
        for layer in spread.bert.encoder.layer:
            assert len({parameter.is_meta for parameter in layer.parameters()}) == 1


@row("5.6.26", pt="Y", note="read file by file; what accelerate dispatched, too")
def saves_of_what_is_away(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    spread = backend.load(STEM, folder, device_map={"": "cpu", "bert.encoder": "disk"})
    spread.save_pretrained(folder / "again", max_shard_size="4KB")
    assert same(backend, backend.load(STEM, folder / "again"), model)
    with pytest.raises(RuntimeError, match="neither moved nor cast"):
        spread.to("cpu")
    shapes = backend.load(STEM, folder, device_map="meta")
    with pytest.raises(TriptychError, match="no values"):
        shapes.save_pretrained(folder / "shapes")
    assert not (folder / "shapes/model.safetensors").exists()
