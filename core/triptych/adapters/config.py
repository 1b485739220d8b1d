"""What an adapter is: `LoraConfig`, the fields of adapter_config.json that have a meaning here."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.errors import ConfigError, UnsupportedFormatError
from triptych.files.json import read_config
from triptych.files.paths import check_inside

ADAPTER_CONFIG_NAME = "adapter_config.json"
ALL_LINEAR = "all-linear"
BIASES = ("none", "all", "lora_only")

_WITHOUT_EFFECT = {"peft_version", "auto_mapping", "revision", "task_type", "inference_mode", "megatron_core",
                   "qalora_group_size", "runtime_config", "eva_config"}  # fmt: skip
"""Fields of peft that say nothing of what is computed; they are kept, and written again."""
_NOTHING: tuple[Any, ...] = (None, False, "", {}, [], ())
FRESH = (True, False, "gaussian")
"""Ways to start an adapter that are built in."""
_OF_WEIGHTS_ALONE = (*FRESH, "orthogonal", "eva")
"""Ways to start that leave the model's own weights as they are, so that what was trained then loads like any other."""


@dataclass(frozen=True)
class LoraConfig:
    """One adapter. The fields are those of `peft.LoraConfig`, with its names, meanings and defaults.

    - `r`: the rank; `rank_pattern` has others, by regular expression of the end of a module's name.
    - `lora_alpha`: the change is scaled by `lora_alpha / r`, or by `lora_alpha / sqrt(r)` with `use_rslora`
      (Kalajdzievski, 2023, https://arxiv.org/abs/2312.03732); `alpha_pattern` has others.
    - `lora_dropout`: rate at which inputs of the adapter are dropped while training.
    - `target_modules`: names, or ends of names, of the layers that are adapted; a text is a regular expression of the
      whole name, or "all-linear": every projection but that to the vocabulary.
    - `exclude_modules`: the same, of those that are not.
    - `modules_to_save`: ends of names of modules that are trained as a whole, such as a new head.
    - `bias`: which biases of the model are trained: "none", "all", or those of adapted layers, "lora_only".
    - `layers_to_transform`, `layers_pattern`: only layers of these numbers, in lists of these names.
    - `init_lora_weights`: how a new adapter starts: True, a change of zero; "gaussian", the same from a normal
      distribution; False, a change that is not zero, for tests.
    - `fan_in_fan_out`: whether a file without a schema holds matrices as [in, out]; a model knows that of its layers.
    - `task_type`: of peft; with "SEQ_CLS", "all-linear" leaves out the head.
    - `base_model_name_or_path`: of which model it is an adapter: a folder, or a repository of the Hub.
    - `others`: what else stands in adapter_config.json and has no effect.
    """

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    target_modules: str | tuple[str, ...] | None = None
    exclude_modules: str | tuple[str, ...] | None = None
    modules_to_save: tuple[str, ...] = ()
    bias: str = "none"
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    init_lora_weights: bool | str = True
    fan_in_fan_out: bool = False
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Any) -> LoraConfig:
        """Return a config of `given`: one of these, a mapping as adapter_config.json holds it, or an object that
        returns one from `to_dict`, such as `peft.LoraConfig`.

        Raises:
            ConfigError: it is none, or a field has an impossible value. UnsupportedFormatError: it asks for a kind of
            adapter, or for a variation of LoRA, that is not built in.
        """
        if isinstance(given, cls):
            return given
        values = given.to_dict() if hasattr(given, "to_dict") else given
        if not isinstance(values, Mapping):
            raise ConfigError(
                "This is no config of an adapter.",
                expected="triptych.adapters.config.LoraConfig, peft.LoraConfig, or a mapping as adapter_config.json",
                received=type(given).__name__,
            )
        return _parsed(values)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> LoraConfig:
        """Return the config that adapter_config.json of `folder` holds; raises as `of`, and MissingFileError,
        or UnsafeCheckpointError for a link out of the folder."""
        file = Path(folder) / ADAPTER_CONFIG_NAME
        check_inside(Path(folder), file)
        return cls.of(read_config(file))

    @property
    def peft_type(self) -> str:
        """The kind of adapter, as peft names it."""
        return "LORA"

    def rank_of(self, module: str) -> int:
        """Return the rank of the adapter of the layer `module`."""
        return self.rank_pattern.get(_pattern_of(self.rank_pattern, module), self.r)

    def scale_of(self, module: str) -> float:
        """Return by what the change of the layer `module` is multiplied."""
        rank = self.rank_of(module)
        alpha = self.alpha_pattern.get(_pattern_of(self.alpha_pattern, module), self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def to_dict(self) -> dict[str, Any]:
        """Return the values of adapter_config.json, as peft reads them."""
        values: dict[str, Any] = {"peft_type": self.peft_type, "task_type": self.task_type, **self.others}
        for name in _FIELDS:
            value = getattr(self, name)
            values[name] = list(value) if isinstance(value, tuple) else dict(value) if name in _PATTERNS else value
        values["modules_to_save"] = values["modules_to_save"] or None
        values["layers_pattern"] = values["layers_pattern"] or None
        return dict(sorted(values.items()))


_PATTERNS = ("rank_pattern", "alpha_pattern")
_LARGEST = 2**20
"""Of a rank or a scale: no layer is so wide, and arrays as large as a damaged file says would fill the memory."""
_FIELDS = (
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "modules_to_save", "bias", "use_rslora",
    "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern", "init_lora_weights", "fan_in_fan_out",
    "base_model_name_or_path",
)  # fmt: skip


def _pattern_of(patterns: Mapping[str, Any], module: str) -> str:
    """Return the first of `patterns` that the name of a layer, or its end, is of."""
    return next((pattern for pattern in patterns if re.match(rf"(.*\.)?({pattern})$", module)), module)


def _parsed(values: Mapping[str, Any]) -> LoraConfig:
    kind = getattr(values.get("peft_type", "LORA"), "value", values.get("peft_type", "LORA"))
    if kind != "LORA":
        raise _unsupported("peft_type", kind, "LORA", "use an adapter of LoRA, or merge it into its model with peft")
    given = {name: value for name, value in values.items() if name != "peft_type"}
    for name, value in given.items():
        if name not in (*_FIELDS, *_WITHOUT_EFFECT) and value not in _NOTHING:
            raise _unsupported(name, value, "leave it out, or at its default", _MERGE)
    start = given.get("init_lora_weights", True)
    if start not in _OF_WEIGHTS_ALONE and start is not None:
        raise _unsupported("init_lora_weights", start, " or ".join(map(repr, _OF_WEIGHTS_ALONE)), _CONVERT)
    task = getattr(given.get("task_type"), "value", given.get("task_type"))
    base = given.get("base_model_name_or_path")
    for name, text in (("task_type", task), ("base_model_name_or_path", base)):
        if not (text is None or isinstance(text, (str, os.PathLike))):
            raise _wrong(name, "a text, or None", text)
    found = LoraConfig(
        r=_number(given, "r", 8, whole=True),
        lora_alpha=_number(given, "lora_alpha", 8),
        lora_dropout=_number(given, "lora_dropout", 0.0, least=0.0),
        target_modules=_names(given, "target_modules", text=True),
        exclude_modules=_names(given, "exclude_modules", text=True),
        modules_to_save=_names(given, "modules_to_save") or (),  # type: ignore[arg-type]
        bias=_choice(given, "bias", "none", BIASES),
        use_rslora=_flag(given, "use_rslora"),
        rank_pattern=_pattern(given, "rank_pattern", whole=True),
        alpha_pattern=_pattern(given, "alpha_pattern"),
        layers_to_transform=_layers(given),
        layers_pattern=_one_or_more(given, "layers_pattern"),
        init_lora_weights=True if start is None else start,
        fan_in_fan_out=_flag(given, "fan_in_fan_out"),
        task_type=None if task is None else str(task),
        base_model_name_or_path=os.fspath(base) if base else None,
        others={name: _plain(v) for name, v in given.items() if name not in (*_FIELDS, "task_type")},
    )
    if found.lora_dropout >= 1:
        raise ConfigError("lora_dropout is impossible.", expected="0 <= rate < 1", received=str(found.lora_dropout))
    return found


_MERGE = "merge the adapter into its model with peft, and load that"
_CONVERT = ("train with one of these, or let peft convert it to a plain LoRA: "
            "save_pretrained(path_initial_model_for_weight_conversion=...)")  # fmt: skip


def _unsupported(name: str, value: object, expected: str, remedy: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"An adapter with {name} is not built in.", expected=expected, received=f"{name}={value!r}"[:160], remedy=remedy
    )


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return sorted(value) if isinstance(value, (set, frozenset)) else getattr(value, "value", value)


def _wrong(name: str, expected: str, value: object) -> ConfigError:
    return ConfigError(f"{name} of the adapter is impossible.", expected=expected, received=repr(value)[:80])


def _number(values: Mapping[str, Any], name: str, default: Any, whole: bool = False, least: float = 1e-12) -> Any:
    value = values.get(name, default)
    kinds: Any = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not (least <= value <= _LARGEST):
        expected = f"a {'whole ' * whole}number above 0" if least else "a number from 0"
        raise _wrong(name, f"{expected}, at most {_LARGEST:,}", value)
    return value


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name)
    if not (value is None or isinstance(value, bool)):
        raise _wrong(name, "True or False", value)
    return bool(value)


