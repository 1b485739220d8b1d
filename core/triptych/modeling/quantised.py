"""Quantised checkpoints: what a config says of how its weights are packed, and which of that can be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError, ConfigError, UnsupportedFormatError
from triptych.weights.codecs.base import Codec
from triptych.weights.codecs.fp8 import Fp8, Fp8Blocks
from triptych.weights.codecs.gguf import BY_KIND
from triptych.weights.codecs.integers import Int4, Int8
from triptych.weights.packing import Packing
from triptych.weights.quantised import REMEDY

FIELD = "quantization_config"
OWN = "triptych"
LIBRARIES = ("bitsandbytes", "torchao")
"""Methods of libraries that quantise the layers of a loaded PyTorch model."""


def said_of(config: object) -> Mapping[str, Any] | None:
    """Return what a config, or a config that it holds, says of quantised weights; None if nothing."""
    fields = _fields(config)
    for part in (fields, *map(_fields, fields.values())):
        said = part.get(FIELD)
        if said:
            return as_mapping(said)
    return None


def as_mapping(said: Any) -> Mapping[str, Any]:
    """Return a quantisation config, a mapping or an object of whichever library, as a mapping."""
    if isinstance(said, Mapping):
        return said
    if hasattr(said, "quant_type"):  # of torchao, an object that only the library knows
        names = ("quant_method", "quant_type", "modules_to_not_convert")
        return {name: value for name in names if (value := getattr(said, name, None)) is not None}
    made = said.to_dict() if callable(getattr(said, "to_dict", None)) else getattr(said, "__dict__", {})
    return made if isinstance(made, Mapping) else {}


def plain(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a quantisation config as config.json holds it: the name of an object that only a library knows."""
    texts = {name: value if _is_plain(value) else type(value).__name__ for name, value in said.items()}
    return {**texts, "quant_method": method_of(said)}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, tuple, Mapping))


def method_of(said: Mapping[str, Any]) -> str:
    """Return the `quant_method` of a quantisation config."""
    older = "bitsandbytes" if said.get("load_in_8bit") or said.get("load_in_4bit") else "a method not named"
    method = said.get("quant_method") or older
    return str(getattr(method, "value", method))


def quantised_by(config: object) -> str | None:
    """Return how a config, or a config that it holds, says that the weights are quantised: its `quant_method`."""
    said = said_of(config)
    return None if said is None else method_of(said)


def _fields(config: object) -> Mapping[str, Any]:
    if isinstance(config, PretrainedConfig):
        return {**vars(config), **config._unplaced}
    return config if isinstance(config, Mapping) else {}


def refuse_quantised(config: PretrainedConfig) -> None:
    """Raise `UnsupportedFormatError` if `config` is of a checkpoint whose quantised weights cannot be read."""
    said = said_of(config)
    if said is not None and (not _fields(config).get(FIELD) or packing_of(said) is None):
        method = method_of(said)
        raise UnsupportedFormatError(
            f"The weights are quantised with {method}, by config.quantization_config; such models are not built in.",
            expected="weights that are floating numbers, or packed by triptych, fp8 or compressed-tensors' fp8",
            received=f"quant_method {method}",
            remedy=f"{REMEDY}; for a new model set config.quantization_config = None",
        )


def refuse_new(config: PretrainedConfig) -> None:
    """Raise `ArgumentError` if `config` asks for packed weights in a model that is made anew."""
    if (method := quantised_by(config)) is not None:
        raise ArgumentError(
            f"A new model has no packed weights, as config.quantization_config ({method}) says.",
            expected="config.quantization_config to be None",
            received=f"quant_method {method}",
            remedy="set it to None, and call model.quantize_weights(...); or load the checkpoint with from_pretrained",
        )


def without(config: PretrainedConfig) -> Mapping[str, Any] | None:
    """Remove from `config` what it says of quantised weights, and return it."""
    said = as_mapping(found) if (found := _fields(config).get(FIELD)) else None
    vars(config).pop(FIELD, None)
    config._unplaced.pop(FIELD, None)
    return said


