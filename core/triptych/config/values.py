"""Values of a config as JSON holds them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.checks import dtype_name
from triptych.errors import ArgumentError, SaveError
from triptych.files.atomic import write_atomically


def is_dtype(value: object) -> bool:
    """Return whether `value` is a dtype of numpy or PyTorch."""
    return isinstance(value, np.dtype) or (type(value).__module__, type(value).__name__) == ("torch", "dtype")


def native_dtype(name: str | None) -> Any:
    """Return PyTorch's dtype `name` where PyTorch is loaded in this process, else `name`."""
    found = getattr(sys.modules.get("torch"), name or "", None)
    return found if is_dtype(found) else name


def fields_of(value: Any) -> Mapping[str, Any]:
    """Return `value`, the fields of a config by name.

    Raises:
        ArgumentError: it is no mapping, or has a key that is no text.
    """
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return value
    raise ArgumentError(
        "These are no fields of a config.",
        expected="a mapping of names to values",
        received=repr(value)[:80],
        remedy="pass a dict, such as to_dict() returns",
    )


def write_text(file: Path, text: str) -> None:
    """Write `text` to `file`, atomically; its folder is made if it is not there. A manifest there that records another
    content of this file goes.

    Raises:
        SaveError: the system refuses; what was there before is still there.
    """
    from triptych.checkpoints.manifest import outdate  # which knows all formats

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        outdate(file.parent, {file.name: text.encode()})
        write_atomically(file, text.encode())
    except OSError as cause:
        raise SaveError(
            f"{file} could not be saved.", received=str(cause), remedy="see the cause; nothing was changed"
        ) from cause


def plain(value: Any) -> Any:
    """Return a copy of `value` as JSON holds it: configs, and whatever has `to_dict`, as dicts; dtypes as text."""
    if is_dtype(value):
        return dtype_name(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if callable(getattr(value, "to_dict", None)) and not isinstance(value, type):
        return {key: item for key, item in plain(value.to_dict()).items() if key not in OF_THE_OUTERMOST}
    return copy.deepcopy(value)


OF_THE_OUTERMOST = ("transformers_version", "_name_or_path")
"""Fields that a config within a config is written without."""


def dtypes_to_text(values: dict[str, Any]) -> None:
    """Put texts in the place of dtypes, in `values` and in dicts within."""
    for key, value in values.items():
        if is_dtype(value):
            values[key] = dtype_name(value)
        elif isinstance(value, dict):
            dtypes_to_text(value)


def recursive_diff_dict(dict_a: Mapping[str, Any], dict_b: Mapping[str, Any], config_obj: Any = None) -> dict[str, Any]:
    """Return what of `dict_a` is not the same in `dict_b`, in mappings of configs within as well.

    Args:
        config_obj: the config of which `dict_a` is; what is not the default of its class is returned too.
    """
    default = dict_b if config_obj is None else defaults_of(type(config_obj)) or {}
    diff = {}
    for key, value in dict_a.items():
        part = getattr(config_obj, key, None) if isinstance(key, str) else None
        if isinstance(value, Mapping) and isinstance(dict_b.get(key), Mapping) and hasattr(part, "to_diff_dict"):
            if changed := recursive_diff_dict(value, dict_b[key], part):
                diff[key] = changed
        elif key not in dict_b or value != dict_b[key] or key not in default or value != default[key]:
            diff[key] = value
    return diff


def defaults_of(cls: type) -> dict[str, Any] | None:
    """Return the fields of a config of class `cls` made of no arguments; None if it cannot be."""
    new = newly_made(cls)
    return None if new is None else plain(new.to_dict())


def newly_made(cls: type) -> Any:
    """Return a config of class `cls` made of no arguments; None where its constructor needs some."""
    if not hasattr(cls, "to_dict"):
        return None
    try:
        return cls()
    except Exception:  # whatever a class says that it lacks
        return None