def _choice(values: Mapping[str, Any], name: str, default: str, choices: Sequence[str]) -> str:
    value = values.get(name, default)
    if value not in choices:
        raise _wrong(name, " or ".join(map(repr, choices)), value)
    return str(value)


def _names(values: Mapping[str, Any], name: str, text: bool = False) -> str | tuple[str, ...] | None:
    value = values.get(name)
    if value is None:
        return None
    if text and isinstance(value, str):
        return value if value.lower() == ALL_LINEAR else _compiled(name, value)
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(one, str) and one for one in value):
        raise _wrong(name, "a list of names" + " or a regular expression" * text, value)
    return tuple(sorted(value) if isinstance(value, (set, frozenset)) else value)


def _compiled(name: str, pattern: Any) -> str:
    try:
        re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as cause:
        raise _wrong(name, "a regular expression", pattern) from cause
    return str(pattern)


def _pattern(values: Mapping[str, Any], name: str, whole: bool = False) -> dict[str, Any]:
    found = values.get(name) or {}
    if not isinstance(found, Mapping):
        raise _wrong(name, "a mapping from regular expression to number", found)
    return {_compiled(name, key): _number(found, key, None, whole) for key in found}


def _one_or_more(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = values.get(name) or ()
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, (list, tuple, set, frozenset)):
        raise _wrong(name, "a text, or several", value)
    return tuple(_compiled(name, one) for one in several)


def _layers(values: Mapping[str, Any]) -> tuple[int, ...] | None:
    value = values.get("layers_to_transform")
    several = () if value is None else (value,) if isinstance(value, int) else value
    if not isinstance(several, (list, tuple)) or not all(type(one) is int for one in several):
        raise _wrong("layers_to_transform", "a number, or several", value)
    return tuple(several) or None