def packing_of(said: Mapping[str, Any]) -> Packing | None:
    """Return which weights are packed, and how, by a `quantization_config`; None for methods that cannot be read.

    Raises:
        ConfigError: an impossible value.
    """
    readers = {OWN: _of_triptych, "fp8": _of_fp8, "compressed-tensors": _of_compressed_tensors, "gguf": _of_gguf}
    reader = readers.get(method_of(said))
    try:
        return None if reader is None else reader(said)
    except (ArgumentError, TypeError, ValueError) as cause:
        raise ConfigError("quantization_config is impossible.", received=str(cause)) from cause


def codec_named(name: Any, group_size: Any = None) -> Codec:
    """Return the codec that a config calls `name`.

    Raises:
        ArgumentError: there is none, or it has no groups.
    """
    codecs: dict[str, Codec] = {"int8": Int8(), **{codec.name: codec for codec in BY_KIND.values()}}
    if name == "int4":
        return Int4() if group_size is None else Int4(group_size)
    if not isinstance(name, str) or name not in codecs:
        raise ArgumentError("There is no such codec.", expected=", ".join(["int4", *codecs]),
                            received=repr(name)[:80])  # fmt: skip
    if group_size is not None:
        raise ArgumentError(f"The codec {name} has no group_size.", expected="group_size for int4 only",
                            received=repr(group_size)[:80])  # fmt: skip
    return codecs[name]


def _of_triptych(said: Mapping[str, Any]) -> Packing:
    size = said.get("group_size")
    others = {_name("codecs", module): codec_named(name) for module, name in _mapping(said, "codecs").items()}
    embeddings = said.get("embeddings", True)
    if not isinstance(embeddings, bool):
        raise ArgumentError("embeddings is no truth value.", expected="True or False", received=repr(embeddings)[:80])
    return Packing(codec_named(said.get("codec"), size), _names(said), others, embeddings)


def _of_gguf(said: Mapping[str, Any]) -> Packing:
    return Packing(None, _names(said))


def _of_fp8(said: Mapping[str, Any]) -> Packing | None:
    if said.get("fmt") not in (None, "e4m3"):
        return None
    size = said.get("weight_block_size")
    if not (size is None or isinstance(size, (list, tuple)) and len(size) == 2):
        raise ArgumentError("weight_block_size is impossible.", expected="two positive numbers, such as [128, 128]",
                            received=repr(size)[:80])  # fmt: skip
    codec: Codec = Fp8(suffix="_scale_inv") if size is None else Fp8Blocks(*size)
    return Packing(codec, _names(said), vocabulary=False)


def _of_compressed_tensors(said: Mapping[str, Any]) -> Packing | None:
    """Return the packing of the one kind that is built in: float8 weights with a scale of a matrix or of each row."""
    named = _mapping(said, "config_groups")
    groups = [_mapping(named, group) for group in named]
    if len(groups) != 1 or said.get("format", "float-quantized") != "float-quantized":
        return None
    weights = _mapping(groups[0], "weights")
    strategy = weights.get("strategy")
    if weights.get("num_bits") != 8 or weights.get("type") != "float" or strategy not in ("tensor", "channel"):
        return None
    if groups[0].get("targets") != ["Linear"]:
        return None
    return Packing(Fp8(strategy == "channel"), _names(said, "ignore"), vocabulary=False)


def _names(said: Mapping[str, Any], key: str = "modules_to_not_convert") -> tuple[str, ...]:
    names = said.get(key)
    if not (names is None or isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)):
        raise ArgumentError(f"{key} holds no names.", expected="a list of parts of dotted names of weights",
                            received=repr(names)[:80])  # fmt: skip
    return tuple(_name(key, name) for name in names or ())


def _name(key: str, name: Any) -> str:
    """Return a part of a dotted name, or "re:" and a regular expression, as `Packing` takes it."""
    if not isinstance(name, str):
        raise ArgumentError(f"{key} holds no names.", expected="parts of dotted names of weights",
                            received=repr(name)[:80])  # fmt: skip
    try:
        re.compile(name[3:] if name.startswith("re:") else "")
    except (re.error, RecursionError, OverflowError) as cause:
        raise ArgumentError(f"{key} holds no regular expression.", expected="one behind re:",
                            received=f"{name!r:.80}: {cause}") from cause  # fmt: skip
    return name


def _mapping(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return what `said` holds as `key`, or nothing."""
    found = said.get(key) or {}
    if not isinstance(found, Mapping):
        raise ArgumentError(f"{key} is no mapping.", expected="a mapping", received=repr(found)[:80])
    return found
