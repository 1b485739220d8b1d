"""adapter_config.json: what is understood, what is kept, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from triptych import ConfigError, TriptychError, UnsupportedFormatError
from triptych.adapters.config import LoraConfig


def test_ranks_and_scales_are_by_pattern() -> None:
    config = LoraConfig(r=4, lora_alpha=8, rank_pattern={"query": 16}, alpha_pattern={r"0\..*query": 32})
    assert (config.rank_of("a.0.b.query"), config.rank_of("a.query_out"), config.rank_of("key")) == (16, 4, 4)
    assert (config.scale_of("a.0.b.query"), config.scale_of("a.1.b.query"), config.scale_of("key")) == (2, 0.5, 2)
    assert LoraConfig(r=16, lora_alpha=8, use_rslora=True).scale_of("key") == 2


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"peft_type": "IA3"}, UnsupportedFormatError, "peft_type.*IA3"),
        ({"use_dora": True}, UnsupportedFormatError, "use_dora.*merge"),
        ({"init_lora_weights": "pissa"}, UnsupportedFormatError, "pissa.*plain LoRA"),
        ({"lora_bias": True}, UnsupportedFormatError, "lora_bias"),
        ({"layer_replication": [[0, 1]]}, UnsupportedFormatError, "layer_replication"),
        ({"trainable_token_indices": [1]}, UnsupportedFormatError, "trainable_token_indices"),
        ({"a_new_option": 3}, UnsupportedFormatError, "a_new_option"),
        ({"r": 0}, ConfigError, "r of the adapter"),
        ({"r": 2.5}, ConfigError, "whole number"),
        ({"lora_dropout": 1.0}, ConfigError, "lora_dropout"),
        ({"bias": "some"}, ConfigError, "'none' or 'all' or 'lora_only'"),
        ({"target_modules": "(a"}, ConfigError, "a regular expression"),
        ({"target_modules": [1]}, ConfigError, "a list of names"),
        ({"rank_pattern": {"a": "b"}}, ConfigError, "a of the adapter"),
        ({"use_rslora": "yes"}, ConfigError, "use_rslora"),
        ({"layers_to_transform": ["a"]}, ConfigError, "layers_to_transform"),
        ({"r": 2**30}, ConfigError, "at most 1,048,576"),
        ({"task_type": [1]}, ConfigError, "task_type"),
        ({"base_model_name_or_path": 5}, ConfigError, "base_model_name_or_path"),
    ],
)
def test_what_is_not_meant_is_refused_by_name(changes: dict[str, Any], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        LoraConfig.of({"peft_type": "LORA", "target_modules": ["a"], **changes})


def test_what_says_nothing_is_kept() -> None:
    values = {"peft_type": "LORA", "r": 2, "target_modules": ["a"], "peft_version": "0.99", "auto_mapping": {"x": 1},
              "some_future_option": None, "inference_mode": True, "revision": "abc"}  # fmt: skip
    told = LoraConfig.of(values).to_dict()
    assert all(told[name] == value for name, value in values.items())


def test_what_is_no_config_is_refused() -> None:
    with pytest.raises(TriptychError, match="no config of an adapter"):
        LoraConfig.of(3)
