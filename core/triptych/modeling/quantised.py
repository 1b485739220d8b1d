"""Quantised checkpoints: how they are known. None of them loads yet; as files they can be moved and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych.config import PretrainedConfig
from triptych.errors import UnsupportedFormatError
from triptych.weights.quantised import REMEDY


def quantised_by(config: object) -> str | None:
    """Return how a config, or a config that it holds, says that the weights are quantised: its `quant_method`."""
    fields = _fields(config)
    for part in (fields, *map(_fields, fields.values())):
        said = part.get("quantization_config")
        if said:
            values = said if isinstance(said, Mapping) else getattr(said, "__dict__", {})
            older = "bitsandbytes" if values.get("load_in_8bit") or values.get("load_in_4bit") else "a method not named"
            method = values.get("quant_method") or older
            return str(getattr(method, "value", method))
    return None


def _fields(config: object) -> Mapping[str, Any]:
    if isinstance(config, PretrainedConfig):
        return {**vars(config), **config._unplaced}
    return config if isinstance(config, Mapping) else {}


def refuse_quantised(config: PretrainedConfig) -> None:
    """Raise `UnsupportedFormatError` if `config` is of a quantised checkpoint."""
    method = quantised_by(config)
    if method is not None:
        raise UnsupportedFormatError(
            f"The weights are quantised with {method}, by config.quantization_config; such models are not built in.",
            expected="weights that are floating numbers",
            received=f"quant_method {method}",
            remedy=f"{REMEDY}; for a new model set config.quantization_config = None",
        )
