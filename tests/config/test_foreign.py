"""Configs of transformers itself, where triptych's are expected."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from triptych import ArgumentError, AutoModel, BertConfig, BertModel, GPT2Config, PretrainedConfig, PreTrainedModel
from triptych.config import taken_over
from triptych.config.foreign import class_of

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 11,
        "max_position_embeddings": 9}  # fmt: skip


class TheirConfig(transformers.PretrainedConfig):
    model_type = "their_own"
    attribute_map = {"hidden_size": "width"}

    def __init__(self, width: int = 4, inner: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.inner = transformers.BertConfig(**(inner or TINY))

    @property
    def twice(self) -> int:
        return 2 * self.width


class OfTheirConfig(PreTrainedModel):
    config_class = TheirConfig

    def __init__(self, config: Any, bias: bool = True) -> None:
        super().__init__(config)
        self.layer = nn.Linear(config.width, config.twice, bias)
        self.post_init()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.layer(hidden)


def test_a_model_of_a_foreign_config_class_is_saved_and_loaded(tmp_path: Path) -> None:
    model = OfTheirConfig(TheirConfig(width=3))
    assert isinstance(model.config, PretrainedConfig) and type(model.config) is OfTheirConfig.config_class
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert (values["width"], values["model_type"], values["inner"]["hidden_size"]) == (3, "their_own", 8)
    again = OfTheirConfig.from_pretrained(tmp_path)
    assert (again.config.hidden_size, again.config.twice) == (3, 6)
    assert torch.equal(again.layer.weight, model.layer.weight)
    given = OfTheirConfig.from_pretrained(tmp_path, config=TheirConfig(width=3))
    assert torch.equal(given.layer.weight, model.layer.weight)
    # Its own bytes, made here: that such a config pickles is what is tested.
    for config in (pickle.loads(pickle.dumps(again.config)), copy.deepcopy(again.config)):
        assert config == again.config and config.twice == 6 and config is not again.config


def test_a_built_in_model_takes_the_config_of_its_family() -> None:
    theirs = transformers.BertConfig(**TINY, hidden_act="relu")
    for model in (BertModel(theirs), AutoModel.from_config(theirs), BertModel.from_config(theirs)):
        assert type(model.config) is BertConfig
        assert (model.config.hidden_size, model.config.hidden_act) == (8, "relu")
    with pytest.raises(ArgumentError, match="BertConfig"):
        BertModel(transformers.GPT2Config())


def test_a_config_of_triptych_is_taken_as_it_is() -> None:
    config = GPT2Config()
    assert taken_over(config, GPT2Config) is config and class_of(GPT2Config) is GPT2Config
    assert taken_over("a path") == "a path" and taken_over(None) is None
