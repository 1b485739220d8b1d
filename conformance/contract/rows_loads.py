"""Rows of the contract about what a load takes and what it does: files, shapes, dtypes, heads and backbones."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from live_models import Headed, Trunk, assert_equal_states, saved, trained
from probing import STEM, messages, same, shows, small
from small_models import SMALL
from triptych import (
    ArgumentError,
    BertConfig,
    CheckpointError,
    GenerationConfig,
    GPT2Config,
    ShapeMismatchError,
    TriptychError,
    UnsupportedFormatError,
)
from triptych.formats.kinds import OWN
from triptych_conformance import Backend
from walk import row

# -- of every framework


@shows("5.5.7 5.5.63 5.5.31 5.5.41 6.92 6.100 6.102 7.47 7.52 7.54 11.27 11.28 11.53 7.67")
def configs_folders_and_code(backend: Backend, folder: Path) -> None:
    model = small(backend)
    model.save_pretrained(folder / "inner")
    config = BertConfig.from_pretrained(folder / "inner")
    before = config.to_dict()
    for options in ({"config": config}, {"config": folder / "inner"}, {"trust_remote_code": True}, {}):
        loaded = backend.load(STEM, folder / "inner", **options)
        assert same(backend, loaded, model) and loaded.config is not config
    assert config.to_dict() == before and loaded.config.name_or_path == str(folder / "inner")
    assert same(backend, backend.load(STEM, folder, subfolder="inner"), model)


@shows("5.5.9 5.5.20 5.5.102 5.5.104 6.94 6.97 6.108 7.49 7.55 8.31 8.45 11.23 11.54")
def other_shapes(backend: Backend, folder: Path) -> None:
    width = SMALL["bert"]["hidden_size"]
    small(backend, num_labels=3).save_pretrained(folder)
    for format in ("safetensors", "bin"):
        small(backend, num_labels=3).save_pretrained(folder / format, format=format)
        with pytest.raises(ShapeMismatchError, match=r"(?s)classifier.weight.*ignore_mismatched_sizes"):
            backend.load(STEM, folder / format, num_labels=2)
        model, info = backend.load(STEM, folder / format, num_labels=2, ignore_mismatched_sizes=True,
                                   output_loading_info=True)  # fmt: skip
        assert set(info) == {"missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"}
        assert ("classifier.weight", (3, width), (2, width)) in info["mismatched_keys"]
        assert model.config.num_labels == 2
    arrays = load_file(folder / "model.safetensors")
    arrays["classifier.weight"] = arrays["classifier.weight"].reshape(width, 3)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ShapeMismatchError, match="classifier.weight"):
        backend.load(STEM, folder)


@shows("5.5.14 5.5.17 5.5.18 5.5.54 5.5.56 6.95 11.20 5.1.17 5.1.18")
def which_file_is_taken(backend: Backend, folder: Path) -> None:
    formats = {"safetensors": {}, "bin": {"from_pt": True}, "h5": {"from_tf": True}, "msgpack": {"from_flax": True}}
    models = {format: small(backend) for format in formats}
    for format, model in models.items():
        model.save_pretrained(folder / format, format=format)
        for file in (folder / format).iterdir():
            file.rename(folder / file.name)
    for format, options in formats.items():
        assert same(backend, backend.load(STEM, folder, **options), models[format])
    own = OWN[backend.name].name
    assert same(backend, backend.load(STEM, folder, use_safetensors=False), models[own])
    (folder / "model.safetensors").unlink()
    assert same(backend, backend.load(STEM, folder), models[own])
    with pytest.raises(TriptychError, match="safetensors"):
        backend.load(STEM, folder, use_safetensors=True)


@shows("5.5.60")
def what_metadata_say_of_the_format(backend: Backend, folder: Path) -> None:
    model = small(backend)
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    arrays = load_file(file)
    for metadata in ({"format": "pt"}, {"format": "mlx"}, None):
        save_file(arrays, file, metadata)
        assert same(backend, backend.load(STEM, folder), model)


@shows("5.5.16 5.6.3 11.16 6.91")
def arrays_in_memory(backend: Backend, folder: Path) -> None:
    model, other = small(backend), small(backend)
    arrays = backend.weights(other)
    loaded = backend.load(STEM, None, config=model.config, state_dict=arrays)
    assert same(backend, loaded, other)
    model.save_pretrained(folder, state_dict=arrays)
    assert same(backend, backend.load(STEM, folder), other)
    with pytest.raises(ArgumentError, match="state_dict"):
        backend.load(STEM, folder, state_dict=arrays)


@shows("5.5.22 5.5.23 5.5.77 5.5.79 5.5.80 5.5.82 11.51 6.104 7.46 11.11 11.12")
def dtypes_of_a_load(backend: Backend, folder: Path) -> None:
    small(backend).save_pretrained(folder)
    wide = {"float32"}
    wanted = {"pt": {"bfloat16"}, "tf": wide, "flax": wide}[backend.name]
    for name in ("dtype", "torch_dtype"):
        model = backend.load(STEM, folder, **{name: "bfloat16"})
        assert {str(array.dtype) for array in backend.weights(model).values()} == wanted
        assert "bfloat16" in str(model.compute_dtype if backend.name == "tf" else model.dtype)
    narrow = backend.load(STEM, folder, param_dtype="bfloat16")
    assert {str(array.dtype) for array in backend.weights(narrow).values()} == {"bfloat16"}
    for bad in ("flaot32", "int8"):
        with pytest.raises(ArgumentError):
            backend.load(STEM, folder, dtype=bad)
    if backend.name == "pt":
        assert backend.load(STEM, folder, dtype=torch.float16).dtype == torch.float16
    assert torch.get_default_dtype() == torch.float32


@shows("8.32 8.47")
def half_precision_is_exact(backend: Backend, folder: Path) -> None:
    model = small(backend)
    arrays = {name: array.astype("bfloat16") for name, array in backend.weights(model).items()}
    model.save_pretrained(folder, state_dict=arrays)
    again = backend.load(STEM, folder, param_dtype="auto")
    assert all(np.array_equal(array, arrays[name]) for name, array in backend.weights(again).items())
    wide = backend.weights(backend.load(STEM, folder, param_dtype="float32"))
    assert all(np.array_equal(array, arrays[name].astype(np.float32)) for name, array in wide.items())


@row("5.5.78", pt="R", note="one dtype for all: cast a part of the loaded model instead")
def a_dtype_for_each_part(backend: Backend, folder: Path) -> None:
    small(backend).save_pretrained(folder)
    with pytest.raises(ArgumentError, match="dtype"):
        backend.load(STEM, folder, dtype={"": "bfloat16"})


@shows("6.112 7.68 11.52")
def no_path(backend: Backend, folder: Path) -> None:
    with pytest.raises(ArgumentError):
        backend.load(STEM, None)


@row("2.57", note="None is accepted; set HTTPS_PROXY in the environment", pt="R")
@row("5.5.19", note="None is accepted; set HTTPS_PROXY in the environment", pt="R")
@row("6.101", note="None is accepted; set HTTPS_PROXY in the environment", tf="R")
@row("7.53", note="None is accepted; set HTTPS_PROXY in the environment", flax="R")
def proxies(backend: Backend, folder: Path) -> None:
    small(backend).save_pretrained(folder)
    for load in (backend.cls(STEM).from_pretrained, BertConfig.from_pretrained):
        load(folder, proxies=None)
        with pytest.raises(ArgumentError, match="(?s)proxies.*HTTPS_PROXY"):
            load(folder, proxies={"https": "x"})


@row("6.110", "on purpose silent when all is well, as in the other frameworks (11.25)", tf="R")
@shows("5.5.93 5.5.95 5.5.99 6.109 7.61 8.49 11.25")
def heads_and_backbones(backend: Backend, folder: Path) -> None:
    base, head = small(backend, "BertModel"), small(backend)
    base.save_pretrained(folder / "base")
    head.save_pretrained(folder / "head")
    with messages() as said:
        _, info = backend.load(STEM, folder / "base", output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["classifier.bias", "classifier.weight"]
    assert [text for text in said if "classifier.weight" in text]
    with messages(logging.INFO) as said:
        backend.load(STEM, folder / "head")
    assert not [text for text in said if "weights" in text or "used" in text], said
    with messages() as said:
        loaded, info = backend.load("BertModel", folder / "head", output_loading_info=True)
    assert sorted(info["unexpected_keys"]) == ["classifier.bias", "classifier.weight"] and said == []
    inside = backend.weights(head)
    assert all(np.array_equal(array, inside[f"bert.{name}"]) for name, array in backend.weights(loaded).items())


@row("5.5.100", note="refused as damage; strict=False initialises it, with a warning", pt="R")
def a_backbone_that_lacks_a_weight(backend: Backend, folder: Path) -> None:
    small(backend).save_pretrained(folder)
    arrays = load_file(folder / "model.safetensors")
    del arrays["bert.encoder.layer.0.output.dense.weight"]
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="bert.encoder.layer.0.output.dense.weight"):
        backend.load(STEM, folder)
    with messages() as said:
        backend.load(STEM, folder, strict=False)
    assert [text for text in said if "bert.encoder.layer.0.output.dense.weight" in text]


# -- of classes of PyTorch, mostly


@row("5.5.35", pt="Y")
def a_generation_config_of_the_call(backend: Backend, folder: Path) -> None:
    GPT2 = backend.cls("GPT2LMHeadModel")
    GPT2(GPT2Config(**SMALL["gpt2"])).save_pretrained(folder)
    given = GenerationConfig(max_length=33)
    model = GPT2.from_pretrained(folder, generation_config=given)
    assert model.generation_config == given and model.generation_config is not given


@row("7.70", flax="Y", note="by name, and by their arrays")
def a_quantised_checkpoint(backend: Backend, folder: Path) -> None:
    model = backend.cls("BertModel")(BertConfig(**SMALL["bert"]))
    model.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    values["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(UnsupportedFormatError, match="quantised with gptq"):
        backend.load("BertModel", folder)
    weights = backend.weights(model)
    name = "encoder.layer.0.output.dense.weight"
    held = {**weights, name: weights[name].astype(np.int8), f"{name}.absmax": np.ones(2, np.float32)}
    with pytest.raises(UnsupportedFormatError, match="quantised"):
        backend.cls("BertModel").from_pretrained(None, config=model.config, state_dict=held)
    model.config.quantization_config = values["quantization_config"]
    with pytest.raises(UnsupportedFormatError, match="quantised with gptq"):
        model.save_pretrained(folder / "other")
    assert not (folder / "other").exists()


@row("5.5.76", pt="Y", note="param_dtype='auto' keeps what the files have, whatever the config says")
def dtype_auto(backend: Backend, folder: Path) -> None:
    trained().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    for said, wanted in (("float16", torch.float16), (None, torch.float32)):
        (folder / "config.json").write_text(json.dumps({**config, "dtype": said}))
        for name in ("dtype", "torch_dtype"):
            model = Trunk.from_pretrained(folder, **{name: "auto"})
            assert (model.dtype, model.seen.dtype) == (wanted, torch.int64)
        assert Trunk.from_pretrained(folder, param_dtype="auto").dtype == torch.float32


@row("5.5.81", pt="Y", note="to the weights of the models within; the configs in memory say what the file said")
def the_dtype_is_that_of_models_within(backend: Backend, folder: Path) -> None:
    trained(Headed).save_pretrained(folder)
    model = Headed.from_pretrained(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and model.trunk.dtype == torch.bfloat16


@row("5.5.94", pt="Y", note="no error: weights of the backbone with and without its prefix are both taken")
def names_of_a_backbone_beside_those_of_a_head(backend: Backend, folder: Path) -> None:
    model = trained(Headed, tie_word_embeddings=False)
    weights = {name.removeprefix("trunk."): ref.read() for name, ref in saved(model, folder).items()}
    again, info = Headed.from_pretrained(None, config=model.config, state_dict=weights, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert_equal_states(model, again)
