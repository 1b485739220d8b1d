"""Adapters: rows 1.8, 5.4.99 to 5.4.106, 5.5.33, 5.5.34, 5.6.27, 5.9.4 and 9.7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probing import STEM, same, saved, small
from triptych import ArgumentError
from triptych.adapters.folder import open_adapter
from triptych_conformance import Backend
from walk import row

LORA = {"peft_type": "LORA", "r": 2, "target_modules": ["query", "value"], "init_lora_weights": False}


def adapted(backend: Backend, folder: Path, name: str | None = None) -> Any:
    """Return a saved model with an adapter that is saved in `folder`/adapter."""
    model = saved(backend, folder)
    loaded = backend.load(STEM, folder)
    assert same(backend, loaded, model)
    loaded.add_adapter(LORA, name)
    loaded.save_pretrained(folder / "adapter")
    return loaded


def factors(model: Any, name: str | None = None) -> dict[str, np.ndarray]:
    return {key: np.array(model._to_numpy(one)) for key, one in model.get_adapter_state_dict(name).items()}


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@row("1.8", pt="Y", note="read and written, in all three frameworks")
@row("5.6.27", pt="Y", note="in all three frameworks")
@row("5.4.99", pt="Y", note="LoRA, in all three frameworks; it alone acts then; placement arguments are refused")
def an_adapter_is_saved_alone_and_loaded(backend: Backend, folder: Path) -> None:
    model = adapted(backend, folder)
    files = {file.name for file in (folder / "adapter").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    assert all(name.startswith("base_model.model.") for name in open_adapter(folder / "adapter", "", {})[1])
    model.save_pretrained(folder / "bin", safe_serialization=False, save_peft_format=False)
    assert not any(name.startswith("base_model.") for name in open_adapter(folder / "bin", "", {})[1])
    for place in ("adapter", "bin"):
        other = backend.load(STEM, folder)
        other.load_adapter(folder / place)
        assert equal(factors(other), factors(model))
    with pytest.raises(ArgumentError, match="goes where its layers are"):
        other.load_adapter(folder / "adapter", "more", device_map={"": 0})
    model.add_adapter(LORA, "second")
    model.set_adapter(["default", "second"])
    with pytest.raises(ValueError, match="one active adapter"):
        model.save_pretrained(folder / "both")


@row("5.4.100", pt="Y", note="LoRA, in all three frameworks")
@row("5.4.101", pt="Y", note="in all three frameworks")
@row("5.4.104", pt="Y", note="in all three frameworks")
def one_is_made_and_set(backend: Backend, folder: Path) -> None:
    model = small(backend)
    with pytest.raises(ValueError, match="no adapter"):
        model.active_adapters()
    model.add_adapter(LORA)
    model.add_adapter({**LORA, "r": 3}, "second")
    assert model.active_adapters() == ["second"] and model.peft_config["second"].r == 3
    model.set_adapter("default")
    assert model.active_adapters() == ["default"]
    with pytest.raises(ValueError, match="second"):
        model.set_adapter("third")
    with pytest.raises(ValueError, match="already"):
        model.add_adapter(LORA)


@row("5.4.102", pt="Y", note="in all three frameworks")
@row("5.4.103", pt="Y", note="in all three frameworks")
@row("5.4.106", pt="Y", note="in all three frameworks; without the last, the model is as before")
def they_are_disabled_and_deleted(backend: Backend, folder: Path) -> None:
    saved(backend, folder)
    model, inputs = backend.load(STEM, folder), {"input_ids": np.array([[3, 4, 5]])}
    plain = backend.run(model, inputs)["logits"]
    model.add_adapter(LORA)
    changed = backend.run(model, inputs)["logits"]
    assert not np.array_equal(changed, plain)
    model.disable_adapters()
    assert np.array_equal(backend.run(model, inputs)["logits"], plain)
    model.enable_adapters()
    assert np.array_equal(backend.run(model, inputs)["logits"], changed)
    model.delete_adapter("default")
    assert np.array_equal(backend.run(model, inputs)["logits"], plain) and not model._hf_peft_config_loaded


@row("5.4.105", pt="Y", note="in all three frameworks")
def its_weights_are_told(backend: Backend, folder: Path) -> None:
    model = adapted(backend, folder, "mine")
    read = {
        name.removeprefix("base_model.model."): ref.read()
        for name, ref in open_adapter(folder / "adapter", "", {})[1].items()
    }
    assert equal(factors(model), read) and equal(factors(model, "mine"), read)


@row("5.5.33", pt="Y", note="in all three frameworks")
@row("5.5.34", pt="Y", note="in all three frameworks")
@row("9.7", pt="Y", note="in all three frameworks")
def a_folder_of_an_adapter_loads_its_model(backend: Backend, folder: Path) -> None:
    model = adapted(backend, folder)
    for stem in (STEM, "AutoModelForSequenceClassification"):
        loaded = backend.load(stem, folder / "adapter", adapter_name="mine")
        assert loaded.active_adapters() == ["mine"] and equal(factors(loaded), factors(model))
        below = backend.load(stem, folder / "adapter", adapter_kwargs={"subfolder": ""})
        assert below.active_adapters() == ["default"]
        with pytest.raises(ArgumentError, match="no argument of a look-up"):
            backend.load(stem, folder / "adapter", adapter_kwargs={"colour": "red"})


@row("5.9.4", pt="Y")
def checkpointing_gives_the_embeddings_a_gradient(backend: Backend, folder: Path) -> None:
    import torch

    model = small(backend)
    model.add_adapter(LORA)
    model.gradient_checkpointing_enable()
    model.train()(input_ids=torch.tensor([[3, 4, 5]]), labels=torch.tensor([1])).loss.backward()
    trained = {name for name, one in model.named_parameters() if one.grad is not None}
    assert trained and all("lora_" in name for name in trained)
