"""Rows of the contract that need no more than a word: what a class made for transformers 4 takes for granted.

A probe here stands for several rows, so it runs once for each framework and remembers that it went well.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

import rows_live
from rows_live import Headed, Trunk, assert_equal_states, trained
from small_models import SMALL
from triptych import (
    ArgumentError,
    BertConfig,
    CheckpointError,
    ConfigError,
    GPT2Config,
    PretrainedConfig,
    SaveError,
    ShapeMismatchError,
    TensorRef,
    TriptychError,
    open_checkpoint,
    save_checkpoint,
)
from triptych.formats.kinds import BIN, H5, MSGPACK, OWN, SAFETENSORS, with_variant
from triptych.formats.opening import open_file
from triptych_conformance import Backend
from walk import FRAMEWORKS, ROWS, Probe, row, state

STEM = "BertForSequenceClassification"


def shows(numbers: str, **states: str) -> Callable[[Probe], Probe]:
    """Say that rows work, in every framework that they have or as `states` says, and show it by one probe."""

    def show(probe: Probe) -> Probe:
        done: set[str] = set()

        @wraps(probe)
        def once(backend: Backend, folder: Path) -> None:
            if backend.name not in done:
                probe(backend, folder)
                done.add(backend.name)

        for number in numbers.split():
            there = {name: "Y" for name in FRAMEWORKS if ROWS[number].states[name] != "-"}
            row(number, note=None, **(states or there))(once)
        return once

    return show


def small(backend: Backend, stem: str = STEM, **changes: Any) -> Any:
    return backend.cls(stem)(BertConfig(**{**SMALL["bert"], **changes}))


def same(backend: Backend, one: Any, other: Any) -> bool:
    first, second = backend.weights(one), backend.weights(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@contextmanager
def messages(level: int = logging.WARNING) -> Iterator[list[str]]:
    """Collect what triptych logs at `level` or above."""
    found: list[str] = []
    handler = logging.Handler(level)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("triptych")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


# -- files --------------------------------------------------------------------------------------------------------


@shows("1.1 1.3 1.4 1.5 1.7 1.11 1.12 1.13 1.20 5.5.1 5.5.32 5.6.1 5.6.6 5.6.8 6.84 6.90 6.91 6.106 7.59 8.37 11.18")
@shows("11.22 11.49 5.5.53 5.5.61 5.5.70 8.36 8.50 11.30 11.43 11.44 6.96 6.105 7.50 8.44")
def every_format_alone_and_in_shards(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for kind in (SAFETENSORS, BIN, H5, MSGPACK):
        model.save_pretrained(folder / kind.name, format=kind.name, variant="v")
        assert {path.name for path in (folder / kind.name).iterdir()} == {"config.json", with_variant(kind.single, "v")}
        model.save_pretrained(folder / kind.name, format=kind.name, max_shard_size="5KB")
        text = (folder / kind.name / kind.index).read_text()
        index = json.loads(text)
        assert text == json.dumps(index, indent=2, sort_keys=True) + "\n"
        assert {"total_size", "total_parameters"} <= index["metadata"].keys()
        assert len(set(index["weight_map"].values())) > 2
        for variant in (None, "v"):
            assert same(backend, backend.load(STEM, folder / kind.name, variant=variant), model)


@shows("1.14")
def names_in_an_index(backend: Backend, folder: Path) -> None:
    model = small(backend)
    names = {SAFETENSORS: "bert.pooler.dense.weight", BIN: "bert.pooler.dense.weight",
             H5: "bert/pooler/dense/kernel:0", MSGPACK: "bert/pooler/dense/kernel"}  # fmt: skip
    for kind, name in names.items():
        model.save_pretrained(folder / kind.name, format=kind.name, max_shard_size="5KB")
        keys = json.loads((folder / kind.name / kind.index).read_text())["weight_map"]
        assert [key for key in keys if key.endswith(name)], kind


@shows("1.15 1.16", pt="Y")
@shows("1.17", pt="Y", tf="Y")
@shows("1.18", pt="Y", flax="Y")
@shows("1.19", pt="Y")
@shows("5.6.7 5.6.9 6.87 11.21")
def what_a_save_writes_by_default(backend: Backend, folder: Path) -> None:
    cls = backend.cls("PreTrainedModel")
    told = inspect.signature(cls.save_pretrained).parameters
    assert (told["max_shard_size"].default, told["safe_serialization"].default) == ("5GB", True)
    assert inspect.signature(cls.push_to_hub).parameters["max_shard_size"].default is None, "that of a save"
    model, other = small(backend), small(backend)
    model.save_pretrained(folder, token="x")
    other.save_pretrained(folder / "other", safe_serialization=False)
    name = OWN[backend.name].single
    (folder / "other" / name).rename(folder / name)
    assert same(backend, backend.load(STEM, folder), model), "safetensors are preferred"
    assert same(backend, backend.load(STEM, folder, use_safetensors=False), other)
    assert "classifier.weight" in load_file(folder / "model.safetensors")


@shows("1.21 1.22")
def tensors_fill_shards_in_order(backend: Backend, folder: Path) -> None:
    sizes = {"a": 1000, "b": 100, "c": 100, "d": 50, "e": 100}
    refs = [TensorRef.of(name, np.zeros(size, np.float32)) for name, size in sizes.items()]
    save_checkpoint(folder, refs, max_shard_size=1000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    shards: dict[str, str] = {}
    for name, file in index.items():
        shards[file] = shards.get(file, "") + name
    assert [shards[file] for file in sorted(shards)] == ["a", "bcd", "e"]


@shows("1.28 5.6.31")
def a_save_that_fails_changes_nothing(backend: Backend, folder: Path) -> None:
    (folder / "file").write_text("mine")
    model = small(backend)
    with pytest.raises(SaveError):
        model.save_pretrained(folder / "file")
    assert (folder / "file").read_text() == "mine"
    model.save_pretrained(folder / "there")
    other = small(backend)
    other.config.num_hidden_layers = 0
    with pytest.raises(ConfigError):
        other.save_pretrained(folder / "there")
    assert same(backend, backend.load(STEM, folder / "there"), model)


@shows("11.45 11.46")
def what_was_saved_last_is_loaded(backend: Backend, folder: Path) -> None:
    (folder / "model.md").write_text("mine")
    small(backend).save_pretrained(folder)
    model = small(backend)
    model.save_pretrained(folder, max_shard_size="5KB")
    assert same(backend, backend.load(STEM, folder), model) and (folder / "model.md").read_text() == "mine"


# -- configs ------------------------------------------------------------------------------------------------------


class Named(PretrainedConfig):
    model_type = "known_named"
    attribute_map = {"hidden_size": "width"}
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(self, width: int = 4, **kwargs: Any) -> None:
        self.width = width
        super().__init__(**kwargs)


@shows("2.1 2.5 2.6 2.8 2.71")
def classes_of_configs(backend: Backend, folder: Path) -> None:
    config = Named(hidden_size=6)
    assert (config.model_type, config.width, config.hidden_size, Named._auto_class) == ("known_named", 6, 6, None)
    config.hidden_size = 8
    assert config.width == 8 and config.to_dict()["width"] == 8 and "hidden_size" not in config.to_dict()
    assert config.keys_to_ignore_at_inference == ["past_key_values"]
    with pytest.raises(ArgumentError):
        Named.register_for_auto_class("AutoStrange")

    class Registered(Named):
        pass

    Registered.register_for_auto_class()
    assert Registered._auto_class == "AutoConfig"


@shows("2.9 2.11 2.17 2.19 2.22 2.23 2.24 2.25 2.26 2.27 2.28 2.29 2.30 2.31 2.44 2.50")
def fields_of_every_config(backend: Backend, folder: Path) -> None:
    config = PretrainedConfig()
    none = (
        "cross_attention_hidden_size architectures finetuning_task task_specific_params problem_type tokenizer_class "
        "prefix bos_token_id pad_token_id eos_token_id sep_token_id decoder_start_token_id"
    ).split()
    assert [name for name in none if getattr(config, name) is not None] == []
    assert (config.output_hidden_states, config.return_dict, config.is_encoder_decoder) == (False, True, False)
    assert (config.num_labels, config.id2label, config.label2id) == (
        2, {0: "LABEL_0", 1: "LABEL_1"}, {"LABEL_0": 0, "LABEL_1": 1},
    )  # fmt: skip
    given = {name: name for name in none if not name.endswith(("_id", "size", "type", "architectures", "params"))}
    given |= {"cross_attention_hidden_size": 3, "architectures": ["X"], "task_specific_params": {"a": {"b": 1}}}
    given |= {"problem_type": "regression", "is_encoder_decoder": True, "return_dict": False, "pad_token_id": 7}
    again = PretrainedConfig.from_dict(PretrainedConfig(**given).to_dict())
    assert {name: getattr(again, name) for name in given} == given
    config.num_labels = 3
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


@shows("2.41 2.42 2.45 2.91")
def fields_are_checked(backend: Backend, folder: Path) -> None:
    for bad in ({"id2label": ["a"]}, {"problem_type": "strange"}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            PretrainedConfig(**bad)
    config = PretrainedConfig.from_dict({"id2label": {"0": "a", "1": "b"}, "pruned_heads": {"1": [0]}})
    assert config.id2label == {0: "a", 1: "b"} and config.pruned_heads == {1: [0]}


@shows("2.53 2.55 2.59 2.62 2.63 2.64 2.68 2.69 2.75 2.76 2.81 2.83 11.47", pt="Y")
def configs_are_read_and_written(backend: Backend, folder: Path) -> None:
    config = Named(width=5, num_labels=3)
    config.save_pretrained(folder)
    file = folder / "config.json"
    with pytest.raises(TriptychError):
        config.save_pretrained(folder, strange=1)
    for read in (Named.from_pretrained(folder), Named.from_pretrained(file), Named.from_json_file(file),
                 Named.from_dict(json.loads(file.read_text()))):  # fmt: skip
        assert read == config and read.width == 5
    assert Named.from_pretrained(folder, width=6).width == 6
    read, unused = Named.from_pretrained(folder, return_unused_kwargs=True, width=6, strange=1)
    assert (read.width, unused) == (6, {"strange": 1})
    values, unused = Named.get_config_dict(folder, strange=1)
    assert values["width"] == 5 and unused == {"strange": 1}
    config.update({"width": 7})
    config.update_from_string("width=8,return_dict=false")
    assert (config.width, config.return_dict) == (8, False) and config != read
    with pytest.raises(TriptychError):
        config.update_from_string("strange=1")
    with pytest.raises(ConfigError):
        config.update({"width": 9, "problem_type": "strange"})
    assert config.width == 8 and repr(config).startswith("Named {")
    (folder / "empty").mkdir()
    with pytest.raises(TriptychError, match="config.json"):
        Named.from_pretrained(folder / "empty")


@shows("11.47", tf="Y", flax="Y")
def a_folder_without_a_config(backend: Backend, folder: Path) -> None:
    small(backend).save_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(TriptychError, match="config.json"):
        backend.load(STEM, folder)


@shows("2.94 2.95 2.97 2.98 5.5.51")
def the_text_of_a_config(backend: Backend, folder: Path) -> None:
    trained().save_pretrained(folder)
    text = (folder / "config.json").read_text()
    values = json.loads(text)
    assert text == json.dumps(values, indent=2, sort_keys=True) + "\n"
    assert values["dtype"] == "float32" and "id2label" not in values and "top_k" not in values
    assert json.loads(Named(num_labels=3).to_json_string())["id2label"]["2"] == "LABEL_2"
    (folder / "model.safetensors").rename(folder / "chosen.safetensors")
    (folder / "config.json").write_text(json.dumps({**values, "transformers_weights": "chosen.safetensors"}))
    model = Trunk.from_pretrained(folder)
    model.save_pretrained(folder / "again")
    assert "transformers_weights" not in json.loads((folder / "again/config.json").read_text())
    assert_equal_states(model, Trunk.from_pretrained(folder / "again"))


@row("2.102", note="a file that says a thing twice is refused: readers disagree on it", pt="R")
def a_key_twice(backend: Backend, folder: Path) -> None:
    (folder / "config.json").write_text('{"width": 1, "width": 2}')
    with pytest.raises(ConfigError, match="width"):
        Named.from_pretrained(folder)


# -- classes ------------------------------------------------------------------------------------------------------


@shows("5.4.3 5.4.4 5.4.5 5.4.28 5.4.57 5.4.58 6.29 6.30 6.31 6.32 6.47 7.6 7.7 7.8 7.9 7.22 11.39")
@shows("5.4.72 5.4.73 6.78 7.39 11.37 11.42 8.29 5.4.24 5.4.25")
def attributes_of_classes(backend: Backend, folder: Path) -> None:
    base = backend.cls("PreTrainedModel")
    assert (base.config_class, base.base_model_prefix, base.main_input_name) == (None, "", "input_ids")
    assert (base.framework, base.model_tags, base._auto_class) == (backend.name, None, None)
    model = small(backend)
    assert model.base_model_prefix == "bert" and model.config_class is BertConfig
    if backend.name != "flax":
        assert model.base_model is model.bert and model.bert.base_model is model.bert
    model.add_model_tags("one")
    model.add_model_tags(["one", "two"])
    assert model.model_tags == ["one", "two"] and type(model).model_tags is None

    class Registered(base):  # type: ignore[misc, valid-type]
        _can_compile_fullgraph = True
        _is_stateful = True

    Registered.register_for_auto_class()
    assert Registered._auto_class == f"{base.class_prefix}AutoModel" and base._auto_class is None
    with pytest.raises(ArgumentError, match="no auto class"):
        Registered.register_for_auto_class("AutoStrange")


@shows("5.4.14 5.4.15 5.6.21 6.36")
def lists_of_names_to_ignore(backend: Backend, folder: Path) -> None:
    class Ignoring(backend.cls(STEM)):  # type: ignore[misc]
        _keys_to_ignore_on_load_unexpected = ["^extra"]
        _keys_to_ignore_on_save = ["classifier.bias"]

    model = Ignoring(BertConfig(**SMALL["bert"]))
    model.save_pretrained(folder)
    arrays = load_file(folder / "model.safetensors")
    assert "classifier.bias" not in arrays and "classifier.weight" in arrays
    save_file({**arrays, "extra.x": np.zeros(2, np.float32)}, folder / "model.safetensors", {"format": "pt"})
    _, info = Ignoring.from_pretrained(folder, output_loading_info=True)
    assert (info["unexpected_keys"], info["missing_keys"]) == ([], ["classifier.bias"])


class Dictionary(Headed):
    """As transformers 5 ties, with more that authors override."""

    _tied_weights_keys = {"lm_head.weight": "trunk.embed.weight"}

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config)
        self.given = inputs, kwargs
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.trunk.embed

    def set_input_embeddings(self, value: Any) -> None:
        self.trunk.embed = value

    def tie_weights(self) -> None:
        super().tie_weights()
        self.times = getattr(self, "times", 0) + 1


@shows("5.4.17 5.4.29 5.4.34 5.4.37 5.4.43 5.4.44 5.4.45 5.4.52 5.4.98 5.4.86 5.5.66 5.5.65 5.5.73 5.6.22 7.67")
def classes_of_authors(backend: Backend, folder: Path) -> None:
    model = Dictionary(rows_live.Config(), 1, more=2)
    assert model.given == ((1,), {"more": 2}) and model.times >= 1
    assert model.lm_head.weight is model.trunk.embed.weight and model.trunk.embed.weight.eq(0.25).all()
    model.trunk.conv.weight.data = model.trunk.conv.weight.data.transpose(0, 1)
    model.trunk.count = nn.Parameter(torch.tensor([3]), requires_grad=False)
    model.save_pretrained(folder)
    assert open_checkpoint(folder)["trunk.count"].dtype == np.int64

    class Counting(Dictionary):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.trunk.count = nn.Parameter(torch.tensor([0]), requires_grad=False)

    again = Counting.from_pretrained(folder, strict=True)
    assert_equal_states(again, model)
    assert not again.training and again.train().training and not again.eval().training
    assert again.config.name_or_path == again.config._name_or_path == str(folder) and again.times >= 1
    assert again(torch.tensor([[1, 2]])).shape == (1, 2, 7)
    assert again.half().dtype == torch.float16 and again.to("cpu").float().dtype == torch.float32
    again.set_input_embeddings(nn.Embedding(7, 4))
    again.tie_weights()
    assert again.lm_head.weight is again.get_input_embeddings().weight
    with pytest.raises(ArgumentError, match="config"):
        Dictionary({"width": 4})  # type: ignore[arg-type]


# -- loads --------------------------------------------------------------------------------------------------------


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


@shows("5.5.14 5.5.17 5.5.18 5.5.54 5.5.56 5.5.60 6.95 11.20 5.1.17 5.1.18")
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


@shows("5.5.16 5.6.3 11.16")
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


@shows("5.5.93 5.5.95 5.5.99 6.109 7.61 8.49 11.25")
def heads_and_backbones(backend: Backend, folder: Path) -> None:
    base, head = small(backend, "BertModel"), small(backend)
    base.save_pretrained(folder / "base")
    head.save_pretrained(folder / "head")
    with messages() as said:
        _, info = backend.load(STEM, folder / "base", output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["classifier.bias", "classifier.weight"]
    assert [text for text in said if "classifier.weight" in text]
    with messages() as said:
        backend.load(STEM, folder / "head")
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


# -- saves, the vocabulary, heads -----------------------------------------------------------------------------------


@shows("5.6.14 5.6.29 6.88")
def what_config_json_says(backend: Backend, folder: Path) -> None:
    model = small(backend)
    model.save_pretrained(folder / "none", is_main_process=False)
    assert not (folder / "none").exists()
    model.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    assert (values["architectures"], values["dtype"]) == ([STEM], "float32")


@shows("5.7.1 5.7.2 5.7.3 5.7.5 5.7.7 5.7.8 5.7.10 5.7.14 5.7.16")
def the_vocabulary_changes(backend: Backend, folder: Path) -> None:
    model = Headed(rows_live.Config(tie_word_embeddings=False)).to(torch.bfloat16)
    model.lm_head.bias = nn.Parameter(torch.ones(7, dtype=torch.bfloat16))
    embed, head = model.trunk.embed, model.lm_head
    embed.weight.requires_grad, embed.padding_idx = False, 6
    old = embed.weight.clone()
    assert model.resize_token_embeddings(None) is embed and embed.num_embeddings == 7
    assert model.resize_token_embeddings(pad_to_multiple_of=4) is embed
    assert (embed.num_embeddings, model.config.vocab_size, head.out_features, head.bias.shape[0]) == (8, 8, 8, 8)
    assert model.lm_head is head and embed.weight.dtype == head.bias.dtype == torch.bfloat16
    assert not embed.weight.requires_grad and head.weight.requires_grad and torch.equal(embed.weight[:7], old)
    assert embed.padding_idx == 6 and model.resize_token_embeddings(5).padding_idx is None
    assert torch.equal(embed.weight, old[:5]) and head.weight.shape == (5, 4) and model.config.vocab_size == 5
    for bad in ({"pad_to_multiple_of": 1.5}, {"pad_to_multiple_of": "8"}):
        with pytest.raises(ArgumentError, match="pad_to_multiple_of"):
            model.resize_token_embeddings(9, **bad)


@row("5.7.20", note="a vocabulary has one token at least", pt="R")
def an_empty_vocabulary(backend: Backend, folder: Path) -> None:
    with pytest.raises(ArgumentError, match="new_num_tokens"):
        Headed(rows_live.Config()).resize_token_embeddings(0)


@shows("5.8.1 5.8.3 5.8.5 6.69")
def heads_are_pruned(backend: Backend, folder: Path) -> None:
    model = small(backend)
    model.prune_heads({0: [1]})
    model.prune_heads({0: [1, 2], 1: [0]})
    assert model.config.pruned_heads == {0: [1, 2], 1: [0]}
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["pruned_heads"] == {"0": [1, 2], "1": [0]}
    again = backend.load(STEM, folder)
    assert again.config.pruned_heads == {0: [1, 2], 1: [0]} and same(backend, again, model)
    assert backend.weights(model)["bert.encoder.layer.0.attention.self.query.weight"].shape == (4, 12)


# -- of one framework -------------------------------------------------------------------------------------------------


@shows("6.1 6.54 6.56 6.75")
def keras_models(backend: Backend, folder: Path) -> None:
    import keras

    assert keras.version().startswith("3.")
    model = small(backend)
    rebuilt = type(model).from_config(type(model.config).from_dict(model.config.to_dict()))
    assert rebuilt.config.to_dict() == model.config.to_dict() and model.get_config()["vocab_size"] == 31
    ids, labels = np.ones((4, 3), np.int32), np.array([0, 1, 2, 3])
    model.compile(optimizer="sgd")
    before = backend.weights(model)["classifier.bias"].copy()
    inputs = {"input_ids": ids, "labels": labels}
    model.fit(inputs, batch_size=2, epochs=1, verbose=0)
    assert not np.array_equal(before, backend.weights(model)["classifier.bias"])
    assert np.isfinite(model.evaluate(inputs, verbose=0)) and np.isfinite(model.train_on_batch(inputs))
    assert np.isfinite(model.test_on_batch(inputs))
    assert np.shape(model.predict({"input_ids": ids}, verbose=0)["logits"]) == (4, 4)
    assert np.shape(model.predict_on_batch({"input_ids": ids})["logits"]) == (4, 4)


@shows("7.14 7.15 7.16 7.17 7.20 7.21 7.32 7.33 7.34 7.43 11.40", flax="Y")
def flax_models(backend: Backend, folder: Path) -> None:
    import jax

    cls = backend.cls("GPT2LMHeadModel")
    config = GPT2Config(**SMALL["gpt2"])
    model = cls(config, input_shape=(1, 2), seed=3, dtype="bfloat16")
    assert model.input_shape == (1, 2) and model.dtype == "bfloat16" and model.config is config
    assert np.array_equal(jax.random.key_data(model.key), jax.random.key_data(jax.random.PRNGKey(3)))
    assert type(model.module).__name__.endswith("Module")
    with pytest.raises(ArgumentError):
        cls(None)
    for cast, name in ((model.to_bf16, "bfloat16"), (model.to_fp16, "float16"), (model.to_fp32, "float32")):
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(cast(model.params))} == {name}
    mask = jax.tree.map(lambda leaf: leaf.ndim == 2, model.params)
    kinds = {(leaf.ndim == 2, str(leaf.dtype)) for leaf in jax.tree.leaves(model.to_bf16(model.params, mask))}
    assert kinds == {(True, "bfloat16"), (False, "float32")}
    model, ids = cls(config), np.array([[1, 2, 3, 4]])
    first = model(ids[:, :3], past_key_values=model.init_cache(1, 4), use_cache=True)
    then = model(ids[:, 3:], past_key_values=first.past_key_values).logits
    np.testing.assert_allclose(then, model(ids).logits[:, 3:], atol=1e-5)
    new = model.init_weights(jax.random.PRNGKey(0), (1, 2))
    assert jax.tree.structure(new) == jax.tree.structure(model.params)


@shows("11.48")
def missing_keys_are_of_one_model(backend: Backend, folder: Path) -> None:
    cls = backend.cls(STEM)
    small(backend, "BertModel").save_pretrained(folder)
    model, _ = cls.from_pretrained(folder, _do_init=False)
    assert model._missing_keys and not cls._missing_keys


@shows("11.14 11.15")
def where_weights_live(backend: Backend, folder: Path) -> None:
    model = small(backend)
    model.save_pretrained(folder)
    if backend.name == "pt":
        assert isinstance(model.classifier.weight, nn.Parameter)
    elif backend.name == "tf":
        assert any(variable.path.endswith("classifier/kernel") for variable in model.weights)
    else:
        lazy, params = backend.cls(STEM).from_pretrained(folder, _do_init=False)
        assert params.keys() == model.params.keys()
        with pytest.raises(ValueError):
            lazy.params  # noqa: B018


# -- names in files ---------------------------------------------------------------------------------------------------


@shows("8.1 8.4 8.5 8.6 8.15")
@shows("8.2 8.30", tf="Y")
@shows("8.34")
def names_and_axes_of_each_framework(backend: Backend, folder: Path) -> None:
    config = GPT2Config(**SMALL["gpt2"])
    model = backend.cls("GPT2LMHeadModel")(config)
    for kind in (H5, MSGPACK):
        model.save_pretrained(folder / kind.name, format=kind.name)
    weights, block = backend.weights(model), "transformer.h.0."
    h5, msgpack = (open_file(folder / kind.name / kind.single).tensors for kind in (H5, MSGPACK))
    for name, tf, flax in (("attn.c_attn.weight", "attn/c_attn/weight:0", "attn/c_attn/kernel"),
                           ("ln_1.weight", "ln_1/gamma:0", "ln_1/scale")):  # fmt: skip
        of_h5 = [ref for key, ref in h5.items() if key.endswith(f"h_._0/{tf}")]
        of_msgpack = [ref for key, ref in msgpack.items() if key.endswith(f"h/0/{flax}")]
        assert len(of_h5) == len(of_msgpack) == 1, (list(h5)[:4], list(msgpack)[:4])
        assert np.array_equal(of_h5[0].read(), weights[block + name])
    assert not [key for key in h5 if "lm_head" in key], "one table, tied"


@shows("8.30", pt="Y")
def names_are_taken_whole(backend: Backend, folder: Path) -> None:
    class Odd(Trunk):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.gamma_beta = nn.Linear(2, 2)
            self.running_var_head = nn.Linear(2, 2)
            self.post_init()

    model = Odd(rows_live.Config())
    model.save_pretrained(folder)
    assert {"gamma_beta.weight", "running_var_head.bias"} <= set(open_checkpoint(folder))
    assert_equal_states(model, Odd.from_pretrained(folder, strict=True))


# -- auto classes -----------------------------------------------------------------------------------------------------


@shows("9.3 9.8 9.13 9.17")
def auto_classes(backend: Backend, folder: Path) -> None:
    model = small(backend, "BertModel")
    model.save_pretrained(folder)
    auto = backend.cls("AutoModel")
    for options in (
        {},
        {"config": model.config},
        {"dtype": "auto"} if backend.name == "pt" else {"param_dtype": "auto"},
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


# -- what is shown elsewhere, and words for porters -------------------------------------------------------------------

OF_THE_HUB = (
    "2.54 2.56 2.74 4.1 4.2 4.4 4.5 4.6 4.7 4.8 4.9 4.10 4.11 4.12 4.13 4.16 4.21 4.22 4.23 4.24 4.25 "
    "4.26 5.4.69 5.5.2 5.5.8 5.5.10 5.5.11 5.5.12 5.5.13 5.6.5 6.77 6.83 6.93 7.41 7.48 9.4 9.6 11.38"
).split()
for _number in OF_THE_HUB:
    state(_number, "tests/hub shows it, against a hub of its own")
for _number, _note in {
    "1.4": "", "1.11": "", "1.13": "and triptych_save_id, which other readers pass over", "1.20": "", "1.22": "",
    "1.28": "SaveError, where v4 logged and returned", "2.53": "at once or not at all; unknown arguments are refused",
    "2.68": "a bad value changes nothing", "2.83": "an error, where v4 made a config of defaults",
    "4.15": "CommitInfo, which is a str", "4.37": "with a warning where the class is of __main__, which has no file",
    "5.1.18": "a reader of its own, which runs nothing", "5.4.86": "those of torch",
    "5.5.41": "for the auto classes; here, as in v4, it has nothing to do", "5.5.61": "in shards too", "5.5.70": "",
    "5.5.80": "an ArgumentError that lists the dtypes", "5.5.104": "mismatched_keys with both shapes, as in 4.48 and 5",
    "5.6.14": "in the file; the config in memory stays as it is", "5.6.31": "see README: nothing on disk is lost",
    "5.8.1": "", "6.69": "where v4 raised NotImplementedError", "6.75": "Keras's own, with the output's loss",
    "6.77": "every argument of the other frameworks; tests/hub shows it", "6.91": "", "6.94": "of files of PyTorch too",
    "6.100": "", "6.104": "a policy of Keras, by torch_dtype too", "6.105": "", "6.108": "",
    "7.34": "the mask goes by paths", "7.47": "it is copied", "7.49": "of files of PyTorch too", "7.55": "", "7.59": "",
    "7.67": "", "8.30": "", "8.31": "", "8.36": "", "8.45": "",
    "8.47": "with param_dtype='auto'; else float32, with a warning",
    "8.50": "", "11.16": "", "11.18": "", "11.21": "safetensors in all three", "11.43": "", "11.44": "", "11.45": "",
    "11.46": "nor are weights of other formats (1.27)", "11.47": "", "11.48": "", "11.49": "", "11.51": "", "11.52": "",
    "11.53": "", "11.54": "",
}.items():  # fmt: skip
    state(_number, _note)
