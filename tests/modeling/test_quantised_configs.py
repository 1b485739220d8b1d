"""What a quantization_config says is refused where it cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from triptych import ConfigError
from triptych.modeling.quantised import packing_of

OWN = {"quant_method": "triptych", "codec": "int8"}


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({**OWN, "codec": 5}, "no such codec"),
        ({**OWN, "modules_to_not_convert": "lm_head"}, "holds no names"),
        ({**OWN, "modules_to_not_convert": ["re:("]}, "no regular expression"),
        ({**OWN, "codecs": ["int4"]}, "codecs is no mapping"),
        ({**OWN, "codecs": {"re:(": "int4"}}, "no regular expression"),
        ({**OWN, "codecs": {"lm_head": 4}}, "no such codec"),
        ({**OWN, "embeddings": "yes"}, "no truth value"),
        ({**OWN, "codec": "int4", "group_size": 7}, "group_size"),
        ({"quant_method": "fp8", "weight_block_size": [64]}, "two positive numbers"),
        ({"quant_method": "fp8", "weight_block_size": [0, 1]}, "two positive numbers"),
        ({"quant_method": "compressed-tensors", "config_groups": 5}, "config_groups is no mapping"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": 5}}, "a is no mapping"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(said: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        packing_of(said)
