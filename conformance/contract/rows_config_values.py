"""Rows of the contract about what every config has: its fields, their checks, its text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from live_models import Trunk, assert_equal_states, trained
from probing import STEM, shows, small
from triptych import (
    ArgumentError,
    ConfigError,
    PretrainedConfig,
    TriptychError,
)
from triptych_conformance import Backend
from walk import row

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
    given |= {"problem_type": "regression", "is_encoder_decoder": True, "return_dict": False}
    given |= {"output_hidden_states": True, **{name: 7 for name in none if name.endswith("_token_id")}}
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
