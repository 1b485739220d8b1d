"""Quantised checkpoints: how they are known. None of them loads yet; as files they can be moved and compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from triptych.config import PretrainedConfig
from triptych.dtypes import FLOATING
from triptych.errors import UnsupportedFormatError
from triptych.safetensors_file import TensorRef

REMEDY = "load the checkpoint that it was made of, or dequantise it with the library that quantised it"


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
        return {**vars(config), **config.extra}
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


def with_scales(names: Iterable[str], tensors: Mapping[str, TensorRef], known: Collection[str]) -> list[str]:
    """Return those weights that are stored with tensors beside them, such as scales, that are no weights themselves.

    Args:
        known: the names in `tensors` that are weights.
    """
    layers = {_layer(name) for name in tensors if name not in known}
    return [name for name in names if _layer(name) in layers]


def _layer(name: str) -> str:
    """Return the layer of a tensor: "q" for q.weight, q.weight_scale and q.weight.quant_state.nf4."""
    before, inner, _ = name.partition(".weight.")
    return before if inner else name.rpartition(".")[0]


def stored_quantised(tensors: Mapping[str, TensorRef], known: Collection[str]) -> list[str]:
    """Return the weights, of those `known`, that are no floating numbers and have scales beside them."""
    coded = [name for name in known if name in tensors and tensors[name].dtype not in FLOATING]
    return with_scales(coded, tensors, known)
